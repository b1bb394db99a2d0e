"""Phase, message and conditions of a monitor: what a person reads in `kubectl describe`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Literal

from zeroskew.monitoring.drift_decision import cooling_until
from zeroskew.monitoring.monitor_observations import MonitorObservations
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.monitor_state import MonitorStatus, Phase
from zeroskew.rollout.rollout_conditions import merged

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
        _triggered(spec, status, held),
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
        text = f"{run.name} is running" if run.phase == "Running" else f"waiting for {asked}"
        return "Retraining", f"{text}: {run.message}" if run.message else text
    if spec.suspend:
        return "Suspended", "suspended: nothing is measured"
    if status.waits_for_approval and status.decision is not None:
        name = status.decision.short
        return "Drifted", f"{status.decision.message}; a run with {name} waits for approval"
    failed = [tally for tally in status.metrics if tally.state == "Failed"]
    until = cooling_until(spec, list(status.history))
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


def _triggered(spec: MonitorSpec, status: MonitorStatus, held: tuple[str, str] | None) -> _Said:
    if status.run is not None:
        return "RetrainingTriggered", "True", "RunInProgress", status.run.name
    if status.waits_for_approval and status.decision is not None:
        return "RetrainingTriggered", "False", "WaitsForApproval", status.decision.message
    if held is not None:
        return "RetrainingTriggered", "False", held[0], held[1]
    if spec.trigger.dry_run:
        return "RetrainingTriggered", "False", "DryRun", "decisions are only recorded"
    return "RetrainingTriggered", "False", "NotNeeded", "no metric calls for it"
