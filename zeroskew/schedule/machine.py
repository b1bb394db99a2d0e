"""The schedule as a pure function of what is wanted, what is remembered and what is observed.

    status, actions = step(spec, status, observations, now, schedule=name, namespace=namespace)

Whoever drives it *stores the status first*, then does the actions, and calls again soon, and at
`next_schedule_time` at the latest. What was asked for and is not observed is asked for again: a run
only after `SETTLE`, so that a request whose answer was lost has shown by then whether it came to
anything.

What holds at every call:

- A time has one run, whose name follows from the object and the time; whoever finds that name
  starts nothing.
- A run is asked for only when the one before is seen to have ended, or is known not to be there.
- Every time since the object was made is in the end started or counted as missed, never both; times
  that pass while it is suspended, and those of another schedule, are neither.
- Suspended, nothing is started; a run that was started is followed to its end.
- A failed run is not repeated: the next one is at the next time.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta

from zeroskew.errors import ConfigError
from zeroskew.rollout.rollout_steps import as_timedelta
from zeroskew.schedule.conditions import described, refused
from zeroskew.schedule.missed_times import due_times, missed_because
from zeroskew.schedule.schedule_observations import (
    Action,
    RunObserved,
    ScheduleObservations,
    StartRun,
    StopRun,
    Tell,
)
from zeroskew.schedule.schedule_spec import Argument, ScheduleSpec
from zeroskew.schedule.schedule_state import Miss, RunPhase, ScheduledRun, ScheduleStatus
from zeroskew.schedule.schedule_turn import Turn

__all__ = ["SETTLE", "refuse", "run_name", "run_to_look_at", "step"]

SETTLE = timedelta(minutes=10)
"""How long a request for a run may take to show: what Kubeflow Pipelines has begun without keeping
a row of it, it deletes within eight minutes (tried on version 2.17)."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=5)
"""A request that was refused is repeated after pauses that double."""
MOST_UNSEEN = 5
"""Requests whose run never showed: each may have come to a run that the server does not list, so
that there must not be more and more of them."""


def step(
    spec: ScheduleSpec,
    status: ScheduleStatus,
    observations: ScheduleObservations,
    now: datetime,
    *,
    schedule: str,
    namespace: str = "",
    settle: timedelta = SETTLE,
) -> tuple[ScheduleStatus, tuple[Action, ...]]:
    """One turn. `now`: with a time zone; parts of a second are cut off. `schedule`, `namespace`: of
    the object. `settle`: how long a request whose answer was lost may take to show."""
    moment = now.replace(microsecond=0)
    turn = Turn(spec, status, observations, moment, schedule, namespace, settle)
    turn = _count_from(turn)
    turn = _follow(turn)
    turn = _leave_out(turn)
    turn = _start(turn)
    return described(turn), turn.actions


def refuse(
    status: ScheduleStatus, error: ConfigError, generation: int, now: datetime
) -> ScheduleStatus:
    """The status for a spec that `parse_schedule` refused: as it was, but for the conditions."""
    return refused(status, str(error), generation, now.replace(microsecond=0))


def run_to_look_at(status: ScheduleStatus) -> str | None:
    """Name of the run that the next turn wants to see: the active one, or the last one if it
    failed, because the server may be told to repeat it."""
    if status.active is not None:
        return status.active.name
    last = status.last_run
    return last.name if last is not None and last.phase == "Failed" else None


def run_name(schedule: str, namespace: str, scheduled: datetime) -> str:
    """Of the pipeline run: the schedule's name, the time in UTC, and what tells two namespaces
    apart where all runs are in one."""
    where = hashlib.sha256(f"{namespace}/{schedule}".encode()).hexdigest()[:5]
    return f"{schedule}-{scheduled:%Y%m%dt%H%M}z-{where}"


