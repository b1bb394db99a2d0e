"""The few calls to the API server that the operator makes, as plain dictionaries in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from lightkube import ApiError, AsyncClient
from lightkube.generic_resource import (
    create_global_resource,
    create_namespaced_resource,
    get_generic_resource,
)
from lightkube.operators import exists
from lightkube.types import PatchType

FIELD_MANAGER = "zeroskew"
TIMEOUT = httpx2.Timeout(20.0, connect=5.0)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object, as the API server's paths name it."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


MODEL_ROLLOUT = Kind("zeroskew.dev", "v1alpha1", "ModelRollout", "modelrollouts")
DRIFT_MONITOR = Kind("zeroskew.dev", "v1alpha1", "DriftMonitor", "driftmonitors")
PIPELINE_SCHEDULE = Kind("zeroskew.dev", "v1alpha1", "PipelineSchedule", "pipelineschedules")
INFERENCE_SERVICE = Kind("serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices")
SERVING_RUNTIME = Kind("serving.kserve.io", "v1alpha1", "ServingRuntime", "servingruntimes")
DISRUPTION_BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
GATEWAY = Kind("gateway.networking.k8s.io", "v1", "Gateway", "gateways")
GATEWAY_CLASS = Kind("gateway.networking.k8s.io", "v1", "GatewayClass", "gatewayclasses", False)
EVENT = Kind("", "v1", "Event", "events")
WORKFLOW = Kind("argoproj.io", "v1alpha1", "Workflow", "workflows")
KINDS = {
    kind.name: kind
    for kind in (
        MODEL_ROLLOUT, DRIFT_MONITOR, PIPELINE_SCHEDULE, INFERENCE_SERVICE, SERVING_RUNTIME,
        DISRUPTION_BUDGET, DEPLOYMENT, HTTP_ROUTE, GATEWAY, GATEWAY_CLASS, EVENT, WORKFLOW,
    )
}  # fmt: skip


class Refused(Exception):
    """The API server said no; asking again changes nothing until somebody changes something."""


class Conflict(Exception):
    """The object is not the one that was read: read it again."""


class ClusterClient:
    """One connection pool, credentials of the pod or of a kubeconfig."""

    def __init__(self, client: AsyncClient | None = None) -> None:
        self._client = client or AsyncClient(field_manager=FIELD_MANAGER, timeout=TIMEOUT)
        self._resources: dict[Kind, Any] = {}

    async def close(self) -> None:
        await self._client.close()

    async def get(self, kind: Kind, name: str, namespace: str | None) -> dict[str, Any] | None:
        """None if there is none, or if the cluster does not know the kind."""
        try:
            found = await self._client.get(self._resource(kind), name, namespace=namespace)
        except ApiError as error:
            if error.status.code == 404:
                return None
            raise _translated(error) from None
        return _plain(found)

    async def list(
        self,
        kind: Kind,
        namespaces: tuple[str, ...],
        label: str | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]] | None:
        """All of them, or those that have the label, or these `fields`; None if the cluster does
        not know the kind."""
        found: list[dict[str, Any]] = []
        try:
            for namespace in namespaces or ("*",):
                where = namespace if kind.namespaced else None
                listing = self._client.list(
                    self._resource(kind),
                    namespace=where,
                    labels={label: exists()} if label else None,
                    fields=dict(fields) if fields else None,
                    chunk_size=500,
                )
                async for each in listing:
                    found.append(_plain(each))
        except ApiError as error:
            if error.status.code == 404:
                return None
            raise _translated(error) from None
        return found

    async def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply; what others set in the same object stays.

        Raises `Refused` if the server does not take it.
        """
        kind = KINDS[manifest["kind"]]
        resource = self._resource(kind)
        metadata = manifest["metadata"]
        try:
            made = await self._client.patch(
                resource, metadata["name"], dict(manifest), namespace=metadata.get("namespace"),
                patch_type=PatchType.APPLY, force=True,
            )  # fmt: skip
        except ApiError as error:
            raise _translated(error) from None
        return _plain(made)

    async def merge(
        self, kind: Kind, name: str, namespace: str, patch: Mapping[str, Any]
    ) -> dict[str, Any]:
        """JSON merge patch; with `metadata.resourceVersion` in it raises `Conflict` if stale."""
        return await self._merge(self._resource(kind), name, namespace, patch)

    async def merge_status(
        self, kind: Kind, name: str, namespace: str, patch: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The same for the status subresource."""
        return await self._merge(self._resource(kind).Status, name, namespace, patch)

    async def _merge(
        self, resource: Any, name: str, namespace: str, patch: Mapping[str, Any]
    ) -> dict[str, Any]:
        try:
            made = await self._client.patch(
                resource, name, dict(patch), namespace=namespace, patch_type=PatchType.MERGE
            )
        except ApiError as error:
            raise _translated(error) from None
        return _plain(made)

    async def create(self, manifest: Mapping[str, Any]) -> bool:
        """False if one of that name exists."""
        resource = self._resource(KINDS[manifest["kind"]])
        try:
            await self._client.create(resource(dict(manifest)))
        except ApiError as error:
            if error.status.code == 409:
                return False
            raise _translated(error) from None
        return True

    async def delete(self, kind: Kind, name: str, namespace: str) -> None:
        """No error if it is gone already."""
        try:
            await self._client.delete(self._resource(kind), name, namespace=namespace)
        except ApiError as error:
            if error.status.code != 404:
                raise _translated(error) from None

    def _resource(self, kind: Kind) -> Any:
        if kind not in self._resources:
            create = create_namespaced_resource if kind.namespaced else create_global_resource
            # Kinds are registered once in a process; `create` finds those of the core group not
            # again, which a second client asks for.
            version = f"{kind.group}/{kind.version}".removeprefix("/")
            self._resources[kind] = get_generic_resource(version, kind.name) or create(
                kind.group, kind.version, kind.name, kind.plural
            )
        return self._resources[kind]


def _plain(found: Any) -> dict[str, Any]:
    made: dict[str, Any] = found.to_dict()
    return made


def _translated(error: ApiError) -> Exception:
    code, message = error.status.code, error.status.message or str(error)
    if code == 409:
        return Conflict(message)
    if code in (400, 403, 404, 405, 415, 422):
        return Refused(message)
    return error
