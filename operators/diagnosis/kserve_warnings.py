"""KServe's warnings about an InferenceService that it makes no Deployment for.

What keeps KServe from making one, such as an address that is too long or a runtime that it does
not find, stands in the events alone: the conditions stay Unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from operators.cluster_client import EVENT, ClusterClient, Refused

__all__ = ["KServeWarnings"]

OF_NO_CONCERN = ("VirtualServiceCRDNotFound",)
"""Said of every InferenceService where Istio is configured and not installed."""
PATIENCE_SECONDS = 3.0
"""A Deployment is made in less; before, there is nothing to ask for."""


class KServeWarnings:
    """Asks the API server; nothing is kept."""

    def __init__(self, cluster: ClusterClient) -> None:
        self._cluster = cluster

    async def newest(self, service: Mapping[str, Any]) -> str:
        """The message of the last one; empty if there is none, or none may be read."""
        metadata = service["metadata"]
        made = datetime.fromisoformat(metadata["creationTimestamp"])
        if (datetime.now(UTC) - made).total_seconds() < PATIENCE_SECONDS:
            return ""
        about = {"involvedObject.uid": metadata["uid"], "type": "Warning"}
        try:
            found = await self._cluster.list(EVENT, (metadata["namespace"],), fields=about)
        except Refused:
            return ""
        telling = [each for each in found or [] if each.get("reason") not in OF_NO_CONCERN]
        newest = max(telling, key=_moment, default=None)
        return str(newest.get("message", "")) if newest else ""


def _moment(event: Mapping[str, Any]) -> str:
    said = (event.get("lastTimestamp"), event.get("eventTime"), event.get("firstTimestamp"))
    return next((each for each in said if each), "")
