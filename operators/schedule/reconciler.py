"""One turn for one PipelineSchedule: observe, ask the machine, store its memory, do what it says.

The status is stored before anything is started, so that a run that was asked for is known by
whoever comes next. Nothing but the status is written into the object: what Argo CD or Flux apply
stays as they wrote it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from operators.cluster_client import PIPELINE_SCHEDULE, ClusterClient, Conflict
from operators.kfp.request import RunRequest
from operators.kfp.runs import KfpRuns
from operators.notifications import Notifier
from operators.object_cache import ObjectCache, ObjectKey
from operators.object_writer import ObjectWriter
from operators.operator_metrics import ACTIONS, FAILURES, RECONCILE_SECONDS
from operators.schedule.collector import ScheduleCollector, Seen
from zeroskew.errors import ConfigError
from zeroskew.rollout.rollout_state import from_json, to_json
from zeroskew.schedule.machine import SETTLE, refuse, run_to_look_at, step
from zeroskew.schedule.schedule_observations import (
    Action,
    ScheduleObservations,
    StartRun,
    StopRun,
    Tell,
)
from zeroskew.schedule.schedule_spec import ScheduleSpec, parse_schedule
from zeroskew.schedule.schedule_state import ScheduleStatus

__all__ = ["ScheduleReconciler"]

REQUESTED_SECONDS = 2.0
RUNNING_SECONDS = 10.0
"""How soon a run is looked at again."""
IDLE_SECONDS = 300.0
MOST_SPECS = 4096
_EARLY = 0.9
"""The queue lets keys wait a tenth longer or shorter than they want; a time must not be missed by
that, so that it is come closer to in a few turns."""

log = logging.getLogger(__name__)


class ScheduleReconciler:
    """`await reconciler(key)` does one turn; see `WorkQueue`."""

    def __init__(
        self,
        cluster: ClusterClient,
        cache: ObjectCache,
        runs: KfpRuns,
        collector: ScheduleCollector,
        settle: timedelta = SETTLE,
        notifier: Notifier | None = None,
    ) -> None:
        """`settle`: how long a request for a run may take to show."""
        self._cache, self._runs, self._collector = cache, runs, collector
        self._settle = settle
        self._writer = ObjectWriter(cluster, cache, PIPELINE_SCHEDULE, notifier)
        self._specs: dict[str, ScheduleSpec] = {}

    async def __call__(self, key: ObjectKey) -> float | None:
        """Seconds until the next turn; raises what should be tried again soon."""
        body = self._cache.schedule(key)
        if body is None or body["metadata"].get("deletionTimestamp") is not None:
            # A run that was started goes on: it belongs to Kubeflow Pipelines.
            gone = self._collector.seen.pop(key, None)
            if gone is not None and gone.status.active is not None:
                self._runs.forget(key[0], gone.status.active.name)
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
            self._collector.seen[key] = Seen(None, status)
            return IDLE_SECONDS
        seen = ScheduleObservations(generation, _created(body, now))
        if name := run_to_look_at(before):
            seen = ScheduleObservations(
                generation, _created(body, now), await self._runs.look(name, key[0])
            )
        status, actions = step(
            spec, before, seen, now, schedule=key[1], namespace=key[0], settle=self._settle
        )
        await self._writer.status(key, body, to_json(status))
        self._collector.seen[key] = Seen(spec, status)
        for action in actions:
            await self._act(key, body, spec, action)
            ACTIONS.labels(type(action).__name__).inc()
        if (
            before.active is not None
            and before.active != status.active
            and (status.active is None or status.active.name != before.active.name)
        ):
            self._runs.forget(key[0], before.active.name)
        return _pause(status, datetime.now(UTC))

    async def _act(
        self, key: ObjectKey, body: Mapping[str, Any], spec: ScheduleSpec, action: Action
    ) -> None:
        match action:
            case StartRun():
                at = f"{action.scheduled_time:%Y-%m-%d %H:%M} UTC"
                request = RunRequest(
                    spec.pipeline_ref, action.arguments, f"PipelineSchedule {key[1]}, for {at}"
                )
                await self._runs.start(action.name, key[0], request)
            case StopRun():
                await self._runs.stop(action.id)
            case Tell():
                # Its message names the run, or the times, that it is about.
                await self._writer.event(key, body, "", action.type, action.reason, action.message)

    def _parsed(self, key: ObjectKey, raw: object) -> ScheduleSpec:
        """Raises `ConfigError` for what is no spec."""
        text = json.dumps(raw, sort_keys=True)
        if text not in self._specs:
            if len(self._specs) >= MOST_SPECS:
                self._specs.clear()
            self._specs[text] = parse_schedule(raw, where=f"PipelineSchedule {key[0]}/{key[1]}")
        return self._specs[text]


def _pause(status: ScheduleStatus, now: datetime) -> float:
    run, due = status.active, status.next_schedule_time
    pause = IDLE_SECONDS
    if run is not None:
        pause = REQUESTED_SECONDS if run.phase == "Requested" else RUNNING_SECONDS
    if due is not None:
        pause = min(pause, max(0.0, (due - now).total_seconds()) * _EARLY + 0.05)
    return pause


def _created(body: Mapping[str, Any], now: datetime) -> datetime:
    try:
        return datetime.fromisoformat(str(body["metadata"]["creationTimestamp"]))
    except (KeyError, ValueError):
        return now


def _remembered(key: ObjectKey, raw: object) -> ScheduleStatus:
    """The status as the machine left it; one that somebody broke is as good as none."""
    if not raw:
        return ScheduleStatus()
    try:
        return from_json(ScheduleStatus, raw)
    except ValueError as error:
        log.warning("the status of %s/%s cannot be read and is made anew: %s", *key, error)
        return ScheduleStatus()
