"""One turn for one DriftMonitor: observe, ask the machine, store its memory, do what it says.

Everything that decides is in zeroskew/monitoring/monitor_machine.py. The status is stored before
anything is started, so that a run that was asked for is known by whoever comes next.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from operators.cluster_client import DRIFT_MONITOR, ClusterClient, Conflict
from operators.kfp.request import RunRequest, fitting
from operators.kfp.runs import KfpRuns
from operators.measurer import Measurer
from operators.monitor_collector import MonitorCollector, Seen
from operators.notifications import Notifier
from operators.object_cache import ObjectCache, ObjectKey
from operators.object_writer import ObjectWriter
from operators.operator_metrics import ACTIONS, FAILURES, RECONCILE_SECONDS, RETRAININGS
from operators.registry_reader import RegistryReader
from zeroskew.cluster.annotations import APPROVE, TRIGGER
from zeroskew.errors import ConfigError, ServingError
from zeroskew.monitoring.monitor_machine import SETTLE, refuse, runs_to_look_at, step
from zeroskew.monitoring.monitor_observations import (
    Action,
    KeepRecord,
    LabelsSeen,
    Measure,
    MonitorObservations,
    StartRun,
    StopRun,
    Tell,
)
from zeroskew.monitoring.monitor_spec import MonitorSpec, parse_monitor
from zeroskew.monitoring.monitor_state import Decision, MonitorStatus
from zeroskew.monitoring.trigger_spec import Trigger
from zeroskew.rollout.rollout_state import from_json, to_json

REQUESTED_SECONDS = 2.0
RUNNING_SECONDS = 10.0
"""How soon a run is looked at again."""
BLIND_SECONDS = 15.0
"""While there is no champion, or a measurement could not be made."""
IDLE_SECONDS = 300.0
MOST_SPECS = 4096

log = logging.getLogger(__name__)


class MonitorReconciler:
    """`await reconciler(key)` does one turn; see `WorkQueue`."""

    def __init__(
        self,
        cluster: ClusterClient,
        cache: ObjectCache,
        registry: RegistryReader,
        measurer: Measurer,
        runs: KfpRuns,
        collector: MonitorCollector,
        settle: timedelta = SETTLE,
        notifier: Notifier | None = None,
    ) -> None:
        """`settle`: how long a request for a run may take to show."""
        self._settle = settle
        self._cache, self._registry = cache, registry
        self._measurer, self._runs, self._collector = measurer, runs, collector
        self._writer = ObjectWriter(cluster, cache, DRIFT_MONITOR, notifier)
        self._specs: dict[str, MonitorSpec] = {}

    async def __call__(self, key: ObjectKey) -> float | None:
        """Seconds until the next turn; raises what should be tried again soon."""
        body = self._cache.monitor(key)
        if body is None or body["metadata"].get("deletionTimestamp") is not None:
            # Runs that were started go on: they belong to Kubeflow Pipelines.
            self._measurer.forget(key)
            gone = self._collector.seen.pop(key, None)
            if gone is not None and gone.status.run is not None:
                self._runs.forget(key[0], gone.status.run.name)
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

    async def _turn(self, key: ObjectKey, body: dict[str, Any]) -> float:
        generation, now = int(body["metadata"].get("generation", 0)), datetime.now(UTC)
        before = _remembered(key, body.get("status"))
        try:
            spec = self._parsed(key, body.get("spec"))
        except ConfigError as error:
            status = refuse(before, error, generation, now)
            await self._writer.status(key, body, to_json(status))
            return IDLE_SECONDS
        seen = await self._observe(key, body, spec, before, generation, now)
        status, actions = step(spec, before, seen, now, monitor=key[1], settle=self._settle)
        for action in actions:
            # Under the decision's checksum, so that it may be written again; a decision that is
            # remembered is never without it.
            if isinstance(action, KeepRecord):
                await self._keep(key, body, spec, action)
        await self._writer.status(key, body, to_json(status))
        self._collector.seen[key] = Seen(spec, status)
        for action in actions:
            await self._act(key, body, spec, status, action)
            ACTIONS.labels(type(action).__name__).inc()
        if before.run is not None and (status.run is None or status.run.name != before.run.name):
            self._runs.forget(key[0], before.run.name)
            RETRAININGS.labels(*key, status.history[0].phase.lower()).inc()
        return _pause(spec, status, seen, now)

    async def _observe(
        self,
        key: ObjectKey,
        body: Mapping[str, Any],
        spec: MonitorSpec,
        status: MonitorStatus,
        generation: int,
        now: datetime,
    ) -> MonitorObservations:
        champion, previous, problem = await self._registry.champions(spec.model_ref.name)
        labels = LabelsSeen()
        if spec.trigger.labels is not None and champion is not None:
            labels = await self._measurer.labels(key, spec, champion)
        known = self._measurer.of(key)
        runs = {name: await self._runs.look(name, key[0]) for name in runs_to_look_at(status)}
        annotations = body["metadata"].get("annotations") or {}
        return MonitorObservations(
            generation=generation,
            champion=champion,
            previous=previous,
            registry_message=problem,
            measurement=known.measurement,
            measuring_failed=known.problem,
            runs=runs,
            labels=labels,
            approval=annotations.get(APPROVE),
            request=annotations.get(TRIGGER),
        )

    async def _act(
        self,
        key: ObjectKey,
        body: Mapping[str, Any],
        spec: MonitorSpec,
        status: MonitorStatus,
        action: Action,
    ) -> None:
        match action:
            case Measure():
                self._measurer.measure(key, spec, action)
            case StartRun():
                await self._runs.start(
                    action.name, key[0], run_request(spec.trigger, action.decision)
                )
            case StopRun():
                await self._runs.stop(action.id)
            case Tell():
                # The same may happen again after another measurement, or to another run.
                since = status.run.name if status.run else str(status.last_measurement_time)
                await self._writer.event(
                    key, body, since, action.type, action.reason, action.message
                )

    async def _keep(
        self, key: ObjectKey, body: Mapping[str, Any], spec: MonitorSpec, kept: KeepRecord
    ) -> None:
        try:
            await self._measurer.keep(key, spec, kept)
        except ServingError as error:
            # It is in the status as well; a store that is down does not keep a run waiting.
            text = " ".join(str(error).split())
            await self._writer.event(
                key, body, kept.decision.checksum, "Warning", "RecordNotKept", text
            )

    def _parsed(self, key: ObjectKey, raw: object) -> MonitorSpec:
        """Raises `ConfigError` for what is no spec."""
        text = json.dumps(raw, sort_keys=True)
        if text not in self._specs:
            if len(self._specs) >= MOST_SPECS:
                self._specs.clear()
            self._specs[text] = parse_monitor(raw, where=f"DriftMonitor {key[0]}/{key[1]}")
        return self._specs[text]


def run_request(trigger: Trigger, decision: Decision) -> RunRequest:
    """The run that a decision calls for."""
    fields = to_json(decision)
    # Words of ours are made to fit; an argument that somebody wrote is passed as it is or refused.
    parameters = {
        each.name: each.value
        if each.value is not None
        else fitting(str(fields.get(each.value_from or "", "")), 1024)
        for each in trigger.parameters
    }
    return RunRequest(trigger.pipeline_ref, parameters, decision.message)


def _pause(
    spec: MonitorSpec, status: MonitorStatus, seen: MonitorObservations, now: datetime
) -> float:
    run = status.run
    if run is not None:
        return REQUESTED_SECONDS if run.phase == "Requested" else RUNNING_SECONDS
    if spec.suspend:
        return IDLE_SECONDS
    if seen.champion is None or seen.measuring_failed:
        return BLIND_SECONDS
    due = status.next_measurement_time
    if status.retry is not None and status.retry.next_attempt_time > now:
        due = min(due or status.retry.next_attempt_time, status.retry.next_attempt_time)
    if due is None or due <= now:
        # It is under way, and calls when it is done.
        return IDLE_SECONDS
    return min(IDLE_SECONDS, (due - now).total_seconds() + 0.05)


def _remembered(key: ObjectKey, raw: object) -> MonitorStatus:
    """The status as the machine left it; one that somebody broke is as good as none."""
    if not raw:
        return MonitorStatus()
    try:
        return from_json(MonitorStatus, raw)
    except ValueError as error:
        log.warning("the status of %s/%s cannot be read and is made anew: %s", *key, error)
        return MonitorStatus()
