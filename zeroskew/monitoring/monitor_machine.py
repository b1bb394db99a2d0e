"""The monitor as a pure function of what is wanted, what is remembered and what is observed.

    status, actions = step(spec, status, observations, now)

Whoever drives it *stores the status first*, then does the actions, and calls again soon. What was
asked for and is not observed is asked for again: a run only after `SETTLE`, so that a request whose
answer was lost has shown by then whether it came to anything.

What holds at every call:

- A run is asked for under one name, which follows from its decision, and no other is while it goes
  on, but for `concurrencyPolicy: Replace`, where the old one is seen to have ended first.
- Two decisions are at least the cooldown apart, and no more than `maxRunsPerWeek` in seven days.
- A metric that acts has failed in as many measurements in a row as it must, each of other rows,
  all of one champion, all with samples enough.
- Suspended, nothing is measured and nothing started; a run that was started is followed to its end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from zeroskew.errors import ConfigError
from zeroskew.monitoring.drift_decision import breached, cooling_until, decide, held_back
from zeroskew.monitoring.monitor_conditions import described, refused
from zeroskew.monitoring.monitor_observations import (
    Action,
    KeepRecord,
    Measure,
    Measurement,
    MonitorObservations,
    RunObserved,
    StartRun,
    StopRun,
    Tell,
)
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.monitor_state import Decision, MonitorStatus, Run, Tally
from zeroskew.rollout.rollout_steps import as_timedelta

__all__ = ["SETTLE", "refuse", "run_name", "step"]

SETTLE = timedelta(seconds=60)
"""How long a request for a run may take to show; a refused one is repeated after `AGAIN`."""
AGAIN = timedelta(seconds=10)
LARGEST = 20
_BLIND = ("Inconclusive", "Error")


@dataclass(frozen=True, slots=True)
class _Turn:
    spec: MonitorSpec
    status: MonitorStatus
    seen: MonitorObservations
    now: datetime
    monitor: str
    actions: tuple[Action, ...] = ()
    held: tuple[str, str] | None = None
    """Why nothing was started although a metric calls for it."""

    def change(self, **changes: object) -> _Turn:
        return replace(self, status=replace(self.status, **changes))  # type: ignore[arg-type]

    def ask(self, *actions: Action) -> _Turn:
        return replace(self, actions=(*self.actions, *actions))


def step(
    spec: MonitorSpec,
    status: MonitorStatus,
    observations: MonitorObservations,
    now: datetime,
    *,
    monitor: str,
) -> tuple[MonitorStatus, tuple[Action, ...]]:
    """One turn. `now`: with a time zone; parts of a second are cut off. `monitor`: its name."""
    turn = _Turn(spec, status, observations, now.replace(microsecond=0), monitor)
    turn = _follow(turn)
    turn = _count(turn)
    turn = _decide(turn)
    turn = _measure(turn)
    return described(turn.spec, turn.status, turn.seen, turn.held, turn.now), turn.actions


def refuse(
    status: MonitorStatus, error: ConfigError, generation: int, now: datetime
) -> MonitorStatus:
    """The status for a spec that `parse_monitor` refused: nothing is changed but the conditions."""
    return refused(status, str(error), generation, now.replace(microsecond=0))


def run_name(monitor: str, checksum: str) -> str:
    """Of the pipeline run: the monitor's name and twelve digits of the decision's checksum."""
    return f"{monitor}-{checksum[:12]}"


def _follow(turn: _Turn) -> _Turn:
    """The run that was asked for: is it there, how does it go, is it over?"""
    run = turn.status.run
    if run is None:
        return turn
    seen = turn.seen.runs.get(run.name, RunObserved())
    overdue = turn.now - run.triggered_at > as_timedelta(turn.spec.trigger.run_deadline)
    if seen.phase in ("Succeeded", "Failed"):
        return _ended(turn, run, "Succeeded" if seen.phase == "Succeeded" else "Failed", seen)
    if seen.phase == "Running":
        if run.phase != "Running" or run.id != seen.id:
            run = replace(run, phase="Running", id=seen.id, message="")
            turn = turn.change(run=run).ask(Tell("Normal", "RunStarted", f"{run.name} is running"))
        if overdue or run.replaced:
            return turn.ask(StopRun(run.name, seen.id))
        return turn
    if seen.phase == "Unknown":
        return turn if seen.message == run.message else turn.change(
            run=replace(run, message=seen.message)
        )  # fmt: skip
    if run.replaced or overdue or (run.phase == "Running" and seen.phase == "Missing"):
        lost = replace(seen, message=seen.message or "the run is not there any more")
        return _ended(turn, run, "Failed", lost)
    pause = AGAIN if seen.phase == "Refused" else SETTLE
    if turn.now - run.asked_at < pause or turn.spec.suspend:
        if seen.phase == "Refused" and seen.message != run.message:
            turn = turn.change(run=replace(run, message=seen.message))
        return turn
    decision = turn.status.decision
    if decision is None or decision.checksum != run.checksum:
        return _ended(turn, run, "Failed", replace(seen, message="its decision was lost"))
    again = replace(run, asked_at=turn.now, asked=run.asked + 1, message=seen.message)
    return turn.change(run=again).ask(StartRun(run.name, decision))


def _ended(turn: _Turn, run: Run, how: str, seen: RunObserved) -> _Turn:
    over = replace(
        run,
        phase=how,  # type: ignore[arg-type]
        id=seen.id or run.id,
        finished_at=seen.finished_at or turn.now,
        message=seen.message[:512],
    )
    limit = max(turn.spec.trigger.run_history_limit, turn.spec.trigger.max_runs_per_week)
    history = (over, *turn.status.history)[:limit]
    good = how == "Succeeded"
    text = f"{run.name} has {'succeeded' if good else 'failed'}"
    kind = "Normal" if good else "Warning"
    turn = turn.ask(
        Tell(kind, f"Run{how}", f"{text}: {seen.message}" if seen.message else text)  # type: ignore[arg-type]
    )
    # What led to the run has been acted on; from here on it counts anew.
    fresh = tuple(replace(each, failed_in_a_row=0) for each in turn.status.metrics)
    return turn.change(run=None, history=history, metrics=fresh)


def _count(turn: _Turn) -> _Turn:
    """Takes a new measurement into account."""
    found, status = turn.seen.measurement, turn.status
    last = status.last_measurement_time
    if found is None or (last is not None and found.at <= last):
        return turn
    if turn.seen.champion is not None and found.version != turn.seen.champion:
        return turn
    other = found.version != status.version
    known = {} if other else {tally.name: tally for tally in status.metrics}
    same = not other and found.digest == status.rows_digest
    tallies = []
    for each in found.metrics:
        before = known.get(each.name, Tally(each.name, "Inconclusive", ""))
        failed = before.failed_in_a_row + (not same) if each.state == "Failed" else 0
        blind = before.blind_in_a_row + 1 if each.state in _BLIND else 0
        if each.state in _BLIND:
            # Neither a further failure nor the end of a row of them.
            failed = before.failed_in_a_row
        tallies.append(Tally(each.name, each.state, each.message[:512], each.value, failed, blind))
        turn = _tell(turn, before, tallies[-1], found)
    close = any(tally.state in ("Moderate", "Failed") for tally in tallies)
    largest = sorted(
        (value for each in found.metrics for value in each.features),
        key=lambda value: (value.state != "Failed", value.state != "Moderate", -value.value),
    )
    return turn.change(
        version=found.version,
        last_measurement_time=found.at,
        next_measurement_time=_whole(found.at + turn.spec.next_after(close=close)),
        window_start=found.window_start,
        window_end=found.window_end,
        samples=found.rows,
        rows_digest=found.digest,
        metrics=tuple(tallies),
        largest=tuple(largest[:LARGEST]),
    )


def _tell(turn: _Turn, before: Tally, after: Tally, found: Measurement) -> _Turn:
    if before.state == after.state:
        return turn
    if after.state == "Failed":
        return turn.ask(Tell("Warning", "MetricFailed", after.message))
    if after.state == "Moderate":
        return turn.ask(Tell("Normal", "MetricModerate", after.message))
    if after.state == "Stable" and before.state in ("Failed", "Moderate"):
        return turn.ask(Tell("Normal", "MetricStable", after.message))
    return turn


def _decide(turn: _Turn) -> _Turn:
    spec, status, now = turn.spec, turn.status, turn.now
    found = turn.seen.measurement
    if spec.suspend or found is None or found.at != status.last_measurement_time:
        return turn if not status.waits_for_approval else _approve(turn)
    if status.waits_for_approval:
        return _approve(turn)
    failed = breached(spec, status.metrics)
    if not failed or {metric.name for metric in failed} - {each.name for each in found.metrics}:
        return turn
    held = held_back(spec, status, turn.seen.labels.fraction, now)
    if held is None and turn.seen.champion is None:
        held = "RegistryUnknown", "the registry names no champion"
    if held is not None:
        return replace(turn, held=held)
    if status.run is not None:
        # It is stopped first; then the metrics are looked at afresh.
        return turn.change(run=replace(status.run, replaced=True))
    decision = decide(spec, failed, found, turn.seen.previous, turn.seen.generation, now)
    turn = turn.change(decision=decision).ask(KeepRecord(decision, found))
    turn = turn.ask(Tell("Warning", "DriftDetected", decision.message))
    if spec.trigger.dry_run:
        # In place of the run that would have been, so that cooldown and limit hold here, too.
        dry = Run(run_name(turn.monitor, decision.checksum), decision.checksum, "Succeeded", now,
                  now, finished_at=now, message="dry run")  # fmt: skip
        limit = max(spec.trigger.run_history_limit, spec.trigger.max_runs_per_week)
        fresh = tuple(replace(each, failed_in_a_row=0) for each in status.metrics)
        return turn.change(history=(dry, *status.history)[:limit], metrics=fresh)
    if spec.trigger.policy == "Manual":
        return _approve(turn.change(waits_for_approval=True))
    return _trigger(turn, decision)


def _approve(turn: _Turn) -> _Turn:
    """A decision of a manual trigger waits for its name; a stale one is dropped."""
    decision, status = turn.status.decision, turn.status
    if decision is None or turn.spec.suspend:
        return turn
    other = status.version != decision.champion
    over = not breached(turn.spec, status.metrics)
    if turn.spec.trigger.policy != "Manual" or other or over:
        return turn.change(waits_for_approval=False)
    if turn.seen.approval != run_name(turn.monitor, decision.checksum):
        return turn
    held = held_back(turn.spec, status, turn.seen.labels.fraction, turn.now)
    return _trigger(turn, decision) if held is None else replace(turn, held=held)


def _trigger(turn: _Turn, decision: Decision) -> _Turn:
    name = run_name(turn.monitor, decision.checksum)
    run = Run(name, decision.checksum, "Requested", turn.now, turn.now)
    what = "retraining" if turn.spec.trigger.action == "Retrain" else "rolling back"
    turn = turn.change(run=run, waits_for_approval=False)
    return turn.ask(
        Tell("Normal", "RunRequested", f"{name} is asked for: {what}, {decision.message}"),
        StartRun(name, decision),
    )


def _measure(turn: _Turn) -> _Turn:
    status, spec, champion = turn.status, turn.spec, turn.seen.champion
    if spec.suspend or champion is None:
        return turn
    due = status.next_measurement_time
    if due is None or due <= turn.now or champion != status.version:
        return turn.ask(Measure(champion, turn.now - spec.window_length, turn.now))
    return turn


def _whole(moment: datetime) -> datetime:
    """Rounded up to a second."""
    cut = moment.replace(microsecond=0)
    return cut if cut == moment else cut + timedelta(seconds=1)


def cooling(spec: MonitorSpec, status: MonitorStatus, now: datetime) -> datetime | None:
    """Until when no run may be triggered; None: it is not cooling down."""
    until = cooling_until(spec, list(status.history))
    return until if until is not None and now < until else None
