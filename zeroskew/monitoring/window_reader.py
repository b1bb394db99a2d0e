"""A monitor's window, read and measured, from whichever source its spec names.

Profiles come from the prediction log at the same cost whatever the traffic; rows and Prometheus are
read where the spec asks for them. The training set's profile is always the one beside the log.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from zeroskew.errors import DataError
from zeroskew.monitoring.measuring import measure
from zeroskew.monitoring.metric_spec import FROM_REPORTS
from zeroskew.monitoring.monitor_observations import KeepRecord, LabelsSeen, Measure, Measurement
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.reports import Kind, Report, newest_report, write_report
from zeroskew.monitoring.served_profiles import CACHE_BYTES, ServedProfiles, ServedWindow
from zeroskew.profiles import Profile
from zeroskew.rollout.rollout_state import to_json
from zeroskew.rollout.rollout_steps import as_timedelta

REPORT_KINDS: dict[str, Kind] = {
    "ConsistencyMismatch": "consistency",
    "Performance": "performance",
}
MOST_LOGS = 16
"""Logs and addresses that are kept open; monitors hardly ever name their own."""


class _Source(Protocol):
    def window(
        self,
        model: str,
        version: str,
        since: datetime,
        until: datetime,
        roles: tuple[str, ...],
        reference: Profile | None,
    ) -> ServedWindow: ...


class WindowReader:
    """Any number of monitors, one at a time: not for several threads."""

    def __init__(self, log: str, cache_bytes: int = CACHE_BYTES) -> None:
        """`log`: the prediction log of monitors that name none. Raises `ConfigError`."""
        self._log, self._room = log, cache_bytes
        self._profiles: dict[str, ServedProfiles] = {log: ServedProfiles(log, cache_bytes)}
        self._others: dict[tuple[str, str], _Source] = {}

    def measured(self, spec: MonitorSpec, asked: Measure, now: datetime) -> Measurement:
        """All metrics of the spec over the window; `now`: reports up to their age from then count.

        Raises `ServingError` or `DataError` if the window cannot be read.
        """
        model, log = spec.model_ref.name, self.log_of(spec)
        profiles = self._profiles_of(log)
        reference = profiles.reference(model, asked.version)
        if reference is None:
            raise DataError(f"version {asked.version} of {model} has served nothing yet", where=log)
        window = self._source(spec, profiles).window(
            model, asked.version, asked.since, asked.until, tuple(spec.roles), reference
        )
        reports = self._reports(spec, asked.version, now)
        metrics = measure(spec.metrics, reference, window, spec.window.min_samples, reports)
        stamps = "".join(report.at.isoformat() for report in reports.values())
        return Measurement(
            now, asked.version, window.since, window.until, window.rows,
            window.digest + stamps, metrics,
        )  # fmt: skip

    def labels(self, spec: MonitorSpec, version: str, now: datetime) -> LabelsSeen:
        """How many of the version's predictions have labels, as the newest report says.

        Raises `ServingError` or `DataError` if it cannot be read.
        """
        since = now - as_timedelta("720h")
        report = newest_report(
            self.log_of(spec), "performance", spec.model_ref.name, version, since=since
        )
        if report is None:
            return LabelsSeen()
        coverage = report.details.get("coverage") or {}
        return LabelsSeen(coverage.get("fraction"), report.message)

    def keep(self, spec: MonitorSpec, kept: KeepRecord) -> str:
        """Writes down what a decision was made from, under its checksum; returns where.

        Raises `ServingError` if it cannot be written.
        """
        decision = kept.decision
        metrics = {metric.name: metric for metric in kept.measurement.metrics}
        worst = metrics.get(decision.dominant_metric)
        # A person's decision has no metric behind it.
        value = worst.value if worst is not None else None
        return write_report(
            self.log_of(spec),
            Report(
                "decision", decision.model, decision.champion, decision.at, value,
                value or 0.0, value or 0.0, decision.rows, decision.message,
                {
                    "decision": to_json(decision),
                    "measurement": to_json(kept.measurement),
                    "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
                },
            ),
            name=decision.short,
        )  # fmt: skip

    def log_of(self, spec: MonitorSpec) -> str:
        """The prediction log whose profiles and reports the monitor reads."""
        source = spec.source
        return self._log if source.uri is None or source.type == "Prometheus" else source.uri

    def _profiles_of(self, log: str) -> ServedProfiles:
        if log not in self._profiles:
            if len(self._profiles) >= MOST_LOGS:
                self._profiles.pop(next(each for each in self._profiles if each != self._log))
            self._profiles[log] = ServedProfiles(log, self._room // 4)
        return self._profiles[log]

    def _source(self, spec: MonitorSpec, profiles: ServedProfiles) -> _Source:
        source = spec.source
        if source.type == "Profiles":
            return profiles
        where = source.uri or self._log
        if (source.type, where) not in self._others:
            if len(self._others) >= MOST_LOGS:
                self._others.clear()
            self._others[source.type, where] = _opened(source.type, where)
        return self._others[source.type, where]

    def _reports(self, spec: MonitorSpec, version: str, now: datetime) -> dict[str, Report]:
        found = {}
        for metric in spec.metrics:
            if metric.type in FROM_REPORTS:
                report = newest_report(
                    self.log_of(spec), REPORT_KINDS[metric.type], spec.model_ref.name, version,
                    since=now - as_timedelta(metric.max_age),
                )  # fmt: skip
                if report is not None:
                    found[metric.name] = report
        return found


def _opened(kind: str, where: str) -> _Source:
    if kind == "Prometheus":
        from zeroskew.monitoring.prometheus_profiles import PrometheusProfiles

        return PrometheusProfiles(where)
    from zeroskew.monitoring.raw_predictions import RawPredictions

    return RawPredictions(where)
