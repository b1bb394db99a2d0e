"""A monitor on a laptop: the machine of the operator, with a child process for a pipeline run.

    monitor = LocalMonitor("flight_delay", section, folder, log=log, champion=…, runs=…)
    while True:
        status = monitor.turn()

What the machine remembers is kept in `monitor.json`, written before anything is acted on, so that a
monitor that was killed goes on and starts nothing twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from zeroskew.errors import ZeroskewError
from zeroskew.monitoring.local_runs import LocalRuns
from zeroskew.monitoring.monitor_config import MonitoringSection
from zeroskew.monitoring.monitor_machine import runs_to_look_at, step
from zeroskew.monitoring.monitor_observations import (
    Action,
    KeepRecord,
    LabelsSeen,
    Measure,
    Measurement,
    MonitorObservations,
    RunObserved,
    StartRun,
    StopRun,
    Tell,
)
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.monitor_state import Decision, MonitorStatus
from zeroskew.monitoring.trigger_spec import PipelineRef
from zeroskew.monitoring.window_reader import WindowReader
from zeroskew.rollout.rollout_state import from_json, to_json

Champion = Callable[[], tuple[str | None, str | None]]
"""The champion and the version before it."""


class Runs(Protocol):
    """Where runs are started: by name, once."""

    def start(self, name: str, decision: Decision) -> None: ...

    def look(self, name: str) -> RunObserved: ...

    def stop(self, name: str) -> None: ...


class LocalMonitor:
    """One model's monitor; the only one over `folder`."""

    def __init__(
        self,
        model: str,
        section: MonitoringSection,
        folder: str | Path,
        *,
        log: str,
        champion: Champion,
        runs: Runs | None = None,
        said: Callable[[Tell], None] = lambda event: None,
    ) -> None:
        """`log`: the prediction log. `runs`: None only watches and decides, and starts nothing.

        `said` is told what happens.
        """
        self.model, self.folder = model, Path(folder).absolute()
        said_of = section.model_dump(exclude={"retrain_days"}, by_alias=True)
        trigger = {**said_of["trigger"], "dryRun": section.trigger.dry_run or runs is None}
        if section.trigger.pipeline_ref is None:
            trigger["pipelineRef"] = PipelineRef(name="local")
        self.spec = MonitorSpec.model_validate(
            {**said_of, "trigger": trigger, "modelRef": {"name": model}}
        )
        self._champion, self._said = champion, said
        self._runs: Runs = LocalRuns(self.folder / "runs", ()) if runs is None else runs
        self._reader = WindowReader(log)
        self.measurement: Measurement | None = None
        """The newest one."""
        self._problem = ""
        self._state = self.folder / "monitor.json"
        self.status = self._remembered()

    def turn(self, now: datetime | None = None) -> MonitorStatus:
        """Observe, decide, remember, act. `now`: default, the clock; predictions about moments
        before it are looked at."""
        now = now or datetime.now(UTC)
        self.status, actions = step(
            self.spec, self.status, self._observe(now), now, monitor=self.model.replace("_", "-")
        )
        self._remember()
        for action in actions:
            self._act(action, now)
        return self.status

    def _observe(self, now: datetime) -> MonitorObservations:
        champion, previous = self._champion()
        labels = LabelsSeen()
        if self.spec.trigger.labels is not None and champion is not None:
            labels = self._reader.labels(self.spec, champion, now)
        return MonitorObservations(
            generation=1,
            champion=champion,
            previous=previous,
            measurement=self.measurement,
            measuring_failed=self._problem,
            runs={name: self._runs.look(name) for name in runs_to_look_at(self.status)},
            labels=labels,
        )

    def _act(self, action: Action, now: datetime) -> None:
        match action:
            case Measure():
                self._measure(action, now)
            case StartRun():
                self._runs.start(action.name, action.decision)
            case StopRun():
                self._runs.stop(action.name)
            case KeepRecord():
                self._reader.keep(self.spec, action)
            case Tell():
                self._said(action)

    def _measure(self, asked: Measure, now: datetime) -> None:
        try:
            self.measurement = self._reader.measured(self.spec, asked, now)
            self._problem = ""
        except ZeroskewError as error:
            self._problem = " ".join(str(error).split())

    def _remembered(self) -> MonitorStatus:
        try:
            return from_json(MonitorStatus, json.loads(self._state.read_text()))
        except FileNotFoundError:
            return MonitorStatus()
        except ValueError:
            # Half a file cannot be: somebody changed it. It is made anew from what is found.
            return MonitorStatus()

    def _remember(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self._state.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(to_json(self.status), indent=1))
        partial.replace(self._state)
