"""A cluster, a registry and an analysis in memory, which keep account of what is done to them.

Every promise of the machine is checked here, when an action arrives, against the state of this
world and never against the machine's own status. A broken promise is an AssertionError.
"""

import copy
import json
from datetime import UTC, datetime, timedelta

from zeroskew.rollout.machine import step
from zeroskew.rollout.rollout_actions import (
    Analyse,
    ApplyRoute,
    EmitEvent,
)
from zeroskew.rollout.rollout_observations import Observations
from zeroskew.rollout.rollout_spec import parse_spec
from zeroskew.rollout.rollout_state import RolloutStatus, from_json, to_json

SHADOW = [
    {"setMirror": {"percent": 100}}, {"analysis": {"duration": "2m"}}, {"setMirror": {"percent": 0}}
]  # fmt: skip
STRATEGIES = {
    "default": None,
    "canary": [
        {"setWeight": 10}, {"analysis": {}}, {"setWeight": 60}, {"pause": {"duration": "1m"}}
    ],
    "approval": [*SHADOW, {"pause": {}}, {"setWeight": 100}, {"pause": {"duration": "2m"}}],
    "two mirrors": [
        {"setMirror": {"percent": 20}}, {"analysis": {"duration": "1m"}},
        *SHADOW, {"setWeight": 30}, {"setWeight": 30}, {"analysis": {"duration": "3m"}},
    ],
    "blind": [{"pause": {"duration": "1m"}}, {"setWeight": 50}],
}  # fmt: skip
_SPECS = {}
MIN_PAIRS, FAILURES, ERRORS, DELAY, DEADLINE = 500, 1, 2, 300, 900


def manifest(version="1", strategy="default", image="a", suspend=False, on_deletion=True):
    spec = {
        "modelRef": {"name": "flight_delay", "version": version},
        "template": {
            "inferenceService": {"predictor": {"model": {"image": image}}},
            "servingRuntime": {"containers": [{"name": "kserve-container"}]},
        },
        "service": {"gatewayRefs": [{"name": "ml"}]},
        "analysis": {
            "interval": "30s", "failureLimit": FAILURES, "consecutiveErrorLimit": ERRORS,
            "inconclusiveLimit": 1, "minPairs": MIN_PAIRS,
        },
        "progressDeadlineSeconds": DEADLINE,
        "rollback": {
            "onDeletion": on_deletion, "scaleDownDelaySeconds": DELAY, "window": {"revisions": 2}
        },
        "suspend": suspend,
    }  # fmt: skip
    if STRATEGIES[strategy] is not None:
        spec["strategy"] = {"steps": copy.deepcopy(STRATEGIES[strategy])}
    return spec


