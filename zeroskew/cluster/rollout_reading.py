"""A rollout as a person looks at it: the object, its versions and events, put together once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from zeroskew.cluster.access import MODEL_ROLLOUT, Cluster, Kind
from zeroskew.cluster.annotations import APPROVE, PAUSE, is_set
from zeroskew.cluster.events import EventSeen, read_events
from zeroskew.errors import ClusterError, ConfigError
from zeroskew.rollout.rollout_spec import RolloutSpec, parse_spec
from zeroskew.rollout.rollout_state import CAMEL, RolloutStatus, from_json
from zeroskew.rollout.run_progress import describe_step
from zeroskew.rollout.version_objects import ROLLOUT_LABEL, VERSION_LABEL

__all__ = ["RolloutView", "StepLine", "VersionLine", "read_rollout", "view_rollout"]

INFERENCE_SERVICE = Kind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")

Outcome = Literal["Succeeded", "RolledBack", "Failed", ""]


@dataclass(frozen=True, slots=True)
class StepLine:
    __pydantic_config__ = CAMEL

    text: str
    state: Literal["done", "current", "ahead"]


@dataclass(frozen=True, slots=True)
class VersionLine:
    """One version that has objects on the cluster, or is to have some."""

    __pydantic_config__ = CAMEL

    version: str
    role: Literal["stable", "challenger", "rejected", "retired"]
    weight: int
    """Percent of the requests that it answers."""
    mirror: int
    """Percent of the requests that it gets copies of."""
    ready: Literal["True", "False", "Unknown"]
    """What KServe says of it."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class RolloutView:
    """What `zeroskew rollout status` tells."""

    __pydantic_config__ = CAMEL

    namespace: str
    name: str
    model: str
    wanted: str
    """The version that the spec names."""
    generation: int
    resource_version: str
    created: datetime | None
    deleting: bool
    suspended: bool
    """By `spec.suspend`."""
    paused: bool
    """By annotation."""
    approval: str | None
    status: RolloutStatus
    steps: tuple[StepLine, ...]
    versions: tuple[VersionLine, ...]
    events: tuple[EventSeen, ...]
    """The newest last."""
    unseen: tuple[str, ...] = ()
    """What could not be read, and why: rights are given one by one."""
    steps_unknown: str = ""
    """Why no steps are shown."""

    @property
    def where(self) -> str:
        return f"ModelRollout {self.namespace}/{self.name}"

    @property
    def observed(self) -> bool:
        """The operator has looked at the spec as it stands."""
        return self.status.observed_generation >= self.generation

    @property
    def refusal(self) -> str:
        """Why the operator cannot work by this spec; empty: it can."""
        for each in self.status.conditions:
            if each.type == "Accepted" and each.status == "False":
                return each.message
        return ""

    @property
    def outcome(self) -> Outcome:
        """How the rollout of the wanted version ended; empty: it goes on."""
        status = self.status
        if not self.observed or self.deleting:
            return ""
        if self.refusal:
            return "" if status.run is not None else "Failed"
        if status.run is None and status.phase == "Succeeded" and status.stable == self.wanted:
            return "Succeeded"
        if status.run is None and status.rejected and status.rejected.version == self.wanted:
            return "RolledBack"
        return "Failed" if status.phase == "Failed" else ""

    @property
    def waits_for_approval(self) -> bool:
        return self.status.run is not None and self.status.phase == "WaitingApproval"


def read_rollout(cluster: Cluster, namespace: str, name: str, *, events: int = 8) -> RolloutView:
    """Read it as it is now. Raises `ClusterError` if the rollout itself cannot be read; versions
    and events that may not be read are told of in `unseen`."""
    body = cluster.read(MODEL_ROLLOUT, namespace, name)
    unseen: list[str] = []
    services: list[dict[str, Any]] = []
    try:
        label = f"{ROLLOUT_LABEL}={name}"
        services = cluster.list(INFERENCE_SERVICE, namespace, labelSelector=label)
    except ClusterError as error:
        if not error.code:
            raise
        unseen.append(f"versions: {error.what}")
    told: tuple[EventSeen, ...] = ()
    try:
        told = read_events(cluster, namespace, body["metadata"]["uid"], events)
    except ClusterError as error:
        if not error.code:
            raise
        unseen.append(f"events: {error.what}")
    return view_rollout(body, services, told, unseen)


