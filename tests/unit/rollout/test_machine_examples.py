"""What a rollout does in the situations that people ask about, one at a time."""

import json
import runpy
from datetime import timedelta
from pathlib import Path

import pytest

from zeroskew.rollout.machine import refuse
from zeroskew.rollout.rollout_state import RolloutStatus, from_json, to_json

_WORLD = runpy.run_path(str(Path(__file__).with_name("rollout_world.py")))
World, DEADLINE = _WORLD["World"], _WORLD["DEADLINE"]


def started(strategy="default", **changes):
    """Version 1 was promoted and its route is accepted; version 2 is named."""
    world = World(version="1", strategy=strategy, **changes)
    assert world.settle() == "Succeeded"
    for _ in range(3):
        world.turn()
        world.obey()
    world.change_spec(modelRef__version="2")
    return world


def until(world, condition, turns=200, **obey):
    for _ in range(turns):
        world.turn()
        if condition(world):
            return world
        world.obey(**obey)
    raise AssertionError(world.status)


def answered(version, weight):
    return lambda world: world.live and world.weights().get(version) == weight


def condition(world, kind):
    (found,) = (each for each in world.status["conditions"] if each["type"] == kind)
    return found["status"], found["reason"]


def events(world):
    return [each.reason for each in world.asked if type(each).__name__ == "EmitEvent"]


def test_the_default_is_shadow_then_5_25_50_100():
    world, seen = started(), []
    while world.status["phase"] != "Succeeded" or world.alias != "2":
        world.turn()
        step = (world.weights().get("2", 0), world.copied().get("2", 0))
        if not seen or seen[-1] != step:
            seen.append(step)
        world.obey()
    assert seen == [(0, 0), (0, 100), (0, 0), (5, 0), (25, 0), (50, 0), (100, 0)]
    assert world.status["history"][0]["version"] == "2"
    assert condition(world, "Promoted") == ("True", "Succeeded")
    assert {"RolloutStarted", "ChallengerReady", "StepDone", "Promoted"} <= set(events(world))


def test_a_first_version_gets_all_requests_once_it_is_ready():
    world = World()
    world.turn()
    world.turn()
    assert world.route is None
    world.set_replicas("1", "ready")
    world.turn()
    assert world.weights() == {"1": 100}
    assert world.alias is None
    world.gateway_sees()
    world.turn()
    assert world.alias == "1"


def test_a_first_version_that_is_late_is_reported_and_still_welcome():
    world = World()
    world.turn()
    world.turn()
    world.now += timedelta(seconds=DEADLINE + 1)
    world.turn()
    assert world.status["phase"] == "Failed"
    assert world.settle() == "Succeeded"


@pytest.mark.parametrize("state", ["down", "available"])
def test_a_challenger_that_never_gets_ready_is_given_up_after_the_deadline(state):
    world = started()
    for _ in range(5):
        world.turn()
        world.obey(ready=False)
        world.set_replicas("2", state)
    world.now += timedelta(seconds=DEADLINE)
    world.turn()
    world.turn()
    assert world.status["phase"] == "RolledBack"
    assert world.status["rejected"]["reason"] == "ProgressDeadlineExceeded"
    assert state in world.status["message"]
    assert "2" not in {*world.weights(), *world.copied()}


def test_a_canary_stays_on_while_its_version_scales():
    world = until(started("canary"), answered("2", 10))
    since = world.status["run"]["trafficSince"]
    for _ in range(5):
        world.set_replicas("2", "scaling")
        world.turn()
        assert world.weights().get("2") == 10
        assert condition(world, "ChallengerReady") == ("True", "Ready")
        world.now += timedelta(seconds=2)
    assert world.status["run"]["trafficSince"] == since
    assert "number of its pods changes" in json.dumps(world.status["conditions"])
    assert world.settle() == "Succeeded"


def test_a_version_whose_pods_are_others_by_now_is_ready_only_once_they_are():
    world = until(started("canary"), answered("2", 10))
    world.replace_pods("2")
    world.set_replicas("2", "scaling")
    world.turn()
    assert world.weights() == {"1": 100}
    world.turn()
    assert [each["version"] for each in world.status["readyPods"]] == ["1"]


