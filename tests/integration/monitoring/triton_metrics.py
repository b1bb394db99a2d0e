"""The counters of a front as Prometheus would scrape them, without Triton: `Registry` stands in for
its module, the publisher is the real one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from zeroskew.profiles import Profile
from zeroskew.serving.measures import Measures
from zeroskew.serving.metrics_publisher import MetricsPublisher


class Registry:
    """What a publisher needs of Triton's Python backend."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        registry = self

        class Metric:
            def __init__(self, name: str, labels: dict[str, str]) -> None:
                self.key = name, tuple(sorted(labels.items()))
                registry.values.setdefault(self.key, 0.0)

            def increment(self, value: float) -> None:
                registry.values[self.key] += value

            def set(self, value: float) -> None:
                registry.values[self.key] = value

        class MetricFamily:
            COUNTER, GAUGE = "counter", "gauge"

            def __init__(self, name: str, description: str, kind: str) -> None:
                self.name = name

            def Metric(self, labels: dict[str, str]) -> Metric:
                return Metric(self.name, labels)

        self.MetricFamily = MetricFamily


class Pod:
    """One process: what it has served since it started."""

    def __init__(self, name: str, model: str, version: str, reference: Profile) -> None:
        self.name, self._reference = name, reference
        self.registry, self._roles = Registry(), dict[str, Profile]()
        self._measures = Measures(["a", "b"], ["v"])
        counters = SimpleNamespace(written=0, dropped=0, sink_failures=0, spooled=0, spool_bytes=0)
        log: Any = SimpleNamespace(counters=lambda: counters, profiles=lambda: self._roles)
        lookup: Any = SimpleNamespace(
            failures=0, breaker=SimpleNamespace(times_opened=0, open=False)
        )
        self._publisher = MetricsPublisher(
            self.registry,
            {"model": model, "version": version},
            instance="front_0",
            measures=self._measures,
            lookup=lookup,
            log=log,
            reference=reference,
        )

    def serve(self, role: str, rows: dict[str, Any], status: Any, ages: Any) -> None:
        """`status`: `[2, rows]`. `ages`: seconds, one view."""
        profile = self._reference.measure(rows)
        known = self._roles.get(role)
        self._roles[role] = profile if known is None else known.merge(profile)
        self._measures.batch(profile.rows, {}, status)
        asked = np.full(profile.rows, 10**15)
        self._measures.ages(asked, (asked - (ages * 1e6).astype(np.int64))[None])

    def scrape(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Every series with its value, as on /metrics, with the label of the target."""
        self._publisher._publish(profiles=True)
        return {
            (name, (*labels, ("pod", self.name))): value
            for (name, labels), value in self.registry.values.items()
        }
