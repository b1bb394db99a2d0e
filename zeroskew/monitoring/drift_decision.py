"""When drift is a reason to act, and the checksum that makes acting on it happen once.

    checksum = SHA-256(model, generation, bucket of time, failed metrics, champion)

The bucket is the moment of the decision, divided by the cooldown: as two runs are never closer than
that, two decisions never share one, and a monitor that lost its status comes to the same name.
"""

from __future__ import annotations

import hashlib
import json
import math
from datetime import datetime, timedelta

from zeroskew.monitoring.metric_spec import DriftMetric
from zeroskew.monitoring.monitor_observations import Measurement
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.monitor_state import Decision, MonitorStatus, Run, Tally
from zeroskew.rollout.rollout_steps import as_timedelta

WEEK = timedelta(days=7)


def breached(spec: MonitorSpec, tallies: tuple[Tally, ...]) -> tuple[DriftMetric, ...]:
    """Metrics that have failed for as long as they must, if that is enough to act."""
    known = {tally.name: tally for tally in tallies}
    acting = [metric for metric in spec.metrics if metric.acts]
    failed = tuple(
        metric
        for metric in acting
        if metric.name in known and known[metric.name].failed_in_a_row >= metric.failure_limit
    )
    if spec.trigger.when == "All" and len(failed) != len(acting):
        return ()
    return failed


def decide(
    spec: MonitorSpec,
    failed: tuple[DriftMetric, ...],
    measurement: Measurement,
    previous: str | None,
    generation: int,
    now: datetime,
) -> Decision:
    """The decision to act on these metrics."""
    found = {each.name: each for each in measurement.metrics}
    worst = max(failed, key=lambda metric: _beyond(metric, found[metric.name].value))
    names = tuple(sorted(metric.name for metric in failed))
    bucket = int(now.timestamp() // _cooldown(spec).total_seconds())
    parts = [spec.model_ref.name, generation, bucket, names, measurement.version]
    return Decision(
        checksum=hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        reason=worst.type,
        message="; ".join(found[metric.name].message for metric in failed)[:1024],
        dominant_metric=worst.name,
        failed_metrics=names,
        model=spec.model_ref.name,
        champion=measurement.version,
        previous=previous,
        generation=generation,
        window_start=measurement.window_start,
        window_end=measurement.window_end,
        rows=measurement.rows,
        at=now,
    )


def held_back(
    spec: MonitorSpec, status: MonitorStatus, labelled: float | None, now: datetime
) -> tuple[str, str] | None:
    """Reason and text why nothing may be started now; None: it may."""
    trigger = spec.trigger
    if trigger.policy == "Disabled":
        return "Disabled", "the trigger is disabled"
    runs = [run for run in (status.run, *status.history) if run is not None]
    if status.run is not None and trigger.concurrency_policy == "Forbid":
        return "RunInProgress", f"{status.run.name} is still going on"
    if (until := cooling_until(spec, runs)) and now < until:
        return "CoolingDown", f"the last run was triggered less than {trigger.cooldown} ago"
    recent = sum(run.triggered_at > now - WEEK for run in runs)
    if recent >= trigger.max_runs_per_week:
        return "WeeklyLimit", f"{recent} runs in seven days are as many as there may be"
    if trigger.labels is not None:
        if labelled is None:
            return "LabelsUnknown", "no report says how many predictions have labels"
        if labelled < trigger.labels.min_fraction:
            text = f"{labelled:.0%} of the predictions older than {trigger.labels.max_delay} have"
            return "LabelsMissing", f"{text} labels, {trigger.labels.min_fraction:.0%} must have"
    return None


def cooling_until(spec: MonitorSpec, runs: list[Run]) -> datetime | None:
    """When the next run may be triggered; None: no run was."""
    last = max((run.triggered_at for run in runs), default=None)
    return None if last is None else last + _cooldown(spec)


def _cooldown(spec: MonitorSpec) -> timedelta:
    return as_timedelta(spec.trigger.cooldown)


def _beyond(metric: DriftMetric, value: float | None) -> float:
    """How many times its range a value is away from it."""
    low, high = metric.range
    if value is None or not math.isfinite(value):
        return 0.0
    over = (value - high) / (abs(high) or 1.0) if high is not None else -math.inf
    under = (low - value) / (abs(low) or 1.0) if low is not None else -math.inf
    return max(over, under)
