"""What was written into a cluster, in order: each generation of each route and InferenceService.

Told by watches that go on where they ended, so that none is left out. What was ready when a route
was written is told by resource versions, which count all writes of a server: not by which watch was
faster.
"""

from __future__ import annotations

import bisect
import threading
import time
from dataclasses import dataclass
from typing import Any

from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource

SERVICES = create_namespaced_resource(
    "serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices"
)
DEPLOYMENTS = create_namespaced_resource("apps", "v1", "Deployment", "deployments")
ROUTES = create_namespaced_resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
_KINDS = (SERVICES, DEPLOYMENTS, ROUTES)
_PREDICTOR = "-predictor"

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True)
class RouteWritten:
    """One generation of a route, and what was true when it was written."""

    at: float
    """`time.monotonic` when the watch told it."""
    version: int
    """Resource version."""
    generation: int
    weights: dict[str, int]
    """By InferenceService, `<rollout>-<version>`."""
    mirrored: dict[str, int]
    """Percent, likewise."""
    accepted: bool
    """Whether every gateway had accepted the generation before (True for the first)."""
    ready: frozenset[str] = frozenset()
    """InferenceServices of the namespace of which a pod answered."""


@dataclass(frozen=True)
class ServiceWritten:
    """A generation of an InferenceService, or the beginning of its end (`generation` 0)."""

    at: float
    name: str
    generation: int


class WatchRecord:
    """Runs in threads for as long as it is entered."""

    def __init__(self, kubeconfig: str) -> None:
        self._client = Client(config=KubeConfig.from_file(kubeconfig), trust_env=False)
        self._lock = threading.Lock()
        self._routes: dict[Key, list[RouteWritten]] = {}
        self._services: dict[str, list[ServiceWritten]] = {}
        self._ready: dict[Key, list[tuple[int, bool]]] = {}
        """By InferenceService: from which resource version on it was ready or not."""
        self._seen: dict[str, int] = {}
        """By uid, the newest generation."""
        self.errors: list[str] = []
        """Of watches; the server may have been on its way down or up."""
        self._stop = threading.Event()
        self._listed = [threading.Event() for _ in _KINDS]
        self._threads = [
            threading.Thread(target=self._watch, args=each, daemon=True)
            for each in zip(_KINDS, self._listed, strict=True)
        ]

    def __enter__(self) -> WatchRecord:
        for thread in self._threads:
            thread.start()
        for listed in self._listed:
            assert listed.wait(60), self.errors
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def routes(self, namespace: str, name: str) -> list[RouteWritten]:
        """What was written of the route, in order."""
        with self._lock:
            ready = {key[1]: list(of) for key, of in self._ready.items() if key[0] == namespace}
            return [
                RouteWritten(**(vars(each) | {"ready": _ready_at(ready, each.version)}))
                for each in self._routes.get((namespace, name), ())
            ]

    def services(self, namespace: str) -> list[ServiceWritten]:
        """What was written of the namespace's InferenceServices, in order."""
        with self._lock:
            return list(self._services.get(namespace, ()))

    def _watch(self, kind: Any, listed: threading.Event) -> None:
        version = None
        while not self._stop.is_set():
            try:
                if version is None:
                    listing = self._client.list(kind, namespace="*")
                    for found in listing:
                        self._note(kind, "ADDED", found.to_dict())
                    version = listing.resourceVersion
                    listed.set()
                for change, found in self._client.watch(
                    kind, namespace="*", resource_version=version, server_timeout=300
                ):
                    plain = found.to_dict()
                    self._note(kind, change, plain)
                    version = plain["metadata"]["resourceVersion"]
                    if self._stop.is_set():
                        return
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                if isinstance(error, ApiError) and error.status.code == 410:
                    version = None
                self._stop.wait(0.3)

    def _note(self, kind: Any, change: str, found: dict[str, Any]) -> None:
        metadata, now = found["metadata"], time.monotonic()
        namespace, name, uid = metadata["namespace"], metadata["name"], metadata["uid"]
        with self._lock:
            if kind is DEPLOYMENTS:
                key = namespace, name.removesuffix(_PREDICTOR)
                ready = change != "DELETED" and _answers(found)
                self._ready.setdefault(key, []).append((int(metadata["resourceVersion"]), ready))
                return
            # What finalizers keep for a while has one generation more, and no other spec.
            ended = change == "DELETED" or metadata.get("deletionTimestamp") is not None
            generation = 0 if ended else metadata["generation"]
            if self._seen.get(uid) == generation:
                return
            self._seen[uid] = generation
            if kind is SERVICES:
                written = ServiceWritten(now, name, generation)
                self._services.setdefault(namespace, []).append(written)
            elif generation:
                weights, mirrored = traffic(found)
                self._routes.setdefault((namespace, name), []).append(
                    RouteWritten(
                        now, int(metadata["resourceVersion"]), generation, weights, mirrored,
                        generation == 1 or _accepted(found, generation - 1),
                    )
                )  # fmt: skip


def traffic(route: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Weights, and percents of copies, of a route by InferenceService."""
    weights: dict[str, int] = {}
    mirrored: dict[str, int] = {}
    for rule in route["spec"]["rules"]:
        for each in rule.get("backendRefs") or ():
            weights[each["name"].removesuffix(_PREDICTOR)] = each.get("weight", 1)
        for each in rule.get("filters") or ():
            if each["type"] == "RequestMirror":
                copy = each["requestMirror"]
                name = copy["backendRef"]["name"].removesuffix(_PREDICTOR)
                mirrored[name] = copy.get("percent", 100)
    return weights, mirrored


def _ready_at(known: dict[str, list[tuple[int, bool]]], version: int) -> frozenset[str]:
    found = set()
    for name, changes in known.items():
        at = bisect.bisect_left(changes, (version, False)) - 1
        if at >= 0 and changes[at][1]:
            found.add(name)
    return frozenset(found)


def _answers(deployment: dict[str, Any]) -> bool:
    status = deployment.get("status") or {}
    return bool(status.get("availableReplicas"))


def _accepted(route: dict[str, Any], generation: int) -> bool:
    conditions = [
        each
        for of in (route.get("status") or {}).get("parents") or ()
        for each in of["conditions"]
        if each["type"] in ("Accepted", "ResolvedRefs")
    ]
    return bool(conditions) and all(
        each["status"] == "True" and each.get("observedGeneration", 0) >= generation
        for each in conditions
    )
