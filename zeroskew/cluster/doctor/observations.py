"""What was seen of a cluster: plain facts, each of which somebody may be forbidden to see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from zeroskew.rollout.rollout_state import CAMEL

__all__ = [
    "Cr", "Deployed", "Finding", "GatewayClass", "Look", "NamespaceSeen", "Node", "Seen", "State",
    "Wanted",
]  # fmt: skip

T = TypeVar("T")
State = Literal["ok", "warning", "problem", "not checkable"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to."""

    __pydantic_config__ = CAMEL

    about: str
    state: State
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """One thing that was looked for: it is there, it is not, or nobody may say."""

    value: T | None = None
    """None: it is not there, unless `forbidden`."""
    forbidden: str = ""
    """The right that is missing."""


@dataclass(frozen=True, slots=True)
class Cr:
    """A CustomResourceDefinition."""

    schema: Any
    """Of its newest served version."""
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Deployed:
    """A Deployment."""

    namespace: str
    name: str
    images: tuple[str, ...]
    wanted: int
    ready: int
    account: str
    arguments: str
    """Commands, arguments and values of variables of its containers, in one text."""


@dataclass(frozen=True, slots=True)
class GatewayClass:
    name: str
    controller: str
    accepted: bool
    listed: frozenset[str] | None
    """Features that it publishes; None: it publishes none."""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    schedulable: bool
    cpu: float
    """Cores that pods may ask for."""
    memory: float
    """MiB, likewise."""
    gpus: int
    free_cpu: float | None = None
    """Left over by the pods on it; None: pods may not be listed."""
    free_memory: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A right that is needed."""

    verb: str
    group: str
    resource: str

    @property
    def text(self) -> str:
        return f"{self.verb} {self.resource}{'.' + self.group if self.group else ''}"


@dataclass(frozen=True, slots=True)
class NamespaceSeen:
    """A namespace of models."""

    name: str
    enforced: Look[str] = Look()
    """Level of Pod Security that it enforces; empty: none."""
    endpoints: Look[frozenset[str]] = Look()
    """Keys of the ConfigMap `zeroskew-endpoints`."""
    credentials: Look[frozenset[str]] = Look()
    """Keys of the Secret `zeroskew-credentials`; never its values."""
    mine: Mapping[Wanted, bool] = field(default_factory=dict)
    """Which rights whoever asks has there."""
    operators: Look[Mapping[Wanted, bool]] = Look()
    """Which rights the operator's ServiceAccount has there."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All of it."""

    version: str
    """Of Kubernetes, as v1.36.2."""
    served: Mapping[str, frozenset[str]]
    """Resources by group and version, as `serving.kserve.io/v1beta1`; what is absent is not
    served."""
    crds: Look[Mapping[str, Cr]] = Look()
    """By name."""
    deployments: Look[tuple[Deployed, ...]] = Look()
    """Those that a check asks about."""
    gateway_classes: Look[tuple[GatewayClass, ...]] = Look()
    storage_classes: Look[Mapping[str, bool]] = Look()
    """Whether each is the default one."""
    storage_containers: Look[tuple[Mapping[str, Any], ...]] = Look()
    """KServe's ClusterStorageContainers: the specs of their containers."""
    pending_claims: Look[tuple[str, ...]] = Look()
    """PersistentVolumeClaims of the stack without a volume."""
    nodes: Look[tuple[Node, ...]] = Look()
    namespaces: tuple[NamespaceSeen, ...] = ()
