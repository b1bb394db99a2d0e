"""The rollout's promises, whatever happens to the world and to whoever drives the machine."""

import runpy
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

_WORLD = runpy.run_path(str(Path(__file__).with_name("rollout_world.py")))
World, STRATEGIES, DEADLINE, DELAY = (
    _WORLD[name] for name in ("World", "STRATEGIES", "DEADLINE", "DELAY")
)
VERSIONS = st.sampled_from(["1", "2", "3", "4"])
ATTEMPTS = st.sampled_from(["2.2", "2.3", "3.3", "3.4"])
OUTCOMES = ["Passed", "Passed", "Passed", "Failed", "Inconclusive", "Error"]


def started(strategy="default", **changes):
    """Version 1 was promoted, version 2 is named."""
    world = World(version="1", strategy=strategy, **changes)
    assert world.settle() == "Succeeded"
    world.change_spec(modelRef__version="2")
    return world


class AnyWorld(RuleBasedStateMachine):
    """Rules happen in any order; the promises are in `World`."""

    @initialize(strategy=st.sampled_from(sorted(STRATEGIES)), grown=st.booleans())
    def begin(self, strategy, grown):
        self.world = started(strategy) if grown else World(strategy=strategy)
        if grown:
            for _ in range(4):
                self.world.turn()
                self.world.obey()

    @rule(
        done=st.sampled_from([99, 99, 99, 0, 1, 2]),
        stored=st.sampled_from([True, True, True, False]),
    )
    def a_turn(self, done, stored):
        self.world.turn(done, stored)

    @rule(turns=st.integers(1, 12), pairs=st.sampled_from([1000, 1000, 10]))
    def all_is_well_for_a_while(self, turns, pairs):
        for _ in range(turns):
            self.world.turn()
            self.world.obey(pairs=pairs)

    @rule(seconds=st.sampled_from([1, 30, 31, 120, 301, 900, 5000]))
    def time_passes(self, seconds):
        self.world.now += timedelta(seconds=seconds)
        self.world.overdue_once |= seconds >= DEADLINE

    @rule(
        version=VERSIONS,
        state=st.sampled_from(["ready", "ready", "scaling", "scaling", "available", "down"]),
    )
    def replicas_change(self, version, state):
        self.world.set_replicas(version, state)

    @rule(version=VERSIONS)
    def pods_are_replaced(self, version):
        self.world.replace_pods(version)

    @rule(state=st.sampled_from(["available", "down", "down"]))
    def the_stable_version_breaks(self, state):
        self.world.set_replicas(self.world.champion, state)

    @rule(accepts=st.sampled_from([True, True, False]))
    def the_gateway_looks(self, accepts):
        self.world.gateway_sees(accepts)

    @rule(outcome=st.sampled_from(OUTCOMES), pairs=st.sampled_from([0, 499, 500, 9000]))
    def an_analysis_ends(self, outcome, pairs):
        self.world.finish_analysis(outcome, pairs)

    @rule(version=VERSIONS)
    def another_version_is_named(self, version):
        self.world.change_spec(modelRef__version=version)

    @rule(image=st.sampled_from(["a", "b"]))
    def the_template_changes(self, image):
        self.world.change_spec(template__inferenceService={"predictor": {"image": image}})

    @rule(on=st.booleans())
    def suspension(self, on):
        self.world.change_spec(suspend=on)

    @rule(name=st.none() | VERSIONS | ATTEMPTS)
    def approval(self, name):
        self.world.approval = name

    @rule(on=st.booleans())
    def a_pause_by_hand(self, on):
        self.world.paused = on

    @rule()
    def an_abort_is_asked_for(self):
        self.world.ask_to_abort()

    @rule(text=st.sampled_from(["a", "b"]))
    def a_retry_is_asked_for(self, text):
        self.world.ask_to_retry(text)

    @rule(known=st.sampled_from([True, True, False, None]))
    def the_registry(self, known):
        self.world.known = known

    @rule(
        exists=st.sampled_from([True, True, False, None]),
        mirrors=st.sampled_from([True, None, False]),
    )
    def the_gateway(self, exists, mirrors):
        self.world.gateway, self.world.mirrors = exists, mirrors

    @rule(edit=st.sampled_from(["deleted", "scrambled", "entrance"]))
    def another_hand_on_the_route(self, edit):
        self.world.edit_route(edit)

    @rule(version=VERSIONS)
    def another_hand_on_a_version(self, version):
        self.world.versions.pop(version, None)

    @precondition(lambda self: not self.world.deleting)
    @rule(sure=st.integers(0, 9))
    def deletion(self, sure):
        self.world.deleting = sure == 0


TestAnyWorld = AnyWorld.TestCase
TestAnyWorld.settings = settings(
    max_examples=400, stateful_step_count=40, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    strategy=st.sampled_from(sorted(STRATEGIES)),
    losses=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30),
)
def test_in_a_world_that_obeys_every_rollout_succeeds(strategy, losses):
    world = started(strategy)
    world.approval = "2"
    for done, stored in losses:
        world.turn(done, stored)
        world.obey()
    assert world.settle() == "Succeeded"
    assert world.weights() == {"2": 100}
    assert world.alias == "2"
    assert set(world.versions) == {"1", "2"}
    for _ in range(DELAY // 30 + 2):
        world.turn()
        world.obey()
    assert set(world.versions) == {"2"}


@settings(max_examples=60, deadline=None)
@given(
    strategy=st.sampled_from(["default", "canary", "approval", "two mirrors"]),
    losses=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30),
    outcome=st.sampled_from(["Failed", "Error"]),
)
def test_a_challenger_that_keeps_failing_is_always_taken_off(strategy, losses, outcome):
    world = started(strategy)
    world.approval = "2"
    for done, stored in losses:
        world.turn(done, stored)
        world.obey(outcome)
    assert world.settle(outcome=outcome) == "RolledBack"
    assert world.weights() == {"1": 100}
    assert not world.copied()
    assert world.alias == "1"
    for _ in range(20):
        world.turn()
        world.obey()
    assert world.status["phase"] == "RolledBack"
    assert set(world.versions) == {"1"}


@settings(max_examples=60, deadline=None)
@given(
    strategy=st.sampled_from(sorted(STRATEGIES)),
    before=st.integers(0, 30),
    losses=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30),
    paused=st.booleans(),
)
def test_an_attempt_that_is_aborted_is_taken_off_or_was_past_its_last_step(
    strategy, before, losses, paused
):
    world = started(strategy)
    for _ in range(before):
        world.turn()
        world.obey()
    run = world.status.get("run")
    late = run is None or run["promoting"]
    world.ask_to_abort()
    world.approval, world.paused = "2", paused and not late
    for done, stored in losses:
        world.turn(done, stored)
        world.obey()
    if late:
        assert world.settle() == "Succeeded"
        assert world.alias == "2" or run is None
        return
    assert world.settle() == "RolledBack"
    assert world.status["rejected"]["reason"] == "Aborted"
    assert world.weights() == {"1": 100}
    assert world.alias == "1"
    world.paused, world.approval = False, None
    world.turn()
    world.ask_to_retry("once more")
    world.turn()
    world.approval = "2"
    assert world.settle() == "Succeeded", "the annotation, which is still there, aborts no other"
    assert world.alias == "2"
