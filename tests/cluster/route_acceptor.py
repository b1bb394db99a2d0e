"""A gateway's controller without a gateway: it accepts HTTPRoutes, and resolves their Services."""

from __future__ import annotations

import threading
from typing import Any

from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.types import PatchType

ROUTES = create_namespaced_resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
SERVICES = create_namespaced_resource("", "v1", "Service", "services")
CONTROLLER = "zeroskew.dev/route-acceptor"
_SINCE = "2024-01-01T00:00:00Z"
_AGAIN_SECONDS = 0.2


class RouteAcceptor:
    """Runs in a thread for as long as it is entered."""

    def __init__(self, kubeconfig: str) -> None:
        self._client = Client(config=KubeConfig.from_file(kubeconfig), trust_env=False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> RouteAcceptor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                for route in self._client.list(ROUTES, namespace="*"):
                    self._accept(route.to_dict())
            except Exception:
                # The server may be on its way down or up; routes are looked at again.
                self._stop.wait(0.3)
            self._stop.wait(_AGAIN_SECONDS)

    def _accept(self, route: dict[str, Any]) -> None:
        namespace, name = route["metadata"]["namespace"], route["metadata"]["name"]
        resolved = all(self._exists(namespace, each) for each in _services(route))
        conditions = [
            {"type": kind, "status": str(state), "reason": reason, "message": "",
             "observedGeneration": route["metadata"]["generation"], "lastTransitionTime": _SINCE}
            for kind, state, reason in (
                ("Accepted", True, "Accepted"),
                ("ResolvedRefs", resolved, "ResolvedRefs" if resolved else "BackendNotFound"),
            )
        ]  # fmt: skip
        parents = [
            {"parentRef": each, "controllerName": CONTROLLER, "conditions": conditions}
            for each in route["spec"]["parentRefs"]
        ]
        if _said((route.get("status") or {}).get("parents") or []) == _said(parents):
            return
        try:
            self._client.patch(
                ROUTES.Status, name, {"status": {"parents": parents}}, namespace=namespace,
                patch_type=PatchType.MERGE,
            )  # fmt: skip
        except ApiError as error:
            if error.status.code != 404:
                raise

    def _exists(self, namespace: str, name: str) -> bool:
        try:
            self._client.get(SERVICES, name, namespace=namespace)
        except ApiError as error:
            if error.status.code != 404:
                raise
            return False
        return True


def _services(route: dict[str, Any]) -> set[str]:
    found = set()
    for rule in route["spec"]["rules"]:
        found |= {each["name"] for each in rule.get("backendRefs") or ()}
        found |= {
            each["requestMirror"]["backendRef"]["name"]
            for each in rule.get("filters") or ()
            if each["type"] == "RequestMirror"
        }
    return found


def _said(parents: list[dict[str, Any]]) -> list[Any]:
    return [
        [(each["type"], each["status"], each["observedGeneration"]) for each in of["conditions"]]
        for of in parents
    ]
