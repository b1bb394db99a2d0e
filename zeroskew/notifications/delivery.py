"""Whether and when a message is sent again: a pure function of how the attempt before it ended."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_SECONDS, MOST_SECONDS = 1.0, 60.0
LONGEST_WAIT = 300.0
"""Of what a receiver may ask for with Retry-After."""
AGAIN = frozenset({408, 425, 429})
"""Statuses below 500 that say: later."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt ended. `status` 0: there was no answer."""

    number: int
    """From 1 on."""
    status: int
    retry_after: float | None = None
    """Seconds that the receiver asked for."""

    @property
    def arrived(self) -> bool:
        return 200 <= self.status < 300


def next_attempt(last: Attempt, attempts: int, jitter: float) -> float | None:
    """Seconds until the next attempt; None: there is none, it arrived or is given up.

    `attempts`: all of them at most. `jitter`: from 0 up to 1, by which receivers that many wait for
    are not asked by all at once.
    """
    worth = last.status == 0 or last.status >= 500 or last.status in AGAIN
    if last.arrived or not worth or last.number >= attempts:
        return None
    # Doubled without computing a power that nobody waits for.
    pause = min(FIRST_SECONDS * 2.0 ** min(last.number - 1, 16), MOST_SECONDS)
    pause *= 0.5 + jitter / 2
    asked = min(max(last.retry_after or 0.0, 0.0), LONGEST_WAIT)
    return max(pause, asked)
