"""Run a pipeline on this machine: the same object that compiles to manifests, as child processes.

    python -m pipelines.run training pipelines/flight_delay --start 2013-01-01 --end 2013-07-01
    python -m pipelines.run materialisation pipelines/flight_delay --end 2013-07-01
    python -m pipelines.run batch-prediction pipelines/flight_delay --entity-rows rows.parquet

KFP's own output goes to a log file; what is shown is a line per step. A step's mistake is raised
as the error it was, with the message it had.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.dsl.graph_component import GraphComponent

from zeroskew.endpoints import Endpoints
from zeroskew.errors import PipelineError
from zeroskew.steps.repeating import ATTEMPTS
from zeroskew.steps.step import ERROR_FILE, parse_progress, read_error

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([^']+)'")
_FINISHED = re.compile(r"Task '([^']+)' finished with status (SUCCESS|FAILURE)")
_STOP_SECONDS = 20.0
_LINES_SHOWN = 25

OnEvent = Callable[["Event"], None]


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a step: `started`, `progress`, `finished` or `failed`."""

    kind: str
    step: str
    seconds: float = 0.0
    what: str = ""
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class StepRun:
    """One step that has run: its seconds, artifact paths, metadata and output parameters."""

    seconds: float
    artifacts: Mapping[str, Path]
    metadata: Mapping[str, Mapping[str, Any]]
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LocalRun:
    """A pipeline that has run to its end."""

    folder: Path
    log: Path
    seconds: float
    steps: Mapping[str, StepRun] = field(default_factory=dict)


def run_locally(
    pipeline: GraphComponent,
    arguments: Mapping[str, Any],
    pipeline_root: str | Path | None = None,
    on_event: OnEvent | None = None,
) -> LocalRun:
    """Run a pipeline through `kfp.local`; every step is a child process of this environment.

    Artifacts and the log go below `<pipeline_root>/<pipeline>-<time>/`, by default below
    `<home>/runs`. Without `ZEROSKEW_REDIS` the embedded Valkey is started, or found running.
    `on_event` hears of every step; without it, nothing is shown.

    Raises the `ZeroskewError` of the step that failed, or `PipelineError` with the end of the log
    if it left none. Whatever happens, Ctrl-C included, no process stays behind.
    """
    endpoints = _endpoints()
    root = Path(pipeline_root or Path(endpoints.home) / "runs").absolute()
    name = pipeline.pipeline_spec.pipeline_info.name
    folder = root / f"{name}-{datetime.now():%Y-%m-%d-%H-%M-%S-%f}"
    folder.mkdir(parents=True)
    error_file, log = folder / "error.json", folder / "steps.log"
    job = folder / "job.json"
    job.write_text(
        json.dumps(
            {
                "pipeline": _tried_once(pipeline),
                "arguments": dict(arguments),
                "pipeline_root": str(folder),
                "parent": os.getpid(),
            }
        )
    )
    environment = os.environ | endpoints.environment() | {ERROR_FILE: str(error_file)}
    command = [sys.executable, "-u", "-m", "pipelines.orchestrate", str(job)]
    started = time.monotonic()
    seconds: dict[str, float] = {}
    failed = ""
    shown = _display_names(pipeline)
    with _supervised(command, environment) as lines, log.open("w", encoding="utf-8") as kept:
        for event in _events(lines, kept):
            if event.kind == "finished":
                seconds[event.step] = event.seconds
            failed = event.step if event.kind == "failed" else failed
            if on_event:
                on_event(replace(event, step=shown.get(event.step, event.step)))
    if failed or lines.process.returncode:
        raise read_error(error_file) or _unexplained(name, failed, log)
    return LocalRun(folder, log, time.monotonic() - started, _outputs(folder, seconds))


def _endpoints() -> Endpoints:
    """Endpoints of this process, with an embedded online store where none is named."""
    endpoints = Endpoints.from_environment()
    if not endpoints.redis:
        from zeroskew.embedded import valkey

        endpoints = replace(endpoints, redis=valkey.ensure(Path(endpoints.home) / "valkey"))
    return endpoints


def _tried_once(pipeline: GraphComponent) -> str:
    """The pipeline as YAML. An attempt a minute later mends a network, not a file on a disk."""
    spec = json_format.MessageToDict(pipeline.pipeline_spec)
    for task in spec["root"]["dag"]["tasks"].values():
        task.pop("retryPolicy", None)
    for executor in spec["deploymentSpec"]["executors"].values():
        container = executor.get("container", {})
        container["env"] = [each for each in container.get("env", ()) if each["name"] != ATTEMPTS]
    return yaml.safe_dump(spec)


def _display_names(pipeline: GraphComponent) -> dict[str, str]:
    """What KFP's log calls a step → what the dashboard calls it."""
    return {
        task.component_ref.name.removeprefix("comp-"): task.task_info.name
        for task in pipeline.pipeline_spec.root.dag.tasks.values()
    }


class _Lines:
    """Output of the orchestrating process, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __iter__(self) -> Iterator[str]:
        assert self.process.stdout is not None
        yield from self.process.stdout


@contextmanager
def _supervised(command: list[str], environment: Mapping[str, str]) -> Iterator[_Lines]:
    """The orchestrating process; however the block is left, it and all below it have ended."""
    # A session of its own: Ctrl-C reaches this process alone, which then asks the other to stop.
    process = subprocess.Popen(
        command, env=environment, text=True, errors="replace", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield _Lines(process)
        process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.stdout:
            process.stdout.close()


def _events(lines: _Lines, kept: Any) -> Iterator[Event]:
    """Read KFP's output as events, keeping all of it in the log file."""
    step, began = "", 0.0
    for raw in lines:
        line = _COLOUR.sub("", raw)
        kept.write(line)
        kept.flush()
        if match := _STARTED.search(line):
            step, began = match[1], time.monotonic()
            yield Event("started", step)
        elif match := _FINISHED.search(line):
            kind = "finished" if match[2] == "SUCCESS" else "failed"
            yield Event(kind, match[1], time.monotonic() - began)
        elif step and (progress := parse_progress(line)):
            what, done, total = progress
            yield Event("progress", step, time.monotonic() - began, what, done, total)


def _unexplained(pipeline: str, step: str, log: Path) -> PipelineError:
    text = log.read_text(encoding="utf-8").splitlines()
    shown = [line for line in text if line.strip()][-_LINES_SHOWN:]
    return PipelineError(
        "failed without saying why; the end of its output:\n    " + "\n    ".join(shown),
        where=f"step {step} of {pipeline}" if step else pipeline,
        mend=f"the whole output is in {log}",
    )


def _outputs(folder: Path, seconds: Mapping[str, float]) -> dict[str, StepRun]:
    """What the steps wrote, from the record that KFP's executor keeps of each."""
    steps = {}
    for step, taken in seconds.items():
        record = next(folder.glob(f"*/{step}/executor_output.json"), None)
        raw = json.loads(record.read_text()) if record else {}
        artifacts = {
            name: listed["artifacts"][0]
            for name, listed in raw.get("artifacts", {}).items()
            if listed["artifacts"]
        }
        steps[step] = StepRun(
            seconds=taken,
            artifacts={name: Path(artifact["uri"]) for name, artifact in artifacts.items()},
            metadata={name: artifact.get("metadata", {}) for name, artifact in artifacts.items()},
            parameters=raw.get("parameterValues", {}),
        )
    return steps


if __name__ == "__main__":
    from pipelines.run_commands import app
    from zeroskew.cli.shell import run

    run(app)
