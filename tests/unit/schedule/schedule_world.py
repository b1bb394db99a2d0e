"""A world for the schedule's machine: a pipeline server that loses answers, statuses that are lost.

Time passes, runs begin and end, requests are answered, refused, lost, or come late. It keeps an
account of all that was done, which is what invariants are judged by.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from zeroskew.rollout.rollout_state import from_json, to_json
from zeroskew.schedule.machine import SETTLE, run_to_look_at, step
from zeroskew.schedule.schedule_observations import (
    RunObserved,
    ScheduleObservations,
    StartRun,
    StopRun,
    Tell,
)
from zeroskew.schedule.schedule_spec import ScheduleSpec
from zeroskew.schedule.schedule_state import ScheduleStatus

START = datetime(2026, 3, 2, 10, 0, 30, tzinfo=UTC)
NAME = "hourly"


@dataclass
class ServerRun:
    name: str
    created: datetime
    ends: datetime
    good: bool = True
    stopped: datetime | None = None

    @property
    def over(self) -> datetime:
        return min(self.ends, self.stopped or self.ends)

    def phase(self, now: datetime) -> str:
        if now < self.over:
            return "Running"
        return "Succeeded" if self.good and self.stopped is None else "Failed"


@dataclass
class World:
    spec: ScheduleSpec
    random: random.Random
    status: ScheduleStatus = field(default_factory=ScheduleStatus)
    now: datetime = START
    since: datetime = START
    """When the object was made."""
    lengths: tuple[int, ...] = (1, 20, 90, 200)
    """Minutes that runs take."""
    runs: list[ServerRun] = field(default_factory=list)
    late: list[tuple[datetime, str]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[datetime, StartRun]] = field(default_factory=list)
    said: list[Tell] = field(default_factory=list)
    ended: int = 0
    """Runs that a stored status says have ended."""
    started_while_suspended: int = 0

    def turn(
        self,
        *,
        reachable: bool = True,
        answer: str = "good",
        store: str = "kept",
        restart: bool = False,
    ) -> None:
        """One call of the machine, and what becomes of its actions.

        `answer`: what the server does with a request (good, lost, late, never, refused). `store`:
        kept, failed (then nothing is acted on), or killed (stored, but not acted on).
        """
        if restart:
            self.refused = {}
        for at, name in [entry for entry in self.late if entry[0] <= self.now]:
            self.late.remove((at, name))
            self._create(name, at)
        # Through the JSON form, as a cluster has it.
        before = from_json(ScheduleStatus, to_json(self.status))
        seen = ScheduleObservations(
            1, self.since, self._observed(run_to_look_at(before), reachable)
        )
        status, actions = step(self.spec, before, seen, self.now, schedule=NAME, namespace="team")
        if store == "failed":
            return
        if status.last_run is not None and (
            before.last_run is None or before.last_run.name != status.last_run.name
        ):
            self.ended += 1
        self.status = status
        if store == "killed":
            self.refused = {}
            return
        for action in actions:
            self._act(action, answer, reachable)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def go(self, minutes: float, seconds: float = 20, **turn: object) -> None:
        for _ in range(int(minutes * 60 / seconds)):
            self.turn(**turn)  # type: ignore[arg-type]
            self.wait(seconds)

    @property
    def conditions(self) -> dict[str, tuple[str, str]]:
        return {each.type: (each.status, each.reason) for each in self.status.conditions}

    @property
    def started(self) -> list[str]:
        """Scheduled times of what runs on the server, in order."""
        return [run.name.split("-")[1] for run in self.runs]

    def _observed(self, name: str | None, reachable: bool) -> RunObserved:
        if name is None:
            return RunObserved()
        if not reachable:
            return RunObserved("Unknown", message="connection refused")
        for run in self.runs:
            if run.name == name:
                over = run.over if run.phase(self.now) != "Running" else None
                return RunObserved(run.phase(self.now), id=name, finished_at=over)  # type: ignore[arg-type]
        if name in self.refused:
            return RunObserved("Refused", message=self.refused[name])
        return RunObserved("Missing")

    def _act(self, action: object, answer: str, reachable: bool) -> None:
        if isinstance(action, Tell):
            self.said.append(action)
        elif isinstance(action, StopRun):
            for run in self.runs:
                if run.name == action.name and self.now < run.over:
                    run.stopped = self.now
        elif isinstance(action, StartRun):
            self.asked.append((self.now, action))
            self.started_while_suspended += self.spec.suspend
            self.refused.pop(action.name, None)
            known = any(run.name == action.name for run in self.runs)
            if not reachable or answer == "refused":
                self.refused[action.name] = "the server is down"
            elif answer in ("good", "lost") and not known:
                self._create(action.name, self.now)
            elif answer == "late" and not known:
                self.late.append((self.now + SETTLE * self.random.uniform(0.1, 0.9), action.name))

    def _create(self, name: str, at: datetime) -> None:
        length = timedelta(minutes=self.random.choice(self.lengths))
        self.runs.append(ServerRun(name, at, at + length, self.random.random() < 0.8))
