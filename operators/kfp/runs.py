"""Runs of pipelines under names of their own: each at most once, whatever becomes of requests.

Kubeflow Pipelines takes a second run of one name, and a request whose answer was lost may have been
carried out, as may one that it answered with 500. So a name is looked for before it is asked for,
among the server's rows and, where we may, Argo's Workflows; what may have been carried out is not
repeated before it has had time to show (see `zeroskew.monitoring.machine.turn.SETTLE`); and should
there be two all the same, the oldest counts and the others are ended.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from operators.kfp.client import WAITING, KfpClient, KfpRefused, KfpSilent
from operators.kfp.request import RunRequest, check_name, fitting, typed_parameters
from operators.kfp.workflows import Workflows
from zeroskew.monitoring.monitor_observations import RunObserved, RunSeen

FRESH_SECONDS = 60.0
"""How long ids of pipelines and experiments are believed; versions are looked up each time."""

DEFAULT_EXPERIMENT = "Default"
"""Of a namespace: with several users, the server wants an experiment named."""
MOST_FAILURES = 1024

_PHASES: Mapping[str, RunSeen] = {
    "SUCCEEDED": "Succeeded",
    "SKIPPED": "Succeeded",
    "FAILED": "Failed",
    "CANCELED": "Failed",
    "CANCELING": "Ending",
}
"""KFP's states but those of waiting; in any other a run goes on. A terminated run is CANCELING,
then FAILED; a failed one is PENDING or RUNNING again when somebody has it repeated."""
_ENDS = ("Succeeded", "Failed")

log = logging.getLogger(__name__)


class KfpRuns:
    """Never raises: what cannot be asked or done is an observation, too."""

    def __init__(self, client: KfpClient | None, workflows: Workflows | None = None) -> None:
        """`client`: None, no server is named, and every request is refused. `workflows`: None, only
        the server's rows are looked at."""
        self._client, self._workflows = client, workflows
        self._failures: dict[str, str] = {}
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
            begun = await self._begun(name, namespace)
            if begun is not None:
                return begun
            if refused is not None:
                return RunObserved("Refused", message=refused)
            return RunObserved("Missing", message=self._unsure.get((namespace, name), ""))
        self.forget(namespace, name)
        first, *others = sorted(found, key=lambda run: (_moment(run, "created_at"), run["run_id"]))
        for other in others:
            if _phase(other) in ("Pending", "Running"):
                log.warning("a second run %s (%s) is ended", name, other["run_id"])
                with contextlib.suppress(KfpRefused, KfpSilent):
                    await self._client.terminate(other["run_id"])
        return await self._observed(first, namespace)

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
        if await self._begun(name, namespace, fresh=True) is not None:
            return
        try:
            await self._client.create_run(run | {"display_name": name})
        except KfpRefused:
            # What it was made of may be gone: look it up again next time.
            self._ids.clear()
            raise
        except KfpSilent as error:
            self._ids.clear()
            if self._workflows is not None:
                self._workflows.look_again()
            raise KfpSilent(f"{error}{await self._gone(self._client, run)}") from None

    async def _gone(self, client: KfpClient, run: Mapping[str, Any]) -> str:
        """A version that is not there any more gives 500, too; but it is no proof of what happened,
        so that the request is repeated as late as any other."""
        reference = run["pipeline_version_reference"]
        version = reference["pipeline_version_id"]
        try:
            if await client.has_version(reference["pipeline_id"], version):
                return ""
        except (KfpRefused, KfpSilent):
            return ""
        return f"; its pipeline version {version} is gone, it is looked up again"

    async def _begun(self, name: str, namespace: str, *, fresh: bool = False) -> RunObserved | None:
        """A run that goes on, or went on, without a row."""
        if self._workflows is None:
            return None
        found = await self._workflows.named(name, namespace, fresh=fresh)
        if found is None:
            return None
        text = f"Workflow {found.name} runs without a row in Kubeflow Pipelines"
        if found.phase == "Succeeded":
            return RunObserved("Succeeded", message=text.replace("runs", "ran"))
        if found.phase in ("Failed", "Error"):
            why = f"{text.replace('runs', 'ran')}; {found.failures}".rstrip("; ")
            return RunObserved("Failed", message=why)
        return RunObserved("Pending", message=f"{text}, which deletes it within minutes")

    async def _observed(self, run: Mapping[str, Any], namespace: str) -> RunObserved:
        run_id, phase = str(run["run_id"]), _phase(run)
        message = ""
        if phase == "Failed":
            message = await self._failure(run_id, namespace)
        else:
            self._failures.pop(run_id, None)
        # KFP writes the year 1970 for what has not happened.
        ended = _moment(run, "finished_at")
        over = phase in _ENDS and ended.year > 1970
        return RunObserved(phase, run_id, message, ended if over else None)

    async def _failure(self, run_id: str, namespace: str) -> str:
        """Where to read why: KFP itself keeps no message of a failed run."""
        if run_id not in self._failures:
            workflow = None
            if self._workflows is not None:
                workflow = await self._workflows.of_run(run_id, namespace)
            where = f"see run {run_id} in Kubeflow Pipelines (#/runs/details/{run_id})"
            said = f"{workflow.failures}; {where}" if workflow and workflow.failures else where
            if len(self._failures) >= MOST_FAILURES:
                self._failures.clear()
            self._failures[run_id] = said
        return self._failures[run_id]

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
        experiment = reference.experiment or (DEFAULT_EXPERIMENT if client.multi_user else None)
        if experiment is not None:
            key = ("experiment", experiment, namespace)
            run["experiment_id"] = self._known(key) or self._note(
                key, await client.experiment_id(experiment, namespace)
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


def _phase(run: Mapping[str, Any]) -> RunSeen:
    state = run.get("state")
    return "Pending" if state in WAITING else _PHASES.get(str(state), "Running")


def _moment(run: Mapping[str, Any], field: str) -> datetime:
    try:
        moment = datetime.fromisoformat(str(run[field]))
    except (KeyError, ValueError):
        return datetime.fromtimestamp(0, UTC)
    return moment.replace(microsecond=0) if moment.tzinfo else moment.replace(tzinfo=UTC)
