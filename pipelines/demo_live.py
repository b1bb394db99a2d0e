"""The demo's live part: a spring of flights, asked about hour by hour, while the platform watches.

A clock of its own runs through the real flights: the store is filled up to its moment, the flights
of the next hours are asked about through the gateway, and the clock goes on. Beside it a monitor
looks at what was served, as one would on a cluster; when it decides so, the training pipeline runs
again on what is known by then, and its version goes through shadow and canary like any other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.replay import replay, request_body
from zeroskew.endpoints import Endpoints
from zeroskew.errors import ZeroskewError
from zeroskew.monitoring.monitor_observations import RunObserved
from zeroskew.monitoring.monitor_state import Decision

if TYPE_CHECKING:
    from pipelines.run import LocalRun

STEP = timedelta(hours=1)
"""A flight is asked about in the hour before it leaves, which is what the model was trained for."""


@dataclass
class Traffic:
    """What users got."""

    requests: int = 0
    errors: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def since(self, before: Traffic) -> Traffic:
        """What came after a `copy`."""
        return Traffic(
            self.requests - before.requests,
            self.errors[len(before.errors) :],
            self.latencies[len(before.latencies) :],
        )

    def copy(self) -> Traffic:
        return Traffic(self.requests, [*self.errors], [*self.latencies])


class LiveFlights:
    """Asks about flights as their time comes, from a thread of its own, until it is left."""

    def __init__(self, model: str | Path, address: str, start: datetime) -> None:
        """`address`: of the gateway; `start`: UTC, when the clock begins."""
        from zeroskew.features.read_plan_compiler import compile_read_plan
        from zeroskew.features.store import FeatureStore
        from zeroskew.model_config import load_model_config

        config = load_model_config(model)
        self._name, self._address = config.name, address
        self._store = FeatureStore(model)
        plan = compile_read_plan(self._store.repository, config.feature_service)
        self._kinds = plan.entity_columns | plan.request_columns
        self._rows = Path(Endpoints.from_environment().data) / config.entity_rows.path
        self._asked = config.entity_rows.event_timestamp
        self.now = start
        self.rate = 300.0
        """Requests a second."""
        self.share = 0.5
        """Of the flights that are asked about."""
        self.traffic = Traffic()
        self.problem: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        """The first question."""
        self._thread.start()

    def __enter__(self) -> LiveFlights:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._step(self.now)
                self.now += STEP
        except BaseException as error:
            self.problem = error

    def _step(self, moment: datetime) -> None:
        bodies = self._questions(moment)
        if not bodies:
            return
        self._store.materialise(end=moment)
        while bodies and not self._stop.is_set():
            # In parts, so that a change of rate is heard, and the end.
            part, bodies = bodies[:100], bodies[100:]
            sent = replay(
                self._address, self._name, part, rate=self.rate, seconds=len(part) / self.rate
            )
            self.traffic.requests += len(sent.latencies)
            self.traffic.errors += sent.errors
            self.traffic.latencies += sent.latencies

    def _questions(self, moment: datetime) -> list[bytes]:
        """About the flights of the next hour, as of now, which is what the store knows."""
        import polars as pl

        until = moment + STEP
        flights = (
            pl.scan_parquet(self._rows)
            .filter(pl.col(self._asked) >= moment, pl.col(self._asked) < until)
            .sort(self._asked)
            .collect()
            .gather_every(max(1, round(1 / self.share)))
        )
        micros = round(moment.timestamp() * 1e6)
        return [
            request_body(row, self._kinds, micros, f"{moment:%m%d%H}-{number}")
            for number, row in enumerate(flights.iter_rows(named=True))
        ]


class PipelineRuns:
    """Runs of the training pipeline on this machine, each in a thread, by name."""

    def __init__(
        self, model: str, start: str, on_event: Callable[[Any], None] | None = None
    ) -> None:
        """`start`: where the training range begins; it ends where the decision's window does."""
        self._model, self._start, self._on_event = model, start, on_event
        self._threads: dict[str, threading.Thread] = {}
        self._problems: dict[str, str] = {}
        self.runs: dict[str, tuple[LocalRun, str]] = {}
        """What came of each, and the end of its training range."""

    def start(self, name: str, decision: Decision) -> None:
        """Does nothing if there is one of this name."""
        if name not in self._threads:
            self._threads[name] = threading.Thread(target=self._run, args=(name, decision))
            self._threads[name].start()

    def look(self, name: str) -> RunObserved:
        if name not in self._threads:
            return RunObserved("Missing")
        if self._threads[name].is_alive():
            return RunObserved("Running", name)
        if name in self._problems:
            return RunObserved("Failed", name, self._problems[name])
        return RunObserved("Succeeded", name)

    def stop(self, name: str) -> None:
        """They end by themselves."""

    def _run(self, name: str, decision: Decision) -> None:
        from pipelines.run import run_locally
        from pipelines.training import training_pipeline

        end = decision.window_end.strftime("%Y-%m-%dT%H:%M:%S")
        try:
            made = run_locally(
                training_pipeline(self._model),
                {"start_time": self._start, "end_time": end, "decision": decision.checksum},
                on_event=self._on_event,
            )
            self.runs[name] = made, end
        except ZeroskewError as error:
            self._problems[name] = " ".join(str(error).split())


def utc(text: str) -> datetime:
    """An ISO 8601 text without a zone."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def turns(*parts: Callable[[], Any], until: Callable[[], bool], seconds: float) -> bool:
    """Call the parts in turn until that is so; False if it takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            return False
        for part in parts:
            part()
        time.sleep(0.1)
    return True
