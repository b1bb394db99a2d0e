"""Runs of pipelines under names of their own: each at most once, whatever becomes of requests.

Kubeflow Pipelines takes a second run of one name, and a request whose answer was lost may have been
carried out. So a name is looked for before it is asked for; what may have been carried out is not
repeated before it has had time to show (see `monitor_machine.SETTLE`); and should there be two all
the same, the oldest counts and the others are ended.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from operators.kfp.client import KfpClient, KfpRefused, KfpSilent
from operators.kfp.request import RunRequest, check_name, fitting, typed_parameters
from zeroskew.monitoring.monitor_observations import RunObserved, RunSeen

FRESH_SECONDS = 60.0
"""How long ids of pipelines and experiments are believed; versions are looked up each time."""

_PHASES: Mapping[str, RunSeen] = {
    "SUCCEEDED": "Succeeded",
    "SKIPPED": "Succeeded",
    "FAILED": "Failed",
    "CANCELED": "Failed",
}
"""KFP's states that are ends; in any other a run goes on."""

log = logging.getLogger(__name__)


class KfpRuns:
    """Never raises: what cannot be asked or done is an observation, too."""

    def __init__(self, client: KfpClient | None) -> None:
        """None: no server is named, and every request is refused."""
        self._client = client
        self._refused: dict[tuple[str, str], str] = {}
        self._unsure: dict[tuple[str, str], str] = {}
        self._ids: dict[tuple[str, str, str], tuple[float, str]] = {}

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def forget(self, namespace: str, name: str) -> None:
        """The run is over, or nobody waits for it any more."""
        self._refused.pop((namespace, name), None)
        self._unsure.pop((namespace, name), None)

    async def look(self, name: str, namespace: str) -> RunObserved:
        """The oldest run of this name."""
        refused = self._refused.get((namespace, name))
        if self._client is None:
            return RunObserved("Refused", message=refused or _NOBODY)
        try:
            found = await self._client.runs(name, namespace)
        except (KfpRefused, KfpSilent) as error:
            # Where nobody answers nothing was carried out either, if that is all that ever was.
            return RunObserved("Unknown", message=str(error))
        if not found:
            if refused is not None:
                return RunObserved("Refused", message=refused)
            return RunObserved("Missing", message=self._unsure.get((namespace, name), ""))
        self.forget(namespace, name)
        first, *others = sorted(found, key=lambda run: (_moment(run, "created_at"), run["run_id"]))
        for other in others:
            if other.get("state", "") not in _PHASES:
                log.warning("a second run %s (%s) is ended", name, other["run_id"])
                with contextlib.suppress(KfpRefused, KfpSilent):
                    await self._client.terminate(other["run_id"])
        return _observed(first)

    async def start(self, name: str, namespace: str, request: RunRequest) -> None:
        """Asks for it, unless there is one of this name; `look` tells what came of it."""
        self.forget(namespace, name)
        try:
            await self._start(name, namespace, request)
        except KfpRefused as error:
            self._refused[namespace, name] = str(error)
            log.warning("%s/%s: %s", namespace, name, error)
        except KfpSilent as error:
            self._unsure[namespace, name] = str(error)
            log.warning("%s/%s: %s", namespace, name, error)

    async def stop(self, run_id: str) -> None:
        """Asks for its end; is asked for again while the run goes on."""
        if self._client is not None:
            try:
                await self._client.terminate(run_id)
            except (KfpRefused, KfpSilent) as error:
                log.warning("run %s could not be ended: %s", run_id, error)

    async def _start(self, name: str, namespace: str, request: RunRequest) -> None:
        if self._client is None:
            raise KfpRefused(_NOBODY)
        check_name(name)
        try:
            run = await self._run(self._client, namespace, request)
            if await self._client.runs(name, namespace):
                return
        except KfpSilent as error:
            raise KfpRefused(str(error)) from None
        try:
            await self._client.create_run(run | {"display_name": name})
        except KfpRefused:
            # What it was made of may be gone: look it up again next time.
            self._ids.clear()
            raise

    async def _run(self, client: KfpClient, namespace: str, request: RunRequest) -> dict[str, Any]:
        reference = request.pipeline
        if reference is None:
            raise KfpRefused("pipelineRef names no pipeline")
        key = ("pipeline", reference.name, namespace)
        pipeline = self._known(key) or self._note(
            key, await client.pipeline_id(reference.name, namespace)
        )
        version = await client.version(pipeline, reference.version_name)
        run: dict[str, Any] = {
            "description": fitting(request.description),
            "pipeline_version_reference": {
                "pipeline_id": pipeline,
                "pipeline_version_id": version["pipeline_version_id"],
            },
            "runtime_config": {
                "parameters": typed_parameters(
                    request.parameters, version.get("pipeline_spec") or {}
                )
            },
        }
        if reference.experiment is not None:
            key = ("experiment", reference.experiment, namespace)
            run["experiment_id"] = self._known(key) or self._note(
                key, await client.experiment_id(reference.experiment, namespace)
            )
        if reference.service_account is not None:
            run["service_account"] = reference.service_account
        return run

    def _known(self, key: tuple[str, str, str]) -> str | None:
        until, found = self._ids.get(key, (0.0, ""))
        return found if until > time.monotonic() else None

    def _note(self, key: tuple[str, str, str], found: str) -> str:
        self._ids[key] = (time.monotonic() + FRESH_SECONDS, found)
        return found


_NOBODY = "no server of Kubeflow Pipelines is named: set ZEROSKEW_KFP"


def _observed(run: Mapping[str, Any]) -> RunObserved:
    phase = _PHASES.get(str(run.get("state", "")), "Running")
    message = str((run.get("error") or {}).get("message", ""))
    if run.get("state") == "CANCELED":
        message = message or "it was cancelled"
    # KFP writes the year 1970 for what has not happened.
    ended = _moment(run, "finished_at")
    over = phase != "Running" and ended.year > 1970
    return RunObserved(phase, str(run["run_id"]), message[:512], ended if over else None)


def _moment(run: Mapping[str, Any], field: str) -> datetime:
    try:
        moment = datetime.fromisoformat(str(run[field]))
    except (KeyError, ValueError):
        return datetime.fromtimestamp(0, UTC)
    return moment.replace(microsecond=0) if moment.tzinfo else moment.replace(tzinfo=UTC)
