"""What KServe and a gateway's controller would do, for an API server that has neither.

KServe: for each InferenceService a Deployment `<name>-predictor` with its labels, whose status and
that of the InferenceService become ready after a while (facts of KServe 0.15 to 0.20, Standard
mode). The gateway: every HTTPRoute is accepted, and resolved if the services of all its backends
exist. Everything that was written into the cluster is kept with its time.
"""

from __future__ import annotations

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
TURN_SECONDS = 0.2


@dataclass(frozen=True)
class RouteWritten:
    """One generation of a route, as it was found."""

    at: float
    namespace: str
    name: str
    weights: dict[str, int]
    mirrored: str


@dataclass
class StandIn:
    """Runs in a thread until `stop`."""

    kubeconfig: str
    ready_seconds: float = 0.5
    never_ready: set[str] = field(default_factory=set)
    """Names of InferenceServices."""
    routes: list[RouteWritten] = field(default_factory=list)
    generations: dict[tuple[str, str], int] = field(default_factory=dict)
    """Of InferenceServices, the highest seen."""
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._client = Client(config=KubeConfig.from_file(self.kubeconfig), trust_env=False)
        self._since: dict[str, float] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stop.wait(TURN_SECONDS):
            try:
                self._turn()
            except Exception as error:
                # The server may be on its way down or up; tests read this where it must not be.
                self.errors.append(f"{type(error).__name__}: {error}")

    def _turn(self) -> None:
        services = {_key(s): s for s in map(_plain, self._client.list(SERVICES, namespace="*"))}
        deployments = {
            _key(d): d for d in map(_plain, self._client.list(DEPLOYMENTS, namespace="*"))
        }
        for (namespace, name), service in services.items():
            key = namespace, name
            self.generations[key] = max(
                self.generations.get(key, 0), service["metadata"]["generation"]
            )
            deployment = deployments.get((namespace, f"{name}-predictor"))
            if deployment is None:
                self._deploy(namespace, name, service)
                continue
            since = self._since.setdefault(service["metadata"]["uid"], time.monotonic())
            ready = name not in self.never_ready and time.monotonic() - since > self.ready_seconds
            self._status(namespace, name, service, deployment, ready)
        for route in map(_plain, self._client.list(ROUTES, namespace="*")):
            self._route(route, services)

    def _deploy(self, namespace: str, name: str, service: dict[str, Any]) -> None:
        labels = {"serving.kserve.io/inferenceservice": name, "app": f"isvc.{name}-predictor"}
        uri = service["spec"]["predictor"].get("model", {}).get("storageUri", "")
        annotation = "internal.serving.kserve.io/storage-initializer-sourceuri"
        made = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"{name}-predictor", "namespace": namespace, "labels": labels},
            "spec": {
                "replicas": service["spec"]["predictor"].get("minReplicas", 1),
                "selector": {"matchLabels": {"app": labels["app"]}},
                "template": {
                    "metadata": {"labels": labels, "annotations": {annotation: uri}},
                    "spec": {"containers": [{"name": "kserve-container", "image": "triton"}]},
                },
            },
        }
        self._client.create(DEPLOYMENTS(made))

    def _status(
        self, namespace: str, name: str, service: dict[str, Any], deployment: dict[str, Any],
        ready: bool,
    ) -> None:  # fmt: skip
        count = deployment["spec"]["replicas"] if ready else 0
        wanted = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": deployment["spec"]["replicas"],
            "updatedReplicas": deployment["spec"]["replicas"],
            "availableReplicas": count,
            "readyReplicas": count,
        }
        if not _within(wanted, deployment.get("status") or {}):
            self._patch(DEPLOYMENTS, f"{name}-predictor", namespace, wanted)
        state = "True" if ready else "False"
        conditions = [
            {"type": kind, "status": state, "reason": "", "message": "",
             "lastTransitionTime": "2024-01-01T00:00:00Z"}
            for kind in ("PredictorReady", "IngressReady", "Ready")
        ]  # fmt: skip
        known = service.get("status") or {}
        if [c["status"] for c in known.get("conditions") or []] != [state] * 3:
            model = {"transitionStatus": "UpToDate" if ready else "InProgress"}
            status = {"conditions": conditions, "deploymentMode": "Standard", "modelStatus": model}
            self._patch(SERVICES, name, namespace, status)

    def _route(self, route: dict[str, Any], services: dict[tuple[str, str], Any]) -> None:
        namespace, name = _key(route)
        generation = route["metadata"]["generation"]
        (rule,) = route["spec"]["rules"]
        mirrored = [
            each["requestMirror"]["backendRef"]["name"]
            for each in rule.get("filters") or ()
            if each["type"] == "RequestMirror"
        ]
        backends = {each["name"]: each["weight"] for each in rule["backendRefs"]}
        if self._seen.get((namespace, name)) != generation:
            self._seen[namespace, name] = generation
            self.routes.append(
                RouteWritten(
                    time.monotonic(), namespace, name, backends, mirrored[0] if mirrored else ""
                )
            )
        resolved = all(
            (namespace, each.removesuffix("-predictor")) in services
            for each in [*backends, *mirrored]
        )
        parents = [
            {
                "parentRef": reference,
                "controllerName": "zeroskew.dev/stand-in",
                "conditions": [
                    {"type": kind, "status": state, "reason": reason, "message": "",
                     "observedGeneration": generation,
                     "lastTransitionTime": "2024-01-01T00:00:00Z"}
                    for kind, state, reason in (
                        ("Accepted", "True", "Accepted"),
                        ("ResolvedRefs", str(resolved), "ResolvedRefs" if resolved
                         else "BackendNotFound"),
                    )
                ],
            }
            for reference in route["spec"]["parentRefs"]
        ]  # fmt: skip
        known = (route.get("status") or {}).get("parents") or []
        told = [[(c["status"], c["observedGeneration"]) for c in p["conditions"]] for p in known]
        if told != [[(c["status"], generation) for c in p["conditions"]] for p in parents]:
            self._patch(ROUTES, name, namespace, {"parents": parents})

    def _patch(self, resource: Any, name: str, namespace: str, status: dict[str, Any]) -> None:
        try:
            self._client.patch(
                resource.Status, name, {"status": status}, namespace=namespace,
                patch_type=PatchType.MERGE,
            )  # fmt: skip
        except ApiError as error:
            if error.status.code != 404:
                raise


def _plain(found: Any) -> dict[str, Any]:
    made: dict[str, Any] = found.to_dict()
    return made


def _key(found: dict[str, Any]) -> tuple[str, str]:
    return found["metadata"]["namespace"], found["metadata"]["name"]


def _within(wanted: dict[str, Any], found: dict[str, Any]) -> bool:
    # A 0 is left out by the server.
    return all((found.get(name) or 0) == value for name, value in wanted.items())
