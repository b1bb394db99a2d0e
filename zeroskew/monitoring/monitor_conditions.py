"""Phase, message and conditions of a monitor: what a person reads in `kubectl describe`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Literal

from zeroskew.monitoring.drift_decision import cooling_until, held_back
from zeroskew.monitoring.monitor_observations import MonitorObservations
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.monitor_state import MonitorStatus, PendingRetry, Phase, Tally
from zeroskew.rollout.rollout_conditions import merged

LONGEST_REQUEST = 128

State = Literal["True", "False", "Unknown"]
_Said = tuple[str, State, str, str]


def described(
    spec: MonitorSpec,
    status: MonitorStatus,
    seen: MonitorObservations,
    held: tuple[str, str] | None,
    now: datetime,
) -> MonitorStatus:
    """The status with phase, message and conditions that fit it."""
    phase, message = _phase(spec, status, seen, now)
    said = [
        ("Accepted", "True", "Valid", "the spec is valid"),
        _data(spec, status, seen),
        _drift(spec, status),
        _triggered(spec, status, seen, held, now),
        *_request(status, seen),
    ]
    return replace(
        status,
        phase=phase,
        message=message[:1024],
        observed_generation=seen.generation,
        conditions=merged(status.conditions, said, seen.generation, now),  # type: ignore[arg-type]
    )


def refused(status: MonitorStatus, message: str, generation: int, now: datetime) -> MonitorStatus:
    """The status of a monitor whose spec is wrong: as it was, and saying so."""
    said: list[_Said] = [("Accepted", "False", "InvalidSpec", message)]
    conditions = merged(status.conditions, said, generation, now)
    first = message.splitlines()[0] if message else "the spec is wrong"
    return replace(
        status, phase="Failed", message=first, observed_generation=generation,
        conditions=conditions,
    )  # fmt: skip


def _phase(
    spec: MonitorSpec, status: MonitorStatus, seen: MonitorObservations, now: datetime
) -> tuple[Phase, str]:
    run = status.run
    if run is not None:
        asked = f"{run.name} was asked for {run.asked} times" if run.asked > 1 else run.name
        known = {"Running": "is running", "Pending": "has not begun yet"}.get(run.phase)
        text = f"{run.name} {known}" if known else f"waiting for {asked}"
        if run.stopped and known:
            text = f"{run.name} is ending: {run.stopped}"
        return "Retraining", f"{text}: {run.message}" if run.message else text
    if spec.suspend:
        return "Suspended", "suspended: nothing is measured"
    if status.waits_for_approval and status.decision is not None:
        name = status.decision.short
        return "Drifted", f"{status.decision.message}; a run with {name} waits for approval"
    failed = [tally for tally in status.metrics if tally.state == "Failed"]
    if status.retry is not None:
        return "Drifted", f"{status.retry.checksum[:12]}: {retry_text(spec, status.retry, now)}"
    until = cooling_until(spec, status)
    if until is not None and now < until:
        text = "; ".join(tally.message for tally in failed[:2])
        return "CoolingDown", f"until {until:%Y-%m-%d %H:%M:%S} UTC{'; ' if text else ''}{text}"
    if status.last_measurement_time is None:
        why = seen.measuring_failed or seen.registry_message
        return "Initializing", why or "nothing is measured yet"
    if failed:
        return "Drifted", "; ".join(tally.message for tally in failed[:3])
    moderate = [tally for tally in status.metrics if tally.state == "Moderate"]
    if moderate:
        return "Monitoring", "; ".join(tally.message for tally in moderate[:3])
    return "Monitoring", f"version {status.version}: {status.samples:,} predictions in the window"


def _data(spec: MonitorSpec, status: MonitorStatus, seen: MonitorObservations) -> _Said:
    limits = {metric.name: metric.inconclusive_limit for metric in spec.metrics}
    blind = [t for t in status.metrics if t.blind_in_a_row >= limits.get(t.name, 1_000_000)]
    if seen.measuring_failed:
        return "DataAvailable", "False", "MeasuringFailed", seen.measuring_failed[:1024]
    if seen.champion is None and status.last_measurement_time is None:
        return "DataAvailable", "Unknown", "NoChampion", (
            seen.registry_message or "the registry names no champion"
        )  # fmt: skip
    if status.last_measurement_time is None:
        return "DataAvailable", "Unknown", "NotMeasured", "nothing is measured yet"
    if blind:
        return "DataAvailable", "False", "Blind", "; ".join(t.message for t in blind[:3])
    if status.samples < spec.window.min_samples:
        text = f"{status.samples:,} of {spec.window.min_samples:,} predictions in the window"
        return "DataAvailable", "False", "TooFewSamples", text
    return "DataAvailable", "True", "Enough", f"{status.samples:,} predictions in the window"


def _drift(spec: MonitorSpec, status: MonitorStatus) -> _Said:
    failed = [tally for tally in status.metrics if tally.state == "Failed"]
    moderate = [tally for tally in status.metrics if tally.state == "Moderate"]
    limits = {metric.name: metric.failure_limit for metric in spec.metrics}
    if failed:
        last = any(t.failed_in_a_row >= limits.get(t.name, 1_000_000) for t in failed)
        reason = "Significant" if last else "SignificantSoFar"
        return "DriftDetected", "True", reason, "; ".join(t.message for t in failed[:3])
    if moderate:
        return "DriftDetected", "True", "Moderate", "; ".join(t.message for t in moderate[:3])
    if any(tally.state == "Stable" for tally in status.metrics):
        return "DriftDetected", "False", "Stable", "every metric that could be made is in its range"
    return "DriftDetected", "Unknown", "Inconclusive", "there is nothing to judge by yet"


def _triggered(
    spec: MonitorSpec,
    status: MonitorStatus,
    seen: MonitorObservations,
    held: tuple[str, str] | None,
    now: datetime,
) -> _Said:
    if status.run is not None:
        return "RetrainingTriggered", "True", "RunInProgress", status.run.name
    state, reason, text = _not_triggered(spec, status, seen, held, now)
    return "RetrainingTriggered", state, reason, text[:1024]


def _request(status: MonitorStatus, seen: MonitorObservations) -> list[_Said]:
    """What became of a person's request; nothing as long as there was none."""
    answer = status.answer
    asked = request_value(seen.request)
    if asked and (answer is None or answer.value != asked):
        text = f"{asked} is not answered yet"
        if status.run is not None:
            text = f"{text}: {status.run.name} is to end first"
        elif seen.champion is None:
            text = f"{text}: {seen.registry_message or 'the registry names no champion'}"
        return [("RequestTaken", "Unknown", "Waiting", text)]
    if answer is None:
        return []
    text = f"{answer.value}: {answer.message}"
    return [("RequestTaken", "True" if answer.taken else "False", answer.reason, text[:1024])]


