"""The monitor as a pure function of what is wanted, what is remembered and what is observed.

    status, actions = step(spec, status, observations, now)

Whoever drives it *stores the status first*, then does the actions, and calls again soon. What was
asked for and is not observed is asked for again: a run only after `SETTLE`, so that a request whose
answer was lost has shown by then whether it came to anything (see `machine.runs`).

What holds at every call:

- A run is asked for under one name, which follows from its decision, and no other is while it goes
  on, but for `concurrencyPolicy: Replace`, where the old one is seen to have ended first.
- A decision is acted on at most once and `retry.limit` times again, after a run that failed, under
  another name each time; never after one that succeeded or that a person ended.
- A decision is at least the cooldown after another, or a day where all runs of that one failed,
  and no more than `maxRunsPerWeek` are made in seven days. What a person asks for waits for no
  cooldown, and keeps every other limit.
- Unless a person asks, a metric that acts has failed in as many measurements in a row as it must,
  each of other rows, all of one champion, all with samples enough.
- Suspended, nothing is measured and nothing started; a run that was started is followed to its end.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from zeroskew.errors import ConfigError
from zeroskew.monitoring.drift_decision import breached, decide, held_back
from zeroskew.monitoring.machine.request import obey
from zeroskew.monitoring.machine.runs import follow, kept, retry, run_name, start, unsure
from zeroskew.monitoring.machine.turn import SETTLE, Turn
from zeroskew.monitoring.monitor_conditions import described, refused
from zeroskew.monitoring.monitor_observations import (
    Action,
    KeepRecord,
    Measure,
    Measurement,
    MonitorObservations,
    Tell,
)
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.monitor_state import MonitorStatus, Run, Tally

__all__ = ["SETTLE", "refuse", "run_name", "runs_to_look_at", "step"]

LARGEST = 20
_BLIND = ("Inconclusive", "Error")


def step(
    spec: MonitorSpec,
    status: MonitorStatus,
    observations: MonitorObservations,
    now: datetime,
    *,
    monitor: str,
    settle: timedelta = SETTLE,
) -> tuple[MonitorStatus, tuple[Action, ...]]:
    """One turn. `now`: with a time zone; parts of a second are cut off. `monitor`: its name.

    `settle`: how long a request whose answer was lost may take to show.
    """
    turn = Turn(spec, status, observations, now.replace(microsecond=0), monitor, settle)
    turn = follow(turn)
    turn = _count(turn)
    turn = retry(obey(turn))
    turn = _decide(turn)
    turn = _measure(turn)
    return described(turn.spec, turn.status, turn.seen, turn.held, turn.now), turn.actions


def refuse(
    status: MonitorStatus, error: ConfigError, generation: int, now: datetime
) -> MonitorStatus:
    """The status for a spec that `parse_monitor` refused: nothing is changed but the conditions."""
    return refused(status, str(error), generation, now.replace(microsecond=0))


def runs_to_look_at(status: MonitorStatus) -> tuple[str, ...]:
    """Names of the runs that the next turn wants to see: the one that goes on, or the last one, as
    long as it has failed and may be repeated by the server."""
    if status.run is not None:
        return (status.run.name,)
    return tuple(run.name for run in status.history[:1] if run.phase == "Failed")


def _count(turn: Turn) -> Turn:
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


def _tell(turn: Turn, before: Tally, after: Tally, found: Measurement) -> Turn:
    if before.state == after.state:
        return turn
    if after.state == "Failed":
        return turn.ask(Tell("Warning", "MetricFailed", after.message))
    if after.state == "Moderate":
        return turn.ask(Tell("Normal", "MetricModerate", after.message))
    if after.state == "Stable" and before.state in ("Failed", "Moderate"):
        return turn.ask(Tell("Normal", "MetricStable", after.message))
    return turn


def _decide(turn: Turn) -> Turn:
    spec, status, now = turn.spec, turn.status, turn.now
    found = turn.seen.measurement
    if status.retry is not None:
        # The decision that there is comes first.
        return turn
    if status.waits_for_approval:
        return _approve(turn)
    if spec.suspend or found is None or found.at != status.last_measurement_time:
        return turn
    failed = breached(spec, status.metrics)
    if not failed or {metric.name for metric in failed} - {each.name for each in found.metrics}:
        return turn
    held = held_back(spec, status, turn.seen.labels.fraction, now) or unsure(turn)
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
        fresh = tuple(replace(each, failed_in_a_row=0) for each in status.metrics)
        return turn.change(history=kept(turn, (dry, *status.history)), metrics=fresh)
    if spec.trigger.policy == "Manual":
        return _approve(turn.change(waits_for_approval=True))
    return start(turn, decision)


def _approve(turn: Turn) -> Turn:
    """A decision of a manual trigger waits for its name; a stale one is dropped."""
    decision, status = turn.status.decision, turn.status
    if decision is None or turn.spec.suspend or status.run is not None:
        return turn
    other = status.version != decision.champion
    over = not breached(turn.spec, status.metrics)
    if turn.spec.trigger.policy != "Manual" or other or over:
        return turn.change(waits_for_approval=False)
    if turn.seen.approval != run_name(turn.monitor, decision.checksum):
        return turn
    held = held_back(turn.spec, status, turn.seen.labels.fraction, turn.now) or unsure(turn)
    return start(turn, decision) if held is None else replace(turn, held=held)


def _measure(turn: Turn) -> Turn:
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
