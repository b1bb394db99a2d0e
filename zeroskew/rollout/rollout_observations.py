"""What the rollout's machine is shown: made anew for every call, from what can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from zeroskew.rollout.rollout_state import CAMEL, MetricSeen, Outcome
from zeroskew.rollout.traffic_plan import TrafficPlan


@dataclass(frozen=True, slots=True)
class VersionSeen:
    """The objects that serve one version. See zeroskew/rollout/readiness.py."""

    __pydantic_config__ = CAMEL

    exists: bool = False
    ready: bool = False
    """As many replicas as were asked for, all of them of this template."""
    steady: bool = False
    """The same but for replicas that come or go: ready, if `pods` were ready before."""
    available: bool = False
    """At least one replica answers."""
    reason: str = ""
    template: str | None = None
    """`RolloutSpec.template_digest` that the objects were made from; None: not known, taken for the
    same."""
    pods: str | None = None
    """Digest of what its pods are made from; None: not known."""


@dataclass(frozen=True, slots=True)
class RouteSeen:
    __pydantic_config__ = CAMEL

    exists: bool = False
    plan: TrafficPlan | None = None
    """What the route says; None: it says something that is no plan of ours."""
    generation: int = 0
    observed_generation: int = 0
    """The oldest that a gateway reports."""
    accepted: bool = False
    resolved_refs: bool = False
    message: str = ""

    @property
    def live(self) -> bool:
        """Every gateway took the route as it stands."""
        return (
            self.exists
            and self.accepted
            and self.resolved_refs
            and self.observed_generation == self.generation
        )


@dataclass(frozen=True, slots=True)
class RegistrySeen:
    """The model registry. `version_exists` None: it could not be asked."""

    __pydantic_config__ = CAMEL

    version_exists: bool | None = None
    champion: str | None = None
    """The version that bears the alias; meaningful if `version_exists` is not None."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class GatewaySeen:
    """The gateways of the spec, all of them. None: not known (yet)."""

    __pydantic_config__ = CAMEL

    exists: bool | None = None
    mirrors: bool | None = None
    """Whether they can mirror, by percent if a step needs it, as far as their class says or their
    controller is known (zeroskew/rollout/routes/gateway_controllers.py)."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class AnalysisSeen:
    """The result of an `Analyse`: `run`, `since` and `until` are those of the request."""

    __pydantic_config__ = CAMEL

    run: str
    since: datetime
    until: datetime
    outcome: Outcome
    pairs: int = 0
    message: str = ""
    requests: int = 0
    """Of the champion while copies were sent, as far as both logs are complete."""
    copies: int = 0
    """Of these, those that the challenger answered as well."""
    metrics: tuple[MetricSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class Observations:
    __pydantic_config__ = CAMEL

    generation: int
    versions: Mapping[str, VersionSeen] = field(default_factory=dict)
    """All that exist of this rollout, by version."""
    route: RouteSeen = RouteSeen()
    registry: RegistrySeen = RegistrySeen()
    gateway: GatewaySeen = GatewaySeen()
    analyses: tuple[AnalysisSeen, ...] = ()
    """Those that are done, at least the newest of the attempt; old ones do no harm."""
    approval: str | None = None
    """Annotation `zeroskew.dev/approve`: a version, or one attempt at it (`Run.key`)."""
    abort: str | None = None
    """Annotation `zeroskew.dev/abort`: the attempt (`Run.key`) that is to be taken off."""
    paused: bool = False
    """Annotation `zeroskew.dev/pause`: frozen as by `spec.suspend`."""
    retry: str | None = None
    """Annotation `zeroskew.dev/retry`: any text; a new one asks for a new attempt."""
    deleting: bool = False
