"""What a schedule's machine is shown, and what it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from zeroskew.monitoring.monitor_observations import RunObserved

__all__ = ["Action", "RunObserved", "ScheduleObservations", "StartRun", "StopRun", "Tell"]


@dataclass(frozen=True, slots=True)
class ScheduleObservations:
    generation: int
    created: datetime
    """When the object came to be: times before it do not count."""
    run: RunObserved = field(default_factory=RunObserved)
    """The one that `run_to_look_at` names."""


@dataclass(frozen=True, slots=True)
class StartRun:
    """Start the run of this name, unless there is one. The status that holds it is stored first."""

    name: str
    scheduled_time: datetime
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Texts; what they mean is up to the types that the pipeline declares."""


@dataclass(frozen=True, slots=True)
class StopRun:
    """End it. Is asked for again while the run goes on."""

    name: str
    id: str


@dataclass(frozen=True, slots=True)
class Tell:
    """An event for people."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


Action = StartRun | StopRun | Tell
