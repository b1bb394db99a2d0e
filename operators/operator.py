"""The parts of the operator together: caches, queue, reconciler, and the loop that lists."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import random
import time
from datetime import timedelta
from typing import Any

import prometheus_client

from operators.analysis_runner import AnalysisRunner
from operators.cluster_client import ClusterClient, Conflict, Kind, Refused
from operators.kfp.client import KfpClient
from operators.kfp.runs import KfpRuns
from operators.kfp.workflows import Workflows
from operators.measurer import Measurer
from operators.monitor_collector import MonitorCollector
from operators.monitor_reconciler import MonitorReconciler
from operators.notifications import Notifier
from operators.object_cache import SELECTORS, ObjectCache, ObjectKey
from operators.operator_metrics import QUEUE_SECONDS, RELISTS, ROLLOUTS
from operators.operator_settings import OperatorSettings
from operators.promoter import Promoter, PromotionFailed
from operators.registry_reader import RegistryReader
from operators.rollout_reconciler import RolloutReconciler
from operators.schedule.collector import ScheduleCollector
from operators.schedule.reconciler import ScheduleReconciler
from operators.work_queue import WorkQueue
from zeroskew.notifications import load_notifications

LIST_AGAIN_SECONDS = 2.0

log = logging.getLogger(__name__)


class Operator:
    """Lives in Kopf's event loop; `begin` and `end` are its startup and cleanup."""

    def __init__(self, settings: OperatorSettings) -> None:
        self.settings = settings
        self.cluster = ClusterClient()
        self.registry = RegistryReader(settings.mlflow)
        self.cache = ObjectCache(self._changed, self._monitor_changed, self._schedule_changed)
        self.analyses = AnalysisRunner(settings.prediction_log, settings.pages, self._changed)
        self.promoter = Promoter(self._promoted)
        self.notifier = (
            Notifier(self.cluster, load_notifications(settings.notifications))
            if settings.notifications
            else None
        )
        self.reconciler = RolloutReconciler(
            self.cluster, self.cache, self.registry, self.analyses, self.promoter, self.notifier
        )
        self.queue: WorkQueue[ObjectKey] = WorkQueue(
            self.reconciler, settings.workers, expected=(Conflict, Refused, PromotionFailed)
        )
        self.queue.observe = QUEUE_SECONDS.observe
        self.measurer = Measurer(settings.prediction_log, self._monitor_changed)
        self.runs = KfpRuns(
            KfpClient(settings.kfp, multi_user=settings.kfp_multi_user) if settings.kfp else None,
            Workflows(self.cluster, "" if settings.kfp_multi_user else settings.kfp_namespace),
        )
        self.collector = MonitorCollector(self.measurer)
        # A queue of its own: pipelines that answer slowly hold up no rollout.
        self.monitor_queue: WorkQueue[ObjectKey] = WorkQueue(
            MonitorReconciler(
                self.cluster,
                self.cache,
                self.registry,
                self.measurer,
                self.runs,
                self.collector,
                timedelta(seconds=settings.kfp_settle_seconds),
                self.notifier,
            ),
            settings.workers,
            expected=(Conflict, Refused),
        )
        self.monitor_queue.observe = QUEUE_SECONDS.observe
        self.schedules = ScheduleCollector()
        self.schedule_queue: WorkQueue[ObjectKey] = WorkQueue(
            ScheduleReconciler(
                self.cluster, self.cache, self.runs, self.schedules,
                timedelta(seconds=settings.kfp_settle_seconds), self.notifier,
            ),
            settings.workers,
            expected=(Conflict, Refused),
        )  # fmt: skip
        self.schedule_queue.observe = QUEUE_SECONDS.observe
        self.listed_at = 0.0
        """When everything was last listed, `time.monotonic`; 0: not yet."""
        self._listing: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Work starts once everything was listed: before, what is there would look missing."""
        prometheus_client.REGISTRY.register(self.collector)
        prometheus_client.REGISTRY.register(self.schedules)
        if self.notifier is not None:
            await self.notifier.begin(self.settings.namespaces)
        self._listing = asyncio.create_task(self._keep_listing())

    async def end(self) -> None:
        if self._listing is not None:
            self._listing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listing
        await self.queue.stop()
        await self.monitor_queue.stop()
        await self.schedule_queue.stop()
        if self.notifier is not None:
            await self.notifier.end()
        await self.measurer.stop()
        await self.runs.close()
        await self.analyses.stop()
        await self.promoter.stop()
        await self.registry.close()
        await self.cluster.close()

    def event(self, kind: Kind, event: Any) -> None:
        """A watch event (or, with no type, what a watch found at its start)."""
        found = event["object"]
        if event["type"] == "DELETED":
            self.cache.remove(kind, found)
        else:
            self.cache.put(kind, found)

    def _changed(self, key: ObjectKey) -> None:
        self.queue.add(key)

    def _monitor_changed(self, key: ObjectKey) -> None:
        self.monitor_queue.add(key)

    def _schedule_changed(self, key: ObjectKey) -> None:
        self.schedule_queue.add(key)

    def _promoted(self, key: ObjectKey, model: str) -> None:
        self.registry.forget(model)
        self.queue.add(key)

    async def _keep_listing(self) -> None:
        started = False
        while True:
            try:
                await self._list_all()
            except Exception as error:
                RELISTS.labels("failed").inc()
                log.warning("the cluster cannot be listed: %s: %s", type(error).__name__, error)
                await asyncio.sleep(LIST_AGAIN_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311
                continue
            RELISTS.labels("done").inc()
            self.listed_at = time.monotonic()
            if not started:
                started = True
                self.queue.start()
                self.monitor_queue.start()
                self.schedule_queue.start()
                for key in self.cache.rollouts():
                    self.queue.add(key)
                for key in self.cache.monitors():
                    self.monitor_queue.add(key)
                for key in self.cache.schedules():
                    self.schedule_queue.add(key)
            self._count()
            await asyncio.sleep(self.settings.relist_seconds * random.uniform(0.9, 1.1))  # noqa: S311

    async def _list_all(self) -> None:
        for kind, label in SELECTORS.items():
            began = time.monotonic()
            found = await self.cluster.list(kind, self.settings.namespaces, label)
            self.cache.relisted(kind, found or [], began)

    def _count(self) -> None:
        phases = collections.Counter(self.reconciler.phases.values())
        ROLLOUTS.clear()
        for phase, count in phases.items():
            ROLLOUTS.labels(phase).set(count)
