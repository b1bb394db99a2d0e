"""What the front counts, and how it gets to Triton's own /metrics.

Counting is a few additions per batch. Every metric update of the Python backend is a message to
Triton's main process, so a thread brings the differences over once in a while instead. Histograms
are families of counters `…_bucket{le=…}`, `…_sum` and `…_count`, which is what a Prometheus
histogram is on the wire, and what `histogram_quantile` reads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from zeroskew.features.online_reader import MISSING, NO_TIME, STALE

STAGES = ("lookup", "transforms", "model", "log", "total")
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 1.0)
"""Upper bounds of the latency buckets."""
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

Sample = tuple[str, tuple[tuple[str, str], ...], float]
"""Family, labels and value so far."""


class Histogram:
    """Cumulative counts below bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self, family: str, *labels: tuple[str, str]) -> Iterator[Sample]:
        """As Prometheus has it: buckets are cumulative, the last one is everything."""
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            le = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f"{family}_bucket", (*labels, ("le", le)), total
        yield f"{family}_count", labels, total
        yield f"{family}_sum", labels, self._sum


class Measures:
    """Counters of one front."""

    def __init__(self, features: Sequence[str], views: Sequence[str] = ()) -> None:
        """`features`, `views`: names in the order of a batch's status and event times."""
        self._features, self._views = tuple(features), tuple(views)
        self._ages: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._age_sum = np.zeros(len(views))
        self._age_count = np.zeros(len(views), np.int64)
        self._stages = {stage: Histogram(SECONDS) for stage in STAGES}
        self._rows = Histogram(ROWS)
        self._absent = np.zeros((2, len(features)), np.int64)
        self._outcomes = {"answered": 0, "refused": 0, "failed": 0}
        self._degraded = 0

    def batch(
        self,
        rows: int,
        seconds: Mapping[str, float],
        status: NDArray[np.uint8],
        *,
        degraded: int = 0,
    ) -> None:
        """Count one batch: rows, seconds by stage, status `[features, rows]`, degraded rows."""
        self._rows.add(rows)
        for stage, spent in seconds.items():
            self._stages[stage].add(spent)
        if status.any():
            self._absent[0] += np.count_nonzero(status == MISSING, axis=1)
            self._absent[1] += np.count_nonzero(status == STALE, axis=1)
        self._degraded += degraded

    def ages(self, asked: NDArray[np.int64], event_times: NDArray[np.int64]) -> None:
        """Remember how old values were: moments `[n]`, event times `[views, n]`, microseconds."""
        self._ages.append((asked, event_times))

    def _count_ages(self) -> None:
        """Left to whoever publishes: the request need not wait for it."""
        pending, self._ages = self._ages, []
        for asked, times in pending:
            there = times != NO_TIME
            spans = np.where(there, asked - np.where(there, times, 0), 0)
            self._age_sum += spans.sum(axis=1) / 1e6
            self._age_count += there.sum(axis=1)

    def outcome(self, what: str, requests: int = 1) -> None:
        """Count requests that were `answered`, `refused` (their own fault) or `failed` (ours)."""
        self._outcomes[what] += requests

    def samples(self) -> Iterator[Sample]:
        """Every counter's value so far."""
        for stage, histogram in self._stages.items():
            yield from histogram.samples("zeroskew_stage_seconds", ("stage", stage))
        yield from self._rows.samples("zeroskew_batch_rows")
        for outcome, count in self._outcomes.items():
            yield "zeroskew_requests_total", (("outcome", outcome),), count
        yield "zeroskew_degraded_rows_total", (), self._degraded
        self._count_ages()
        for name, total, count in zip(
            self._views, self._age_sum.tolist(), self._age_count.tolist(), strict=True
        ):
            yield "zeroskew_feature_age_seconds_sum", (("view", name),), total
            yield "zeroskew_feature_age_seconds_count", (("view", name),), count
        for status, counts in zip(("missing", "stale"), self._absent.tolist(), strict=True):
            for name, count in zip(self._features, counts, strict=True):
                if count:
                    labels = (("feature", name), ("status", status))
                    yield "zeroskew_absent_values_total", labels, count
