"""What KServe and a gateway's controller would do, for an API server that has neither.

KServe 0.15 to 0.20 in Standard mode: for each InferenceService a Deployment `<name>-predictor` with
its labels and the annotation of its pods, whose status, and then that of the InferenceService,
becomes ready after a while. The gateway: every HTTPRoute is accepted, and resolved if the services
of all its backends exist. Everything that was written into the cluster is kept, with its time, as
the watches show it: each generation of each object, none left out.
"""

from __future__ import annotations

import heapq
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.types import PatchType

SERVICES = create_namespaced_resource(
    "serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices"
)
DEPLOYMENTS = create_namespaced_resource("apps", "v1", "Deployment", "deployments")
ROUTES = create_namespaced_resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
CONTROLLER = "zeroskew.dev/stand-in"
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
_SINCE = "2024-01-01T00:00:00Z"

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True)
class RouteWritten:
    """One generation of a route, and what was true when it was seen."""

    at: float
    generation: int
    weights: dict[str, int]
    """By InferenceService, `<rollout>-<version>`."""
    mirrored: dict[str, int]
    """Percent, likewise."""
    ready: frozenset[str]
    """InferenceServices of the namespace that were ready, by their status."""
    accepted: bool
    """Whether the generation before had been accepted (True for the first)."""


@dataclass(frozen=True)
class ServiceWritten:
    """A generation of an InferenceService, or its end (`generation` 0)."""

    at: float
    name: str
    generation: int


