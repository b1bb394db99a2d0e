"""How one attempt gets from step to step, or to its failure. Pure functions from view to view."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from zeroskew.rollout.rollout_actions import Analyse
from zeroskew.rollout.rollout_observations import AnalysisSeen
from zeroskew.rollout.rollout_state import Failure, MirrorShare, Tally
from zeroskew.rollout.rollout_steps import Step, as_timedelta
from zeroskew.rollout.rollout_view import View
from zeroskew.rollout.routes.mirror_share import as_asked, share_text


def count_analyses(view: View) -> View:
    """Counts every result of this attempt once, in order, and fails it beyond the limits."""
    run = view.run
    if run is None or run.failure:
        return view
    tally, limits, share = run.tally, view.spec.analysis, run.mirror_share
    for result in sorted(view.seen.analyses, key=lambda each: each.until):
        if result.run == run.key and (tally.until is None or result.until > tally.until):
            tally = _counted(tally, result)
            if run.mirror and result.requests and result.since == run.traffic_since:
                share = MirrorShare(run.mirror, result.requests, result.copies)
    view = view.change_run(tally=tally, mirror_share=share)
    if share is not None and as_asked(share) is False:
        known = run.mirror_share
        if known is None or as_asked(known) is not False:
            view = view.say("MirrorShareDiffers", share_text(share), kind="Warning")
    if tally.failed > limits.failure_limit:
        return fail(view, "AnalysisFailed", tally.message or "the analysis failed")
    if tally.errors_in_a_row > limits.consecutive_error_limit:
        return fail(view, "AnalysisErrors", tally.message or "the analysis could not be made")
    return view


def _counted(tally: Tally, result: AnalysisSeen) -> Tally:
    outcome = result.outcome
    return Tally(
        outcome=outcome,
        message=result.message,
        pairs=result.pairs,
        since=result.since,
        until=result.until,
        failed=tally.failed + (outcome == "Failed"),
        inconclusive_in_a_row=(tally.inconclusive_in_a_row + 1 if outcome == "Inconclusive" else 0),
        errors_in_a_row=tally.errors_in_a_row + 1 if outcome == "Error" else 0,
        metrics=result.metrics,
    )


def due_analysis(view: View) -> Analyse | None:
    """The newest window that should have been judged by now and was not.

    Windows start with the traffic and end at whole intervals after it, so that a call repeated asks
    for the same one, and calls that were missed for no more than one.
    """
    run, stable, analysis = view.run, view.status.stable, view.spec.analysis
    if run is None or run.failure or run.fallback or run.traffic_since is None or stable is None:
        return None
    if run.weight == 100 or not view.seen.route.live:
        return None
    interval = as_timedelta(analysis.interval)
    until = run.traffic_since + (view.now - run.traffic_since) // interval * interval
    if until == run.traffic_since or (run.tally.until is not None and until <= run.tally.until):
        return None
    mirrored = run.mirror > 0
    metrics = analysis.applicable(mirrored=mirrored)
    if not metrics:
        return None
    return Analyse(
        run=run.key,
        since=run.traffic_since,
        until=until,
        model=view.spec.model_ref.name,
        champion=stable,
        challenger=run.version,
        mode="shadow" if mirrored else "canary",
        mirror_percent=run.mirror or 100,
        metrics=tuple(
            metric.model_dump(mode="json", by_alias=True, exclude_none=True) for metric in metrics
        ),
    )


def fail(view: View, reason: str, message: str) -> View:
    """The challenger is to be taken off."""
    run = view.run
    if run is None or run.failure:
        return view
    view = view.say("RollingBack", f"version {run.version} is taken off: {message}", kind="Warning")
    return view.change_run(failure=Failure(reason, message), fallback=False)


def abort(view: View) -> View:
    """Fails the attempt that the annotation names; it names no later one, so that it may stay.

    A first version has nothing to return to, and one that has passed its last step is the champion
    in a moment: neither is aborted. Nor is, until the stable version is back, one that alone
    answers users.
    """
    run = view.run
    if run is None or view.seen.abort != run.key or view.status.stable is None or run.promoting:
        return view
    if view.indispensable:
        return view if view.frozen else view.freeze("StableUnavailable")
    return fail(view, "Aborted", "aborted by the annotation zeroskew.dev/abort")


def fall_back(view: View) -> View:
    """While the stable version answers nothing, a challenger under trial that is ready does.

    Its steps start over when the stable version is back. If that was deleted, it cannot come back:
    an approval then makes the challenger its successor.
    """
    run = view.run
    if run is None or run.failure or run.promoting or view.status.stable is None:
        return view
    if view.suspended:
        return view
    needed = not view.stable_available and view.ready(run.version)
    if run.fallback and needed and view.approved and not view.version(view.status.stable).exists:
        return view.change_run(fallback=False, begun=True, promoting=True, step_since=view.now)
    # A route that does so already was changed by a turn whose status was lost.
    if needed and not run.fallback and (view.seen.route.live or view.answering == 100):
        text = f"version {view.status.stable} answers nothing: {run.version} answers all requests"
        return view.say("StableUnavailable", text, kind="Warning").change_run(fallback=True)
    if run.fallback and not needed:
        text = f"version {run.version} starts over"
        view = view.say("FallbackOver", text, kind="Normal")
        return view.change_run(fallback=False, step=0, step_since=view.now)
    return view


def watch_deadline(view: View) -> View:
    """Notes what the cluster keeps the rollout waiting for, and fails it after the deadline.

    A first version is not failed: there is nothing to return to, and late is better than never.
    """
    run, blocked = view.run, view.blocked_on
    if run is None:
        return view
    if run.blocked_on != blocked:
        since = view.now if blocked else None
        view = view.change_run(blocked_on=blocked, blocked_since=since)
    if view.overdue and view.status.stable is not None:
        limit = view.spec.progress_deadline_seconds
        text = f"{blocked} for more than {limit} s"
        detail = view.version(run.version).reason if blocked == "ChallengerNotReady" else ""
        detail = view.seen.route.message if blocked == "RouteNotAccepted" else detail
        return fail(view, "ProgressDeadlineExceeded", f"{text}: {detail}" if detail else text)
    return view


def advance(view: View) -> View:
    """Past every step that is done; past the last one, to the promotion."""
    run = view.run
    if run is None or view.frozen or run.failure or run.fallback or run.promoting:
        return view
    if not run.begun:
        if not view.ready(run.version):
            return view
        view = view.say("ChallengerReady", f"version {run.version} is ready", kind="Normal")
        view = view.change_run(
            begun=True, step=0, step_since=view.now, blocked_on="", blocked_since=None
        )
    while (step := view.step) is not None and _done(view, step):
        assert view.run is not None
        number, of = view.run.step + 1, len(view.steps)
        text = f"step {number} of {of} ({describe_step(step)}) is done"
        view = view.say("StepDone", text, kind="Normal")
        # What blocked the last step is not what blocks the next, even under the same name.
        view = view.change_run(step=number, step_since=view.now, blocked_on="", blocked_since=None)
    if view.step is None:
        view = view.change_run(promoting=True, blocked_on="", blocked_since=None)
    return view


def describe_step(step: Step) -> str:
    """As a person says it."""
    if step.set_mirror is not None:
        return f"mirror {step.set_mirror.percent} %"
    if step.set_weight is not None:
        return f"weight {step.set_weight} %"
    if step.analysis is not None:
        return f"analysis for {step.analysis.duration}"
    if step.pause is not None and step.pause.duration is not None:
        return f"pause of {step.pause.duration}"
    return "approval"


def _done(view: View, step: Step) -> bool:
    run = view.run
    assert run is not None
    if step.shifts or not view.on_target:
        return view.on_target
    if step.pause is not None:
        if step.pause.duration is None:
            return view.approved
        return view.now - run.step_since >= as_timedelta(step.pause.duration)
    return _passed(view, step)


def _passed(view: View, step: Step) -> bool:
    """The newest analysis saw this very traffic, for as long as the step says, and was content.

    A shadow is judged on pairs, so without enough of them it is not, whatever the outcome says.
    """
    run = view.run
    assert run is not None
    tally, since = run.tally, run.traffic_since
    if step.analysis is None or since is None or tally.until is None:
        return False
    long_enough = tally.until >= max(run.step_since, since) + as_timedelta(step.analysis.duration)
    enough = run.mirror == 0 or tally.pairs >= view.spec.analysis.min_pairs
    return tally.outcome == "Passed" and tally.since == since and long_enough and enough


def pause_clock(view: View) -> View:
    """Time under suspension does not count for a step's duration."""
    status = view.status
    if view.suspended:
        view = view.freeze("Suspended")
        return view if status.suspended_since else view.change(suspended_since=view.now)
    if status.suspended_since is None:
        return view
    slept: timedelta = view.now - status.suspended_since
    view = view.change(suspended_since=None)
    run = view.run
    if run is None:
        return view
    return view.change(run=replace(run, step_since=run.step_since + slept))
