"""A run that a person asks for now, by an annotation with a value that was not there before.

It keeps every limit but the cooldown, which spaces what the monitor does by itself. A request is
answered once, by a run or by the reason why there is none, and does not wait in line for days; only
what is over in a moment is waited for: a registry that is silent, a run that is being replaced.
"""

from __future__ import annotations

from dataclasses import replace

from zeroskew.monitoring.drift_decision import decide_by_request, held_back
from zeroskew.monitoring.machine.runs import run_name, start, unsure
from zeroskew.monitoring.machine.turn import Turn
from zeroskew.monitoring.monitor_conditions import request_value
from zeroskew.monitoring.monitor_observations import KeepRecord, Measured, Measurement, Tell
from zeroskew.monitoring.monitor_state import Answer

__all__ = ["obey"]


def obey(turn: Turn) -> Turn:
    """Starts the run, or says why not."""
    request, status = request_value(turn.seen.request), turn.status
    if not request or (status.answer is not None and status.answer.value == request):
        return turn
    held = _held(turn)
    if held is not None:
        text = f"the retraining that was asked for is not started: {held[1]}"
        turn = turn.change(answer=Answer(request, False, held[0], held[1][:512], turn.now))
        return turn.ask(Tell("Warning", "RequestRefused", text[:1024]))
    if turn.seen.champion is None:
        return turn
    if status.run is not None:
        return turn.change(run=replace(status.run, replaced=True))
    measurement = _measurement(turn, turn.seen.champion)
    decision = decide_by_request(
        turn.spec, request, measurement, turn.seen.previous, turn.seen.generation, turn.now
    )
    name = run_name(turn.monitor, decision.checksum)
    answer = Answer(request, True, "Started", f"{name} is asked for", turn.now)
    turn = turn.change(decision=decision, answer=answer).ask(KeepRecord(decision, measurement))
    return start(turn, decision)


def _held(turn: Turn) -> tuple[str, str] | None:
    spec = turn.spec
    if spec.suspend:
        return "Suspended", "the monitor is suspended"
    if spec.trigger.dry_run:
        return "DryRun", "trigger.dryRun is set: nothing is ever started"
    held = held_back(spec, turn.status, turn.seen.labels.fraction, turn.now, cools=False)
    return held or unsure(turn)


def _measurement(turn: Turn, champion: str) -> Measurement:
    """What is known of the champion's window: the newest measurement, what the status remembers of
    it, or the window alone, of which nobody knows anything yet."""
    found, status = turn.seen.measurement, turn.status
    if found is not None and found.version == champion:
        return found
    start_of, end, at = status.window_start, status.window_end, status.last_measurement_time
    if status.version == champion and start_of and end and at:
        metrics = tuple(
            Measured(each.name, each.state, each.message, each.value) for each in status.metrics
        )
        return Measurement(at, champion, start_of, end, status.samples, status.rows_digest, metrics)
    begin = turn.now - turn.spec.window_length
    return Measurement(turn.now, champion, begin, turn.now, 0, "", ())
