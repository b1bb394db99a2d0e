"""Measurements under way and done, on a few threads: reading a log waits more than it works.

A monitor always comes to the same thread, so that each thread's reader keeps the hours of its own
monitors in memory and reads only what is new.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from operators.object_cache import ObjectKey
from operators.operator_metrics import MONITOR_SECONDS
from zeroskew.errors import ZeroskewError
from zeroskew.monitoring.monitor_observations import KeepRecord, LabelsSeen, Measure, Measurement
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.reports import STORE, Report, newest_report
from zeroskew.monitoring.window_reader import WindowReader

THREADS = 4
CACHE_BYTES = 128 << 20
"""Of all threads."""
AGAIN_SECONDS, LONGEST_PAUSE = 10.0, 300.0
"""After a measurement that could not be made; the pause doubles."""
LABELS_SECONDS = 60.0
REPORT_SECONDS = 300.0
YEAR = timedelta(days=365)

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass
class Watched:
    """What is known of one monitor, in memory only."""

    measurement: Measurement | None = None
    problem: str = ""
    failures: int = 0
    not_before: float = 0.0
    task: asyncio.Task[None] | None = None
    labels: LabelsSeen = field(default_factory=LabelsSeen)
    labels_at: float = 0.0
    reports: dict[str, Report] = field(default_factory=dict)
    """The newest ones of the champion, by kind."""
    reports_at: float = 0.0


class Measurer:
    """`done` is called with the monitor whose measurement has ended."""

    def __init__(self, prediction_log: str, done: Callable[[ObjectKey], None]) -> None:
        """`prediction_log`: of monitors that name none. Raises `ConfigError`."""
        self._done = done
        self._readers = [
            WindowReader(prediction_log, CACHE_BYTES // THREADS) for _ in range(THREADS)
        ]
        self._threads = [
            ThreadPoolExecutor(1, thread_name_prefix=f"measure-{number}")
            for number in range(THREADS)
        ]
        self.watched: dict[ObjectKey, Watched] = {}

    def of(self, key: ObjectKey) -> Watched:
        return self.watched.setdefault(key, Watched())

    def measure(self, key: ObjectKey, spec: MonitorSpec, asked: Measure) -> None:
        """Does nothing while one is under way, or soon after one that failed."""
        known = self.of(key)
        if known.task is None and time.monotonic() >= known.not_before:
            known.task = asyncio.create_task(self._measure(key, known, spec, asked))

    async def labels(self, key: ObjectKey, spec: MonitorSpec, version: str) -> LabelsSeen:
        """As the newest report says, at most a minute old. Never raises."""
        known = self.of(key)
        if time.monotonic() - known.labels_at > LABELS_SECONDS:
            now = datetime.now(UTC)
            try:
                known.labels = await self._on_thread(
                    key, lambda reader: reader.labels(spec, version, now)
                )
            except ZeroskewError as error:
                known.labels = LabelsSeen(message=_line(error))
            known.labels_at = time.monotonic()
        return known.labels

    async def keep(self, key: ObjectKey, spec: MonitorSpec, kept: KeepRecord) -> str:
        """Raises `ServingError` if it cannot be written."""
        return await self._on_thread(key, lambda reader: reader.keep(spec, kept))

    def forget(self, key: ObjectKey) -> None:
        """The monitor is gone."""
        if (known := self.watched.pop(key, None)) and known.task is not None:
            known.task.cancel()

    async def stop(self) -> None:
        tasks = [known.task for known in self.watched.values() if known.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for thread in self._threads:
            thread.shutdown(wait=False, cancel_futures=True)

    async def _measure(
        self, key: ObjectKey, known: Watched, spec: MonitorSpec, asked: Measure
    ) -> None:
        began = time.perf_counter()
        try:
            now = datetime.now(UTC)
            known.measurement = await self._on_thread(
                key, lambda reader: reader.measured(spec, asked, now)
            )
            known.problem, known.failures, known.not_before = "", 0, 0.0
            await self._look_at_reports(key, known, spec, asked.version, now)
        except Exception as error:
            if not isinstance(error, ZeroskewError):
                log.exception("%s/%s could not be measured", *key)
            known.problem = _line(error) or type(error).__name__
            pause = min(LONGEST_PAUSE, AGAIN_SECONDS * 2 ** min(known.failures, 10))
            known.failures += 1
            known.not_before = time.monotonic() + pause
        finally:
            known.task = None
            MONITOR_SECONDS.observe(time.perf_counter() - began)
        self._done(key)

    async def _look_at_reports(
        self, key: ObjectKey, known: Watched, spec: MonitorSpec, version: str, now: datetime
    ) -> None:
        """For Prometheus, whether the monitor has metrics of them or not."""
        if time.monotonic() - known.reports_at < REPORT_SECONDS:
            return

        def read(reader: WindowReader) -> dict[str, Report]:
            since = now - YEAR
            where, model = reader.log_of(spec), spec.model_ref.name
            audit = newest_report(where, "consistency", model, version, since=since)
            live = newest_report(where, "performance", model, version, since=since)
            fresh = newest_report(where, "freshness", model, STORE, since=since)
            return {each.kind: each for each in (audit, live, fresh) if each is not None}

        known.reports = await self._on_thread(key, read)
        known.reports_at = time.monotonic()

    async def _on_thread(self, key: ObjectKey, work: Callable[[WindowReader], T]) -> T:
        number = zlib.crc32("/".join(key).encode()) % THREADS
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads[number], work, self._readers[number])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