class World:
    def __init__(self, **changes):
        self.manifest = manifest(**changes)
        self.generation = 1
        self.now = datetime(2026, 11, 1, tzinfo=UTC)
        self.status = {}
        self.versions = {}
        self.made = 0
        self.once_ready = {}
        """By version, the pods with which a stored status saw it ready."""
        self.route = None
        self.alias = None
        self.known = True
        self.gateway = True
        self.mirrors = None
        self.mirror_message = ""
        self.copied_share = None
        self.pending = None
        self.results = []
        self.approval = self.retry = self.abort = None
        self.paused = False
        self.deleting = self.gone = False
        self.asked = []
        # The account that promises are checked against.
        self.champions = []
        self.replaced = {}
        self.served = set()
        self.passed_shadow = False
        self.trial = None
        self.digest = None
        self.approved_ever = set()
        self.aborted = None

    # ---- what happens by itself

    def change_spec(self, **fields):
        before = copy.deepcopy(self.manifest)
        for path, value in fields.items():
            here = self.manifest
            *parents, last = path.split("__")
            for name in parents:
                here = here[name]
            here[last] = value
        self.generation += before != self.manifest

    def set_replicas(self, version, state):
        if version in self.versions:
            self.versions[version] |= {
                "ready": state == "ready", "steady": state in ("ready", "scaling"),
                "available": state != "down", "reason": state,
            }  # fmt: skip

    def replace_pods(self, version):
        """As an annotation on the InferenceService does: one after the other."""
        if version in self.versions:
            self.made += 1
            self.versions[version] |= {"pods": f"pods-{self.made}"}
            self.set_replicas(version, "available")

    def gateway_sees(self, accepts=True):
        if self.route is not None:
            if accepts:
                self.served = {*self.weights(), *self.copied()}
            self.route |= {
                "accepted": accepts, "resolvedRefs": True,
                "observedGeneration": self.route["generation"],
            }  # fmt: skip

    def ask_to_abort(self):
        """The attempt under way, by the name that the status gives it."""
        if run := self.status.get("run"):
            self.abort = f"{run['version']}.{run['attempt']}"
            self.aborted = run["version"]

    def ask_to_retry(self, text):
        if text != self.retry:
            self.retry, self.aborted = text, None

    def finish_analysis(self, outcome="Passed", pairs=1000):
        request, self.pending = self.pending, None
        if request is not None:
            self.results.append(
                {
                    "run": request.run, "since": request.since.isoformat(), "outcome": outcome,
                    "until": request.until.isoformat(), "pairs": pairs, "message": outcome.lower(),
                    "mode": request.mode,
                }
            )  # fmt: skip
            if self.copied_share is not None and request.mode == "shadow":
                copies, requests = self.copied_share
                self.results[-1] |= {"requests": requests, "copies": copies}

    def edit_route(self, edit):
        """Somebody else's hand on the route."""
        if self.route is None:
            return
        if edit == "deleted":
            self.route = None
            return
        plan = self.route["plan"]
        if edit == "scrambled":
            plan = None
        elif plan is not None:
            plan = plan | {"entrance": plan["entrance"] | {"timeout": "9s"}}
        self.route |= {"plan": plan, "generation": self.route["generation"] + 1}

    # ---- what the machine sees

    def observe(self):
        shown = {
            "generation": self.generation,
            "versions": {
                version: {"exists": True} | seen for version, seen in self.versions.items()
            },
            "route": {"exists": True} | self.route if self.route else {},
            "registry": {"versionExists": self.known, "champion": self.alias},
            "gateway": {
                "exists": self.gateway,
                "mirrors": self.mirrors,
                "message": self.mirror_message,
            },
            "analyses": [{k: v for k, v in each.items() if k != "mode"} for each in self.results],
            "approval": self.approval,
            "abort": self.abort,
            "paused": self.paused,
            "retry": self.retry,
            "deleting": self.deleting,
        }
        return from_json(Observations, json.loads(json.dumps(shown)))

    # ---- the driver

    @property
    def spec(self):
        text = json.dumps(self.manifest)
        if text not in _SPECS:
            _SPECS[text] = parse_spec(self.manifest)
        return _SPECS[text]

    def turn(self, done=99, stored=True):
        """One call, of whose actions the first `done` happen, and whose status may be lost."""
        if self.gone:
            return ()
        spec = self.spec
        seen, status = self.observe(), from_json(RolloutStatus, self.status)
        after, actions = step(spec, status, seen, self.now)
        assert (after, actions) == step(spec, status, seen, self.now)
        text = json.dumps(to_json(after))
        assert from_json(RolloutStatus, json.loads(text)) == after, "the status lost something"
        self._enter_turn(spec)
        self._check_order(spec, actions)
        whole = done >= len(actions)
        for action in actions[:done]:
            self._do(spec, action)
        if stored:
            self.status = json.loads(text)
            self._note_pods(seen)
        if whole and stored:
            self._check_users(spec)
        return actions

    def settle(self, limit=400, *, outcome="Passed", pairs=1000, ready=True):
        """A world that does what it is asked, until nothing but time passes; then time does."""
        for _ in range(limit):
            self.turn()
            if self.gone or self.status["phase"] in ("Succeeded", "RolledBack"):
                return self.status["phase"]
            self.obey(outcome, pairs, ready)
        return self.status["phase"]

    def obey(self, outcome="Passed", pairs=1000, ready=True):
        for version in self.versions:
            if ready or version == self.alias:
                self.set_replicas(version, "ready")
        self.gateway_sees()
        self.finish_analysis(outcome, pairs)
        self.now += timedelta(seconds=30)

    # ---- the account

    @property
    def champion(self):
        return self.champions[-1] if self.champions else None

    @property
    def live(self):
        route = self.route
        return bool(
            route and route.get("accepted") and route.get("resolvedRefs")
            and route.get("observedGeneration") == route["generation"]
        )  # fmt: skip

    def weights(self, plan=None):
        plan = plan if plan is not None else (self.route or {}).get("plan")
        return {each["version"]: each["weight"] for each in plan["backends"]} if plan else {}

    def copied(self, plan=None):
        plan = plan if plan is not None else (self.route or {}).get("plan")
        mirror = (plan or {}).get("mirror")
        return {mirror["version"]: mirror["percent"]} if mirror else {}

    def is_(self, version, quality):
        return bool(self.versions.get(version, {}).get(quality))

    def fit(self, version):
        """All of its pods answer, or all that it had when more or fewer were asked for."""
        found = self.versions.get(version, {})
        known = self.once_ready.get(version) == found.get("pods")
        return bool(found) and (found["ready"] or (found["steady"] and known))

    def _note_pods(self, seen):
        for version in {*seen.versions, *self.once_ready}:
            found = seen.versions.get(version)
            if found is not None and found.ready:
                self.once_ready[version] = found.pods
            elif found is None or self.once_ready.get(version) != found.pods:
                self.once_ready.pop(version, None)

    def _mine(self):
        return [each for each in self.results if each["run"] == self.trial]

    def judged_bad(self):
        """By what was handed in of the attempt that was last judged."""
        failed = errors = 0
        for each in self._mine():
            failed += each["outcome"] == "Failed"
            errors = errors + 1 if each["outcome"] == "Error" else 0
            if failed > FAILURES or errors > ERRORS:
                return True
        return False

    def _enter_turn(self, spec):
        others = {*self.weights(), *self.copied()} - {self.champion}
        if self.digest != spec.run_digest or (self.judged_bad() and not others and self.live):
            self.trial, self.passed_shadow = None, False
        if self.digest != spec.run_digest:
            self.aborted = None
        self.digest = spec.run_digest
        if self.approval:
            self.approved_ever.add(self.approval.partition(".")[0])
        for each in self._mine():
            enough = each["outcome"] == "Passed" and each["pairs"] >= MIN_PAIRS
            self.passed_shadow |= each["mode"] == "shadow" and enough

    def _check_order(self, spec, actions):
        acts = [each for each in actions if not isinstance(each, EmitEvent)]
        route_known = self.route is not None and self.route["plan"] is not None
        others = ({*self.weights(), *self.copied()} - {self.champion}) if route_known else set()
        if self.deleting or self.champion is None or not others:
            return
        (other,) = others
        unfit = not self.fit(other) and (
            self.is_(self.champion, "available") or not self.is_(other, "available")
        )
        if self.judged_bad() and self.trial.split(".")[0] == other and other != self.alias:
            unfit = True
        if unfit and self.alias != other:
            assert actions, f"nothing is done about {other}"
            assert isinstance(actions[0], ApplyRoute), f"first of all it is {actions[0]}"
            assert len(acts) == 1, f"more than the route at a time: {acts}"
            plan = to_json(actions[0].plan)
            assert not self.weights(plan).get(other), f"{other} keeps its weight"
            assert not self.copied(plan), f"{other} keeps its mirror"

    def _do(self, spec, action):
        self.asked.append(action)
        if (spec.suspend or self.paused) and not self.deleting:
            assert isinstance(action, ApplyRoute | Analyse | EmitEvent), "suspended"
        getattr(self, "_do_" + type(action).__name__)(spec, action)

    def _do_EmitEvent(self, spec, action):
        assert action.reason.isalpha()
        assert action.message

    def _do_EnsureVersion(self, spec, action):
        assert action.version == spec.model_ref.version, "no template is known of others"
        found = self.versions.get(action.version)
        assert found is None or found["template"] != spec.template_digest, "done already"
        assert action.template == spec.template_digest
        self.made += 1
        self.versions[action.version] = {
            "ready": False, "steady": False, "available": bool(found and found["available"]),
            "reason": "starting", "template": action.template, "pods": f"pods-{self.made}",
        }  # fmt: skip

    def _do_ApplyRoute(self, spec, action):
        plan = to_json(action.plan)
        before = self.route["plan"] if self.route else None
        assert plan != before, "done already"
        weights, copies, had = self.weights(plan), self.copied(plan), self.weights(before or {})
        assert sum(weights.values()) == 100
        champion = self.champion
        for version, percent in copies.items():
            assert not weights.get(version), "mirrored to, and answering"
            assert percent
        for version, weight in weights.items():
            if version == champion:
                continue
            if weight > (had.get(version, 0) if before else 0):
                self._check_raise(spec, version, weight)
        if (spec.suspend or self.paused) and not self.deleting:
            assert weights == {champion: 100}, "suspended"
            assert not copies, "suspended"
        for loser, old in had.items():
            if weights.get(loser, 0) < old and self.is_(loser, "available"):
                gainers = [each for each in weights if weights[each] > had.get(each, 0)]
                bad = loser != champion and self.judged_bad()
                deadline = loser != champion and self.overdue_once
                # Whoever was aborted in time is taken off, even if the stable version breaks then.
                aborted = loser == self.aborted
                assert (
                    bad
                    or deadline
                    or aborted
                    or all(self.is_(each, "available") for each in gainers)
                ), "users are sent from what answers to what does not"
        generation = self.route["generation"] + 1 if self.route else 1
        self.route = (self.route or {}) | {"plan": plan, "generation": generation}

    overdue_once = False

    def _check_raise(self, spec, version, weight):
        assert self.fit(version), f"weight {weight} for what is not ready"
        if self.champion is not None:
            assert self.live, "weight on a route that no gateway has accepted"
            assert not self.judged_bad(), "weight for what was judged bad"
            available = self.is_(self.champion, "available")
            stays = version != self.aborted or weight == 100 or not available
            assert stays, "weight for what was aborted"
            if not self.is_(self.champion, "available"):
                return
        assert version == spec.model_ref.version, "nobody wants that version"
        template = self.versions[version]["template"]
        assert template == spec.template_digest, "not what the template says"
        if self.champion is None:
            return
        if version in self.champions[-1 - 2 : -1]:
            return
        steps = spec.strategy.steps
        assert weight == 100 or weight in [each.set_weight for each in steps], "no such step"
        if any(each.set_mirror is not None for each in steps):
            assert self.passed_shadow, "the shadow was skipped"
        if any(each.pause is not None and each.pause.duration is None for each in steps):
            assert version in self.approved_ever, "nobody approved"

    def _do_Analyse(self, spec, action):
        assert action.until <= self.now
        assert action.since < action.until
        done = [(each["run"], each["until"]) for each in self.results]
        assert (action.run, action.until.isoformat()) not in done, "done already"
        weights, copies = self.weights(), self.copied()
        assert self.live
        assert action.champion == self.champion
        if action.mode == "shadow":
            assert copies.get(action.challenger)
        else:
            assert 0 < weights.get(action.challenger, 0) < 100
            assert not {each["type"] for each in action.metrics} & {
                "Disagreement",
                "ScoreDifference",
            }
        assert action.metrics
        if self.trial != action.run:
            self.trial, self.passed_shadow = action.run, False
        self.pending = action

    def _do_MoveAlias(self, spec, action):
        assert self.live, "the alias before the route is accepted"
        assert self.weights() == {action.version: 100}, "the alias before all requests"
        assert action.expected == self.alias, "not what was read"
        assert action.version != self.alias, "done already"
        self.crown(action.version)

    def crown(self, version):
        if self.champion is not None:
            self.replaced[self.champion] = self.now
        self.alias = version
        self.champions.append(version)

    def _do_RemoveVersion(self, spec, action):
        version = action.version
        assert version in self.versions, "done already"
        assert version != self.champion, "the stable version is removed"
        assert version not in self.weights(), "it answers users"
        assert version not in self.copied(), "it is mirrored to"
        assert version not in self.served, "a gateway sends it requests"
        if version in self.replaced:
            assert self.replaced[version] + timedelta(seconds=DELAY) <= self.now, "too early"
        del self.versions[version]

    def _do_Release(self, spec, action):
        assert self.deleting
        others = {*self.weights(), *self.copied()} - {self.champion}
        if spec.rollback.on_deletion and others and self.champion is not None:
            (other,) = others
            assert not self.is_(self.champion, "available"), "the challenger stays behind"
            assert self.is_(other, "available")
        self.gone = True

    def _check_users(self, spec):
        """After a whole turn: who can answer, answers."""
        other, champion = spec.model_ref.version, self.champion
        if (
            spec.suspend
            or self.paused
            or self.deleting
            or champion in (None, other)
            or not self.live
        ):
            return
        if not self.gateway:
            # Nothing is changed before it is back.
            return
        if self.is_(champion, "available") or self.judged_bad():
            return
        run = self.status.get("run", {})
        fit = self.fit(other) and run.get("version") == other and not run.get("failure")
        if fit and self.versions[other]["template"] == spec.template_digest:
            assert self.weights().get(other) == 100, "a ready version could answer"
