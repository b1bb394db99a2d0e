"""A monitor as a person looks at it, and a run that he asks it for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zeroskew.cluster.access import DRIFT_MONITOR, Cluster
from zeroskew.cluster.annotations import TRIGGER
from zeroskew.cluster.events import EventSeen, read_events
from zeroskew.cluster.rollout_requests import unique_value
from zeroskew.errors import ClusterError
from zeroskew.monitoring.monitor_state import Answer, MonitorStatus
from zeroskew.rollout.rollout_state import CAMEL, from_json

__all__ = ["MonitorView", "read_monitor", "trigger", "view_monitor", "wait_for_answer"]


@dataclass(frozen=True, slots=True)
class MonitorView:
    """What `zeroskew monitor status` tells."""

    __pydantic_config__ = CAMEL

    namespace: str
    name: str
    model: str
    suspended: bool
    dry_run: bool
    status: MonitorStatus
    events: tuple[EventSeen, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return f"DriftMonitor {self.namespace}/{self.name}"


def read_monitor(cluster: Cluster, namespace: str, name: str, *, events: int = 8) -> MonitorView:
    """Read it as it is now. Raises `ClusterError` if the monitor itself cannot be read."""
    body = cluster.read(DRIFT_MONITOR, namespace, name)
    try:
        told = read_events(cluster, namespace, body["metadata"]["uid"], events)
    except ClusterError as error:
        if not error.code:
            raise
        return view_monitor(body, (), (f"events: {error.what}",))
    return view_monitor(body, told)


def view_monitor(
    body: Mapping[str, Any], events: tuple[EventSeen, ...] = (), unseen: tuple[str, ...] = ()
) -> MonitorView:
    """Out of the object. Raises `ClusterError` for a status that nobody can read."""
    metadata, spec = body["metadata"], body.get("spec") or {}
    try:
        status = from_json(MonitorStatus, body.get("status") or {})
    except ValueError:
        raise ClusterError(
            "its status cannot be read",
            where=f"DriftMonitor {metadata.get('namespace', '')}/{metadata['name']}",
            mend="the operator is of another release, or somebody wrote there",
        ) from None
    return MonitorView(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        model=str((spec.get("modelRef") or {}).get("name", "")),
        suspended=spec.get("suspend") is True,
        dry_run=(spec.get("trigger") or {}).get("dryRun") is True,
        status=status,
        events=events,
        unseen=unseen,
    )


def trigger(cluster: Cluster, namespace: str, name: str) -> str:
    """Ask for a run now; the value that the answer will name.

    Raises `ClusterError`, also for a monitor that can start none and for one that is being deleted.
    """
    value = unique_value()

    def decide(body: dict[str, Any]) -> Mapping[str, str | None]:
        view = view_monitor(body)
        if body["metadata"].get("deletionTimestamp"):
            raise ClusterError("it is being deleted", where=view.where, code=409)
        for on, what, where in (
            (view.suspended, "the monitor is suspended", "spec.suspend"),
            (view.dry_run, "decisions are only recorded", "spec.trigger.dryRun"),
        ):
            if on:
                mend = f"change {where} where the manifest is kept"
                raise ClusterError(what, where=view.where, mend=mend, code=409)
        return {TRIGGER: value}

    cluster.annotate(DRIFT_MONITOR, namespace, name, decide)
    return value


def wait_for_answer(
    cluster: Cluster,
    namespace: str,
    name: str,
    value: str,
    *,
    seconds: float,
    pause: Callable[[float], None] = time.sleep,
) -> Answer | None:
    """What the operator has said to the request; None if it has said nothing so far.

    Raises `ClusterError` if the monitor cannot be read any more.
    """
    ends = time.monotonic() + seconds
    while True:
        answer = view_monitor(cluster.read(DRIFT_MONITOR, namespace, name)).status.answer
        if answer is not None and answer.value == value:
            return answer
        if time.monotonic() >= ends:
            return None
        pause(1.0)
