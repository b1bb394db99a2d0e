"""What Prometheus can ask about monitors, made of what they saw last when it asks.

Nothing is kept per series: what is not there any more is not shown any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from operators.measurer import Measurer
from operators.object_cache import ObjectKey
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.monitor_state import MonitorStatus

STATES = {"Stable": 0, "Moderate": 1, "Failed": 2, "Inconclusive": -1, "Error": -2}
MOST_FEATURES = 10
MOST_AUDITED = 100
"""Features of an audit that are shown, the worst first."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A monitor at its last turn."""

    spec: MonitorSpec
    status: MonitorStatus


class MonitorCollector(Collector):
    """Register it once; `seen` is kept up to date by the reconciler."""

    def __init__(self, measurer: Measurer) -> None:
        self._measurer = measurer
        self.seen: dict[ObjectKey, Seen] = {}

    def collect(self) -> Iterable[Metric]:
        who = ["namespace", "monitor"]
        value = _gauge("drift_value", "A metric of the last measurement, by feature where it has "
                       "any", [*who, "model", "version", "metric", "feature"])  # fmt: skip
        threshold = _gauge("drift_threshold", "Value above (or, where it has no upper end, below) "
                           "which a metric has failed", [*who, "metric"])  # fmt: skip
        state = _gauge("drift_state", "0 stable, 1 moderate, 2 failed, -1 inconclusive, -2 could "
                       "not be made", [*who, "model", "metric"])  # fmt: skip
        samples = _gauge("drift_samples", "Predictions in the window", [*who, "model", "version"])
        measured = _gauge("monitor_last_measurement_timestamp_seconds",
                          "When the last measurement was made", [*who, "model"])  # fmt: skip
        phase = _gauge("monitor_phase", "1 for the phase it is in", [*who, "phase"])
        ratio = _gauge("consistency_mismatch_ratio", "Of the served values of a feature, those "
                       "that the newest audit found different; feature empty: of all",
                       ["model", "version", "feature"])  # fmt: skip
        rows = _gauge("consistency_rows", "Rows of the newest audit", ["model", "version"])
        auc = _gauge("live_auc", "AUC of the answers whose labels have arrived",
                     ["model", "version", "role"])  # fmt: skip
        coverage = _gauge("label_coverage", "Of the predictions, those whose label has arrived",
                          ["model", "version", "role"])  # fmt: skip
        view = ["model", "view"]
        lag = _gauge("materialisation_lag_seconds", "That the source of a view is ahead of the "
                     "online store", view)  # fmt: skip
        limit = _gauge("freshness_lag_limit_seconds", "What of it is too much", view)
        near = _gauge("near_expiry_ratio", "Of the values in the store, those beyond 80 % of their "
                      "TTL", view)  # fmt: skip
        expired = _gauge("expired_ratio", "Of the values in the store, those beyond it", view)
        looked = _gauge("freshness_checked_timestamp_seconds", "When the store was looked at last",
                        ["model"])  # fmt: skip
        told: set[tuple[str, str]] = set()
        stores: set[str] = set()
        for key, seen in list(self.seen.items()):
            model, status = seen.spec.model_ref.name, seen.status
            phase.add_metric([*key, status.phase], 1)
            if status.last_measurement_time is not None:
                version = status.version or ""
                at = status.last_measurement_time.timestamp()
                measured.add_metric([*key, model], at)
                samples.add_metric([*key, model, version], status.samples)
                for each in status.metrics:
                    state.add_metric([*key, model, each.name], STATES[each.state])
                self._values(value, key, model, version, status)
            for metric in seen.spec.metrics:
                low, high = metric.range
                bound = high if high is not None else low
                if bound is not None:
                    threshold.add_metric([*key, metric.name], bound)
            known = self._measurer.watched.get(key)
            fresh = known.reports.get("freshness") if known is not None else None
            if fresh is not None and model not in stores:
                stores.add(model)
                looked.add_metric([model], fresh.at.timestamp())
                for each in fresh.details.get("views") or ():
                    labels = [model, str(each["view"])]
                    if each.get("lag") is not None:
                        lag.add_metric(labels, float(each["lag"]))
                        limit.add_metric(labels, float(each["lag_limit"]))
                    near.add_metric(labels, float(each["near"]))
                    expired.add_metric(labels, float(each["expired"]))
            if known is None or (model, status.version or "") in told:
                continue
            told.add((model, status.version or ""))
            if audit := known.reports.get("consistency"):
                rows.add_metric([model, audit.version], audit.samples)
                if audit.value is not None:
                    ratio.add_metric([model, audit.version, ""], audit.value)
                found = audit.details.get("features") or {}
                rates = {name: float(each.get("rate") or 0.0) for name, each in found.items()}
                worst = sorted(rates, key=lambda name: -rates[name])[:MOST_AUDITED]
                for name in worst:
                    ratio.add_metric([model, audit.version, name], rates[name])
            if live := known.reports.get("performance"):
                for row in live.details.get("rows") or ():
                    if row.get("slice") or row.get("start"):
                        continue
                    labels = [model, live.version, str(row.get("role", ""))]
                    if row.get("auc") is not None:
                        auc.add_metric(labels, float(row["auc"]))
                    if row.get("coverage") is not None:
                        coverage.add_metric(labels, float(row["coverage"]))
        return [
            value, threshold, state, samples, measured, phase, ratio, rows, auc, coverage,
            lag, limit, near, expired, looked,
        ]  # fmt: skip

    def _values(
        self, value: GaugeMetricFamily, key: ObjectKey, model: str, version: str,
        status: MonitorStatus,
    ) -> None:  # fmt: skip
        known = self._measurer.watched.get(key)
        if known is not None and known.measurement is not None:
            for each in known.measurement.metrics:
                if each.features:
                    for feature in each.features[:MOST_FEATURES]:
                        labels = [*key, model, version, each.name, feature.feature]
                        value.add_metric(labels, feature.value)
                elif each.value is not None:
                    value.add_metric([*key, model, version, each.name, ""], each.value)
            return
        # Since a restart nothing was measured: what the status remembers.
        for tally in status.metrics:
            if tally.value is not None:
                value.add_metric([*key, model, version, tally.name, ""], tally.value)


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"zeroskew_{name}", text, labels=labels)