def _count_from(turn: Turn) -> Turn:
    """From when on times count: the object's beginning, another schedule's, the end of a pause."""
    spec, status = turn.spec, turn.status
    since = status.counted_until
    if since is None:
        since = turn.seen.created.replace(microsecond=0)
    elif status.clock != spec.clock or (status.suspended and not spec.suspend):
        since = max(since, turn.now)
    return turn.change(clock=spec.clock, suspended=spec.suspend, counted_until=since)


def _follow(turn: Turn) -> Turn:
    """The run that was asked for: is it there, how does it go, is it over?"""
    run, seen = turn.status.active, turn.seen.run
    if run is None:
        return _revived(turn, seen)
    if seen.phase in ("Succeeded", "Failed"):
        good = seen.phase == "Succeeded"
        how: RunPhase = "Succeeded" if good else "Replaced" if run.replaced else "Failed"
        return _ended(turn, run, how, seen)
    if _is_there(seen):
        return _goes_on(turn, run, seen)
    if seen.phase == "Missing" and run.id:
        how = "Replaced" if run.replaced else "Failed"
        return _ended(turn, run, how, RunObserved(message="the run is not there any more"))
    unsure = seen.phase == "Unknown" or run.id
    if unsure or (seen.phase == "Missing" and turn.now - run.asked_time < turn.settle):
        return turn.change(active=replace(run, message=seen.message[:512]))
    return _not_there(turn, run, seen)


def _is_there(seen: RunObserved) -> bool:
    """Whether it is there and has not ended, in whatever state."""
    return seen.phase not in ("Unknown", "Missing", "Refused", "Succeeded", "Failed")


def _revived(turn: Turn, seen: RunObserved) -> Turn:
    """A run that failed may go on: somebody let the server repeat what failed in it."""
    last, status = turn.status.last_run, turn.status
    if last is None or last.phase != "Failed" or not _is_there(seen):
        return turn
    rest = status.history[1:]
    turn = turn.change(
        active=replace(
            last, phase="Running", start_time=turn.now, completion_time=None, message=""
        ),
        last_run=rest[0] if rest else None,
        history=rest,
        failed=max(0, status.failed - 1),
        failed_in_a_row=max(0, status.failed_in_a_row - 1),
    )
    return turn.ask(Tell("Normal", "RunRevived", f"{last.name} is running again"))


def _goes_on(turn: Turn, run: ScheduledRun, seen: RunObserved) -> Turn:
    phase: RunPhase = "Pending" if seen.phase == "Pending" else "Running"
    if phase == "Running" and run.phase != "Running":
        turn = turn.ask(Tell("Normal", "RunStarted", f"{run.name} is running"))
        run = replace(run, start_time=run.start_time or turn.now)
    run = replace(run, phase=phase, id=seen.id)
    overdue = turn.now - (run.start_time or run.requested_time) > as_timedelta(
        turn.spec.run_deadline
    )
    message = seen.message[:512]
    if overdue:
        message = f"it has taken more than {turn.spec.run_deadline} and is stopped"
    elif run.replaced:
        message = "it is stopped in favour of the next"
    turn = turn.change(active=replace(run, message=message))
    stop = (overdue or run.replaced) and seen.phase != "Ending" and seen.id
    return turn.ask(StopRun(run.name, seen.id)) if stop else turn


