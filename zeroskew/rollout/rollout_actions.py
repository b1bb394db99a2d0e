"""What the rollout's machine asks for: done in order, up to the first that does not work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from zeroskew.rollout.traffic_plan import TrafficPlan


@dataclass(frozen=True, slots=True)
class EnsureVersion:
    """Apply the spec's template as `<rollout>-<version>`, marked with its digest."""

    version: str
    template: str


@dataclass(frozen=True, slots=True)
class ApplyRoute:
    """Apply the rollout's one route."""

    plan: TrafficPlan


@dataclass(frozen=True, slots=True)
class Analyse:
    """Judge `challenger` against `champion` by what was logged in [since, until).

    Asked for again at every call until a result with the same `run`, `since` and `until`, or a
    later `until`, is observed: do it once.
    """

    run: str
    since: datetime
    until: datetime
    model: str
    champion: str
    challenger: str
    mode: Literal["shadow", "canary"]
    metrics: tuple[dict[str, Any], ...]
    """As in the manifest, those that can be judged in this mode."""
    mirror_percent: int = 100
    """Of the requests, in mode shadow: below 100, a request without a copy accuses nobody."""


@dataclass(frozen=True, slots=True)
class MoveAlias:
    """Make `version` the champion, if the alias is at `expected` still (None: at none)."""

    model: str
    version: str
    expected: str | None


@dataclass(frozen=True, slots=True)
class RemoveVersion:
    """Delete the objects of `version`: nobody sends it requests."""

    version: str


@dataclass(frozen=True, slots=True)
class EmitEvent:
    """A Kubernetes event of the ModelRollout."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Release:
    """Take the finalizer off: the object may go."""


Action = EnsureVersion | ApplyRoute | Analyse | MoveAlias | RemoveVersion | EmitEvent | Release
