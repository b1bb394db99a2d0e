"""What is in the cluster, as far as the operator goes: told by watches, set right by listing.

A watch that was cut does not say what was deleted meanwhile, so that everything is listed again now
and then. Whatever changed names the rollout, the monitor or the schedule that it belongs to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from operators.cluster_client import (
    DEPLOYMENT,
    DRIFT_MONITOR,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    MODEL_ROLLOUT,
    PIPELINE_SCHEDULE,
    Kind,
)
from zeroskew.rollout.readiness import slim_deployment
from zeroskew.rollout.version_objects import ROLLOUT_LABEL

ObjectKey = tuple[str, str]
"""Namespace and name of a ModelRollout, a DriftMonitor or a PipelineSchedule."""

SERVICE_LABEL = "serving.kserve.io/inferenceservice"
"""KServe's, on the Deployments (and pods) of an InferenceService."""

SELECTORS: Mapping[Kind, str | None] = {
    MODEL_ROLLOUT: None,
    DRIFT_MONITOR: None,
    PIPELINE_SCHEDULE: None,
    INFERENCE_SERVICE: ROLLOUT_LABEL,
    DEPLOYMENT: SERVICE_LABEL,
    HTTP_ROUTE: ROLLOUT_LABEL,
}
"""Kinds that are watched, with the label that those of interest have."""