def _not_there(turn: Turn, run: ScheduledRun, seen: RunObserved) -> Turn:
    """It was asked for and is certainly not there: ask again, or leave its time out."""
    spec, late = turn.spec, turn.now - run.scheduled_time
    newer = spec.missed.policy != "RunAll" and spec.times.between(run.scheduled_time, turn.now, 1)
    reason = why = ""
    if spec.suspend:
        reason, why = "Suspended", "the schedule was suspended"
    elif spec.missed.deadline is not None and late > spec.missed.deadline:
        reason, why = "NotStarted", "it could not be started within the deadline"
    elif newer:
        reason, why = "NotStarted", "it could not be started before the next time"
    elif seen.phase == "Missing" and run.asked >= MOST_UNSEEN:
        reason, why = "NotStarted", f"{run.asked} requests for it came to nothing that shows"
    if reason:
        said = f": {seen.message}" if seen.message else ""
        text = f"{run.scheduled_time:%Y-%m-%d %H:%M} UTC got no run: {why}{said}"
        turn = turn.change(active=None)
        return _missed(turn, Miss(run.scheduled_time, 1, reason, text))
    pause = turn.settle if seen.phase == "Missing" else min(
        LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(run.asked - 1, 10)
    )  # fmt: skip
    run = replace(run, message=seen.message[:512])
    if turn.now - run.asked_time < pause:
        return turn.change(active=run)
    run = replace(run, asked=run.asked + 1, asked_time=turn.now)
    return turn.change(active=run).ask(_request(turn, run))


def _ended(turn: Turn, run: ScheduledRun, how: RunPhase, seen: RunObserved) -> Turn:
    status = turn.status
    over = replace(
        run,
        phase=how,
        id=seen.id or run.id,
        completion_time=(seen.finished_at or turn.now).replace(microsecond=0),
        message=seen.message[:512] or (run.message if how != "Succeeded" else ""),
    )
    text = f"{run.name} has {'been replaced' if how == 'Replaced' else how.lower()}"
    told = f"{text}: {over.message}" if over.message else text
    turn = turn.change(
        active=None,
        last_run=over,
        history=(over, *status.history)[: turn.spec.history_limit],
    )
    if how == "Succeeded":
        turn = turn.change(
            succeeded=status.succeeded + 1,
            failed_in_a_row=0,
            last_successful_time=over.completion_time,
        )
    elif how == "Failed":
        turn = turn.change(failed=status.failed + 1, failed_in_a_row=status.failed_in_a_row + 1)
    return turn.ask(Tell("Warning" if how == "Failed" else "Normal", f"Run{how}", told))


def _leave_out(turn: Turn) -> Turn:
    """Times that have passed and that will not run any more."""
    missed = due_times(turn.spec, turn.status, turn.now).missed
    if not missed:
        return turn
    miss = missed_because(turn.spec, turn.status, missed)
    return _missed(turn.change(counted_until=missed[-1]), miss)


def _missed(turn: Turn, miss: Miss) -> Turn:
    turn = turn.change(last_miss=miss, missed=turn.status.missed + miss.count)
    return turn.ask(Tell("Warning", "TimeMissed", miss.message))


def _start(turn: Turn) -> Turn:
    """The next run, if there is one to start and none besides it."""
    waiting = due_times(turn.spec, turn.status, turn.now).waiting
    if not waiting:
        return turn
    active = turn.status.active
    if active is not None:
        if turn.spec.concurrency_policy == "Forbid" or active.replaced:
            return turn
        turn = turn.change(active=replace(active, replaced=True))
        return turn.ask(StopRun(active.name, active.id)) if active.id else turn
    scheduled = waiting[0]
    name = run_name(turn.schedule, turn.namespace, scheduled)
    run = ScheduledRun(name, scheduled, "Requested", turn.now, turn.now)
    turn = turn.change(active=run, counted_until=scheduled, last_schedule_time=scheduled)
    return turn.ask(
        Tell("Normal", "RunRequested", f"{name} is asked for, for {scheduled:%Y-%m-%d %H:%M} UTC"),
        _request(turn, run),
    )


def _request(turn: Turn, run: ScheduledRun) -> StartRun:
    return StartRun(
        run.name,
        run.scheduled_time,
        {each.name: _argument(turn, run, each) for each in turn.spec.parameters},
    )


def _argument(turn: Turn, run: ScheduledRun, argument: Argument) -> str:
    moment = run.scheduled_time
    match argument.value_from:
        case None:
            return str(argument.value)
        case "previousTime":
            moment = turn.spec.times.before(moment) or moment
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
