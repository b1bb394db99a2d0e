"""Messages from events to destinations: a bounded queue for each, and what a kill left behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from operators.cluster_client import EVENT, ClusterClient, Conflict, Refused
from operators.notifications.http_sender import HttpSender
from operators.notifications.metrics import ATTEMPTS_FAILED, DROPPED, FAILED, SENT, WAITING
from zeroskew.notifications import (
    Destination,
    Notification,
    NotificationSettings,
    body_of,
    next_attempt,
)

LABEL = "zeroskew.dev/notify"
"""On an event that somebody is told of: `pending`, then `done`."""
NOTIFIED = "zeroskew.dev/notified"
"""Annotation of such an event: names of the destinations that are done with it."""
MOST_REMEMBERED = 10_000
OLDEST = timedelta(hours=1)
"""Of an event that a new operator still tells of; Kubernetes forgets them after an hour, too."""

log = logging.getLogger(__name__)


class Notifier:
    """`label` before an event is created, `told` after; `begin` and `end` are of the event loop."""

    def __init__(self, cluster: ClusterClient, settings: NotificationSettings) -> None:
        self._cluster, self._settings = cluster, settings
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._done: dict[tuple[str, str], set[str]] = {}
        self._queues: dict[str, asyncio.Queue[tuple[Notification, tuple[str, str]]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def label(self, event: Mapping[str, Any]) -> dict[str, str]:
        """Labels of an event that is about to be created."""
        return {LABEL: "pending"} if self._wanting(_notification(event)) else {}

    def told(self, event: Mapping[str, Any]) -> None:
        """Queue it for whoever wants it, once; never waits."""
        key = (event["metadata"]["namespace"], event["metadata"]["name"])
        if key in self._seen:
            return
        told = _notification(event)
        done = _names(event)
        wanting = [each for each in self._wanting(told) if each.name not in done]
        if not wanting:
            return
        self._seen[key] = None
        if len(self._seen) > MOST_REMEMBERED:
            self._done.pop(self._seen.popitem(last=False)[0], None)
        self._done[key] = done
        for destination in wanting:
            try:
                self._queues[destination.name].put_nowait((told, key))
            except (asyncio.QueueFull, KeyError):
                DROPPED.labels(destination.name).inc()
            else:
                WAITING.labels(destination.name).inc()

    async def begin(self, namespaces: tuple[str, ...]) -> None:
        """`namespaces`: where the operator works; empty: everywhere."""
        for destination in self._settings.destinations:
            self._queues[destination.name] = asyncio.Queue(destination.queue)
            for metric in (SENT, DROPPED, ATTEMPTS_FAILED, WAITING):
                metric.labels(destination.name)
            self._tasks.append(asyncio.create_task(self._work(destination)))
        if self._settings.destinations:
            self._tasks.append(asyncio.create_task(self._left_behind(namespaces)))

    async def end(self) -> None:
        """What waits is found by the next operator."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _wanting(self, told: Notification) -> list[Destination]:
        return [each for each in self._settings.destinations if each.wants(told)]

    async def _left_behind(self, namespaces: tuple[str, ...]) -> None:
        """Events of an operator that ended before everybody was told."""
        while True:
            try:
                found = await self._cluster.list(EVENT, namespaces, LABEL)
            except Exception as error:
                log.warning("events cannot be listed: %s: %s", type(error).__name__, error)
                await asyncio.sleep(10 * random.uniform(0.5, 1.5))  # noqa: S311
                continue
            break
        oldest = datetime.now(UTC) - OLDEST
        for event in _pending(found or [], oldest):
            self.told(event)

    async def _work(self, destination: Destination) -> None:
        queue, sender = self._queues[destination.name], HttpSender(destination)
        try:
            while True:
                told, key = await queue.get()
                WAITING.labels(destination.name).dec()
                try:
                    await self._deliver(destination, sender, told)
                except Exception as error:
                    FAILED.labels(destination.name, type(error).__name__).inc()
                    log.warning("notifications: %s: %s", destination.name, error)
                await self._remember(destination, told, key)
        finally:
            await sender.close()

    async def _deliver(
        self, destination: Destination, sender: HttpSender, told: Notification
    ) -> None:
        body = body_of(destination.type, destination.template, told, self._settings.link)
        number = 0
        while True:
            number += 1
            attempt = await sender.send(body, told.id, number)
            if attempt.arrived:
                SENT.labels(destination.name).inc()
                return
            ATTEMPTS_FAILED.labels(destination.name).inc()
            pause = next_attempt(attempt, destination.attempts, random.random())  # noqa: S311
            if pause is None:
                why = str(attempt.status) if attempt.status else "unreachable"
                FAILED.labels(destination.name, why).inc()
                log.warning(
                    "notifications: %s was not told of %s of %s/%s: %s after %d attempts",
                    destination.name, told.reason, told.namespace, told.name, why, number,
                )  # fmt: skip
                return
            await asyncio.sleep(pause)

    async def _remember(
        self, destination: Destination, told: Notification, key: tuple[str, str]
    ) -> None:
        """In the event, so that nobody is told twice by the next operator."""
        done = self._done.setdefault(key, set())
        done.add(destination.name)
        rest = {each.name for each in self._wanting(told)} - done
        patch: dict[str, Any] = {"annotations": {NOTIFIED: ",".join(sorted(done))}}
        if not rest:
            patch["labels"] = {LABEL: "done"}
            self._done.pop(key, None)
        try:
            await self._cluster.merge(EVENT, key[1], key[0], {"metadata": patch})
        except (Refused, Conflict) as error:
            # Gone, or a role from before: the worst is a message that comes twice.
            log.info("event %s/%s was not marked: %s", *key, error)
        except Exception as error:
            log.warning("event %s/%s was not marked: %s", *key, type(error).__name__)


def _pending(events: Iterable[Mapping[str, Any]], oldest: datetime) -> list[Mapping[str, Any]]:
    """In the order of their happening."""
    found = [
        each
        for each in events
        if each["metadata"]["labels"].get(LABEL) == "pending" and _moment(each) >= oldest
    ]
    return sorted(found, key=_moment)


def _moment(event: Mapping[str, Any]) -> datetime:
    try:
        return datetime.fromisoformat(str(event.get("lastTimestamp")))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _names(event: Mapping[str, Any]) -> set[str]:
    text = (event["metadata"].get("annotations") or {}).get(NOTIFIED, "")
    return {name for name in text.split(",") if name}


def _notification(event: Mapping[str, Any]) -> Notification:
    about = event["involvedObject"]
    return Notification(
        id=event["metadata"]["name"].rpartition(".")[2],
        kind=about["kind"], namespace=about["namespace"], name=about["name"],
        type=event["type"], reason=event["reason"], message=event["message"],
        time=event["lastTimestamp"],
    )  # fmt: skip
