"""When drift is a reason to act, and the checksum that makes acting on it happen once.

    checksum = SHA-256(model, generation, bucket of time, failed metrics, champion)

The bucket is the moment of the decision, divided by the shortest time between two, which is the
cooldown and at most a day. So two decisions never share one, and a monitor that lost its status
comes to the same name.
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
REQUESTED = "Requested"
"""Reason of a decision that a person has made."""
GROWTH = 3
LONGEST_PAUSE = timedelta(days=1)
CANCELLED = "it was cancelled"
"""Of a run that a person has ended."""


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
    bucket = int(now.timestamp() // _shortest(spec).total_seconds())
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


def decide_by_request(
    spec: MonitorSpec,
    request: str,
    measurement: Measurement,
    previous: str | None,
    generation: int,
    now: datetime,
) -> Decision:
    """The decision that a person has made; the same for the same request."""
    parts = [spec.model_ref.name, REQUESTED, request]
    return Decision(
        checksum=hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        reason=REQUESTED,
        message=f"a person asked for it by the annotation zeroskew.dev/trigger={request}",
        dominant_metric="",
        failed_metrics=(),
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
    spec: MonitorSpec,
    status: MonitorStatus,
    labelled: float | None,
    now: datetime,
    *,
    cools: bool = True,
) -> tuple[str, str] | None:
    """Reason and text why no decision may be acted on now; None: it may.

    `cools`: False for a person's decision, which waits for no cooldown.
    """
    trigger = spec.trigger
    if status.run is not None and trigger.concurrency_policy == "Forbid":
        return "RunInProgress", f"{status.run.name} is still going on"
    if cools and (until := cooling_until(spec, status)) and now < until:
        return "CoolingDown", _cooling_text(spec, status, until)
    recent = sum(at > now - WEEK for at in _decided(status).values())
    if recent >= trigger.max_runs_per_week:
        text = f"{recent} retrainings in seven days are as many as there may be"
        return "WeeklyLimit", text.replace("1 retrainings", "1 retraining")
    return held_back_again(spec, labelled)


def held_back_again(spec: MonitorSpec, labelled: float | None) -> tuple[str, str] | None:
    """The same for a further run of a decision that was acted on already: neither its cooldown nor
    the weekly limit counts it again."""
    trigger = spec.trigger
    if trigger.policy == "Disabled":
        return "Disabled", "the trigger is disabled"
    if trigger.labels is not None:
        if labelled is None:
            return "LabelsUnknown", "no report says how many predictions have labels"
        if labelled < trigger.labels.min_fraction:
            text = f"{labelled:.0%} of the predictions older than {trigger.labels.max_delay} have"
            return "LabelsMissing", f"{text} labels, {trigger.labels.min_fraction:.0%} must have"
    return None


def cooling_until(spec: MonitorSpec, status: MonitorStatus) -> datetime | None:
    """When the next decision may be made; None: there was none that led to a run.

    A cooldown after a decision and after the end of a run that succeeded. A decision whose runs
    have all failed holds the next one up for a day at most: nothing has been retrained.
    """
    last: dict[str, Run] = {}
    for run in (status.run, *status.history):
        if run is not None:
            last.setdefault(run.checksum, run)
    moments = []
    for checksum, at in _decided(status).items():
        run = last[checksum]
        failed = run.phase == "Failed" and run.stopped != CANCELLED
        moments.append(at + (_shortest(spec) if failed else _cooldown(spec)))
        if run.phase == "Succeeded" and run.finished_at is not None:
            moments.append(run.finished_at + _cooldown(spec))
    return max(moments, default=None)


def pause_before(spec: MonitorSpec, attempts: int) -> timedelta:
    """From the end of a decision's last run, which failed, to the next one."""
    first = as_timedelta(spec.trigger.retry.backoff)
    return min(first * GROWTH ** (attempts - 1), max(first, LONGEST_PAUSE))


def _decided(status: MonitorStatus) -> dict[str, datetime]:
    """When each decision was first acted on."""
    found: dict[str, datetime] = {}
    for run in (status.run, *status.history):
        if run is not None:
            found[run.checksum] = min(run.triggered_at, found.get(run.checksum, run.triggered_at))
    return found


def _cooling_text(spec: MonitorSpec, status: MonitorStatus, until: datetime) -> str:
    last = next(iter(status.history), None)
    again = f"the next decision can be made from {until:%Y-%m-%d %H:%M:%S} UTC on"
    cooldown = f"a cooldown of {spec.trigger.cooldown}"
    if last is None or last.phase == "Succeeded":
        return f"{cooldown} runs since the last run; {again}"
    runs = "the only run" if last.attempt == 1 else f"the last of {last.attempt} runs"
    why = f": {last.message}" if last.message else ""
    return f"{last.name}, {runs} of its decision, has failed{why}; {again}"


def _cooldown(spec: MonitorSpec) -> timedelta:
    return as_timedelta(spec.trigger.cooldown)


def _shortest(spec: MonitorSpec) -> timedelta:
    """Time between two decisions, whatever became of the first."""
    return min(_cooldown(spec), LONGEST_PAUSE)


def _beyond(metric: DriftMetric, value: float | None) -> float:
    """How many times its range a value is away from it."""
    low, high = metric.range
    if value is None or not math.isfinite(value):
        return 0.0
    over = (value - high) / (abs(high) or 1.0) if high is not None else -math.inf
    under = (low - value) / (abs(low) or 1.0) if low is not None else -math.inf
    return max(over, under)
