"""Who gets which requests: one object, from which routes of a gateway and of Envoy are made.

A plan that would hurt users cannot be built: weights sum to 100, and whoever is mirrored to answers
nobody.

How a server knows its role: every backend is sent `x-zeroskew-role` and `x-zeroskew-version`, set
by the route over whatever came from outside. Envoy, and the gateways made of it, copy a request for
the mirror *after* these headers were set, and Gateway API has no way to give the copy others. So
the copy says `champion` to a challenger; what gives it away is the version: a server that is
addressed as another version than its own has a mirrored copy before it, and its role is shadow.
The laptop's Envoy can rewrite the copy, and does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ROLE_HEADER = "x-zeroskew-role"
VERSION_HEADER = "x-zeroskew-version"
"""The version a request is addressed to; see the module's text."""

Role = Literal["champion", "canary"]


@dataclass(frozen=True, slots=True)
class GatewayRef:
    """A gateway, or one listener of it. No namespace: that of the rollout."""

    name: str
    namespace: str | None = None
    section_name: str | None = None


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where requests for a model come in: the same for all of its versions."""

    path: str
    """Prefix by whole path elements: `/v2/models/a` is not one of `/v2/models/ab`."""
    timeout: str
    """A Gateway API duration."""
    port: int = 80
    """Of the versions' Services."""
    hosts: tuple[str, ...] = ()
    """None: every host."""
    gateways: tuple[GatewayRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Backend:
    """A version that answers users."""

    version: str
    weight: int
    """Percent, 1 to 100: who has no weight is not in the plan."""
    role: Role = "champion"


@dataclass(frozen=True, slots=True)
class Mirror:
    """A version that gets copies and whose answers nobody sees."""

    version: str
    percent: int
    """Of the requests, 1 to 100."""


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """Raises `ValueError` for a combination that must not exist."""

    entrance: Entrance
    backends: tuple[Backend, ...]
    mirror: Mirror | None = None

    def __post_init__(self) -> None:
        versions = [backend.version for backend in self.backends]
        if not 1 <= len(versions) <= 2 or len(set(versions)) != len(versions):
            raise ValueError(f"one or two different versions answer, not {versions}")
        if any(backend.weight < 1 for backend in self.backends):
            raise ValueError("a version without weight is not in a plan")
        if sum(backend.weight for backend in self.backends) != 100:
            raise ValueError(f"weights sum to 100: {self.backends}")
        if len({backend.role for backend in self.backends}) != len(self.backends):
            raise ValueError(f"two versions cannot have the same role: {self.backends}")
        if self.mirror is None:
            return
        if not 1 <= self.mirror.percent <= 100:
            raise ValueError(f"{self.mirror.percent} percent cannot be mirrored")
        if [backend.role for backend in self.backends] != ["champion"]:
            raise ValueError("requests are mirrored while the champion alone answers")
        if self.mirror.version in versions:
            raise ValueError("a version cannot be mirrored to itself")

    def weight(self, version: str | None) -> int:
        """Percent of the requests that `version` answers."""
        return sum(backend.weight for backend in self.backends if backend.version == version)

    def mirrored(self, version: str | None) -> int:
        """Percent of the requests that `version` gets a copy of."""
        return self.mirror.percent if self.mirror and self.mirror.version == version else 0

    @property
    def versions(self) -> tuple[str, ...]:
        """All that get requests, who is mirrored to included."""
        answering = tuple(backend.version for backend in self.backends)
        return (*answering, self.mirror.version) if self.mirror else answering


def alone(entrance: Entrance, version: str, role: Role = "champion") -> TrafficPlan:
    """`version` answers every request."""
    return TrafficPlan(entrance, (Backend(version, 100, role),))


def shared(
    entrance: Entrance, champion: str, challenger: str, *, weight: int, mirror: int
) -> TrafficPlan:
    """The challenger answers `weight` percent, or gets copies of `mirror` percent.

    Raises `ValueError` for both at a time, and for what is no percentage.
    """
    if weight == 100 and not mirror:
        return alone(entrance, challenger, "canary")
    if not weight:
        copies = Mirror(challenger, mirror) if mirror else None
        return TrafficPlan(entrance, (Backend(champion, 100),), copies)
    backends = (Backend(champion, 100 - weight), Backend(challenger, weight, "canary"))
    return TrafficPlan(entrance, backends, Mirror(challenger, mirror) if mirror else None)
