"""Runs of a decision: asked for, followed to their end, and asked for again when they failed.

A name is asked for again only while it was certainly not carried out, or when nothing of it has
shown for as long as `Turn.settle`; a run that failed is followed by one of another name. A failed
run may come to life again (Kubeflow Pipelines repeats what failed in it when somebody presses
*retry*), so it is looked at until the next one is asked for.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from zeroskew.monitoring.drift_decision import (
    CANCELLED,
    REQUESTED,
    WEEK,
    breached,
    cooling_until,
    held_back_again,
    pause_before,
)
from zeroskew.monitoring.machine.turn import Turn
from zeroskew.monitoring.monitor_observations import RunObserved, StartRun, StopRun, Tell
from zeroskew.monitoring.monitor_state import Decision, PendingRetry, Run, RunPhase
from zeroskew.rollout.rollout_steps import as_timedelta

__all__ = ["follow", "kept", "retry", "run_name", "start", "unsure"]

AGAIN, AGAIN_AT_MOST = timedelta(seconds=10), timedelta(seconds=60)
"""Pauses after a refusal, which double."""
MOST_UNSEEN = 6
"""Requests without an answer and without a run: then it counts as failed."""


def run_name(monitor: str, checksum: str, attempt: int = 1) -> str:
    """Of a decision's run: the monitor's name and twelve digits of the decision's checksum, and
    from the second attempt on its number."""
    name = f"{monitor}-{checksum[:12]}"
    return name if attempt == 1 else f"{name}-{attempt}"


def start(turn: Turn, decision: Decision, attempt: int = 1) -> Turn:
    """Asks for a run of the decision."""
    name = run_name(turn.monitor, decision.checksum, attempt)
    run = Run(name, decision.checksum, "Requested", turn.now, turn.now, attempt=attempt)
    what = "retraining" if turn.spec.trigger.action == "Retrain" else "rolling back"
    text = f"{name} is asked for: {what}, {decision.message}"
    if attempt > 1:
        text = f"{name} is asked for, attempt {attempt} of {_most(turn)}: {decision.message}"
    turn = turn.change(run=run, retry=None, waits_for_approval=False)
    return turn.ask(Tell("Normal", "RunRequested", text), StartRun(name, decision))


def follow(turn: Turn) -> Turn:
    """The run that was asked for: is it there, how does it go, is it over?"""
    run = turn.status.run
    if run is None:
        return _look_back(turn)
    seen = turn.seen.runs.get(run.name, RunObserved())
    if seen.phase in ("Succeeded", "Failed"):
        return _ended(turn, run, seen)
    if seen.phase in ("Pending", "Running", "Ending"):
        return _goes_on(turn, run, seen)
    if seen.phase == "Unknown":
        return _noted(turn, run, seen)
    if (
        run.replaced
        or _overdue(turn, run)
        or (run.phase != "Requested" and seen.phase == "Missing")
    ):
        why = seen.message or "the run is not there any more"
        return _ended(turn, run, replace(seen, message=why))
    return _ask_again(turn, run, seen)


def retry(turn: Turn) -> Turn:
    """A decision whose run failed: is it time for the next one?"""
    waiting, decision = turn.status.retry, turn.status.decision
    if waiting is None or turn.status.run is not None:
        return turn
    if decision is None or decision.checksum != waiting.checksum:
        return turn.change(retry=None)
    if turn.status.version != decision.champion:
        text = f"version {turn.status.version} is the champion now; the retraining is not repeated"
        return turn.change(retry=None).ask(Tell("Normal", "RetryDropped", text))
    if waiting.attempts >= _most(turn):
        text = f"trigger.retry allows {_most(turn)} runs of a decision, and there were as many"
        return _given_up(turn, Tell("Warning", "RetryDropped", text))
    if turn.now < waiting.next_attempt_time or turn.spec.suspend:
        return turn
    if not breached(turn.spec, turn.status.metrics):
        until = cooling_until(turn.spec, turn.status)
        if until is not None and until <= turn.now:
            # From here on a decision about newer rows can be made.
            text = "no metric calls for it any more; the retraining is not repeated"
            return _given_up(turn, Tell("Normal", "RetryDropped", text))
        return turn
    held = held_back_again(turn.spec, turn.seen.labels.fraction) or unsure(turn)
    if held is None and turn.seen.champion != decision.champion:
        held = "RegistryUnknown", turn.seen.registry_message or "the registry names no champion"
    if held is None and turn.spec.trigger.dry_run:
        held = "DryRun", "decisions are only recorded"
    if held is None and turn.spec.trigger.policy == "Manual":
        first = run_name(turn.monitor, decision.checksum)
        if turn.seen.approval != first:
            held = "WaitsForApproval", f"approve {first} to have it repeated"
    return replace(turn, held=held) if held else start(turn, decision, waiting.attempts + 1)


def unsure(turn: Turn) -> tuple[str, str] | None:
    """Nothing is started while the last run, which failed, may have come to life unseen."""
    for run in turn.status.history[:1]:
        seen = turn.seen.runs.get(run.name, RunObserved())
        if turn.status.run is None and run.phase == "Failed" and seen.phase == "Unknown":
            return "RunUnknown", seen.message or f"nobody says what became of {run.name}"
    return None


def kept(turn: Turn, history: tuple[Run, ...]) -> tuple[Run, ...]:
    """The newest runs, and older ones that cooldown and weekly limit go by."""
    limit = turn.spec.trigger.run_history_limit
    return tuple(
        run
        for place, run in enumerate(history)
        if place < limit
        or run.checksum == history[0].checksum
        or (run.attempt == 1 and run.triggered_at > turn.now - WEEK)
    )


def _goes_on(turn: Turn, run: Run, seen: RunObserved) -> Turn:
    phase: RunPhase = "Pending" if seen.phase == "Pending" else "Running"
    now = replace(run, phase=phase, id=seen.id, message=seen.message)
    if seen.phase == "Ending" and not run.stopped:
        now = replace(now, stopped=CANCELLED)
    ask = seen.phase != "Ending" and (run.replaced or _overdue(turn, run)) and seen.id
    if ask:
        limit = turn.spec.trigger.run_deadline
        why = "replaced by another run" if run.replaced else f"not over within {limit}"
        now = replace(now, stopped=f"ended by this monitor: {why}")
    if phase == "Running" and run.phase != "Running":
        turn = turn.ask(Tell("Normal", "RunStarted", f"{run.name} is running"))
    if now != run:
        turn = turn.change(run=now)
    return turn.ask(StopRun(run.name, seen.id)) if ask else turn


def _noted(turn: Turn, run: Run, seen: RunObserved) -> Turn:
    if seen.message == run.message:
        return turn
    return turn.change(run=replace(run, message=seen.message))


def _ask_again(turn: Turn, run: Run, seen: RunObserved) -> Turn:
    """It is not there: it was refused, or nobody knows what became of the request."""
    refused = seen.phase == "Refused"
    pause = min(AGAIN * 2 ** min(run.asked - 1, 10), AGAIN_AT_MOST) if refused else turn.settle
    if turn.now - run.asked_at < pause or turn.spec.suspend:
        return _noted(turn, run, seen) if seen.message else turn
    decision = turn.status.decision
    if decision is None or decision.checksum != run.checksum:
        return _ended(turn, run, replace(seen, message="its decision was lost"))
    unseen = run.unseen + (not refused)
    if unseen >= MOST_UNSEEN:
        why = f"it was asked for {run.asked} times and has never been seen"
        return _ended(turn, run, replace(seen, message=f"{why}: {seen.message}".rstrip(": ")))
    again = replace(
        run, asked_at=turn.now, asked=run.asked + 1, unseen=unseen, message=seen.message
    )
    return turn.change(run=again).ask(StartRun(run.name, decision))


def _ended(turn: Turn, run: Run, seen: RunObserved) -> Turn:
    good = seen.phase == "Succeeded"
    why = [] if good else [part for part in (run.stopped, seen.message) if part]
    over = replace(
        run,
        phase="Succeeded" if good else "Failed",
        id=seen.id or run.id,
        finished_at=seen.finished_at or turn.now,
        message="; ".join(why)[:512],
        replaced=False,
    )
    turn = turn.change(run=None, history=kept(turn, (over, *turn.status.history)))
    decision = turn.status.decision
    # Who cancelled it, or wanted another in its place, does not want it repeated.
    # So does who asked for it by hand: he sees how it went.
    wanted = not run.replaced and run.stopped != CANCELLED
    wanted = wanted and decision is not None and decision.reason != REQUESTED
    if not good and wanted and decision is not None and decision.checksum == run.checksum:
        return _wait_for_retry(turn, over)
    if good:
        return _given_up(turn, Tell("Normal", "RunSucceeded", f"{run.name} has succeeded"))
    return _given_up(turn, _failure(over, ""))


def _wait_for_retry(turn: Turn, over: Run) -> Turn:
    if over.attempt >= _most(turn):
        runs = "the only run" if over.attempt == 1 else f"the last of {over.attempt} runs"
        return _given_up(turn, _failure(over, f"; it was {runs} that its decision gets"))
    ended = _whole(over.finished_at or turn.now)
    at = max(ended, turn.now) + pause_before(turn.spec, over.attempt)
    waiting = PendingRetry(over.checksum, over.attempt, at, over.message)
    text = f"; attempt {over.attempt + 1} of {_most(turn)} follows at {at:%Y-%m-%d %H:%M:%S} UTC"
    return turn.change(retry=waiting).ask(_failure(over, text))


def _failure(over: Run, then: str) -> Tell:
    why = f": {over.message}" if over.message else ""
    return Tell("Warning", "RunFailed", f"{over.name} has failed{why}{then}"[:1024])


def _given_up(turn: Turn, tell: Tell) -> Turn:
    """The decision is done with: what led to it has been acted on, from here on it counts anew."""
    fresh = tuple(replace(each, failed_in_a_row=0) for each in turn.status.metrics)
    return turn.change(retry=None, metrics=fresh).ask(tell)


def _look_back(turn: Turn) -> Turn:
    """A run that failed may go on after all: nothing else is started then."""
    if not turn.status.history or turn.status.history[0].phase != "Failed":
        return turn
    last, *older = turn.status.history
    seen = turn.seen.runs.get(last.name, RunObserved())
    if seen.phase in ("Pending", "Running"):
        phase: RunPhase = "Pending" if seen.phase == "Pending" else "Running"
        run = replace(
            last, phase=phase, id=seen.id, finished_at=None, message="", stopped="",
            revived_at=turn.now,
        )  # fmt: skip
        text = f"{last.name} had failed and goes on: somebody had it repeated"
        turn = turn.change(run=run, history=tuple(older), retry=None)
        return turn.ask(Tell("Normal", "RunRevived", text))
    if seen.phase == "Succeeded":
        over = replace(
            last, phase="Succeeded", finished_at=seen.finished_at or turn.now, message=""
        )
        turn = turn.change(history=(over, *older))
        return _given_up(turn, Tell("Normal", "RunSucceeded", f"{last.name} has succeeded"))
    return turn


def _overdue(turn: Turn, run: Run) -> bool:
    since = run.revived_at or run.triggered_at
    return turn.now - since > as_timedelta(turn.spec.trigger.run_deadline)


def _most(turn: Turn) -> int:
    return turn.spec.trigger.retry.limit + 1


def _whole(moment: datetime) -> datetime:
    """Rounded up to a second."""
    cut = moment.replace(microsecond=0)
    return cut if cut == moment else cut + timedelta(seconds=1)