def request_value(annotation: str | None) -> str:
    """As it is remembered, and compared: cut to what a status holds."""
    return (annotation or "").strip()[:LONGEST_REQUEST]


def _not_triggered(
    spec: MonitorSpec,
    status: MonitorStatus,
    seen: MonitorObservations,
    held: tuple[str, str] | None,
    now: datetime,
) -> tuple[State, str, str]:
    """Why no run goes on: `NotNeeded` only where nothing calls for one."""
    if status.waits_for_approval and status.decision is not None and held is None:
        return "False", "WaitsForApproval", status.decision.message
    if status.retry is not None:
        text = retry_text(spec, status.retry, now)
        if spec.suspend:
            return "False", "Suspended", f"{text}; nothing is started while suspended"
        if held is not None:
            return "False", held[0], f"{held[1]}; {text}"
        if now >= status.retry.next_attempt_time:
            text = f"{text}; it waits for a measurement in which the metrics fail"
        return "False", "RetryPending", text
    if held is not None:
        return "False", *held
    acting = {metric.name for metric in spec.metrics if metric.acts}
    watched = [tally for tally in status.metrics if tally.name in acting]
    failing = [tally for tally in watched if tally.state == "Failed"]
    if failing:
        return "False", *_not_now(spec, status, seen, failing, now)
    if spec.suspend:
        return "False", "Suspended", "nothing is measured while suspended"
    if not acting:
        return "False", "NotNeeded", "no metric has severity error"
    if not any(tally.state in ("Stable", "Moderate") for tally in watched):
        return "Unknown", "NotMeasured", "there is nothing to judge by yet"
    if spec.trigger.dry_run:
        return "False", "DryRun", "decisions are only recorded"
    return "False", "NotNeeded", "no metric calls for it"


def _not_now(
    spec: MonitorSpec,
    status: MonitorStatus,
    seen: MonitorObservations,
    failing: list[Tally],
    now: datetime,
) -> tuple[str, str]:
    """A metric fails, and nothing is started all the same."""
    if spec.suspend:
        return "Suspended", "a metric has failed; nothing is started while suspended"
    why = held_back(spec, status, seen.labels.fraction, now)
    # A gate on labels is only asked once metrics have failed for long enough.
    if why is not None and why[0] in ("CoolingDown", "WeeklyLimit", "Disabled"):
        return why
    limits = {metric.name: metric.failure_limit for metric in spec.metrics}
    short = [t for t in failing if t.failed_in_a_row < limits[t.name]]
    if short:
        worst = short[0]
        counted = f"{worst.failed_in_a_row} of {limits[worst.name]}"
        return "Counting", f"{worst.name} has failed in {counted} measurements in a row"
    if spec.trigger.when == "All":
        return "Counting", "not every metric of severity error has failed for long enough"
    return (
        "WaitsForMeasurement",
        "a metric has failed for long enough; the next one decides",
    )


def retry_text(spec: MonitorSpec, waiting: PendingRetry, now: datetime) -> str:
    """What is known of the next attempt."""
    most = spec.trigger.retry.limit + 1
    at = f"{waiting.next_attempt_time:%Y-%m-%d %H:%M:%S} UTC"
    when = f"follows at {at}" if now < waiting.next_attempt_time else f"is due since {at}"
    why = f" ({waiting.message})" if waiting.message else ""
    failed = f"attempt {waiting.attempts} of {most} failed{why}"
    return f"{failed}; attempt {waiting.attempts + 1} {when}"