def test_a_version_that_was_never_ready_is_not_for_having_the_fewest_pods():
    world = started("canary")
    for _ in range(5):
        world.turn()
        world.obey(ready=False)
        world.set_replicas("2", "scaling")
    assert "2" not in world.weights()
    assert condition(world, "ChallengerReady") == ("False", "NotReady")


def test_a_route_that_is_not_accepted_is_given_up_after_the_deadline():
    world = until(started("canary"), answered("2", 10))
    until(world, lambda world: world.weights().get("2") == 60)
    world.gateway_sees(accepts=False)
    world.turn()
    world.now += timedelta(seconds=DEADLINE)
    world.turn()
    assert world.weights() == {"1": 100}


@pytest.mark.parametrize("pairs", [10, 1000])
def test_waiting_for_samples_has_no_deadline_and_promotes_nothing(pairs):
    world = started()
    for _ in range(200):
        world.turn()
        world.obey("Inconclusive", pairs=pairs)
    assert world.status["phase"] == "Waiting"
    assert condition(world, "Progressing") == ("False", "Inconclusive")
    assert world.weights() == {"1": 100}
    assert world.copied() == {"2": 100}
    assert world.settle() == "Succeeded"


def test_a_pass_without_pairs_ends_no_shadow():
    world = started()
    for _ in range(100):
        world.turn()
        world.obey("Passed", pairs=499)
    assert world.copied() == {"2": 100}
    assert "499 of 500" in world.status["message"]


def test_a_rejected_version_stays_away_until_somebody_asks_for_it():
    world = started()
    assert world.settle(outcome="Failed") == "RolledBack"
    attempts = world.status["attempts"]
    for _ in range(30):
        world.turn()
        world.obey()
    world.change_spec(suspend=True)
    world.turn()
    world.change_spec(suspend=False)
    world.turn()
    assert world.status["attempts"] == attempts
    world.retry = "please"
    until(world, lambda world: world.status["attempts"] == attempts + 1)
    assert world.settle(outcome="Failed") == "RolledBack"
    for _ in range(5):
        world.turn()
    assert world.status["attempts"] == attempts + 1


def test_a_retry_is_a_new_attempt_and_needs_a_new_approval():
    world = started("approval")
    world.approval = "2"
    assert world.settle(outcome="Failed") == "RolledBack"
    world.retry = "please"
    until(world, lambda world: world.status["phase"] == "WaitingApproval")
    for _ in range(10):
        world.turn()
        world.obey()
    assert world.status["phase"] == "WaitingApproval"
    world.approval = None
    world.turn()
    world.approval = "2"
    assert world.settle() == "Succeeded"


def test_a_version_of_the_rollback_window_comes_back_without_steps():
    world = started()
    assert world.settle() == "Succeeded"
    world.change_spec(modelRef__version="1")
    weights = []
    while world.alias != "1":
        world.turn()
        weights.append(world.weights().get("1", 0))
        world.obey()
    assert set(weights) == {0, 100}
    assert not any(world.copied() for _ in weights)


def test_naming_the_stable_version_again_ends_the_attempt():
    world = until(started("canary"), answered("2", 60))
    world.change_spec(modelRef__version="1")
    world.turn()
    assert world.weights() == {"1": 100}
    world.gateway_sees()
    world.turn()
    assert world.status["phase"] == "Succeeded"
    assert world.alias == "1"


def test_a_new_version_in_mid_run_starts_at_step_0():
    world = until(started(), answered("2", 25))
    world.change_spec(modelRef__version="3")
    world.turn()
    assert world.weights() == {"1": 100}
    until(world, lambda world: world.copied() == {"3": 100})
    assert world.settle() == "Succeeded"
    assert world.alias == "3"


def test_suspension_keeps_weights_but_not_a_challenger_that_fails():
    world = until(started("canary"), answered("2", 10))
    world.change_spec(suspend=True)
    for _ in range(50):
        world.turn()
        world.obey()
    assert world.weights() == {"1": 90, "2": 10}
    for _ in range(10):
        world.turn()
        world.obey("Failed")
    assert world.weights() == {"1": 100}


