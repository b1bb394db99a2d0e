"""Writes into one kind's objects: statuses and finalizers that others do not overtake, events."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from operators.cluster_client import ClusterClient, Conflict, Kind, Refused
from operators.merge_patch import merge_patch
from operators.notifications import Notifier
from operators.object_cache import ObjectCache, ObjectKey

MERGE_TRIES = 5

Send = Callable[[Kind, str, str, Mapping[str, Any]], Awaitable[dict[str, Any]]]

log = logging.getLogger(__name__)


class ObjectWriter:
    """What it wrote is in the cache at once, before a watch tells."""

    def __init__(
        self, cluster: ClusterClient, cache: ObjectCache, kind: Kind, notifier: Notifier | None
    ) -> None:
        """`notifier`: tells people of events; None: nobody does."""
        self._cluster, self._cache, self._kind = cluster, cache, kind
        self._notifier = notifier

    async def status(
        self, key: ObjectKey, body: Mapping[str, Any], status: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Store it; None if it is what `body` has. Raises as `merge` does."""
        patch = merge_patch(body.get("status") or {}, status)
        if not patch:
            return None
        return await self.merge(key, body, {"status": patch}, self._cluster.merge_status)

    async def finalizers(
        self, key: ObjectKey, body: Mapping[str, Any], finalizers: list[str]
    ) -> dict[str, Any]:
        """Set all of them. Raises as `merge` does."""
        patch = {"metadata": {"finalizers": finalizers}}
        return await self.merge(key, body, patch, self._cluster.merge)

    async def merge(
        self, key: ObjectKey, body: Mapping[str, Any], patch: dict[str, Any], send: Send
    ) -> dict[str, Any]:
        """Also where somebody else keeps writing, as long as it is none of what `body` was read
        for: else raises `Conflict`. `Refused` if the server does not take it."""
        namespace, name = key
        for _ in range(MERGE_TRIES):
            unless = {"resourceVersion": body["metadata"]["resourceVersion"]}
            whole = patch | {"metadata": patch.get("metadata", {}) | unless}
            try:
                made = await send(self._kind, name, namespace, whole)
            except Conflict:
                fresh = await self._cluster.get(self._kind, name, namespace)
                if fresh is None or _relevant(fresh) != _relevant(body):
                    raise
                body = fresh
                continue
            metadata = made["metadata"]
            if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
                self._cache.remove(self._kind, made)
            else:
                self._cache.put(self._kind, made)
            return made
        raise Conflict(f"{MERGE_TRIES} others were faster")

    async def read_again(self, key: ObjectKey) -> None:
        """After a conflict: what the server has, whatever watches have told."""
        fresh = await self._cluster.get(self._kind, key[1], key[0])
        if fresh is not None:
            self._cache.put(self._kind, fresh)

    async def event(
        self,
        key: ObjectKey,
        body: Mapping[str, Any],
        since: str,
        type_: str,
        reason: str,
        message: str,
    ) -> None:
        """Named by what it says and `since` when it may be said anew, so that saying it twice makes
        one event. Never raises for a server that does not want it."""
        metadata = body["metadata"]
        said = (metadata["uid"], metadata.get("generation"), since, reason, message)
        digest = hashlib.sha256(repr(said).encode()).hexdigest()[:16]
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{key[1]}.{digest}", "namespace": key[0]},
                "involvedObject": {
                    "apiVersion": self._kind.api_version, "kind": self._kind.name,
                    "name": key[1], "namespace": key[0], "uid": metadata["uid"],
                },
                "type": type_,
                "reason": reason,
                "message": message[:1024],
                "firstTimestamp": moment,
                "lastTimestamp": moment,
                "count": 1,
                "source": {"component": "zeroskew-operator"},
            }  # fmt: skip
        if self._notifier is not None:
            event["metadata"]["labels"] = self._notifier.label(event)
        try:
            if await self._cluster.create(event) and self._notifier is not None:
                self._notifier.told(event)
        except Refused as error:
            # What happened matters more than that it is told.
            log.warning("event of %s/%s was refused: %s", *key, error)
        log.info("%s/%s %s: %s", *key, reason, message)


def _relevant(body: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a turn was decided on, but for annotations: a new one is for the next."""
    metadata = body["metadata"]
    parts = ("uid", "generation", "deletionTimestamp", "finalizers")
    return (body.get("status"), *(metadata.get(part) for part in parts))