class ObjectCache:
    """Objects by kind; `rollout_changed` is called with the rollout that one belongs to."""

    def __init__(
        self,
        rollout_changed: Callable[[ObjectKey], None],
        monitor_changed: Callable[[ObjectKey], None],
        schedule_changed: Callable[[ObjectKey], None],
    ) -> None:
        self._rollout_changed, self._monitor_changed = rollout_changed, monitor_changed
        self._schedule_changed = schedule_changed
        self._objects: dict[Kind, dict[tuple[str, str], dict[str, Any]]] = {
            kind: {} for kind in SELECTORS
        }
        self._services: dict[ObjectKey, set[tuple[str, str]]] = {}
        self._touched: dict[tuple[Kind, tuple[str, str]], float] = {}
        self._gone: dict[tuple[Kind, tuple[str, str]], tuple[str, float]] = {}
        """uid of what was deleted, and when: a uid never comes back."""

    def rollout(self, key: ObjectKey) -> dict[str, Any] | None:
        """The ModelRollout; None if there is none."""
        return self._objects[MODEL_ROLLOUT].get(key)

    def rollouts(self) -> list[ObjectKey]:
        return list(self._objects[MODEL_ROLLOUT])

    def monitor(self, key: ObjectKey) -> dict[str, Any] | None:
        """The DriftMonitor; None if there is none."""
        return self._objects[DRIFT_MONITOR].get(key)

    def monitors(self) -> list[ObjectKey]:
        return list(self._objects[DRIFT_MONITOR])

    def schedule(self, key: ObjectKey) -> dict[str, Any] | None:
        """The PipelineSchedule; None if there is none."""
        return self._objects[PIPELINE_SCHEDULE].get(key)

    def schedules(self) -> list[ObjectKey]:
        return list(self._objects[PIPELINE_SCHEDULE])

    def route(self, key: ObjectKey) -> dict[str, Any] | None:
        """The HTTPRoute of a rollout."""
        return self._objects[HTTP_ROUTE].get(key)

    def services(self, key: ObjectKey) -> list[dict[str, Any]]:
        """InferenceServices of a rollout's versions."""
        known = self._objects[INFERENCE_SERVICE]
        return [known[each] for each in sorted(self._services.get(key, ()))]

    def deployment(self, namespace: str, service: str) -> dict[str, Any] | None:
        """The predictor's Deployment of an InferenceService."""
        return self._objects[DEPLOYMENT].get((namespace, f"{service}-predictor"))

    def put(self, kind: Kind, found: Mapping[str, Any]) -> None:
        """An object as a watch, or an answer to a change of ours, shows it."""
        key, metadata = _key(found), found["metadata"]
        known = self._objects[kind].get(key)
        if known is not None and _version(known) >= _version(found):
            return
        uid, _ = self._gone.get((kind, key), ("", 0.0))
        if uid and uid == metadata.get("uid") and not metadata.get("deletionTimestamp"):
            return
        if known is not None:
            self._unlist(kind, key, known)
        self._objects[kind][key] = _trimmed(kind, found)
        if kind == INFERENCE_SERVICE:
            self._services.setdefault(_owner(found), set()).add(key)
        self._touched[kind, key] = time.monotonic()
        self._announce(kind, found)

    def remove(self, kind: Kind, found: Mapping[str, Any]) -> None:
        """An object that a watch says is gone."""
        self.deleted(kind, *_key(found), uid=found["metadata"].get("uid", ""))

    def deleted(self, kind: Kind, namespace: str, name: str, uid: str = "") -> None:
        """The server took its deletion. What finalizers keep comes back with the next event."""
        key = namespace, name
        known = self._objects[kind].pop(key, None)
        self._touched.pop((kind, key), None)
        if uid := uid or (known or {"metadata": {}})["metadata"].get("uid", ""):
            self._gone[kind, key] = uid, time.monotonic()
        if known is not None:
            self._unlist(kind, key, known)
            self._announce(kind, known)

    def relisted(self, kind: Kind, found: list[dict[str, Any]], began: float) -> None:
        """All objects of a kind, listed since `began` (of `time.monotonic`)."""
        listed = set()
        for each in found:
            key = _key(each)
            listed.add(key)
            self.put(kind, each)
        for key in [key for key in self._objects[kind] if key not in listed]:
            if self._touched.get((kind, key), 0.0) < began:
                self.remove(kind, self._objects[kind][key])
        for kind_key in [k for k, (_, at) in self._gone.items() if k[0] == kind and at < began]:
            del self._gone[kind_key]

    def _unlist(self, kind: Kind, key: tuple[str, str], known: Mapping[str, Any]) -> None:
        if kind == INFERENCE_SERVICE and (of := self._services.get(_owner(known))):
            of.discard(key)
            if not of:
                del self._services[_owner(known)]

    def _announce(self, kind: Kind, found: Mapping[str, Any]) -> None:
        namespace, name = _key(found)
        if kind == DRIFT_MONITOR:
            self._monitor_changed((namespace, name))
            return
        if kind == PIPELINE_SCHEDULE:
            self._schedule_changed((namespace, name))
            return
        if kind == DEPLOYMENT:
            service = self._objects[INFERENCE_SERVICE].get(
                (namespace, _labels(found).get(SERVICE_LABEL, ""))
            )
            name = _labels(service).get(ROLLOUT_LABEL, "") if service else ""
        elif kind != MODEL_ROLLOUT:
            name = _labels(found).get(ROLLOUT_LABEL, "")
        if name:
            self._rollout_changed((namespace, name))


def _key(found: Mapping[str, Any]) -> tuple[str, str]:
    metadata = found["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _owner(found: Mapping[str, Any]) -> ObjectKey:
    return _key(found)[0], _labels(found).get(ROLLOUT_LABEL, "")


def _labels(found: Mapping[str, Any]) -> Mapping[str, str]:
    return found["metadata"].get("labels") or {}


def _version(found: Mapping[str, Any]) -> int:
    # Opaque by contract, a growing number in fact, as client-go's own caches count on by now.
    try:
        return int(found["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return 0


def _trimmed(kind: Kind, found: Mapping[str, Any]) -> dict[str, Any]:
    """Without what nobody here reads: five hundred rollouts are kept."""
    kept = dict(found)
    metadata = dict(kept["metadata"])
    metadata.pop("managedFields", None)
    kept["metadata"] = metadata
    return slim_deployment(kept) if kind == DEPLOYMENT else kept
