"""A world for the monitor's machine: a pipeline server that loses answers, statuses that are lost.

Time passes, windows drift or do not, requests for runs are answered, refused, lost, or come late.
It keeps an account of all that was done, which is what invariants are judged by.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from zeroskew.monitoring.monitor_machine import SETTLE, runs_to_look_at, step
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
    Tell,
)
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.monitor_state import MonitorStatus
from zeroskew.rollout.rollout_state import from_json, to_json

START = datetime(2026, 3, 2, tzinfo=UTC)
NAME = "fraud"


@dataclass
class ServerRun:
    """A run as it really goes on; a ghost has no row, and ends when the server deletes it."""

    name: str
    created: datetime
    begins: datetime
    ends: datetime
    good: bool
    ghost: bool = False
    ending_until: datetime | None = None
    """Somebody asked for its end; it is over then."""
    cancelled: bool = False
    """By a person."""
    noticed: bool = False
    """By the monitor, before it was over."""
    revived: datetime | None = None
    past: list[tuple[datetime, datetime]] = field(default_factory=list)
    """When it went on before somebody had it repeated."""

    @property
    def over_at(self) -> datetime:
        return min(self.ends, self.ending_until or self.ends)

    def goes_on(self, now: datetime) -> bool:
        spans = [*self.past, (self.revived or self.created, self.over_at)]
        return any(begin <= now < end for begin, end in spans)

    def phase(self, now: datetime) -> str:
        if now < self.over_at:
            if self.ending_until is not None:
                return "Ending"
            return "Pending" if now < self.begins else "Running"
        if self.ending_until is not None and self.ending_until <= self.ends:
            return "Failed"
        return "Succeeded" if self.good else "Failed"

    def revive(self, now: datetime, length: timedelta) -> None:
        self.past.append((self.revived or self.created, self.over_at))
        self.revived, self.begins, self.ends = now, now, now + length
        self.good, self.ending_until = True, None


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
    request: str | None = None
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
    sees_workflows: bool = True
    """A ghost is seen as a run that has not begun; else it is not seen at all."""
    failing: float = 0.2
    """Of the runs."""
    told: list[Tell] = field(default_factory=list)

    def turn(
        self,
        *,
        reachable: bool = True,
        answer: str = "good",
        store: str = "kept",
        restart: bool = False,
    ) -> None:
        """One call of the machine, and what becomes of its actions.

        `answer`: what the pipeline server does with a request (good, lost, late, never, refused,
        ghost: it goes on without a row).
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
        for run in self.runs:
            # Between two turns an end may come and go; then nobody can know whose wish it was.
            run.noticed |= reachable and run.cancelled and run.phase(self.now) == "Ending"
        self.status = status
        if store == "killed":
            self.measurement, self.refused = None, {}
            return
        for action in actions:
            if self.spec.suspend and isinstance(action, StartRun | Measure):
                self.suspended_acts += 1
            self._act(action, answer, reachable)

    def _see(self, reachable: bool) -> MonitorObservations:
        seen: Mapping[str, RunObserved] = {
            name: self._observed(name, reachable) for name in runs_to_look_at(self.status)
        }
        return MonitorObservations(
            generation=1,
            champion=self.champion,
            measurement=self.measurement,
            runs=seen,
            labels=LabelsSeen(self.labelled),
            approval=self.approval,
            request=self.request,
        )

    def _observed(self, name: str, reachable: bool) -> RunObserved:
        if not reachable:
            return RunObserved("Unknown", message="connection refused")
        for run in self.runs:
            if run.name == name and not run.ghost:
                ended = run.over_at if self.now >= run.over_at else None
                return RunObserved(run.phase(self.now), id=name, finished_at=ended)  # type: ignore[arg-type]
            if run.name == name and self.sees_workflows and run.goes_on(self.now):
                return RunObserved("Pending", message="it has no row")
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
                if run.name == action.name and run.ending_until is None:
                    run.ending_until = self.now + timedelta(seconds=40)
        elif isinstance(action, Tell):
            self.told.append(action)
        elif isinstance(action, StartRun):
            self.asked.append((self.now, action.name))
            self.decided.append((self.now, action))
            self.refused.pop(action.name, None)
            if not reachable or answer == "refused":
                self.refused[action.name] = "the server is down"
            elif answer == "good" or answer == "lost":
                # What a driver does: whoever finds the name asks for nothing.
                if not self._there(action.name):
                    self._create(action.name, self.now)
            elif answer == "ghost":
                if not self._there(action.name):
                    self._create(action.name, self.now)
                    ghost = self.runs[-1]
                    ghost.ghost, ghost.good = True, False
                    ghost.ends = self.now + timedelta(minutes=7, seconds=15)
            elif answer == "late":
                delay = SETTLE * self.random.uniform(0.1, 0.9)
                if not self._there(action.name):
                    self.late.append((self.now + delay, action.name))

    def _there(self, name: str) -> bool:
        """Whether a driver that looks for the name finds it."""
        return any(
            run.name == name and (not run.ghost or (self.sees_workflows and run.goes_on(self.now)))
            for run in self.runs
        )

    def _create(self, name: str, at: datetime) -> None:
        length = timedelta(minutes=self.random.choice([1, 10, 60, 400]))
        good = self.random.random() >= self.failing
        pending = timedelta(seconds=self.random.choice([0, 30]))
        self.runs.append(ServerRun(name, at, at + pending, at + length, good))

    def cancel(self) -> None:
        """A person ends the run that goes on."""
        for run in self.runs[-1:]:
            if not run.ghost and run.phase(self.now) in ("Pending", "Running"):
                run.ending_until, run.cancelled = self.now + timedelta(seconds=40), True

    def revive(self) -> None:
        """A person has the server repeat what failed in the last run, if nothing else goes on."""
        if self.status.run is None and self.runs and not self.late:
            last = self.runs[-1]
            if not last.ghost and last.phase(self.now) == "Failed":
                last.revive(self.now, timedelta(minutes=10))

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
