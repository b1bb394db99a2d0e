"""A world for the monitor's machine: a pipeline server that loses answers, statuses that are lost.

Time passes, windows drift or do not, requests for runs are answered, refused, lost, or come late.
It keeps an account of all that was done, which is what invariants are judged by.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from zeroskew.monitoring.monitor_machine import SETTLE, step
from zeroskew.monitoring.monitor_observations import (
    KeepRecord,
    LabelsSeen,
    Measure,
    Measured,
    Measurement,
    MonitorObservations,
    RunObserved,
    StartRun,
    StopRun,
)
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.monitor_state import MonitorStatus
from zeroskew.rollout.rollout_state import from_json, to_json

START = datetime(2026, 3, 2, tzinfo=UTC)
NAME = "fraud"


@dataclass
class ServerRun:
    name: str
    created: datetime
    ends: datetime
    good: bool
    stopped: bool = False

    def phase(self, now: datetime) -> str:
        if self.stopped:
            return "Failed"
        if now < self.ends:
            return "Running"
        return "Succeeded" if self.good else "Failed"


@dataclass
class World:
    spec: MonitorSpec
    random: random.Random
    status: MonitorStatus = field(default_factory=MonitorStatus)
    now: datetime = START
    champion: str = "1"
    drifted: bool = True
    labelled: float | None = 1.0
    approval: str | None = None
    runs: list[ServerRun] = field(default_factory=list)
    late: list[tuple[datetime, str]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    measurement: Measurement | None = None
    rows: int = 0
    asked: list[tuple[datetime, str]] = field(default_factory=list)
    """Every StartRun, with its time."""
    decided: list[tuple[datetime, StartRun]] = field(default_factory=list)
    records: dict[str, KeepRecord] = field(default_factory=dict)
    measured: list[Measurement] = field(default_factory=list)
    suspended_acts: int = 0

    def turn(
        self,
        *,
        reachable: bool = True,
        answer: str = "good",
        store: str = "kept",
        restart: bool = False,
    ) -> None:
        """One call of the machine, and what becomes of its actions.

        `answer`: what the pipeline server does with a request (good, lost, late, never, refused).
        `store`: kept, failed (then nothing is acted on), or killed (stored, but not acted on).
        """
        if restart:
            self.measurement, self.refused = None, {}
        for at, name in [entry for entry in self.late if entry[0] <= self.now]:
            self.late.remove((at, name))
            self._create(name, at)
        # Through the JSON form, as a cluster has it.
        before = from_json(MonitorStatus, to_json(self.status))
        status, actions = step(self.spec, before, self._see(reachable), self.now, monitor=NAME)
        if store == "failed":
            return
        self.status = status
        if store == "killed":
            self.measurement, self.refused = None, {}
            return
        for action in actions:
            if self.spec.suspend and isinstance(action, StartRun | Measure):
                self.suspended_acts += 1
            self._act(action, answer, reachable)

    def _see(self, reachable: bool) -> MonitorObservations:
        seen: Mapping[str, RunObserved] = {}
        if self.status.run is not None:
            seen = {self.status.run.name: self._observed(self.status.run.name, reachable)}
        return MonitorObservations(
            generation=1,
            champion=self.champion,
            measurement=self.measurement,
            runs=seen,
            labels=LabelsSeen(self.labelled),
            approval=self.approval,
        )

    def _observed(self, name: str, reachable: bool) -> RunObserved:
        if not reachable:
            return RunObserved("Unknown", message="connection refused")
        for run in self.runs:
            if run.name == name:
                return RunObserved(run.phase(self.now), id=name)  # type: ignore[arg-type]
        if name in self.refused:
            return RunObserved("Refused", message=self.refused[name])
        return RunObserved("Missing")

    def _act(self, action: object, answer: str, reachable: bool) -> None:
        if isinstance(action, Measure):
            self._measure(action)
        elif isinstance(action, KeepRecord):
            self.records[action.decision.checksum] = action
        elif isinstance(action, StopRun):
            for run in self.runs:
                if run.name == action.name:
                    run.stopped = run.stopped or self.now < run.ends
        elif isinstance(action, StartRun):
            self.asked.append((self.now, action.name))
            self.decided.append((self.now, action))
            self.refused.pop(action.name, None)
            if not reachable or answer == "refused":
                self.refused[action.name] = "the server is down"
            elif answer == "good" or answer == "lost":
                # What a driver does: whoever finds the name asks for nothing.
                if all(run.name != action.name for run in self.runs):
                    self._create(action.name, self.now)
            elif answer == "late":
                delay = SETTLE * self.random.uniform(0.1, 0.9)
                if all(run.name != action.name for run in self.runs):
                    self.late.append((self.now + delay, action.name))

    def _create(self, name: str, at: datetime) -> None:
        length = timedelta(minutes=self.random.choice([1, 10, 60, 400]))
        self.runs.append(ServerRun(name, at, at + length, self.random.random() < 0.8))

    def _measure(self, asked: Measure) -> None:
        self.rows += self.random.choice([0, 500, 5000])
        state = "Failed" if self.drifted else self.random.choice(["Stable", "Moderate"])
        if self.rows < self.spec.window.min_samples:
            state = "Inconclusive"
        if self.random.random() < 0.05:
            state = "Error"
        value = {"Failed": 0.5, "Moderate": 0.15, "Stable": 0.01}.get(state)
        self.measurement = Measurement(
            at=self.now + timedelta(seconds=1),
            version=asked.version,
            window_start=asked.since,
            window_end=asked.until,
            rows=self.rows,
            digest=str(self.rows),
            metrics=tuple(
                Measured(metric.name, state, f"{metric.name} is {state}", value, self.rows)  # type: ignore[arg-type]
                for metric in self.spec.metrics
            ),
        )
        self.measured.append(self.measurement)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
