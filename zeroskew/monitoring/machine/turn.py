"""What one call of the monitor's machine works on: the status as it becomes, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from zeroskew.monitoring.monitor_observations import Action, MonitorObservations
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.monitor_state import MonitorStatus

__all__ = ["SETTLE", "Turn"]

SETTLE = timedelta(minutes=10)
"""How long a request for a run may take to show: what the server has begun without keeping a row of
it, it deletes within eight minutes (tried on version 2.17)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Immutable; each step of the machine gives the next one."""

    spec: MonitorSpec
    status: MonitorStatus
    seen: MonitorObservations
    now: datetime
    monitor: str
    settle: timedelta = SETTLE
    actions: tuple[Action, ...] = ()
    held: tuple[str, str] | None = None
    """Why nothing was started although a metric calls for it."""

    def change(self, **changes: object) -> Turn:
        return replace(self, status=replace(self.status, **changes))  # type: ignore[arg-type]

    def ask(self, *actions: Action) -> Turn:
        return replace(self, actions=(*self.actions, *actions))
