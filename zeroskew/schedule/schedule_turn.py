"""One call of the machine while it goes on: what it was given, and what it has decided so far."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from zeroskew.schedule.schedule_observations import Action, ScheduleObservations
from zeroskew.schedule.schedule_spec import ScheduleSpec
from zeroskew.schedule.schedule_state import ScheduleStatus

__all__ = ["Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    spec: ScheduleSpec
    status: ScheduleStatus
    seen: ScheduleObservations
    now: datetime
    schedule: str
    namespace: str
    settle: timedelta
    actions: tuple[Action, ...] = ()

    def change(self, **changes: object) -> Turn:
        """The same with another status."""
        return replace(self, status=replace(self.status, **changes))  # type: ignore[arg-type]

    def ask(self, *actions: Action) -> Turn:
        """The same with more to do."""
        return replace(self, actions=(*self.actions, *actions))
