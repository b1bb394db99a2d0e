"""The schedules of a model on a laptop: the machine of the operator, with child processes for runs.

    with LocalClock("flight_delay", specs, folder, command=command) as clock:
        while True:
            clock.turn()

What the machine remembers is kept in `<schedule>.json`, written before anything is acted on, so
that a clock that was killed goes on and starts nothing twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO

from zeroskew.errors import ConfigError
from zeroskew.monitoring.local_runs import NamedCommands
from zeroskew.rollout.rollout_state import from_json, to_json
from zeroskew.schedule.machine import run_to_look_at, step
from zeroskew.schedule.schedule_observations import (
    Action,
    RunObserved,
    ScheduleObservations,
    StartRun,
    StopRun,
    Tell,
)
from zeroskew.schedule.schedule_spec import ScheduleSpec
from zeroskew.schedule.schedule_state import ScheduleStatus

__all__ = ["Command", "LocalClock"]

STOP_SECONDS = 30.0
"""How long runs may take to end when the clock does."""

Command = Callable[[str, StartRun], Sequence[str]]
"""Program and arguments for a run of the schedule of this name."""


class LocalClock:
    """One model's schedules. As a context manager it is the only one over `folder`, and when it is
    left no run of its own stays behind."""

    def __init__(
        self,
        model: str,
        specs: Mapping[str, ScheduleSpec],
        folder: str | Path,
        *,
        command: Command,
        said: Callable[[str, Tell], None] = lambda schedule, event: None,
    ) -> None:
        """`specs` by the schedules' names; `said` is told what happens to which."""
        self.model, self.specs, self.folder = model, dict(specs), Path(folder).absolute()
        self._command, self._said = command, said
        self.runs = NamedCommands(self.folder / "runs")
        self._lock: IO[str] | None = None
        self.statuses = {name: self._remembered(name) for name in self.specs}

    def __enter__(self) -> LocalClock:
        """Raises `ConfigError` if another clock keeps these schedules."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigError(
                f"another process keeps the schedules of {self.model}",
                where=str(self.folder),
                mend="end it first; two clocks would run everything twice",
            ) from None
        self.statuses = {name: self._remembered(name) for name in self.specs}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._lock is not None:
            self._lock.close()

    def turn(self, now: datetime | None = None) -> Mapping[str, ScheduleStatus]:
        """For each schedule: observe, decide, remember, act. `now`: default, the clock."""
        for name, spec in self.specs.items():
            moment = now or datetime.now(UTC)
            before = self.statuses[name]
            run = run_to_look_at(before)
            seen = self.runs.look(run) if run else RunObserved()
            status, actions = step(
                spec, before, ScheduleObservations(1, moment, seen), moment,
                schedule=name,
                # A process that was not noted down was not started.
                settle=timedelta(0),
            )  # fmt: skip
            self._remember(name, status)
            for action in actions:
                self._act(name, action)
        return self.statuses

    def stop(self) -> None:
        """Ends the runs under way, with all that they started, and waits for them."""
        active = [each.active.name for each in self.statuses.values() if each.active is not None]
        for name in active:
            self.runs.stop(name)
        deadline = time.monotonic() + STOP_SECONDS
        while any(self.runs.look(name).phase == "Running" for name in active):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)

    def _act(self, schedule: str, action: Action) -> None:
        match action:
            case StartRun():
                self.runs.begin(
                    action.name,
                    self._command(schedule, action),
                    scheduledTime=action.scheduled_time.isoformat(),
                )
            case StopRun():
                self.runs.stop(action.name)
            case Tell():
                self._said(schedule, action)

    def _remembered(self, name: str) -> ScheduleStatus:
        try:
            return from_json(ScheduleStatus, json.loads(self._file(name).read_text()))
        except (FileNotFoundError, ValueError):
            # Half a file cannot be: somebody changed it. Times count from now on.
            return ScheduleStatus()

    def _remember(self, name: str, status: ScheduleStatus) -> None:
        if status == self.statuses[name] and self._file(name).exists():
            return
        self.statuses[name] = status
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self._file(name).with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(to_json(status), indent=1))
        partial.replace(self._file(name))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"