def view_rollout(
    body: Mapping[str, Any],
    services: Iterable[Mapping[str, Any]] = (),
    events: tuple[EventSeen, ...] = (),
    unseen: Iterable[str] = (),
) -> RolloutView:
    """Out of the objects. Raises `ClusterError` for a status that nobody can read."""
    metadata, spec = body["metadata"], body.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    reference = spec.get("modelRef") or {}
    where = f"ModelRollout {metadata.get('namespace', '')}/{metadata['name']}"
    try:
        status = from_json(RolloutStatus, body.get("status") or {})
    except ValueError:
        raise ClusterError(
            "its status cannot be read",
            where=where,
            mend="the operator is of another release, or somebody wrote there: `kubectl get -o "
            "yaml` shows it",
        ) from None
    parsed, problem = _parsed(spec, status, where)
    return RolloutView(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        model=str(reference.get("name", "")),
        wanted=str(reference.get("version", "")),
        generation=int(metadata.get("generation", 0)),
        resource_version=str(metadata.get("resourceVersion", "")),
        created=_moment(metadata.get("creationTimestamp")),
        deleting=metadata.get("deletionTimestamp") is not None,
        suspended=spec.get("suspend") is True,
        paused=is_set(annotations.get(PAUSE)),
        approval=annotations.get(APPROVE),
        status=status,
        steps=() if parsed is None else _steps(parsed, status),
        versions=_versions(status, str(reference.get("version", "")), services, metadata["name"]),
        events=events,
        unseen=tuple(unseen),
        steps_unknown=problem or _without_steps(status),
    )


def _parsed(
    spec: Mapping[str, Any], status: RolloutStatus, where: str
) -> tuple[RolloutSpec | None, str]:
    """The spec that the operator goes by."""
    raw: Any = spec
    if status.run is not None and status.valid_spec is not None:
        raw = json.loads(status.valid_spec)
    try:
        return parse_spec(raw, where=where), ""
    except ConfigError as error:
        return None, error.what


def _without_steps(status: RolloutStatus) -> str:
    if status.stable is None:
        return "a first version has nothing to be compared with, and takes no steps"
    if status.run is not None and status.run.known_good:
        return f"version {status.run.version} is known good: it comes back without steps"
    return ""


def _steps(spec: RolloutSpec, status: RolloutStatus) -> tuple[StepLine, ...]:
    run = status.run
    if _without_steps(status):
        return ()
    at = -1 if run is None or not run.begun else run.step
    done = (run is None and status.phase == "Succeeded") or (run is not None and run.promoting)
    lines = []
    for number, step in enumerate(spec.strategy.steps):
        state: Literal["done", "current", "ahead"]
        state = "done" if done or number < at else "current" if number == at else "ahead"
        lines.append(StepLine(describe_step(step), state))
    return tuple(lines)


def _versions(
    status: RolloutStatus, wanted: str, services: Iterable[Mapping[str, Any]], rollout: str
) -> tuple[VersionLine, ...]:
    run = status.run
    known = {}
    for each in services:
        version = (each["metadata"].get("labels") or {}).get(VERSION_LABEL, "")
        if each["metadata"]["name"] == f"{rollout}-{version}":
            known[version] = each
    named = {*known, status.stable, run.version if run else None} - {None}
    lines = []
    for version in sorted(named, key=lambda text: int(text) if str(text).isdigit() else 0):
        assert version is not None
        role: Literal["stable", "challenger", "rejected", "retired"] = "retired"
        weight = mirror = 0
        if version == status.stable:
            role, weight = "stable", 100 - (run.weight if run else 0)
        elif run is not None and version == run.version:
            role, weight, mirror = "challenger", run.weight, run.mirror
        elif status.rejected is not None and version == status.rejected.version == wanted:
            role = "rejected"
        ready, message = _readiness(known.get(version))
        lines.append(VersionLine(version, role, weight, mirror, ready, message))
    return tuple(lines)


def _readiness(
    service: Mapping[str, Any] | None,
) -> tuple[Literal["True", "False", "Unknown"], str]:
    """KServe's word, and its first reason against it."""
    if service is None:
        return "Unknown", "no InferenceService is seen"
    conditions = (service.get("status") or {}).get("conditions") or []
    known = {each.get("type"): each for each in conditions}
    ready = known.get("Ready", {}).get("status", "Unknown")
    if ready == "True":
        return "True", ""
    said = [
        ": ".join(filter(None, (str(each.get("reason") or ""), str(each.get("message") or ""))))
        for kind, each in known.items()
        if kind != "Ready" and each.get("status") == "False"
    ]
    text = next((" ".join(each.split()) for each in said if each), "not ready yet")
    return ("False" if ready == "False" else "Unknown"), text


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