def test_time_under_suspension_does_not_count():
    world = until(started("canary"), answered("2", 60))
    until(world, lambda world: world.status["phase"] == "Paused")
    world.change_spec(suspend=True)
    world.turn()
    world.now += timedelta(hours=2)
    world.turn()
    world.change_spec(suspend=False)
    world.turn()
    assert world.status["phase"] == "Paused"
    assert world.weights() == {"1": 40, "2": 60}


def test_a_challenger_that_loses_a_replica_waits_at_weight_0_and_goes_on():
    world = until(started("canary"), answered("2", 60))
    world.set_replicas("2", "available")
    world.turn()
    assert world.weights() == {"1": 100}
    world.gateway_sees()
    world.set_replicas("2", "ready")
    world.turn()
    assert world.weights() == {"1": 40, "2": 60}


def test_a_challenger_answers_for_a_stable_version_that_is_down():
    world = until(started(), lambda world: world.copied() == {"2": 100})
    world.gateway_sees()
    world.set_replicas("1", "down")
    world.turn()
    assert world.weights() == {"2": 100}
    assert world.alias == "1"
    world.gateway_sees()
    world.set_replicas("2", "available")
    world.turn()
    assert world.weights() == {"2": 100}, "half a version is better than none"
    world.change_spec(modelRef__version="3")
    world.turn()
    assert world.weights() == {"2": 100}, "nor is it left for one that does not exist"
    world.set_replicas("1", "ready")
    world.turn()
    world.turn()
    assert world.weights() == {"1": 100}


def test_a_stable_version_that_was_deleted_is_succeeded_on_approval():
    world = until(started(), lambda world: world.copied() == {"2": 100})
    world.gateway_sees()
    del world.versions["1"]
    for _ in range(20):
        world.turn()
        world.obey()
    assert world.weights() == {"2": 100}
    assert world.alias == "1"
    world.approval = "2"
    assert world.settle() == "Succeeded"
    assert world.alias == "2"


def test_a_gateway_known_not_to_mirror_as_asked_refuses_the_attempt():
    world = started()
    world.mirrors, world.mirror_message = False, "GatewayClass contour is of Contour"
    before = len(world.asked)
    for _ in range(20):
        world.turn()
        world.obey()
    world.now += timedelta(seconds=2 * DEADLINE)
    world.turn()
    assert world.asked[before:] == [], "nothing is begun that could not be ended"
    assert world.status["phase"] == "Pending"
    assert condition(world, "MirrorSupported") == ("False", "Unsupported")
    assert condition(world, "Accepted") == ("False", "MirrorUnsupported")
    assert condition(world, "Progressing") == ("False", "MirrorUnsupported")
    assert "cannot mirror" in world.status["message"]
    assert "of Contour" in world.status["message"]
    world.mirrors = True
    assert world.settle() == "Succeeded"
    assert condition(world, "Accepted") == ("True", "Valid")
    assert condition(world, "MirrorSupported") == ("True", "Supported")


@pytest.mark.parametrize("strategy", ["canary", "blind"])
def test_steps_without_a_mirror_need_none_of_the_gateway(strategy):
    world = started(strategy)
    world.mirrors = False
    assert world.settle() == "Succeeded"
    assert "MirrorNotReported" not in events(world)


def test_a_first_version_and_one_that_comes_back_need_no_mirror():
    world = World(version="1")
    world.mirrors = False
    assert world.settle() == "Succeeded"
    world.mirrors = True
    world.change_spec(modelRef__version="2")
    assert world.settle() == "Succeeded"
    world.mirrors = False
    world.change_spec(modelRef__version="1")
    assert world.settle() == "Succeeded"
    assert world.alias == "1"


