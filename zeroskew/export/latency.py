"""How long one batch takes, measured fairly: candidates take turns, batch by batch.

A shared machine slows down and speeds up by the second. Measured one after the other, the candidate
that met the quiet second wins; taking turns, all meet the same noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

WARM_UP = 20
"""Runs of each candidate that are not counted: first runs allocate."""


@dataclass(frozen=True, slots=True)
class BatchLatency:
    """Milliseconds of one batch: median, 99th percentile, and how many batches were timed."""

    batch: int
    p50: float
    p99: float
    batches: int

    def to_json(self) -> dict[str, float | int]:
        return asdict(self)


def race(
    candidates: Mapping[str, Callable[[], object]], *, batch: int, rounds: int = 400
) -> dict[str, BatchLatency]:
    """Time `rounds` calls of every candidate, interleaved; each call scores one batch."""
    for call in candidates.values():
        for _ in range(WARM_UP):
            call()
    order = list(candidates.items())
    taken: dict[str, list[int]] = {name: [] for name in candidates}
    for turn in range(rounds):
        # Who goes first changes: the first after another's run finds the caches cold.
        for position in range(len(order)):
            name, call = order[(turn + position) % len(order)]
            start = time.perf_counter_ns()
            call()
            taken[name].append(time.perf_counter_ns() - start)
    return {
        name: BatchLatency(
            batch,
            p50=float(np.percentile(times, 50)) / 1e6,
            p99=float(np.percentile(times, 99)) / 1e6,
            batches=rounds,
        )
        for name, times in taken.items()
    }
