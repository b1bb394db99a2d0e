"""What the rollout's machine remembers: `RolloutStatus`, the `status` of a ModelRollout.

Whoever drives the machine stores it. Times are UTC with whole seconds, so that nothing is lost in a
Kubernetes object.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

T = TypeVar("T")
LONGEST_SPEC = 262_144
CAMEL = ConfigDict(alias_generator=to_camel, validate_by_alias=True, extra="ignore")

Phase = Literal[
    "Pending",
    "Initializing",
    "Shadowing",
    "Progressing",
    "Paused",
    "WaitingApproval",
    "Waiting",
    "Promoting",
    "Succeeded",
    "RollingBack",
    "RolledBack",
    "Failed",
    "Terminating",
]
Outcome = Literal["Passed", "Failed", "Inconclusive", "Error"]


def to_json(value: Any) -> Any:
    """JSON form of a status or of observations, in camelCase; what is None is left out."""
    kind: Any = type(value)
    return _adapter(kind).dump_python(value, mode="json", by_alias=True, exclude_none=True)


def from_json(kind: type[T], value: Any) -> T:
    """The object again; fields of a later version are passed over.

    Raises pydantic's `ValidationError`, a `ValueError`, for what is none.
    """
    which: Any = kind
    found: T = _adapter(which).validate_python(value)
    return found


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@dataclass(frozen=True, slots=True)
class MetricSeen:
    """One metric of an analysis, with its 95 % interval; None: not known, or without a bound."""

    __pydantic_config__ = CAMEL

    name: str
    outcome: Outcome
    slice: str = ""
    """`column=value`; empty: all rows."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    least: float | None = None
    """The range that it must stay in."""
    most: float | None = None
    dry_run: bool = False
    """It is told, and decides nothing."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What the analyses of one attempt came to."""

    __pydantic_config__ = CAMEL

    outcome: Outcome | None = None
    """Of the last one."""
    message: str = ""
    pairs: int = 0
    since: datetime | None = None
    until: datetime | None = None
    failed: int = 0
    inconclusive_in_a_row: int = 0
    errors_in_a_row: int = 0
    metrics: tuple[MetricSeen, ...] = ()
    """Of the last one."""


@dataclass(frozen=True, slots=True)
class MirrorShare:
    """How many requests the gateway copied, by the prediction log."""

    __pydantic_config__ = CAMEL

    percent: int
    """What it was asked for."""
    requests: int
    copies: int
    """Of these requests, those that the challenger answered as well."""


@dataclass(frozen=True, slots=True)
class Failure:
    __pydantic_config__ = CAMEL

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt to bring a version to the users."""

    __pydantic_config__ = CAMEL

    version: str
    attempt: int
    digest: str
    """Of the part of the spec that it was begun with."""
    template: str
    """`RolloutSpec.template_digest` at that time."""
    generation: int
    step_since: datetime
    step: int = 0
    """Index of the step under way."""
    begun: bool = False
    """The version was ready once, and the steps run."""
    promoting: bool = False
    """All steps are done."""
    known_good: bool = False
    """Comes back within the rollback window, without steps."""
    weight: int = 0
    """Percent of the requests that it answers, as last read back from a route that is live."""
    mirror: int = 0
    """Percent of the requests that it gets copies of, likewise."""
    traffic_since: datetime | None = None
    """Since when; None while it has neither."""
    blocked_on: str = ""
    blocked_since: datetime | None = None
    fallback: bool = False
    """Answers everything because the stable version cannot."""
    old_approval: bool = False
    """The approval was there before this attempt, so it is one of another."""
    failure: Failure | None = None
    tally: Tally = Tally()
    mirror_share: MirrorShare | None = None
    """As the last analysis of a shadow found it; None: none could tell."""

    @property
    def key(self) -> str:
        """Names the attempt: in requests for analyses, in approvals and aborts."""
        return f"{self.version}.{self.attempt}"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A version that was taken off, and is not tried again by itself."""

    __pydantic_config__ = CAMEL

    version: str
    digest: str
    generation: int
    reason: str
    message: str
    at: datetime
    retry: str | None = None
    """Value of the retry annotation at that time: another one asks for a new attempt."""


@dataclass(frozen=True, slots=True)
class Promoted:
    __pydantic_config__ = CAMEL

    version: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Retired:
    """A version without requests, kept until `after`."""

    __pydantic_config__ = CAMEL

    version: str
    after: datetime


@dataclass(frozen=True, slots=True)
class ReadyPods:
    """A version that was ready, and the digest of what its pods are made from."""

    __pydantic_config__ = CAMEL

    version: str
    pods: str


@dataclass(frozen=True, slots=True)
class Condition:
    """As metav1.Condition."""

    __pydantic_config__ = CAMEL

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    observed_generation: int
    last_transition_time: datetime


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    __pydantic_config__ = CAMEL

    observed_generation: int = 0
    phase: Phase = "Pending"
    message: str = ""
    stable: str | None = None
    """The version that answers users and is the registry's champion."""
    run: Run | None = None
    rejected: Rejected | None = None
    history: tuple[Promoted, ...] = ()
    """Newest first; the stable version is the first."""
    retired: tuple[Retired, ...] = ()
    ready_pods: tuple[ReadyPods, ...] = ()
    """Versions that stay ready while the number of their pods changes, for as long as it is these
    pods."""
    suspended_since: datetime | None = None
    attempts: int = 0
    attempted: str | None = None
    """The last version that was tried."""
    conditions: tuple[Condition, ...] = ()
    valid_spec: Annotated[str | None, Field(max_length=LONGEST_SPEC)] = None
    """While an attempt is under way, the last spec that was right, as JSON: by it the attempt is
    judged where the object says something that cannot be. Left out if it is longer than that."""
