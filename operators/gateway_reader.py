"""Whether the gateways of a rollout exist, and whether their class can do what its steps need."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from operators.cluster_client import GATEWAY, GATEWAY_CLASS, ClusterClient, Kind
from zeroskew.rollout.http_route import FEATURES_MIRROR, FEATURES_PART_MIRROR
from zeroskew.rollout.rollout_observations import GatewaySeen
from zeroskew.rollout.routes.gateway_controllers import mirror_support
from zeroskew.rollout.traffic_plan import GatewayRef

FRESH_SECONDS = 20.0
MIRRORING = FEATURES_MIRROR | FEATURES_PART_MIRROR


class GatewayReader:
    """Gateways are few and live in other namespaces: asked for, not watched."""

    def __init__(self, cluster: ClusterClient) -> None:
        self._cluster = cluster
        self._known: dict[tuple[Kind, str | None, str], tuple[float, dict[str, Any] | None]] = {}

    async def look(
        self, references: Iterable[GatewayRef], namespace: str, needed: frozenset[str]
    ) -> GatewaySeen:
        """`needed`: features as `http_route.needed_features` names them.

        Raises what the API server raises.
        """
        mirrors: bool | None = True
        message = ""
        for reference in references:
            where = reference.namespace or namespace
            gateway = await self._get(GATEWAY, reference.name, where)
            if gateway is None:
                text = f"there is no Gateway {where}/{reference.name}"
                return GatewaySeen(exists=False, message=text)
            class_name = gateway.get("spec", {}).get("gatewayClassName", "")
            made_by = await self._get(GATEWAY_CLASS, class_name, None)
            controller = (made_by or {}).get("spec", {}).get("controllerName", "")
            found = mirror_support(class_name, controller, _features(made_by), needed & MIRRORING)
            if found.mirrors is False:
                return GatewaySeen(exists=True, mirrors=False, message=found.message)
            if found.mirrors is None:
                mirrors, message = None, found.message
        return GatewaySeen(exists=True, mirrors=mirrors, message=message)

    async def _get(self, kind: Kind, name: str, namespace: str | None) -> dict[str, Any] | None:
        now = time.monotonic()
        until, found = self._known.get((kind, namespace, name), (0.0, None))
        if until < now:
            found = await self._cluster.get(kind, name, namespace) if name else None
            self._known[kind, namespace, name] = (now + FRESH_SECONDS, found)
        return found


def _features(gateway_class: dict[str, Any] | None) -> frozenset[str] | None:
    """None where the class names none: it may support everything, or be older than the field."""
    listed = ((gateway_class or {}).get("status") or {}).get("supportedFeatures")
    if not listed:
        return None
    # A name until Gateway API 1.1, an object with a name since.
    return frozenset(each if isinstance(each, str) else each.get("name", "") for each in listed)
