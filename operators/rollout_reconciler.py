"""One turn for one ModelRollout: observe, ask the machine, store its memory, do what it says.

Everything that decides is in zeroskew/rollout/machine.py. What is done here is done in the order it
gives, stops at the first refusal, and may be lost or repeated at any point: server-side apply,
deletes and the registry's promotion come to the same when they are done twice.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from operators.analysis_runner import AnalysisRunner
from operators.cluster_client import (
    DISRUPTION_BUDGET,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    KINDS,
    MODEL_ROLLOUT,
    SERVING_RUNTIME,
    ClusterClient,
    Conflict,
    Refused,
)
from operators.diagnosis.kserve_warnings import KServeWarnings
from operators.gateway_reader import GatewayReader
from operators.notifications import Notifier
from operators.object_cache import ObjectCache, ObjectKey
from operators.object_writer import ObjectWriter
from operators.operator_metrics import ACTIONS, FAILURES, RECONCILE_SECONDS
from operators.promoter import Promoter, PromotionFailed
from operators.registry_reader import RegistryReader
from zeroskew.cluster.annotations import ABORT, APPROVE, PAUSE, RETRY, is_set
from zeroskew.errors import ConfigError
from zeroskew.rollout.http_route import http_route, needed_features, read_http_route
from zeroskew.rollout.machine import refuse, step
from zeroskew.rollout.names import PREFIX, service_name
from zeroskew.rollout.readiness import version_seen
from zeroskew.rollout.rollout_actions import (
    Action,
    Analyse,
    ApplyRoute,
    EmitEvent,
    EnsureVersion,
    MoveAlias,
    Release,
    RemoveVersion,
)
from zeroskew.rollout.rollout_observations import Observations
from zeroskew.rollout.rollout_spec import RolloutSpec, parse_spec
from zeroskew.rollout.rollout_state import LONGEST_SPEC, RolloutStatus, from_json, to_json
from zeroskew.rollout.version_objects import VERSION_LABEL, version_objects

FINALIZER = PREFIX + "rollout"

BUSY_SECONDS = 2.0
"""How soon an attempt under way is looked at again: pauses and analyses end by the clock."""
IDLE_SECONDS = 30.0
"""How soon a rollout that wants nothing is: somebody may have moved the alias."""
REFUSED_SECONDS = 300.0

log = logging.getLogger(__name__)


class RolloutReconciler:
    """`await reconciler(key)` does one turn; see `WorkQueue`."""

    def __init__(
        self,
        cluster: ClusterClient,
        cache: ObjectCache,
        registry: RegistryReader,
        analyses: AnalysisRunner,
        promoter: Promoter,
        notifier: Notifier | None = None,
    ) -> None:
        self._cluster, self._cache = cluster, cache
        self._registry, self._analyses, self._promoter = registry, analyses, promoter
        self._gateways = GatewayReader(cluster)
        self._warnings = KServeWarnings(cluster)
        self._writer = ObjectWriter(cluster, cache, MODEL_ROLLOUT, notifier)
        self.phases: dict[ObjectKey, str] = {}
        """What every rollout's phase was at its last turn."""

    async def __call__(self, key: ObjectKey) -> float | None:
        """Seconds until the next turn; raises what should be tried again soon."""
        body = self._cache.rollout(key)
        if body is None:
            self._analyses.forget(key)
            self._promoter.forget(key)
            self.phases.pop(key, None)
            return None
        began = time.perf_counter()
        try:
            return await self._turn(key, body)
        except Conflict:
            FAILURES.labels("conflict").inc()
            await self._writer.read_again(key)
            raise
        except Exception as error:
            FAILURES.labels(type(error).__name__).inc()
            raise
        finally:
            RECONCILE_SECONDS.observe(time.perf_counter() - began)

    async def _turn(self, key: ObjectKey, body: dict[str, Any]) -> float | None:
        metadata = body["metadata"]
        deleting = metadata.get("deletionTimestamp") is not None
        finalizers = metadata.get("finalizers") or []
        if deleting and FINALIZER not in finalizers:
            return None
        generation, now = int(metadata.get("generation", 0)), datetime.now(UTC)
        status = _remembered(key, body.get("status"))
        refused: ConfigError | None = None
        try:
            spec = _parsed(key, body.get("spec"))
        except ConfigError as error:
            if deleting:
                await self._release(key, body)
                return None
            if status.run is None or status.valid_spec is None:
                await self._store(key, body, refuse(status, str(error), generation, now))
                return REFUSED_SECONDS
            # A canary is judged on while somebody looks for his mistake.
            refused, spec = error, _parsed(key, json.loads(status.valid_spec))
        if not deleting and FINALIZER not in finalizers:
            body = await self._writer.finalizers(key, body, [*finalizers, FINALIZER])
        seen = await self._observe(key, body, spec, generation)
        status, actions = step(spec, status, seen, now)
        if refused is None:
            status = _with_spec(status, body["spec"])
        else:
            status = refuse(status, str(refused), generation, now, goes_on=status.run is not None)
        # What happened is told under a name of its own, so that telling it again does no harm. The
        # status is stored before anything is done: who is killed in between finds it undone, and
        # does it; the other way round, a step that was taken would be taken back first.
        for action in actions:
            if isinstance(action, EmitEvent):
                await self._event(key, body, status, action)
        if not any(isinstance(action, Release) for action in actions):
            await self._store(key, body, status)
        for action in actions:
            if isinstance(action, EmitEvent):
                continue
            try:
                await self._act(key, body, spec, action)
            except (Refused, PromotionFailed, ConfigError) as error:
                await self._event(key, body, status, EmitEvent(
                    "Warning", f"{type(action).__name__}Failed", " ".join(str(error).split())
                ))  # fmt: skip
                raise
            ACTIONS.labels(type(action).__name__).inc()
        if status.run is not None or status.retired or deleting:
            return BUSY_SECONDS
        return IDLE_SECONDS

    async def _observe(
        self, key: ObjectKey, body: Mapping[str, Any], spec: RolloutSpec, generation: int
    ) -> Observations:
        namespace = key[0]
        versions = {}
        for service in self._cache.services(key):
            name = service["metadata"]["name"]
            version = (service["metadata"].get("labels") or {}).get(VERSION_LABEL, "")
            if name == f"{key[1]}-{version}":
                deployment = self._cache.deployment(namespace, name)
                warning = "" if deployment else await self._warnings.newest(service)
                versions[version] = version_seen(service, deployment, warning)
        percents = [each.set_mirror.percent for each in spec.strategy.steps if each.set_mirror]
        annotations = body["metadata"].get("annotations") or {}
        return Observations(
            generation=generation,
            versions=versions,
            route=read_http_route(self._cache.route(key), key[1]),
            registry=await self._registry.look(spec.model_ref.name, spec.model_ref.version),
            gateway=await self._gateways.look(
                spec.entrance.gateways, namespace, needed_features(*percents)
            ),
            analyses=self._analyses.results(key),
            approval=annotations.get(APPROVE),
            abort=annotations.get(ABORT),
            paused=is_set(annotations.get(PAUSE)),
            retry=annotations.get(RETRY),
            deleting=body["metadata"].get("deletionTimestamp") is not None,
        )

    async def _act(
        self,
        key: ObjectKey,
        body: Mapping[str, Any],
        spec: RolloutSpec,
        action: Action,
    ) -> None:
        namespace, name = key
        if isinstance(action, ApplyRoute):
            owner = await self._owner_of_route(key, body)
            route = http_route(action.plan, name, namespace, owner=owner)
            self._cache.put(HTTP_ROUTE, await self._cluster.apply(route))
        elif isinstance(action, EnsureVersion):
            for manifest in version_objects(spec, name, namespace, owner=_owner(body)):
                made = await self._cluster.apply(manifest)
                if KINDS[manifest["kind"]] == INFERENCE_SERVICE:
                    self._cache.put(INFERENCE_SERVICE, made)
        elif isinstance(action, RemoveVersion):
            gone = service_name(name, int(action.version))
            for kind in (INFERENCE_SERVICE, SERVING_RUNTIME, DISRUPTION_BUDGET):
                await self._cluster.delete(kind, gone, namespace)
            # Else it would be seen, and deleted again, until the watch says so.
            self._cache.deleted(INFERENCE_SERVICE, namespace, gone)
        elif isinstance(action, Analyse):
            self._analyses.start(key, action)
        elif isinstance(action, MoveAlias):
            self._promoter.start(key, action)
        elif isinstance(action, Release):
            await self._release(key, body)

    async def _owner_of_route(
        self, key: ObjectKey, body: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """None for a route that shall outlive its rollout: deleted with `--cascade=orphan`, and
        named as its owner again, that would take the route along."""
        metadata = body["metadata"]
        if metadata.get("deletionTimestamp") is None:
            return _owner(body)
        if "orphan" in (metadata.get("finalizers") or ()):
            return None
        # The garbage collector takes that finalizer off after it took the references away.
        found = await self._cluster.get(HTTP_ROUTE, key[1], key[0])
        owners = (found or {"metadata": {}})["metadata"].get("ownerReferences") or ()
        return _owner(body) if any(each["uid"] == metadata["uid"] for each in owners) else None

    async def _store(self, key: ObjectKey, body: Mapping[str, Any], status: RolloutStatus) -> None:
        self.phases[key] = status.phase
        await self._writer.status(key, body, to_json(status))

    async def _release(self, key: ObjectKey, body: Mapping[str, Any]) -> None:
        rest = [each for each in body["metadata"].get("finalizers") or [] if each != FINALIZER]
        await self._writer.finalizers(key, body, rest)

    async def _event(
        self, key: ObjectKey, body: Mapping[str, Any], status: RolloutStatus, event: EmitEvent
    ) -> None:
        await self._writer.event(
            key, body, str(status.attempts), event.type, event.reason, event.message
        )


def _parsed(key: ObjectKey, raw: object) -> RolloutSpec:
    """Raises `ConfigError` for what is no spec of a rollout of this name."""
    spec = parse_spec(raw, where=f"ModelRollout {key[0]}/{key[1]}")
    service_name(key[1], int(spec.model_ref.version), key[0])
    return spec


def _with_spec(status: RolloutStatus, spec: Mapping[str, Any]) -> RolloutStatus:
    text = json.dumps(spec, sort_keys=True, separators=(",", ":")) if status.run else ""
    return replace(status, valid_spec=text if 0 < len(text) <= LONGEST_SPEC else None)


def _owner(body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": MODEL_ROLLOUT.api_version,
        "kind": MODEL_ROLLOUT.name,
        "name": body["metadata"]["name"],
        "uid": body["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _remembered(key: ObjectKey, raw: object) -> RolloutStatus:
    """The status as the machine left it; one that somebody broke is as good as none."""
    if not raw:
        return RolloutStatus()
    try:
        return from_json(RolloutStatus, raw)
    except ValueError as error:
        log.warning("the status of %s/%s cannot be read and is made anew: %s", *key, error)
        return RolloutStatus()
