"""What a schedule remembers: `ScheduleStatus`, the `status` of a PipelineSchedule.

Whoever drives the machine stores it. Times are UTC with whole seconds, so that nothing is lost in a
Kubernetes object.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from zeroskew.rollout.rollout_state import CAMEL, Condition

__all__ = ["Miss", "RunPhase", "ScheduleStatus", "ScheduledRun"]

RunPhase = Literal["Requested", "Pending", "Running", "Succeeded", "Failed", "Replaced"]


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """The run for one time of the schedule, known by its name."""

    __pydantic_config__ = CAMEL

    name: str
    scheduled_time: datetime
    phase: RunPhase
    """Pending: it is there and has not begun. Replaced: it was ended in favour of the next."""
    requested_time: datetime
    asked_time: datetime
    """When it was last asked for; an answer may have been lost since."""
    asked: int = 1
    id: str = ""
    start_time: datetime | None = None
    """When it was first seen to run."""
    completion_time: datetime | None = None
    message: str = ""
    replaced: bool = False
    """It is to be stopped, in favour of the next."""


@dataclass(frozen=True, slots=True)
class Miss:
    """Times that got no run, one after the other and for one reason."""

    __pydantic_config__ = CAMEL

    scheduled_time: datetime
    """The last of them."""
    count: int
    reason: str
    """In CamelCase."""
    message: str


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    __pydantic_config__ = CAMEL

    observed_generation: int = 0
    last_schedule_time: datetime | None = None
    """The newest time that a run was asked for."""
    next_schedule_time: datetime | None = None
    """Unset while it is suspended."""
    last_successful_time: datetime | None = None
    """When a run last succeeded."""
    active: ScheduledRun | None = None
    last_run: ScheduledRun | None = None
    """The newest that has ended."""
    last_miss: Miss | None = None
    history: tuple[ScheduledRun, ...] = ()
    """Those that have ended, newest first."""
    succeeded: int = 0
    failed: int = 0
    missed: int = 0
    """How many runs succeeded and failed, and how many times got none, since the object exists."""
    failed_in_a_row: int = 0
    clock: str = ""
    """Schedule and time zone that the times until now were counted by."""
    counted_until: datetime | None = None
    """Every time up to here has got its run, or counts as missed."""
    suspended: bool = False
    conditions: tuple[Condition, ...] = ()
