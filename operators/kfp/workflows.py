"""What Argo knows of runs: those that have no row in Kubeflow Pipelines, and why steps failed.

KFP creates a run's Workflow first and its row afterwards, so that a request it answers with 500 may
go on all the same; and the messages of failed steps stand in the Workflow's nodes alone, never in
the run (kubeflow/pipelines 2.17: backend/src/apiserver/resource/resource_manager.go, CreateRun).
Only read, and only where the operator may: without the right, runs are known by their rows alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operators.cluster_client import WORKFLOW, ClusterClient

__all__ = ["SeenWorkflow", "Workflows"]

RUN_ID = "pipeline/runid"
RUN_NAME = "pipelines.kubeflow.org/run_name"
FRESH_SECONDS = 5.0
MOST_STEPS = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SeenWorkflow:
    """A Workflow that KFP made for a run."""

    name: str
    run_id: str
    run_name: str
    phase: str = ""
    """Argo's: Pending, Running, Succeeded, Failed, Error; empty until Argo has seen it."""
    failures: str = ""
    """Steps that failed, each with its message."""


class Workflows:
    """Of the namespaces that runs live in."""

    def __init__(self, cluster: ClusterClient, namespace: str = "") -> None:
        """`namespace`: where all runs live, if the server is one for one user."""
        self._cluster, self._namespace = cluster, namespace
        self._known: dict[str, tuple[float, list[SeenWorkflow]]] = {}
        self._told = False

    async def named(self, name: str, namespace: str, *, fresh: bool = False) -> SeenWorkflow | None:
        """The newest of the runs of this name. None: there is none, or we may not look."""
        found = [each for each in await self._all(namespace, fresh) if each.run_name == name]
        return found[-1] if found else None

    async def of_run(self, run_id: str, namespace: str) -> SeenWorkflow | None:
        """None as well once Argo or KFP has deleted it."""
        found = [each for each in await self._all(namespace, False) if each.run_id == run_id]
        return found[-1] if found else None

    def look_again(self) -> None:
        """What was seen may have changed by our doing."""
        self._known.clear()

    async def _all(self, namespace: str, fresh: bool) -> list[SeenWorkflow]:
        where = self._namespace or namespace
        until, known = self._known.get(where, (0.0, []))
        if not fresh and until > time.monotonic():
            return known
        try:
            found = await self._cluster.list(WORKFLOW, (where,), RUN_ID) or []
        except Exception as error:
            # The right is optional, and a server that is away is somebody else's worry.
            if not self._told:
                self._told = True
                log.warning("Workflows in %s cannot be listed, which costs details only: %s",
                            where, error)  # fmt: skip
            found = []
        found.sort(key=lambda each: str(each["metadata"].get("creationTimestamp", "")))
        seen = [_seen(each) for each in found]
        self._known[where] = (time.monotonic() + FRESH_SECONDS, seen)
        return seen


def _seen(found: Mapping[str, Any]) -> SeenWorkflow:
    metadata, status = found["metadata"], found.get("status") or {}
    return SeenWorkflow(
        name=str(metadata.get("name", "")),
        run_id=str((metadata.get("labels") or {}).get(RUN_ID, "")),
        run_name=str((metadata.get("annotations") or {}).get(RUN_NAME, "")),
        phase=str(status.get("phase") or ""),
        failures=_failures(status),
    )


def _failures(status: Mapping[str, Any]) -> str:
    """Of the steps' pods; what contains them failed because they did."""
    nodes = [
        node
        for node in (status.get("nodes") or {}).values()
        if node.get("type") == "Pod" and node.get("phase") in ("Failed", "Error")
    ]
    nodes.sort(key=lambda node: str(node.get("startedAt", "")))
    said = [
        f"{node.get('displayName', 'a step')}: {' '.join(str(node.get('message') or '').split())}"
        for node in nodes[:MOST_STEPS]
    ]
    return "; ".join(text.rstrip(": ") for text in said)[:300]