@dataclass
class StandIn:
    """Runs in threads for as long as it is entered."""

    kubeconfig: str
    ready_seconds: float = 0.3
    accept_seconds: float = 0.0
    down: set[Key] = field(default_factory=set)
    """InferenceServices that do not get ready; see `set_down`."""
    lagging: set[Key] = field(default_factory=set)
    """InferenceServices that KServe does not look at."""
    routes: dict[Key, list[RouteWritten]] = field(default_factory=dict)
    services: dict[str, list[ServiceWritten]] = field(default_factory=dict)
    """By namespace."""
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._client = Client(config=KubeConfig.from_file(self.kubeconfig), trust_env=False)
        self._known: dict[Any, dict[Key, dict[str, Any]]] = {
            SERVICES: {}, DEPLOYMENTS: {}, ROUTES: {}
        }  # fmt: skip
        self._told: queue.Queue[tuple[Any, str, Any]] = queue.Queue()
        self._later: list[tuple[float, int, Any, Key]] = []
        self._number = 0
        self._made: dict[tuple[str, int], float] = {}
        self._ready: set[Key] = set()
        self._accepted: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._stop = threading.Event()
        kinds = list(self._known)
        self._threads = [
            threading.Thread(target=self._watch, args=(kind,), daemon=True) for kind in kinds
        ] + [threading.Thread(target=self._work, daemon=True)]

    def __enter__(self) -> StandIn:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._threads[-1].join(20)

    def set_down(self, namespace: str, name: str, down: bool = True) -> None:
        """Its pods stop to answer, or never begin; or they do again."""
        (self.down.add if down else self.down.discard)((namespace, name))
        self._told.put((SERVICES, "LOOK", (namespace, name)))

    # ---- what is told

    def _watch(self, kind: Any) -> None:
        while not self._stop.is_set():
            try:
                listing = self._client.list(kind, namespace="*")
                self._told.put((kind, "LISTED", [_plain(each) for each in listing]))
                version = listing.resourceVersion
                for change, found in self._client.watch(
                    kind, namespace="*", resource_version=version, server_timeout=300
                ):
                    self._told.put((kind, change, _plain(found)))
                    if self._stop.is_set():
                        return
            except Exception as error:
                # The server may be on its way down or up; tests read this where it must not be.
                self.errors.append(f"{type(error).__name__}: {error}")
                self._stop.wait(0.3)

    def _work(self) -> None:
        while not self._stop.is_set():
            now = time.monotonic()
            while self._later and self._later[0][0] <= now:
                _, _, kind, key = heapq.heappop(self._later)
                self._told.put((kind, "LOOK", key))
            wait = min(0.5, self._later[0][0] - now) if self._later else 0.5
            try:
                kind, change, found = self._told.get(timeout=max(0.001, wait))
            except queue.Empty:
                continue
            try:
                self._change(kind, change, found)
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                if change not in ("LISTED", "DELETED"):
                    key = found if change == "LOOK" else _key(found)
                    self._look_in(0.3, kind, key)

    def _look_in(self, seconds: float, kind: Any, key: Key) -> None:
        self._number += 1
        heapq.heappush(self._later, (time.monotonic() + seconds, self._number, kind, key))

    def _change(self, kind: Any, change: str, found: Any) -> None:
        known = self._known[kind]
        if change == "LISTED":
            listed = {_key(each): each for each in found}
            for key in [key for key in known if key not in listed]:
                self._change(kind, "DELETED", known[key])
            for each in found:
                self._change(kind, "MODIFIED", each)
            return
        if change == "LOOK":
            key = found
        elif change == "DELETED":
            key = _key(found)
            if known.pop(key, None) is not None and kind is SERVICES:
                self._note(ServiceWritten(time.monotonic(), key[1], 0), key[0])
                self._deleted(key)
            return
        else:
            key = _key(found)
            before = known.get(key)
            if before is not None and _version(before) >= _version(found):
                return
            known[key] = found
            self._record(kind, found)
        if key not in known:
            return
        if kind is SERVICES:
            self._serve(key, known[key])
        elif kind is DEPLOYMENTS:
            service = key[0], key[1].removesuffix("-predictor")
            if service in self._known[SERVICES]:
                self._serve(service, self._known[SERVICES][service])
        else:
            self._route(key, known[key])

    # ---- the account

    def _record(self, kind: Any, found: dict[str, Any]) -> None:
        if kind is DEPLOYMENTS:
            return
        namespace, name = _key(found)
        uid, generation = found["metadata"]["uid"], found["metadata"]["generation"]
        if self._written.get(uid) == generation:
            return
        self._written[uid] = generation
        now = time.monotonic()
        if kind is SERVICES:
            self._note(ServiceWritten(now, name, generation), namespace)
            for key in [key for key in self._known[ROUTES] if key[0] == namespace]:
                self._look_in(0.0, ROUTES, key)
            return
        weights, mirrored = _traffic(found)
        ready = frozenset(each for space, each in self._ready if space == namespace)
        accepted = generation == 1 or self._accepted.get(uid) == generation - 1
        self.routes.setdefault((namespace, name), []).append(
            RouteWritten(now, generation, weights, mirrored, ready, accepted)
        )

    def _note(self, written: ServiceWritten, namespace: str) -> None:
        self.services.setdefault(namespace, []).append(written)

    # ---- KServe

    def _serve(self, key: Key, service: dict[str, Any]) -> None:
        if key in self.lagging:
            self._look_in(0.2, SERVICES, key)
            return
        namespace, name = key
        deployment = self._known[DEPLOYMENTS].get((namespace, f"{name}-predictor"))
        made = _deployment(namespace, name, service)
        if deployment is None:
            self._ignoring(409, self._client.create, DEPLOYMENTS(made))
            return
        template = made["spec"]["template"]
        before = deployment["spec"]["template"]["metadata"].get("annotations")
        if before != template["metadata"]["annotations"]:
            self._client.patch(
                DEPLOYMENTS, f"{name}-predictor", {"spec": {"template": template}},
                namespace=namespace, patch_type=PatchType.MERGE,
            )  # fmt: skip
            return
        made_of = service["metadata"]["uid"], deployment["metadata"]["generation"]
        since = self._made.setdefault(made_of, time.monotonic())
        waits = since + self.ready_seconds - time.monotonic()
        ready = key not in self.down and waits <= 0
        if waits > 0:
            self._look_in(waits, SERVICES, key)
        replicas = deployment["spec"]["replicas"]
        count = replicas if ready else 0
        wanted = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": replicas, "updatedReplicas": replicas,
            "availableReplicas": count, "readyReplicas": count,
        }  # fmt: skip
        status = deployment.get("status") or {}
        # A 0 is left out by the server.
        if any((status.get(part) or 0) != value for part, value in wanted.items()):
            self._patch(DEPLOYMENTS, f"{name}-predictor", namespace, wanted)
        state = "True" if ready else "False"
        known = (service.get("status") or {}).get("conditions") or []
        if [each["status"] for each in known] != [state] * 3:
            conditions = [
                {"type": kind, "status": state, "reason": "", "message": "",
                 "lastTransitionTime": _SINCE}
                for kind in ("PredictorReady", "IngressReady", "Ready")
            ]  # fmt: skip
            model = {"transitionStatus": "UpToDate" if ready else "InProgress"}
            told = {"conditions": conditions, "deploymentMode": "Standard", "modelStatus": model}
            self._patch(SERVICES, name, namespace, told)
        (self._ready.add if ready else self._ready.discard)(key)

    def _deleted(self, key: Key) -> None:
        """Kubernetes' garbage collector would take the Deployment; the gateway looks again."""
        namespace, name = key
        self._ready.discard(key)
        self._ignoring(
            404, self._client.delete, DEPLOYMENTS, f"{name}-predictor", namespace=namespace
        )
        for route in [route for route in self._known[ROUTES] if route[0] == namespace]:
            self._look_in(0.0, ROUTES, route)

    # ---- the gateway

    def _route(self, key: Key, route: dict[str, Any]) -> None:
        namespace, name = key
        uid, generation = route["metadata"]["uid"], route["metadata"]["generation"]
        weights, mirrored = _traffic(route)
        resolved = all((namespace, each) in self._known[SERVICES] for each in [*weights, *mirrored])
        parents = [
            {
                "parentRef": reference,
                "controllerName": CONTROLLER,
                "conditions": [
                    {"type": kind, "status": state, "reason": reason, "message": "",
                     "observedGeneration": generation, "lastTransitionTime": _SINCE}
                    for kind, state, reason in (
                        ("Accepted", "True", "Accepted"),
                        ("ResolvedRefs", str(resolved),
                         "ResolvedRefs" if resolved else "BackendNotFound"),
                    )
                ],
            }
            for reference in route["spec"]["parentRefs"]
        ]  # fmt: skip
        known = (route.get("status") or {}).get("parents") or []
        if _said(known) == _said(parents):
            self._accepted[uid] = generation
            return
        waits = self.accept_seconds - (time.monotonic() - self.routes[key][-1].at)
        if waits > 0:
            self._look_in(waits, ROUTES, key)
            return
        self._patch(ROUTES, name, namespace, {"parents": parents})
        self._accepted[uid] = generation

    # ---- calls

    def _patch(self, resource: Any, name: str, namespace: str, status: dict[str, Any]) -> None:
        self._ignoring(
            404, self._client.patch, resource.Status, name, {"status": status},
            namespace=namespace, patch_type=PatchType.MERGE,
        )  # fmt: skip

    def _ignoring(self, code: int, call: Any, *arguments: Any, **named: Any) -> None:
        try:
            call(*arguments, **named)
        except ApiError as error:
            if error.status.code != code:
                raise


