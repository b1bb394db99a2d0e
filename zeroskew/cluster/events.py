"""Events of one object, as `kubectl describe` shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from zeroskew.cluster.access import Cluster, Kind
from zeroskew.rollout.rollout_state import CAMEL

__all__ = ["EventSeen", "newest_events", "read_events"]

EVENT = Kind("", "v1", "events", "Event")


@dataclass(frozen=True, slots=True)
class EventSeen:
    __pydantic_config__ = CAMEL

    at: datetime | None
    type: str
    reason: str
    message: str


def read_events(cluster: Cluster, namespace: str, uid: str, most: int) -> tuple[EventSeen, ...]:
    """The newest `most`, the newest last. Raises `ClusterError`."""
    found = cluster.list(EVENT, namespace, fieldSelector=f"involvedObject.uid={uid}")
    return newest_events(found, most)


def newest_events(found: Iterable[Mapping[str, Any]], most: int) -> tuple[EventSeen, ...]:
    """Out of the objects."""
    events = [
        EventSeen(
            _moment(each),
            str(each.get("type") or ""),
            str(each.get("reason") or ""),
            " ".join(str(each.get("message") or "").split()),
        )
        for each in found
    ]
    events.sort(key=lambda each: (each.at is not None, each.at.timestamp() if each.at else 0.0))
    return tuple(events[len(events) - most :] if len(events) > most else events)


def _moment(event: Mapping[str, Any]) -> datetime | None:
    series = event.get("series") or {}
    for text in (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
    ):
        if text:
            return datetime.fromisoformat(text)
    return None
