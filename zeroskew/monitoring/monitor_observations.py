"""What the monitor's machine is shown, and what it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from zeroskew.monitoring.monitor_state import Decision, FeatureValue, State
from zeroskew.rollout.rollout_state import CAMEL


@dataclass(frozen=True, slots=True)
class Measured:
    """What one metric came to."""

    __pydantic_config__ = CAMEL

    name: str
    state: State
    message: str
    value: float | None = None
    """Of the worst feature, if it has features."""
    samples: int = 0
    features: tuple[FeatureValue, ...] = ()
    """The largest ones, the largest first."""
    failing: int = 0
    """Features outside the range."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """All metrics over one window."""

    __pydantic_config__ = CAMEL

    at: datetime
    version: str
    window_start: datetime
    window_end: datetime
    rows: int
    digest: str
    """Changes whenever the rows, or a report that was read, do."""
    metrics: tuple[Measured, ...]


RunSeen = Literal[
    "Unknown", "Missing", "Refused", "Pending", "Running", "Ending", "Succeeded", "Failed"
]


@dataclass(frozen=True, slots=True)
class RunObserved:
    """A run as the pipeline server shows it; Unknown: it cannot be asked."""

    phase: RunSeen = "Unknown"
    """Refused: the last request for it was answered by a refusal, and it does not exist.
    Pending: it exists and has not begun. Ending: somebody asked for its end.

    Failed is not for ever: somebody may let the server repeat what failed in it."""
    id: str = ""
    message: str = ""
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LabelsSeen:
    """Share of the old enough predictions whose label is there."""

    fraction: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class MonitorObservations:
    generation: int
    champion: str | None = None
    """None: the registry knows none, or does not answer."""
    previous: str | None = None
    registry_message: str = ""
    measurement: Measurement | None = None
    """The newest one."""
    measuring_failed: str = ""
    """Why the one asked for last could not be made."""
    runs: Mapping[str, RunObserved] = field(default_factory=dict)
    """By name."""
    labels: LabelsSeen = LabelsSeen()
    approval: str | None = None
    """Value of the annotation `zeroskew.dev/approve`."""
    request: str | None = None
    """Value of the annotation `zeroskew.dev/trigger`: a new one asks for a run now."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Measure the window. Asked for at every call until a measurement is observed: do it once."""

    version: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class StartRun:
    """Start the run of this name, unless there is one. The status that holds it is stored first."""

    name: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class StopRun:
    name: str
    id: str


@dataclass(frozen=True, slots=True)
class KeepRecord:
    """Keep the decision and what it was made from as an artifact, under its checksum."""

    decision: Decision
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Tell:
    """An event for people."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


Action = Measure | StartRun | StopRun | KeepRecord | Tell
