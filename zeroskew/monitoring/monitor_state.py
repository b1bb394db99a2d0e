"""What a monitor remembers: `MonitorStatus`, the `status` of a DriftMonitor.

Whoever drives the machine stores it. Times are UTC with whole seconds, so that nothing is lost in a
Kubernetes object.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from zeroskew.rollout.rollout_state import CAMEL, Condition

Phase = Literal[
    "Initializing",
    "Monitoring",
    "Drifted",
    "Retraining",
    "CoolingDown",
    "Suspended",
    "Failed",
]
State = Literal["Stable", "Moderate", "Failed", "Inconclusive", "Error"]
RunPhase = Literal["Requested", "Pending", "Running", "Succeeded", "Failed"]


@dataclass(frozen=True, slots=True)
class Tally:
    """How a metric has fared in the last measurements."""

    __pydantic_config__ = CAMEL

    name: str
    state: State
    message: str
    value: float | None = None
    failed_in_a_row: int = 0
    blind_in_a_row: int = 0
    """Measurements that were inconclusive or could not be made."""


@dataclass(frozen=True, slots=True)
class FeatureValue:
    """One of the largest values of a metric."""

    __pydantic_config__ = CAMEL

    metric: str
    feature: str
    value: float
    state: State


@dataclass(frozen=True, slots=True)
class Decision:
    """Why something was started; never changed once it was made."""

    __pydantic_config__ = CAMEL

    checksum: str
    """SHA-256 over generation, window, failed metrics and champion: see `decide`."""
    reason: str
    """In CamelCase, of the worst metric."""
    message: str
    dominant_metric: str
    failed_metrics: tuple[str, ...]
    model: str
    champion: str
    generation: int
    window_start: datetime
    window_end: datetime
    rows: int
    at: datetime
    previous: str | None = None
    """The champion before, which a rollback goes to."""

    @property
    def short(self) -> str:
        return self.checksum[:12]


@dataclass(frozen=True, slots=True)
class Run:
    """A pipeline run that a decision asked for, known by its name."""

    __pydantic_config__ = CAMEL

    name: str
    checksum: str
    phase: RunPhase
    triggered_at: datetime
    asked_at: datetime
    """When it was last asked for; an answer may have been lost since."""
    asked: int = 1
    unseen: int = 0
    """Requests after which nothing was found, though they may have been carried out."""
    attempt: int = 1
    """Of its decision; further ones follow a run that failed."""
    id: str = ""
    finished_at: datetime | None = None
    message: str = ""
    replaced: bool = False
    """It is to be stopped, in favour of another."""
    stopped: str = ""
    """Why it is being ended before its time: a server shows such a run as failed."""
    revived_at: datetime | None = None
    """When it was seen to go on although it had failed."""


@dataclass(frozen=True, slots=True)
class PendingRetry:
    """A decision whose last run failed, and that is acted on again."""

    __pydantic_config__ = CAMEL

    checksum: str
    attempts: int
    """Runs so far."""
    next_attempt_time: datetime
    message: str = ""
    """Why the last run failed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a person's request for a run; each is answered once."""

    __pydantic_config__ = CAMEL

    value: str
    """Of the annotation."""
    taken: bool
    reason: str
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MonitorStatus:
    __pydantic_config__ = CAMEL

    observed_generation: int = 0
    phase: Phase = "Initializing"
    message: str = ""
    version: str | None = None
    """The champion that was measured last."""
    last_measurement_time: datetime | None = None
    next_measurement_time: datetime | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    samples: int = 0
    rows_digest: str = ""
    """Of what was measured: the same rows do not count twice."""
    metrics: tuple[Tally, ...] = ()
    largest: tuple[FeatureValue, ...] = ()
    decision: Decision | None = None
    """The last one."""
    waits_for_approval: bool = False
    run: Run | None = None
    retry: PendingRetry | None = None
    history: tuple[Run, ...] = ()
    """Newest first."""
    answer: Answer | None = None
    """To the last request."""
    conditions: tuple[Condition, ...] = ()