def _deployment(namespace: str, name: str, service: dict[str, Any]) -> dict[str, Any]:
    labels = {"serving.kserve.io/inferenceservice": name, "app": f"isvc.{name}-predictor"}
    predictor = service["spec"]["predictor"]
    uri = predictor.get("model", {}).get("storageUri", "")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{name}-predictor", "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": predictor.get("minReplicas", 1),
            "selector": {"matchLabels": {"app": labels["app"]}},
            "template": {
                "metadata": {"labels": labels, "annotations": {SOURCE: uri}},
                "spec": {"containers": [{"name": "kserve-container", "image": "triton"}]},
            },
        },
    }


def _traffic(route: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    weights: dict[str, int] = {}
    mirrored: dict[str, int] = {}
    for rule in route["spec"]["rules"]:
        for each in rule.get("backendRefs") or ():
            weights[each["name"].removesuffix("-predictor")] = each.get("weight", 1)
        for each in rule.get("filters") or ():
            if each["type"] == "RequestMirror":
                copy = each["requestMirror"]
                mirrored[copy["backendRef"]["name"].removesuffix("-predictor")] = copy.get(
                    "percent", 100
                )
    return weights, mirrored


def _said(parents: list[dict[str, Any]]) -> list[Any]:
    return [
        [(each["type"], each["status"], each["observedGeneration"]) for each in of["conditions"]]
        for of in parents
    ]


def _version(found: dict[str, Any]) -> int:
    return int(found["metadata"]["resourceVersion"])


def _plain(found: Any) -> dict[str, Any]:
    made: dict[str, Any] = found.to_dict()
    return made


def _key(found: dict[str, Any]) -> Key:
    return found["metadata"]["namespace"], found["metadata"]["name"]
