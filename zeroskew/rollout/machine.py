"""The rollout as a pure function of what is wanted, what is remembered and what is observed.

    status, actions = step(spec, status, observations, now)

Whoever drives it stores the status, does the actions in order, stops at the first that does not
work, and calls again soon. (Acting first is safe, too, but who is killed before the status is
stored would take the last step back and take it again.) Nothing depends on how often it is called
or on whether an action or a status was lost on the way: what is not observed to be done is asked
for again, and what is, is not.

What holds at every call:

- A route that takes requests from a challenger is the only action of its call, but for events.
- A challenger gets more only while it is ready and every gateway took the route as it stands.
- The champion alias moves only after all requests were observed to go to the challenger.
- Only versions that no route names, that are neither stable nor under trial, and whose delay is
  over, are removed.
- While a stable version answers nothing, a ready challenger under trial answers for it; one that
  was rejected never does.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from zeroskew.rollout.rollout_actions import (
    Action,
    ApplyRoute,
    EnsureVersion,
    MoveAlias,
    Release,
    RemoveVersion,
)
from zeroskew.rollout.rollout_conditions import describe, described, refusal
from zeroskew.rollout.rollout_observations import Observations
from zeroskew.rollout.rollout_spec import RolloutSpec
from zeroskew.rollout.rollout_state import Promoted, Rejected, Retired, RolloutStatus, Run
from zeroskew.rollout.rollout_view import MIRROR_UNSUPPORTED, View
from zeroskew.rollout.run_progress import (
    abort,
    advance,
    count_analyses,
    due_analysis,
    fall_back,
    pause_clock,
    watch_deadline,
)
from zeroskew.rollout.traffic_plan import TrafficPlan

__all__ = ["refuse", "step"]


def step(
    spec: RolloutSpec, status: RolloutStatus, observations: Observations, now: datetime
) -> tuple[RolloutStatus, tuple[Action, ...]]:
    """One turn. `now`: with a time zone; parts of a second are cut off."""
    view = View(spec, status, observations, now.replace(microsecond=0))
    view = _complete(_adopt(view.remember_pods()))
    if observations.deleting:
        return _terminate(view)
    view = _begin(pause_clock(view))
    view = count_analyses(view.watch_traffic())
    view = fall_back(abort(view))
    view = watch_deadline(advance(view))
    view = _retire(_conclude(view))
    actions = _actions(view)
    return describe(view), (*actions, *view.events)


def refuse(
    status: RolloutStatus, message: str, generation: int, now: datetime, *, goes_on: bool = False
) -> RolloutStatus:
    """The status for a spec that `parse_spec` refused: nothing is changed but the conditions.

    `goes_on`: `step` was called with the last spec that was right, and this is its status.
    """
    return refusal(status, message, generation, now.replace(microsecond=0), goes_on=goes_on)


def _adopt(view: View) -> View:
    """A rollout that remembers no stable version goes on from the alias or the route it finds."""
    plan, status, registry = view.seen.route.plan, view.status, view.seen.registry
    if status.stable is not None:
        return view
    champion = registry.champion if registry.version_exists is not None else None
    if champion not in (None, view.want) and view.version(champion).exists:
        if status.run is not None and status.run.version != champion:
            return view
        view = view.say("Adopted", f"version {champion} is the champion already", kind="Normal")
        return view.change(stable=champion, run=None, history=(Promoted(champion, view.now),))
    if status.run is not None or plan is None:
        return view
    largest = max(plan.backends, key=lambda each: each.weight).version
    found = champion if champion is not None and plan.weight(champion) else largest
    if found == view.want and found != champion:
        return view
    view = view.say("Adopted", f"version {found} answers users already", kind="Normal")
    return view.change(stable=found, history=(Promoted(found, view.now),))


def _complete(view: View) -> View:
    """Promoted is who answers every request and bears the alias, however it came to that."""
    run, route, registry = view.run, view.seen.route, view.seen.registry
    if run is None or run.failure or run.fallback or registry.version_exists is None:
        return view
    # While it is promoted, nobody but this machine gives it the alias, and it did so on seeing that
    # it answered every request, whatever became of the route since.
    answers = route.live and view.answering == 100
    if registry.champion != run.version or not (answers or run.promoting):
        return view
    limit = view.spec.revision_history_limit
    history = (Promoted(run.version, view.now), *view.status.history)[:limit]
    view = view.say("Promoted", f"version {run.version} is the champion", kind="Normal")
    return view.change(stable=run.version, run=None, history=history)


def _begin(view: View) -> View:
    """Starts an attempt at what the spec names, if that is new."""
    status, run, want = view.status, view.run, view.want
    if run is not None and run.old_approval and view.seen.approval not in (run.version, run.key):
        view, run = view.change_run(old_approval=False), replace(run, old_approval=False)
    if status.rejected is not None and status.rejected.version != want:
        view = view.change(rejected=None)
        status = view.status
    if run is not None and run.version == want and not _changed(view, run.digest, run.generation):
        return view
    if run is None and (want == status.stable or not _tries_again(view)):
        return view
    if view.frozen:
        return view
    if run is not None:
        if run.promoting and not run.failure and view.seen.route.live and view.answering == 100:
            return view
        if view.indispensable:
            return view.freeze("StableUnavailable")
        if want == status.stable:
            text = f"version {run.version} is no longer wanted"
            return view.say("RolloutAborted", text, kind="Normal").change(run=None)
    if view.seen.registry.version_exists is not True:
        return view.freeze("VersionUnknown")
    if view.seen.gateway.exists is not True:
        return view.freeze("GatewayUnknown")
    known = {each.version for each in status.history[1 : 1 + view.spec.rollback.window.revisions]}
    known_good = want in known and status.stable is not None
    mirrored = view.mirrors(known_good=known_good)
    if mirrored and view.seen.gateway.mirrors is False:
        if run is not None:
            text = f"version {run.version} is no longer wanted"
            view = view.say("RolloutAborted", text, kind="Normal").change(run=None)
        return view.freeze(MIRROR_UNSUPPORTED)
    approvals = {want} if want == status.attempted else set()
    attempt = Run(
        version=want,
        attempt=status.attempts + 1,
        digest=view.spec.run_digest,
        template=view.spec.template_digest,
        generation=view.seen.generation,
        step_since=view.now,
        known_good=known_good,
        old_approval=view.seen.approval in approvals | {f"{want}.{status.attempts + 1}"},
    )
    over = f" instead of version {run.version}" if run and run.version != want else ""
    view = view.say("RolloutStarted", f"version {want} is tried{over}", kind="Normal")
    if mirrored and view.seen.gateway.mirrors is None:
        why = view.seen.gateway.message or "the gateway does not say"
        text = f"pairs of answers will show whether {mirrored} % are mirrored: {why}"
        view = view.say("MirrorNotReported", text, kind="Warning")
    return view.change(run=attempt, attempts=attempt.attempt, attempted=want, rejected=None)


def _changed(view: View, digest: str, generation: int) -> bool:
    return view.spec.run_digest != digest and view.seen.generation != generation


def _tries_again(view: View) -> bool:
    rejected = view.status.rejected
    if rejected is None:
        return True
    if view.seen.retry is not None and view.seen.retry != rejected.retry:
        return True
    return _changed(view, rejected.digest, rejected.generation)


def _conclude(view: View) -> View:
    """A failed attempt is over once the route is observed to be without it."""
    run, route = view.run, view.seen.route
    if run is None or run.failure is None or view.in_route or (route.exists and not route.live):
        return view
    rejected = Rejected(
        version=run.version,
        digest=run.digest,
        generation=run.generation,
        reason=run.failure.reason,
        message=run.failure.message,
        at=view.now,
        retry=view.seen.retry,
    )
    text = f"version {run.version} was taken off: {run.failure.message}"
    view = view.say("RolledBack", text, kind="Warning")
    return view.change(run=None, rejected=rejected)


def _retire(view: View) -> View:
    """Whoever is neither stable nor under trial, however it came to that, goes after the delay."""
    status, delay = view.status, timedelta(seconds=view.spec.rollback.scale_down_delay_seconds)
    kept = {status.stable, status.run.version if status.run else None}
    if status.stable is None:
        return view
    known = {each.version: each for each in status.retired}
    retired = tuple(
        known.get(version) or Retired(version, view.now + delay)
        for version in sorted(view.seen.versions)
        if view.seen.versions[version].exists and version not in kept
    )
    return view.change(retired=retired)


def _actions(view: View) -> tuple[Action, ...]:
    run, route = view.run, view.seen.route
    actions: list[Action] = []
    plan = _next_plan(view)
    if plan is not None and plan != route.plan:
        actions.append(ApplyRoute(plan))
        if _takes_away(view, plan):
            return tuple(actions)
    if run is not None and run.failure is not None:
        return tuple(actions)
    digest = view.spec.template_digest
    on_trial = run is not None and (run.version, run.template) == (view.want, digest)
    stable = view.want == view.status.stable
    if (on_trial and not view.frozen) or (stable and view.frozen in ("", "StableUnavailable")):
        seen = view.version(view.want)
        if not seen.exists or seen.template not in (None, digest):
            actions.append(EnsureVersion(view.want, digest))
    if any(isinstance(each, ApplyRoute) for each in actions):
        # What follows relies on the route as it was observed.
        return tuple(actions)
    if analysis := due_analysis(view):
        actions.append(analysis)
    if view.frozen:
        return tuple(actions)
    if run is not None and run.promoting and view.on_target:
        registry = view.seen.registry
        if registry.version_exists is not None and registry.champion != run.version:
            model = view.spec.model_ref.name
            actions.append(MoveAlias(model, run.version, registry.champion))
    actions += [
        RemoveVersion(each.version)
        for each in view.status.retired
        if each.after <= view.now and _unrouted(view, each.version)
    ]
    return tuple(actions)


def _next_plan(view: View) -> TrafficPlan | None:
    """`desired`, or what must be live before a challenger may get more."""
    want, run, route = view.desired, view.run, view.seen.route
    if want is None or run is None or view.safe is None or route.live:
        return want
    found = route.plan
    more = want.weight(run.version) > (found.weight(run.version) if found else 0)
    more = more or want.mirrored(run.version) > (found.mirrored(run.version) if found else 0)
    if not more:
        return want
    if found is not None and {*found.versions} <= {view.status.stable, run.version}:
        return replace(found, entrance=view.spec.entrance)
    return view.safe


def _takes_away(view: View, plan: TrafficPlan) -> bool:
    found = view.seen.route.plan
    if found is None:
        return view.seen.route.exists
    return any(
        found.weight(version) > plan.weight(version)
        or found.mirrored(version) > plan.mirrored(version)
        for version in found.versions
        if version != view.status.stable
    )


def _unrouted(view: View, version: str) -> bool:
    route = view.seen.route
    if not route.exists:
        return True
    return route.live and route.plan is not None and version not in route.plan.versions


def _terminate(view: View) -> tuple[RolloutStatus, tuple[Action, ...]]:
    """Lets the object go, after a challenger was taken off the route, if so configured."""
    run, plan = view.run, view.safe
    better = view.stable_available or not view.answering
    better = better or (run is not None and not view.version(run.version).available)
    if view.spec.rollback.on_deletion and view.in_route and better and plan is not None:
        message = "the challenger is taken off before the rollout goes"
        return described(view, "Terminating", message), (ApplyRoute(plan), *view.events)
    return described(view, "Terminating", "the rollout goes"), (Release(), *view.events)
