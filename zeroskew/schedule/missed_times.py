"""Which of the times that have passed still get a run, and which got none.

Times are handled in order, so that one moment, `counted_until`, says how far it has come: those
that are left out are always older than those that may still run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from zeroskew.schedule.schedule_spec import ScheduleSpec
from zeroskew.schedule.schedule_state import Miss, ScheduleStatus

__all__ = ["MOST_COUNTED", "Due", "due_times"]

MOST_COUNTED = 1000
"""Times that are counted; of more, as after a year without an operator, the oldest are not."""


@dataclass(frozen=True, slots=True)
class Due:
    """Times since `counted_until`, the oldest first."""

    missed: tuple[datetime, ...] = ()
    waiting: tuple[datetime, ...] = ()
    """These are to run, one after the other."""


def due_times(spec: ScheduleSpec, status: ScheduleStatus, now: datetime) -> Due:
    """What has become due by now; nothing while the schedule is suspended."""
    if spec.suspend or status.counted_until is None:
        return Due()
    due = spec.times.between(status.counted_until, now, MOST_COUNTED)
    deadline = spec.missed.deadline
    late = sum(deadline is not None and now - each > deadline for each in due)
    left_out = max(late, len(due) - spec.missed.most)
    return Due(due[:left_out], due[left_out:])


def missed_because(spec: ScheduleSpec, status: ScheduleStatus, times: tuple[datetime, ...]) -> Miss:
    """Says of `times`, which got no run and never will, how many they are and why."""
    active, ended = status.active, status.last_run
    if active is None and ended and (ended.completion_time or times[0]) >= times[0]:
        reason, why = "RunInProgress", f"{ended.name} was still going on"
    elif active is None:
        reason, why = "NotWatched", "nobody kept this clock then"
    elif active.phase != "Requested":
        reason, why = "RunInProgress", f"{active.name} was still going on"
    else:
        reason, why = "NotStarted", f"{active.name} was still being asked for"
    first, last = (f"{each:%Y-%m-%d %H:%M} UTC" for each in (times[0], times[-1]))
    many = f"at least {len(times):,}" if len(times) >= MOST_COUNTED else f"{len(times):,}"
    which = f"{last} got no run" if len(times) == 1 else (
        f"{many} times from {first} to {last} got no run"
    )  # fmt: skip
    policy = spec.missed.policy + (f" of {spec.missed.most}" if spec.missed.most > 1 else "")
    return Miss(times[-1], len(times), reason, f"{which}: {why}; missed.policy is {policy}")
