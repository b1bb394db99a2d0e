"""Brings the front's counters to Triton's /metrics, every few seconds and at the end.

Labels `model` and `version` are on every family; gauges, which belong to one process, also carry
`instance`. Profiles come from the log's shipper, as rows per bin of the frozen histograms.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from zeroskew.profiles import Profile, paired_bins
from zeroskew.serving.feature_lookup import FeatureLookup
from zeroskew.serving.measures import Measures, Sample
from zeroskew.serving.prediction_log import PredictionLog

SECONDS = 5.0
PROFILES_EVERY = 3
"""Profiles change when a segment is shipped, and are many: every so many rounds."""

HELP = {
    "zeroskew_stage_seconds_bucket": "Seconds a batch spent in one stage, cumulative buckets",
    "zeroskew_stage_seconds_count": "Batches that went through a stage",
    "zeroskew_stage_seconds_sum": "Seconds all batches spent in a stage",
    "zeroskew_batch_rows_bucket": "Rows per batch, cumulative buckets",
    "zeroskew_batch_rows_count": "Batches",
    "zeroskew_batch_rows_sum": "Rows of all batches",
    "zeroskew_requests_total": "Requests by outcome: answered, refused (400), failed (500, 503)",
    "zeroskew_degraded_rows_total": "Rows answered without the online store",
    "zeroskew_absent_values_total": "Values that were missing or stale, by feature",
    "zeroskew_feature_age_seconds_sum": "Seconds since the event time of what was served, by view",
    "zeroskew_feature_age_seconds_count": "Rows for which a view had values",
    "zeroskew_lookup_failures_total": "Reads of the online store without an answer in time",
    "zeroskew_breaker_opened_total": "Times the circuit breaker opened",
    "zeroskew_breaker_open": "1 while the circuit breaker keeps requests from the store",
    "zeroskew_log_rows_total": "Rows of the prediction log by fate: written or dropped",
    "zeroskew_log_sink_failures_total": "Attempts to write to the log's sink that failed",
    "zeroskew_log_spooled_rows": "Rows on disk that have not reached the sink",
    "zeroskew_log_spool_bytes": "Bytes of the spool",
    "zeroskew_feature_bin_rows_total": "Rows per bin of the training set's frozen histogram",
    "zeroskew_feature_outside_rows_total": "Rows outside the range of the training set",
    "zeroskew_feature_rows_total": "Rows profiled, by feature",
}


class MetricsPublisher:
    """A thread of its own; `pb_utils` is Triton's module."""

    def __init__(
        self,
        pb_utils: Any,
        labels: Mapping[str, str],
        *,
        instance: str,
        measures: Measures,
        lookup: FeatureLookup,
        log: PredictionLog | None,
        reference: Profile | None,
    ) -> None:
        """`reference`: what the profiles of the log were measured with."""
        self._reference = reference
        self._pb, self._labels, self._instance = pb_utils, dict(labels), instance
        self._measures, self._lookup, self._log = measures, lookup, log
        self._families: dict[str, Any] = {}
        self._known: dict[tuple[str, Any], tuple[Any, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Publish once more and end."""
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        rounds = 0
        while not self._stop.wait(SECONDS if rounds else 0.0):
            # A server on its way out refuses updates; the numbers die with it anyway.
            with contextlib.suppress(Exception):
                self._publish(profiles=rounds % PROFILES_EVERY == 0)
            rounds += 1

    def _publish(self, *, profiles: bool) -> None:
        for family, labels, value in self._samples(profiles):
            gauge = not family.endswith(("_total", "_bucket", "_count", "_sum"))
            known = self._known.get((family, labels))
            metric, before = known or (self._metric(family, labels, gauge), 0.0)
            if known is None or value != before:
                if gauge:
                    metric.set(value)
                elif value > before:
                    metric.increment(value - before)
                self._known[(family, labels)] = (metric, value)

    def _metric(self, family: str, labels: tuple[tuple[str, str], ...], gauge: bool) -> Any:
        if family not in self._families:
            kinds = self._pb.MetricFamily
            self._families[family] = kinds(
                name=family,
                description=HELP.get(family, family),
                kind=kinds.GAUGE if gauge else kinds.COUNTER,
            )
        all_labels = {**self._labels, **dict(labels)}
        if gauge:
            all_labels["instance"] = self._instance
        return self._families[family].Metric(labels=all_labels)

    def _samples(self, profiles: bool) -> Iterator[Sample]:
        yield from self._measures.samples()
        yield "zeroskew_lookup_failures_total", (), self._lookup.failures
        yield "zeroskew_breaker_opened_total", (), self._lookup.breaker.times_opened
        yield "zeroskew_breaker_open", (), float(self._lookup.breaker.open)
        if self._log is None:
            return
        counters = self._log.counters()
        yield "zeroskew_log_rows_total", (("fate", "written"),), counters.written
        yield "zeroskew_log_rows_total", (("fate", "dropped"),), counters.dropped
        yield "zeroskew_log_sink_failures_total", (), counters.sink_failures
        yield "zeroskew_log_spooled_rows", (), counters.spooled
        yield "zeroskew_log_spool_bytes", (), counters.spool_bytes
        if profiles and self._reference is not None:
            for role, profile in self._log.profiles().items():
                yield from _profile_samples(role, self._reference, profile)


def _profile_samples(role: str, reference: Profile, profile: Profile) -> Iterator[Sample]:
    for name, column in profile.columns.items():
        labels = (("feature", name), ("role", role))
        yield "zeroskew_feature_rows_total", labels, column.total
        bins = paired_bins(reference.columns[name], column)
        for label, rows in zip(bins.labels, bins.actual, strict=True):
            if rows:
                yield "zeroskew_feature_bin_rows_total", (*labels, ("bin", label)), rows
        outside = getattr(column, "below", 0) + getattr(column, "above", 0)
        outside += getattr(column, "unseen", 0)
        yield "zeroskew_feature_outside_rows_total", labels, outside
