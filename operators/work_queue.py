"""Keys to work on: each at most once at a time, as often as something changed, later if it failed.

As the work queues of Kubernetes' own controllers (client-go's `workqueue`): a key that is added
while it is worked on comes again afterwards; one that fails comes again after a pause that doubles,
with jitter, so that a thousand failures do not come back in one moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=tuple[str, ...])

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0

log = logging.getLogger(__name__)


class WorkQueue(Generic[Key]):
    """`work(key)` returns the seconds after which the key wants to come again, None for never."""

    def __init__(
        self,
        work: Callable[[Key], Awaitable[float | None]],
        workers: int,
        expected: tuple[type[Exception], ...] = (),
    ) -> None:
        """`expected`: failures that say all there is to say, without a traceback."""
        self._work, self._workers, self._expected = work, workers, expected
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: dict[Key, float] = {}
        """Since when."""
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._later: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._number = 0
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.observe: Callable[[float], None] = lambda seconds: None
        """Told how long each key waited for its turn."""

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self._workers)]
        self._tasks.append(asyncio.create_task(self._wake()))

    async def stop(self) -> None:
        """Break off what is under way: whatever it is, it can be begun again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._queued) + len(self._busy)

    def add(self, key: Key) -> None:
        """Work on it soon."""
        if key in self._busy:
            self._again.add(key)
        elif key not in self._queued:
            self._queued[key] = time.monotonic()
            self._ready.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Work on it then, unless it comes to it earlier; only the earliest such time counts."""
        due = time.monotonic() + seconds
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        self._number += 1
        heapq.heappush(self._later, (due, self._number, key))
        self._changed.set()

    def forget(self, key: Key) -> None:
        """It is gone: no more turns by time."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    async def _run(self) -> None:
        while True:
            key = await self._ready.get()
            self.observe(time.monotonic() - self._queued.pop(key))
            self._busy.add(key)
            self._due.pop(key, None)
            try:
                wait = await self._work(key)
                self._failures.pop(key, None)
                if wait is not None:
                    # A thousand keys that were read in one moment do not come back in one.
                    self.add_after(key, wait * random.uniform(0.9, 1.1))  # noqa: S311
            except asyncio.CancelledError:
                raise
            except Exception as error:
                count = self._failures.get(key, 0)
                self._failures[key] = count + 1
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(count, 10))
                pause *= random.uniform(0.5, 1.0)  # noqa: S311
                where, known = "/".join(key), isinstance(error, self._expected)
                text = f": {error}" if known else ""
                log.warning(
                    "%s failed, next try in %.1f s%s", where, pause, text, exc_info=not known
                )
                self.add_after(key, pause)
            finally:
                self._busy.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    async def _wake(self) -> None:
        while True:
            self._changed.clear()
            now = time.monotonic()
            while self._later and self._later[0][0] <= now:
                due, _, key = heapq.heappop(self._later)
                # An entry that an earlier turn or an earlier time has overtaken.
                if self._due.get(key) == due:
                    del self._due[key]
                    self.add(key)
            wait = self._later[0][0] - now if self._later else 3600.0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)
