"""Leaves a store alone that has failed several times in a row, and tries again with one call.

After M. Nygard, Release It!: closed (calls go through), open (they do not), half open (one does).
"""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """One caller's view of one store; not shared between threads."""

    def __init__(
        self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Opens after `failures` in a row, for `seconds`; `clock` in seconds."""
        self._limit, self._seconds, self._clock = failures, seconds, clock
        self._failures = 0
        self._until = 0.0
        self.times_opened = 0

    @property
    def open(self) -> bool:
        """Whether the store counts as down; true until a trial has succeeded."""
        return self._failures >= self._limit

    def allows(self) -> bool:
        """Whether to call now: closed, or open for long enough to try."""
        return not self.open or self._clock() >= self._until

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        if self.open:
            if self._failures == self._limit:
                self.times_opened += 1
            self._until = self._clock() + self._seconds