@pytest.mark.parametrize("lost", [True, False])
def test_a_refused_version_leaves_no_other_challenger_on_the_route(lost):
    world = until(started(), answered("2", 25))
    world.mirrors = False
    world.change_spec(modelRef__version="3")
    world.turn(done=0 if lost else 99)
    for _ in range(5):
        world.turn()
        world.obey()
    assert world.weights() == {"1": 100}
    assert world.status["phase"] == "Pending"
    assert lost or "RolloutAborted" in events(world)


def test_a_gateway_that_loses_its_mirror_in_mid_run_is_given_up_after_the_deadline():
    world = started("two mirrors")
    for _ in range(2):
        world.turn()
        world.set_replicas("2", "ready")
    world.mirrors = False
    for _ in range(5):
        world.turn()
        world.obey()
    assert condition(world, "MirrorSupported") == ("False", "Unsupported")
    assert "cannot mirror" in world.status["message"]
    assert not world.copied()
    world.now += timedelta(seconds=DEADLINE)
    assert world.settle() == "RolledBack"


def test_a_gateway_nobody_knows_is_warned_of_once_in_an_attempt():
    world = until(started(), lambda world: world.copied() == {"2": 100})
    assert condition(world, "MirrorSupported") == ("Unknown", "NotReported")
    assert world.settle() == "Succeeded"
    assert events(world).count("MirrorNotReported") == 1


def test_pairs_of_answers_show_what_a_gateway_does():
    world = started("two mirrors")
    world.copied_share = (1000, 1000)
    until(world, lambda world: world.copied() == {"2": 20}, pairs=10)
    for _ in range(10):
        world.turn()
        world.obey(pairs=10)
    assert condition(world, "MirrorSupported") == ("False", "ShareDiffers")
    (told,) = (each for each in world.status["conditions"] if each["type"] == "MirrorSupported")
    assert "20 % of the requests were to be copied, and 100 % of 1,000 were" in told["message"]
    assert events(world).count("MirrorShareDiffers") == 1
    world.copied_share = (210, 1000)
    for _ in range(3):
        world.turn()
        world.obey(pairs=10)
    assert condition(world, "MirrorSupported") == ("True", "Observed")
    assert world.settle() == "Succeeded"


def test_an_analysis_of_a_part_mirror_knows_the_percent():
    world = until(started("two mirrors"), lambda world: world.copied() == {"2": 20})
    for _ in range(4):
        world.turn()
        world.gateway_sees()
        world.now += timedelta(seconds=30)
    asked = [each for each in world.asked if type(each).__name__ == "Analyse"]
    assert {each.mirror_percent for each in asked} == {20}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("known", False, "VersionUnknown"),
        ("known", None, "VersionUnknown"),
        ("gateway", False, "GatewayUnknown"),
        ("gateway", None, "GatewayUnknown"),
    ],
)
def test_what_is_not_known_is_waited_for_and_nothing_is_changed(field, value, reason):
    world = started()
    setattr(world, field, value)
    before = len(world.asked)
    for _ in range(20):
        world.turn()
        world.obey()
    assert world.asked[before:] == []
    assert world.status["phase"] == "Pending"
    assert condition(world, "Progressing") == ("False", reason)
    world.known = world.gateway = True
    assert world.settle() == "Succeeded"


@pytest.mark.parametrize("on_deletion", [True, False])
def test_deletion_takes_the_challenger_off_or_leaves_all_as_it_is(on_deletion):
    world = until(started("canary", on_deletion=on_deletion), answered("2", 60))
    world.deleting = True
    world.turn()
    world.turn()
    assert world.gone
    assert world.weights() == ({"1": 100} if on_deletion else {"1": 40, "2": 60})


def test_a_silent_registry_delays_the_alias_only():
    world = until(started("canary"), answered("2", 60))
    world.known = None
    for _ in range(20):
        world.turn()
        world.obey()
    assert world.weights() == {"2": 100}
    assert world.alias == "1"
    assert world.status["phase"] == "Promoting"
    world.known = True
    assert world.settle() == "Succeeded"


def test_a_rollout_that_forgot_everything_adopts_what_serves():
    world = started()
    world.status = {}
    world.turn()
    assert world.status["stable"] == "1"
    assert world.settle() == "Succeeded"
    assert world.copied() == {}
    assert world.alias == "2"


