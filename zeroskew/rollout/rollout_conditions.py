"""Phase, message and conditions of a rollout: what a person reads in `kubectl describe`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Literal

from zeroskew.rollout.rollout_state import Condition, Phase, RolloutStatus
from zeroskew.rollout.rollout_steps import as_timedelta
from zeroskew.rollout.rollout_view import MIRROR_UNSUPPORTED, View
from zeroskew.rollout.routes.mirror_share import as_asked, share_text
from zeroskew.rollout.run_progress import describe_step

State = Literal["True", "False", "Unknown"]
_Said = tuple[str, State, str, str]


def describe(view: View) -> RolloutStatus:
    """The status with phase, message and conditions that fit it."""
    return described(view, *_phase(view))


def described(view: View, phase: Phase, message: str) -> RolloutStatus:
    """The same for a phase that does not follow from the status alone."""
    said = _conditions(view, phase, message)
    generation = view.seen.generation
    return replace(
        view.status,
        phase=phase,
        message=message,
        observed_generation=generation,
        conditions=merged(view.status.conditions, said, generation, view.now),
    )


def refusal(
    status: RolloutStatus, message: str, generation: int, now: datetime, *, goes_on: bool = False
) -> RolloutStatus:
    """The status of a rollout whose spec is wrong: as it was, and saying so.

    `goes_on`: it is worked on by the last spec that was right.
    """
    said: list[_Said] = [("Accepted", "False", "InvalidSpec", message)]
    if not goes_on:
        text = "nothing is done until the spec is mended"
        said.append(("Progressing", "False", "InvalidSpec", text))
    conditions = merged(status.conditions, said, generation, now)
    first = message.splitlines()[0] if message else "the spec is wrong"
    return replace(status, message=first, observed_generation=generation, conditions=conditions)


def merged(
    before: tuple[Condition, ...], said: list[_Said], generation: int, now: datetime
) -> tuple[Condition, ...]:
    known = {each.type: each for each in before}
    for kind, state, reason, message in said:
        old = known.get(kind)
        since = old.last_transition_time if old and old.status == state else now
        known[kind] = Condition(kind, state, reason, message[:32768], generation, since)
    return tuple(known.values())


_UNABLE = "the gateway cannot mirror requests as a step of the strategy needs it"
_FROZEN = {
    "Suspended": "suspended: weights stay as they are",
    "StableUnavailable": "the stable version answers nothing, so that the challenger must stay",
}


def _phase(view: View) -> tuple[Phase, str]:
    status, run = view.status, view.run
    if run is None:
        return _idle(view)
    who = f"version {run.version}"
    if run.failure is not None:
        return "RollingBack", f"{who} is being taken off: {run.failure.message}"
    if run.fallback:
        return "Waiting", f"{who} answers all requests: version {status.stable} is not available"
    if view.frozen == "Suspended":
        return "Paused", _why_frozen(view)
    if view.frozen:
        return "Waiting", _why_frozen(view)
    waits = _blocked(view)
    if waits and view.overdue:
        return "Failed", f"{who}: {waits}, for longer than the deadline"
    if not run.begun or view.blocked_on == "ChallengerNotReady":
        return "Initializing", f"{who}: {waits or 'getting ready'}"
    if run.promoting:
        return "Promoting", waits or _aliased(view)
    return _at_step(view, waits)


def _idle(view: View) -> tuple[Phase, str]:
    status, want = view.status, view.want
    rejected = status.rejected is not None and view.frozen == "Suspended"
    if view.frozen and want != status.stable and not rejected:
        return "Pending", _why_frozen(view)
    if want == status.stable:
        return "Succeeded", f"version {want} answers all requests"
    if status.rejected is not None:
        return "RolledBack", f"version {want} was taken off: {status.rejected.message}"
    return "Pending", f"version {want} is not tried yet"


def _why_frozen(view: View) -> str:
    model = view.spec.model_ref.name
    if view.frozen == "VersionUnknown":
        asked = view.seen.registry.version_exists is not None
        text = f"{model} has no version {view.want} in the registry"
        return _with(text if asked else "the registry does not answer", view.seen.registry.message)
    if view.frozen == "GatewayUnknown":
        asked = view.seen.gateway.exists is not None
        text = "a gateway of spec.service.gatewayRefs does not exist"
        return _with(text if asked else "gateways cannot be read", view.seen.gateway.message)
    if view.frozen == MIRROR_UNSUPPORTED:
        text = f"version {view.want} is not tried: {_UNABLE}"
        return _with(text, view.seen.gateway.message)
    if view.frozen == "Suspended" and not view.spec.suspend:
        return "paused by the annotation zeroskew.dev/pause: weights stay as they are"
    return _FROZEN[view.frozen]


def _blocked(view: View) -> str:
    run = view.run
    reason = view.blocked_on
    if run is None or not reason:
        return ""
    if reason == "ChallengerNotReady":
        seen = view.version(run.version)
        return _with("not ready", seen.reason if seen.exists else "its objects are being made")
    if reason == MIRROR_UNSUPPORTED:
        return _with(_UNABLE, view.seen.gateway.message)
    return _with("the gateway has not accepted the route yet", view.seen.route.message)


def _at_step(view: View, waits: str) -> tuple[Phase, str]:
    run, step = view.run, view.step
    assert run is not None
    if step is None:
        return "Progressing", waits
    text = f"version {run.version}, step {run.step + 1} of {len(view.steps)}: {describe_step(step)}"
    if waits:
        text = f"{text}; {waits}"
    elif step.analysis is not None and run.tally.outcome is not None:
        text = f"{text}; {_judgement(view)}"
    if step.pause is not None and step.pause.duration is None:
        return "WaitingApproval", f"{text}; annotate zeroskew.dev/approve={run.version}"
    if step.pause is not None and step.pause.duration is not None:
        ends = run.step_since + as_timedelta(step.pause.duration)
        return "Paused", f"{text}, until {ends:%Y-%m-%dT%H:%M:%SZ}"
    if step.analysis is not None and _stuck(view):
        return "Waiting", text
    return ("Shadowing" if view.target[1] else "Progressing"), text


def _stuck(view: View) -> bool:
    run = view.run
    limit = view.spec.analysis.inconclusive_limit
    return run is not None and run.tally.inconclusive_in_a_row > limit


def _judgement(view: View) -> str:
    run = view.run
    assert run is not None
    tally = run.tally
    text = _with(f"last analysis {(tally.outcome or 'missing').lower()}", tally.message)
    least = view.spec.analysis.min_pairs
    if run.mirror and tally.pairs < least:
        return f"{text}; {tally.pairs} of {least} requests answered by both versions"
    return text


def _aliased(view: View) -> str:
    registry = view.seen.registry
    text = "all requests go to the version; the champion alias follows"
    return _with(text, "" if registry.version_exists is not None else "the registry is silent")


def _conditions(view: View, phase: Phase, message: str) -> list[_Said]:
    status, run, route = view.status, view.run, view.seen.route
    stable = view.version(status.stable)
    said: list[_Said] = [("Accepted", "True", "Valid", "every field of the spec can be done")]
    if view.frozen == MIRROR_UNSUPPORTED:
        said = [("Accepted", "False", MIRROR_UNSUPPORTED, message)]
    if status.stable is None:
        said.append(("StableReady", "Unknown", "NoStableVersion", "none was promoted yet"))
    else:
        ready = view.serves(status.stable)
        reason = "Ready" if ready else "Available" if stable.available else "NotAvailable"
        text = _state_of(status.stable, stable.reason, ready)
        said.append(("StableReady", "True" if ready else "False", reason, text))
    if run is None:
        said.append(("ChallengerReady", "Unknown", "NoChallenger", "no version is under trial"))
    else:
        ready = view.ready(run.version)
        text = _state_of(run.version, view.version(run.version).reason, ready)
        reason = "Ready" if ready else "NotReady"
        said.append(("ChallengerReady", "True" if ready else "False", reason, text))
    said.append(_mirrors(view))
    said.append(_accepted(route.live, route.exists, route.message))
    said.append(_progressing(view, phase, message))
    promoted = run is None and status.stable == view.want
    said.append(("Promoted", "True" if promoted else "False", phase, message))
    answered = route.plan is not None and all(
        view.version(each.version).available for each in route.plan.backends
    )
    serves = route.live and answered
    text = "requests are answered" if serves else "requests may go unanswered"
    said.append(
        ("Ready", "True" if serves else "False", "Serving" if serves else "NotServing", text)
    )
    return said


def _state_of(version: str, reason: str, ready: bool) -> str:
    between = " answers while the number of its pods changes" if ready and reason else ""
    return _with(f"version {version}{between}", reason)


def _mirrors(view: View) -> _Said:
    """What was seen of the attempt under way counts more than what the gateway says of itself."""
    kind, gateway = "MirrorSupported", view.seen.gateway
    share = view.run.mirror_share if view.run else None
    if share is not None and (seen := as_asked(share)) is not None:
        if seen:
            return kind, "True", "Observed", share_text(share)
        hint = "the gateway ignores the percent, or copies are lost"
        return kind, "False", "ShareDiffers", f"{share_text(share)}: {hint}"
    if gateway.mirrors is None:
        text = "the gateway does not say; pairs of answers will show"
        return kind, "Unknown", "NotReported", _with(text, gateway.message)
    if gateway.mirrors:
        return kind, "True", "Supported", "the gateway can mirror requests"
    return kind, "False", "Unsupported", _with(_UNABLE, gateway.message)


def _accepted(live: bool, exists: bool, message: str) -> _Said:
    if live:
        return "RouteAccepted", "True", "Accepted", "every gateway took the route"
    if not exists:
        return "RouteAccepted", "False", "NoRoute", "there is no route yet"
    return "RouteAccepted", "False", "NotAccepted", message or "not every gateway took the route"


def _progressing(view: View, phase: Phase, message: str) -> _Said:
    if view.overdue or phase == "RolledBack":
        why = view.status.rejected.reason if view.status.rejected else "ProgressDeadlineExceeded"
        return "Progressing", "False", why, message
    if view.frozen:
        return "Progressing", "False", view.frozen, message
    if phase == "Succeeded":
        return "Progressing", "False", "Succeeded", message
    if phase in ("Waiting", "WaitingApproval", "Paused"):
        reason = "Inconclusive" if phase == "Waiting" and _stuck(view) else phase
        return "Progressing", "False", reason, message
    return "Progressing", "True", phase, message


def _with(text: str, detail: str) -> str:
    return f"{text}: {detail}" if detail else text
