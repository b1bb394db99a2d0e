"""The demo's story: a model of the winter serves the spring, drifts, and is replaced by itself.

    live flights → drift decision → training pipeline → shadow → canary → promotion → labels

Nothing of it is staged but the clock, which runs through the real flights faster than they flew,
and the version that is broken on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.demo_live import LiveFlights, PipelineRuns, Traffic, turns
from pipelines.demo_rollout import RolledOut, Rollouts, register_broken
from zeroskew.endpoints import Endpoints

if TYPE_CHECKING:
    from pipelines.run import LocalRun
    from zeroskew.features.audit_result import AuditResult
    from zeroskew.monitoring.monitor_observations import Measurement
    from zeroskew.monitoring.monitor_state import Decision
    from zeroskew.monitoring.performance import LivePerformance

TRAINING_RATE = 40.0
"""Requests a second while the training pipeline has the other core."""
AFTERWARDS = timedelta(days=5)
"""How long the new champion serves before labels are asked what it was worth."""


@dataclass
class Story:
    """What happened, in order."""

    log: str
    began: datetime
    champion: int
    measurements: list[Measurement] = field(default_factory=list)
    decision: Decision | None = None
    decided_after: int = 0
    """Requests that had been served by then."""
    retrained: LocalRun | None = None
    training_end: str = ""
    version: int | None = None
    """What the retraining registered."""
    verdict: str = ""
    rolled_out: list[RolledOut] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)
    ended: datetime | None = None
    """Of the clock."""
    performance: LivePerformance | None = None
    """What labels say of each version, as far as they were known when the clock stopped."""
    audits: list[AuditResult] = field(default_factory=list)
    """Of each version."""


def live(
    model: str,
    champion: int,
    start: datetime,
    train_from: str,
    *,
    said: Callable[[str], None],
    on_step: Callable[[Any], None] | None = None,
) -> Story:
    """Serve from `start` (UTC) on, and see what comes of it.

    `train_from`: where a retraining's range begins. `said` is told what happens, `on_step` of the
    steps of the training pipeline.
    """
    from zeroskew.model_config import load_model_config
    from zeroskew.monitoring.local_monitor import LocalMonitor
    from zeroskew.registry import Registry

    config, endpoints = load_model_config(model), Endpoints.from_environment()
    log = str(Path(endpoints.prediction_log) / f"live-{datetime.now():%Y%m%d-%H%M%S}")
    # For the steps of the retraining, which look there for the decision, and for the audits.
    os.environ["ZEROSKEW_PREDICTION_LOG"] = log
    story = Story(log, start, champion)
    registry = Registry.from_environment()
    runs = PipelineRuns(model, train_from, on_step)

    def aliases() -> tuple[str | None, str | None]:
        known = registry.aliases(config.name)
        return tuple(str(known[n]) if n in known else None for n in ("champion", "previous"))  # type: ignore[return-value]

    # Weeks of this clock are a minute: no time to train a model in, and once is enough to see it.
    patient = config.monitoring.trigger.model_copy(
        update={"run_deadline": "720h", "cooldown": "720h"}
    )
    monitor = LocalMonitor(
        config.name,
        config.monitoring.model_copy(update={"trigger": patient}),
        Path(log) / "monitor",
        log=log,
        champion=aliases,
        runs=runs,
        said=lambda event: said(f"{event.reason}: {event.message}"),
    )
    with (
        Rollouts(config, endpoints, log, said) as rollouts,
        LiveFlights(model, rollouts.address, start) as flights,
    ):
        rollouts.begin(champion)
        flights.begin()

        def watch() -> None:
            if flights.problem is not None:
                raise flights.problem
            monitor.turn(flights.now)
            seen = monitor.measurement
            if seen is not None and (not story.measurements or story.measurements[-1] is not seen):
                story.measurements.append(seen)

        turns(
            rollouts.rollout.turn, watch,
            until=lambda: monitor.status.run is not None, seconds=150,
        )  # fmt: skip
        story.decision, story.decided_after = monitor.status.decision, flights.traffic.requests
        if story.decision is not None:
            flights.rate, flights.share = TRAINING_RATE, 1.0
            turns(rollouts.rollout.turn, watch, until=lambda: bool(runs.runs) or (
                monitor.status.run is None), seconds=600)  # fmt: skip
            for made, end in runs.runs.values():
                story.retrained, story.training_end = made, end
                outcome = made.steps["register"].parameters
                story.version, story.verdict = int(outcome["version"]), str(outcome["verdict"])
        if story.version is not None and story.verdict == "wins":
            story.rolled_out.append(rollouts.bring(story.version, flights, watch))
            flights.rate, flights.share = 300.0, 0.5
            until = flights.now + AFTERWARDS
            turns(rollouts.rollout.turn, watch, until=lambda: flights.now >= until, seconds=120)
        now = registry.champion(config.name) or champion
        broken = register_broken(config.name, now)
        said(f"version {broken} is version {now} with its scores turned around")
        story.rolled_out.append(rollouts.bring(broken, flights, watch))
        story.ended = flights.now
    story.traffic = flights.traffic
    _look_back(story, model)
    return story


def _look_back(story: Story, model: str) -> None:
    """Labels have arrived for all but the last flights; and was what was served what was joined?"""
    from zeroskew.monitoring.reports import write_report
    from zeroskew.steps.audit import audit_model, keep_report
    from zeroskew.steps.performance import live_performance

    versions = [str(story.champion), *([str(story.version)] if story.rolled_out[1:] else [])]
    until = datetime.now(UTC)
    assert story.ended is not None
    story.performance = live_performance(
        model, versions, story.log, since=until - timedelta(hours=1), until=until, now=story.ended
    )
    for version in versions:
        write_report(story.log, story.performance.report(version))
    for version in versions:
        story.audits.append(audit_model(model, version=version))
        keep_report(story.audits[-1], story.log)