def test_another_hand_on_the_route_is_undone():
    world = started()
    assert world.settle() == "Succeeded"
    for edit in ("scrambled", "deleted", "entrance"):
        until(world, lambda world: not world.turn())
        plan = world.route["plan"]
        world.edit_route(edit)
        world.turn()
        assert world.route["plan"] == plan


def test_a_version_is_kept_until_no_gateway_sends_it_anything():
    world = until(started("canary"), answered("2", 60))
    world.change_spec(modelRef__version="3")
    world.turn()
    assert world.weights() == {"1": 100}
    world.now += timedelta(seconds=_WORLD["DELAY"] + 1)
    world.turn()
    world.turn()
    assert "2" in world.versions
    world.gateway_sees()
    world.turn()
    assert "2" not in world.versions


def test_a_challenger_that_is_not_ready_answers_for_nobody():
    world = started()
    world.turn()
    world.set_replicas("1", "down")
    world.turn()
    assert world.weights() == {"1": 100}
    assert world.status["phase"] == "Initializing"
    assert "StableUnavailable" not in events(world)


def test_a_refused_spec_changes_nothing_but_what_is_said():
    world = until(started("canary"), answered("2", 60))
    before = from_json(RolloutStatus, world.status)
    refused = refuse(before, "`spec.suspend`: wrong\nmore", 9, world.now)
    assert to_json(refused)["run"] == world.status["run"]
    assert refused.stable == "1"
    said = {each.type: each for each in refused.conditions}
    assert said["Accepted"].status == "False"
    assert said["Accepted"].message == "`spec.suspend`: wrong\nmore"
    assert said["Accepted"].observed_generation == refused.observed_generation == 9
    again = refuse(refused, "another", 9, world.now + timedelta(hours=1))
    times = [
        {each.type: each.last_transition_time for each in status.conditions}
        for status in (refused, again)
    ]
    assert times[0] == times[1], "the time is that of the change of state"
    world.status = to_json(refused)
    world.turn()
    assert condition(world, "Accepted") == ("True", "Valid")


def test_an_approval_names_one_attempt_and_none_after_it():
    world = started("approval")
    until(world, lambda world: world.status["phase"] == "WaitingApproval")
    attempt = world.status["run"]["attempt"]
    world.ask_to_abort()
    assert world.settle() == "RolledBack"
    world.retry = "please"
    world.approval = f"2.{attempt}"
    until(world, lambda world: world.status["phase"] == "WaitingApproval")
    for _ in range(5):
        world.turn()
        world.obey()
    assert world.status["phase"] == "WaitingApproval", "that was for the attempt before"
    world.approval = f"2.{attempt + 1}"
    assert world.settle() == "Succeeded"
    assert world.alias == "2"


def test_who_alone_answers_users_is_aborted_when_the_stable_version_is_back():
    world = until(started("canary"), answered("2", 10))
    world.set_replicas("1", "down")
    world.turn()
    world.gateway_sees()
    assert world.weights() == {"2": 100}
    world.ask_to_abort()
    for _ in range(3):
        world.turn()
        world.gateway_sees()
    assert world.weights() == {"2": 100}
    assert world.status["phase"] == "Waiting"
    world.set_replicas("1", "ready")
    assert world.settle() == "RolledBack"
    assert world.weights() == {"1": 100}


def test_a_first_version_has_nothing_to_return_to_and_is_not_aborted():
    world = World()
    world.turn()
    world.ask_to_abort()
    assert world.settle() == "Succeeded"
    assert world.alias == "1"


def test_a_pause_by_hand_keeps_the_weights_and_says_so():
    world = until(started("canary"), answered("2", 10))
    world.paused = True
    for _ in range(20):
        world.turn()
        world.obey()
    assert world.weights() == {"1": 90, "2": 10}
    assert world.status["phase"] == "Paused"
    assert "zeroskew.dev/pause" in world.status["message"]
    assert condition(world, "Progressing") == ("False", "Suspended")
    world.paused = False
    assert world.settle() == "Succeeded"
