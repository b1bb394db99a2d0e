"""What one call of the machine knows, and the traffic that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from zeroskew.rollout.rollout_actions import EmitEvent
from zeroskew.rollout.rollout_observations import Observations, VersionSeen
from zeroskew.rollout.rollout_spec import RolloutSpec
from zeroskew.rollout.rollout_state import ReadyPods, RolloutStatus, Run
from zeroskew.rollout.rollout_steps import Step, traffic_after
from zeroskew.rollout.traffic_plan import TrafficPlan, alone, shared

MIRROR_UNSUPPORTED = "MirrorUnsupported"
"""Why an attempt is refused, or waits: the gateway is known not to copy as a step says."""


@dataclass(frozen=True, slots=True)
class View:
    """Spec, status and observations of one call; every change makes another view."""

    spec: RolloutSpec
    status: RolloutStatus
    seen: Observations
    now: datetime
    frozen: str = ""
    """Why nothing may go on; empty: it may."""
    events: tuple[EmitEvent, ...] = ()

    def change(self, **fields: Any) -> View:
        return replace(self, status=replace(self.status, **fields))

    def change_run(self, **fields: Any) -> View:
        return self.change(run=replace(self.status.run, **fields)) if self.status.run else self

    def freeze(self, why: str) -> View:
        return replace(self, frozen=why)

    def say(self, reason: str, message: str, *, kind: Literal["Normal", "Warning"]) -> View:
        return replace(self, events=(*self.events, EmitEvent(kind, reason, message)))

    @property
    def want(self) -> str:
        """The version that the spec names."""
        return self.spec.model_ref.version

    @property
    def run(self) -> Run | None:
        return self.status.run

    @property
    def steps(self) -> tuple[Step, ...]:
        """None for a first version, which nothing can be compared with, and for a known one."""
        run = self.run
        if run is None or run.known_good or self.status.stable is None:
            return ()
        return self.spec.strategy.steps

    def mirrors(self, *, known_good: bool) -> int:
        """The smallest percent that an attempt at the wanted version would mirror; 0: none."""
        if known_good or self.status.stable is None:
            return 0
        steps = self.spec.strategy.steps
        percents = [each.set_mirror.percent for each in steps if each.set_mirror is not None]
        return min((each for each in percents if each), default=0)

    @property
    def step(self) -> Step | None:
        """The one under way."""
        run = self.run
        if run is None or not run.begun or run.promoting or run.step >= len(self.steps):
            return None
        return self.steps[run.step]

    def version(self, version: str | None) -> VersionSeen:
        return self.seen.versions.get(version or "", VersionSeen())

    def ready(self, version: str) -> bool:
        """Serves, and a version under trial serves what it was begun with."""
        seen, run = self.version(version), self.run
        own = run is None or run.version != version or seen.template in (None, run.template)
        return own and self.serves(version)

    def serves(self, version: str | None) -> bool:
        """All of it answers, or all that did while the number of its pods changes."""
        seen = self.version(version)
        known = any(
            (each.version, each.pods) == (version, seen.pods) for each in self.status.ready_pods
        )
        return seen.exists and (seen.ready or (seen.steady and known))

    def remember_pods(self) -> View:
        """Notes with which pods versions are ready; forgets those that have others by now."""
        known = {each.version: each.pods for each in self.status.ready_pods}
        kept = tuple(
            ReadyPods(version, seen.pods)
            for version, seen in sorted(self.seen.versions.items())
            if seen.exists
            and seen.pods is not None
            and (seen.ready or known.get(version) == seen.pods)
        )
        return self if kept == self.status.ready_pods else self.change(ready_pods=kept)

    @property
    def stable_available(self) -> bool:
        seen = self.version(self.status.stable)
        return seen.exists and seen.available

    @property
    def answering(self) -> int:
        """Percent of the requests that the route gives the challenger, live or not."""
        plan = self.seen.route.plan
        return plan.weight(self.run.version) if plan and self.run else 0

    @property
    def in_route(self) -> bool:
        """Whether the challenger gets any request, or may get one from a route nobody can read."""
        route = self.seen.route
        if self.run is None or not route.exists:
            return False
        return route.plan is None or self.run.version in route.plan.versions

    @property
    def safe(self) -> TrafficPlan | None:
        """The stable version answers alone."""
        stable = self.status.stable
        return None if stable is None else alone(self.spec.entrance, stable)

    @property
    def target(self) -> tuple[int, int]:
        """Weight and mirror of the challenger at the present step."""
        run = self.run
        if run is None or not run.begun:
            return 0, 0
        if run.promoting:
            return 100, 0
        return traffic_after(self.steps[: run.step + 1])

    @property
    def on_target(self) -> bool:
        """The gateway does what the step says."""
        return self.seen.route.live and self.run is not None and self._traffic == self.target

    @property
    def _traffic(self) -> tuple[int, int]:
        plan, run = self.seen.route.plan, self.run
        return (plan.weight(run.version), plan.mirrored(run.version)) if plan and run else (0, 0)

    @property
    def approved(self) -> bool:
        run = self.run
        if run is None or run.old_approval:
            return False
        return self.seen.approval in (run.version, run.key)

    @property
    def suspended(self) -> bool:
        """By the spec, or by hand."""
        return self.spec.suspend or self.seen.paused

    @property
    def indispensable(self) -> bool:
        """The challenger answers users, and the stable version, which it would leave them to,
        answers nothing."""
        run = self.run
        if run is None or run.failure or self.status.stable is None or self.stable_available:
            return False
        return self.answering > 0 and self.version(run.version).available

    def watch_traffic(self) -> View:
        """Notes since when the challenger has the traffic that it has."""
        run = self.run
        if run is None or not self.seen.route.live or self._traffic == (run.weight, run.mirror):
            return self
        weight, mirror = self._traffic
        since = self.now if weight or mirror else None
        return self.change_run(weight=weight, mirror=mirror, traffic_since=since)

    @property
    def blocked_on(self) -> str:
        """What the rollout waits for that the cluster must do; empty: for nothing."""
        run = self.run
        if run is None or self.frozen or run.failure or run.fallback:
            return ""
        if not self.ready(run.version):
            return "ChallengerNotReady"
        if run.begun and self.target[1] and self.seen.gateway.mirrors is False:
            return MIRROR_UNSUPPORTED
        if run.begun and not self.on_target:
            return "RouteNotAccepted"
        return ""

    @property
    def overdue(self) -> bool:
        run = self.run
        deadline = timedelta(seconds=self.spec.progress_deadline_seconds)
        since = run.blocked_since if run else None
        return since is not None and self.now - since >= deadline

    @property
    def desired(self) -> TrafficPlan | None:
        """The traffic there should be; None: leave it as it is."""
        run, stable = self.run, self.status.stable
        if stable is None:
            fit = run is not None and not self.frozen and self.ready(run.version)
            return alone(self.spec.entrance, run.version) if run and fit else None
        if run is None:
            # What is refused for good must not leave a challenger on the route that nobody watches.
            return None if self.frozen not in ("", MIRROR_UNSUPPORTED) else self.safe
        # A challenger that is not quite ready is better than a stable version that answers nothing.
        stays = self.ready(run.version) or (
            self.answering > 0 and not self.stable_available and self.version(run.version).available
        )
        if run.failure or not stays:
            return self.safe if self.in_route or not self.frozen else None
        if run.fallback and not self.suspended:
            return shared(self.spec.entrance, stable, run.version, weight=100, mirror=0)
        if self.frozen or not self.ready(run.version):
            return None
        weight, mirror = self.target
        if self.seen.gateway.mirrors is False:
            mirror = 0
        return shared(self.spec.entrance, stable, run.version, weight=weight, mirror=mirror)
