"""One thing that happened to one object, as people are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Notification:
    """What a Kubernetes event says, whatever kind of object it is about."""

    id: str
    """Of the object, its generation and what happened: the same for every telling of it."""
    kind: str
    namespace: str
    name: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    time: str
    """ISO 8601, UTC."""
