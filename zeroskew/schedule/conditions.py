"""Conditions of a schedule: what a person reads in `kubectl describe`, and tools wait for.

Ready is what Argo CD, Flux and `kubectl wait` look at: the spec is right and its times are kept.
OnTime says why a run is not there; LastRunSucceeded how the last one went.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Literal

from zeroskew.rollout.rollout_conditions import merged
from zeroskew.schedule.missed_times import due_times
from zeroskew.schedule.schedule_state import ScheduleStatus
from zeroskew.schedule.schedule_turn import Turn

__all__ = ["described", "refused"]

_Said = tuple[str, Literal["True", "False", "Unknown"], str, str]


def described(turn: Turn) -> ScheduleStatus:
    """The status with its next time, and conditions that fit it."""
    spec, status = turn.spec, turn.status
    following = None
    if not spec.suspend:
        following = spec.times.after(max(turn.now, status.counted_until or turn.now))
    status = replace(status, next_schedule_time=following)
    said = [_ready(turn, following), _running(status), _last_run(status), _on_time(turn)]
    return replace(
        status,
        observed_generation=turn.seen.generation,
        conditions=merged(status.conditions, said, turn.seen.generation, turn.now),  # type: ignore[arg-type]
    )


def refused(status: ScheduleStatus, message: str, generation: int, now: datetime) -> ScheduleStatus:
    """The status of a schedule whose spec is wrong: as it was, and saying so."""
    said: list[_Said] = [("Ready", "False", "InvalidSpec", message)]
    return replace(
        status,
        next_schedule_time=None,
        observed_generation=generation,
        conditions=merged(status.conditions, said, generation, now),
    )


def _ready(turn: Turn, following: datetime | None) -> _Said:
    if turn.spec.suspend:
        return "Ready", "True", "Suspended", "suspended: nothing is started"
    if following is None:
        return "Ready", "False", "NeverDue", "the schedule has no time in the next fifty years"
    return "Ready", "True", "Scheduled", f"{turn.spec.clock}: next at {_moment(following)}"


def _running(status: ScheduleStatus) -> _Said:
    run = status.active
    if run is None:
        return "Running", "False", "Idle", "no run is under way"
    if run.phase == "Pending":
        text = f"{run.name} has not begun"
        return "Running", "False", "Pending", f"{text}: {run.message}" if run.message else text
    if run.phase == "Running":
        text = f"{run.name}: {run.message}" if run.message else run.name
        return "Running", "True", "RunInProgress", text
    return "Running", "False", "Requested", f"{run.name} was asked for"


def _last_run(status: ScheduleStatus) -> _Said:
    run = status.last_run
    if run is None:
        return "LastRunSucceeded", "Unknown", "NoRunYet", "no run has ended yet"
    text = f"{run.name}: {run.message}" if run.message else run.name
    if run.phase == "Failed" and status.failed_in_a_row > 1:
        text = f"{status.failed_in_a_row} in a row, the last {text}"
    state: dict[str, Literal["True", "False", "Unknown"]] = {"Succeeded": "True", "Failed": "False"}
    return "LastRunSucceeded", state.get(run.phase, "Unknown"), run.phase, text


def _on_time(turn: Turn) -> _Said:
    status, run = turn.status, turn.status.active
    waiting = due_times(turn.spec, status, turn.now).waiting
    if run is not None and run.phase == "Requested" and (run.message or run.asked > 1):
        times = "once" if run.asked == 1 else f"{run.asked} times"
        text = f"the run of {_moment(run.scheduled_time)} was asked for {times}"
        said = run.message or "it is not there yet"
        return "OnTime", "False", "NotStarted", f"{text}: {said}"
    if run is not None and waiting:
        return "OnTime", "False", "RunInProgress", (
            f"{_moment(waiting[0])} waits until {run.name} has ended"
        )  # fmt: skip
    if turn.spec.suspend:
        return "OnTime", "Unknown", "Suspended", "times that pass now are left out"
    last, miss = status.last_schedule_time, status.last_miss
    if miss is not None and (last is None or miss.scheduled_time >= last):
        return "OnTime", "False", miss.reason, miss.message
    if last is None:
        return "OnTime", "Unknown", "NoTimeYet", "no time has come yet"
    return "OnTime", "True", "Started", f"the run of {_moment(last)} was asked for"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
