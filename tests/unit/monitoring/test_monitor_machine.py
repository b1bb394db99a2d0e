"""What holds of a monitor whatever the world does, and what it does when nothing goes wrong."""

from __future__ import annotations

import itertools
import random
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.monitoring.monitor_machine import refuse, run_name
from zeroskew.monitoring.monitor_spec import parse_monitor
from zeroskew.monitoring.monitor_state import MonitorStatus
from zeroskew.rollout.rollout_steps import as_timedelta

sys.path.insert(0, str(Path(__file__).parent))
from monitor_world import START, World


def spec(**trigger):
    changes = trigger.pop("spec", {})
    return parse_monitor(
        {
            "modelRef": {"name": "fraud"},
            "interval": "1m",
            "metrics": [{"name": "feature-psi", "type": "PSI", "failureLimit": 2}],
            "trigger": {"pipelineRef": {"name": "training"}, "cooldown": "1h", **trigger},
            **changes,
        }
    )


def world(seed=1, **trigger):
    return World(spec(**trigger), random.Random(seed))


def run(world, minutes, seconds=10, **turn):
    for _ in range(int(minutes * 60 / seconds)):
        world.turn(**turn)
        world.wait(seconds)


def conditions(world):
    return {each.type: (each.status, each.reason) for each in world.status.conditions}


def decisions(world):
    return len({action.decision.checksum for _, action in world.decided})


def until_run(world):
    while world.status.run is None:
        run(world, 0.5)


def until_over(world):
    until_run(world)
    while world.status.run is not None:
        run(world, 1)


SEQUENCE = st.lists(
    st.tuples(
        st.sampled_from([1, 5, 20, 61, 300, 700, 1800]),
        st.fixed_dictionaries(
            {
                "reachable": st.sampled_from([True, True, True, False]),
                "answer": st.sampled_from(
                    ["good", "good", "good", "lost", "late", "never", "refused", "ghost"]
                ),
                "store": st.sampled_from(["kept", "kept", "kept", "failed", "killed"]),
                "restart": st.sampled_from([False, False, False, True]),
            }
        ),
        st.sampled_from(
            ["", "", "", "", "calm", "drift", "drift", "champion", "suspend", "resume", "approve",
             "cancel", "revive", "request"]
        ),
    ),
    min_size=30,
    max_size=120,
)  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(
    turns=SEQUENCE,
    concurrency=st.sampled_from(["Forbid", "Replace"]),
    policy=st.sampled_from(["Automatic", "Automatic", "Manual"]),
    limit=st.integers(0, 3),
    failing=st.sampled_from([0.2, 0.9, 0.9]),
    sees_workflows=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_whatever_happens_nothing_is_started_twice_or_too_often(
    turns, concurrency, policy, limit, failing, sees_workflows, seed
):
    here = world(
        seed, concurrencyPolicy=concurrency, policy=policy, maxRunsPerWeek=2,
        retry={"limit": limit, "backoff": "5m"},
    )  # fmt: skip
    here.failing, here.sees_workflows = failing, sees_workflows
    free = here.spec
    # Most of what there is to get wrong comes after the first decision.
    for _ in range(8):
        here.turn()
        here.wait(61)
    here.approval = here.status.decision and run_name("fraud", here.status.decision.checksum)
    for seconds, turn, event in turns:
        if event in ("calm", "drift"):
            here.drifted = event == "drift"
        elif event == "champion":
            here.champion = str(int(here.champion) + 1)
        elif event in ("suspend", "resume"):
            here.spec = free.model_copy(update={"suspend": event == "suspend"})
        elif event == "approve" and here.status.decision is not None:
            here.approval = run_name("fraud", here.status.decision.checksum)
        elif event == "request":
            here.request = f"at {here.now}"
        elif event in ("cancel", "revive"):
            getattr(here, event)()
        here.turn(**turn)
        check_words(here)
        here.wait(seconds)

    assert here.suspended_acts == 0
    check_runs(here)
    check_decisions(here)
    check_attempts(here, limit, timedelta(minutes=5))


def check_words(here):
    """A condition says `NotNeeded` only where nothing calls for a run."""
    if conditions(here).get("RetrainingTriggered") == ("False", "NotNeeded"):
        assert here.status.retry is None
        assert all(tally.state != "Failed" for tally in here.status.metrics)


def check_runs(here):
    """One row a name, and never two at once, ghosts among them."""
    names = Counter(each.name for each in here.runs if not each.ghost)
    assert all(count == 1 for count in names.values()), names
    changes = sorted({moment for one in here.runs for moment in moments_of(one)})
    for moment in changes:
        alive = [one.name for one in here.runs if one.goes_on(moment)]
        assert len(alive) <= 1, f"{alive} at once, at {moment}"


def moments_of(one):
    return [one.created, one.revived or one.created, *(begin for begin, _ in one.past)]


def check_decisions(here):
    # Of the decisions: who is killed right after one may ask for its run much later.
    moments = sorted({action.decision.at for _, action in here.decided})
    assert len(moments) == len({action.decision.checksum for _, action in here.decided})
    cooldown = as_timedelta(here.spec.trigger.cooldown)
    by_hand = {a.decision.at for _, a in here.decided if a.decision.reason == "Requested"}
    assert all(b - a >= cooldown or b in by_hand for a, b in itertools.pairwise(moments))
    requests = [a.decision.message for _, a in here.decided if a.decision.at in by_hand]
    assert len(set(requests)) == len(by_hand), "one decision for a request, and none twice"
    for at in moments:
        assert sum(at - timedelta(days=7) < other <= at for other in moments) <= 2
        for one in here.runs if at not in by_hand else ():
            if not one.ghost and one.phase(here.now) == "Succeeded" and one.over_at < at:
                assert at - one.over_at >= cooldown - timedelta(seconds=1)
    for decision in {
        action.decision.checksum: action.decision for _, action in here.decided
    }.values():
        if decision.reason == "Requested":
            continue
        failing = [
            each for each in here.measured
            if each.at <= decision.at + timedelta(seconds=1) and each.version == decision.champion
        ]  # fmt: skip
        states = [(each.digest, each.metrics[0].state) for each in failing]
        failed = {digest for digest, state in states if state == "Failed"}
        assert len(failed) >= 2, "it failed in two measurements of different rows"
        assert decision.rows >= here.spec.window.min_samples


def check_attempts(here, limit, backoff):
    """Straight from what was asked and what became of it, without the machine's memory."""
    attempts = {}
    for at, action in here.decided:
        attempts.setdefault(action.decision.checksum, {}).setdefault(action.name, at)
    for checksum, names in attempts.items():
        assert list(names) == [run_name("fraud", checksum, n + 1) for n in range(len(names))]
        assert len(names) <= limit + 1
        for number, (before, after) in enumerate(itertools.pairwise(names), 1):
            rows = [one for one in here.runs if one.name == before and not one.ghost]
            for one in rows:
                ends = [end for _, end in one.past] + [one.over_at]
                last = max(end for end in ends if end <= names[after])
                assert names[after] - last >= backoff * 3 ** (number - 1) - timedelta(seconds=1)
                assert not one.goes_on(names[after])
                assert not one.noticed, "what a person ended is not repeated"
                assert one.past or one.phase(names[after]) == "Failed"


def test_drift_starts_one_run_and_its_end_cools_down():
    here = world()
    run(here, 20)
    assert len(here.runs) == 1
    (only,) = here.runs
    assert here.status.decision.failed_metrics == ("feature-psi",)
    assert only.name == run_name("fraud", here.status.decision.checksum)
    while here.status.run is not None:
        run(here, 5)
    assert here.status.history[0].name == only.name
    assert here.status.phase in ("CoolingDown", "Drifted", "Retraining")
    run(here, 12 * 60, seconds=60)
    assert 2 <= decisions(here) <= 3, "the weekly limit holds"
    run(here, 24 * 60, seconds=300)
    assert decisions(here) == 3
    assert conditions(here)["RetrainingTriggered"] == ("False", "WeeklyLimit")


def test_a_run_that_failed_is_asked_for_again_with_growing_pauses():
    here = world(retry={"limit": 3, "backoff": "10m"}, cooldown="336h")
    here.failing = 1.0
    until_over(here)
    waiting = here.status.retry
    assert (waiting.attempts, waiting.checksum) == (1, here.status.decision.checksum)
    ended = here.status.history[0].finished_at
    assert waiting.next_attempt_time - ended == timedelta(minutes=10)
    assert conditions(here)["RetrainingTriggered"] == ("False", "RetryPending")
    assert "attempt 1 of 4 failed" in here.status.message
    assert f"{waiting.next_attempt_time:%H:%M:%S}" in here.status.message
    for pause in (30, 90):
        until_over(here)
        wait = here.status.retry.next_attempt_time - here.status.history[0].finished_at
        assert wait == timedelta(minutes=pause)
    here.failing = 0.0
    until_over(here)
    checksum = here.status.decision.checksum
    assert [one.name for one in here.runs] == [run_name("fraud", checksum, n) for n in range(1, 5)]
    assert [each.attempt for each in here.status.history] == [4, 3, 2, 1]
    assert here.status.retry is None
    assert here.status.phase == "CoolingDown"


def test_when_every_attempt_has_failed_the_condition_says_why_nothing_is_started():
    here = world(retry={"limit": 1, "backoff": "10m"}, cooldown="336h")
    here.failing = 1.0
    until_over(here)
    until_over(here)
    first = here.status.decision
    run(here, 6 * 60, seconds=300)
    assert len(here.runs) == 2
    (said,) = [each for each in here.status.conditions if each.type == "RetrainingTriggered"]
    assert (said.status, said.reason) == ("False", "CoolingDown")
    assert "the last of 2 runs of its decision, has failed" in said.message
    until = first.at + timedelta(days=1)
    assert f"the next decision can be made from {until:%Y-%m-%d %H:%M:%S}" in said.message
    assert any("it was the last of 2 runs" in tell.message for tell in here.told)


def test_a_failed_decision_delays_the_next_by_a_day_and_a_success_by_the_cooldown():
    here = world(retry={"limit": 1, "backoff": "10m"}, cooldown="336h")
    here.failing = 1.0
    until_over(here)
    until_over(here)
    first = here.status.decision
    here.failing = 0.0
    until_run(here)
    second = here.status.decision
    assert timedelta(days=1) <= second.at - first.at < timedelta(days=2)
    assert second.checksum != first.checksum
    until_over(here)
    ended = here.status.history[0].finished_at
    assert here.status.history[0].phase == "Succeeded"
    until_run(here)
    assert here.status.decision.at >= ended + timedelta(hours=336)


def test_a_decision_whose_run_a_person_ended_cools_down_for_as_long_as_any():
    here = world(cooldown="336h")
    until_run(here)
    run(here, 0.5)
    here.cancel()
    until_over(here)
    run(here, 3 * 24 * 60, seconds=600)
    assert decisions(here) == 1
    assert conditions(here)["RetrainingTriggered"] == ("False", "CoolingDown")


def test_the_cooldown_counts_from_the_end_of_a_run_that_succeeded():
    here = world(cooldown="1h")
    here.failing = 0.0
    until_over(here)
    ended = here.status.history[0].finished_at
    until_run(here)
    assert here.status.decision.at >= ended + timedelta(hours=1)


def test_not_now_is_never_called_not_needed():
    here = world(retry={"limit": 0}, cooldown="2h")
    here.failing = 1.0
    reasons = set()
    for _ in range(12 * 60):
        here.turn(restart=here.random.random() < 0.1)
        here.wait(60)
        if any(tally.state == "Failed" for tally in here.status.metrics):
            reasons.add(conditions(here)["RetrainingTriggered"][1])
    assert "NotNeeded" not in reasons
    assert reasons >= {"Counting", "RunInProgress", "CoolingDown"}
    here.drifted = False
    run(here, 30)
    assert conditions(here)["RetrainingTriggered"] == ("False", "NotNeeded")


def test_a_run_that_a_person_ends_is_ending_first_and_is_not_repeated():
    here = world()
    until_run(here)
    run(here, 0.5)
    here.runs[0].ends = here.now + timedelta(hours=5)
    here.cancel()
    here.turn()
    assert here.status.run.stopped == "it was cancelled"
    assert "is ending" in here.status.message
    run(here, 30)
    assert here.status.history[0].message == "it was cancelled"
    assert here.status.retry is None
    assert len(here.runs) == 1


def test_a_run_that_we_end_says_so_when_the_server_calls_it_failed():
    here = world(runDeadline="10m", retry={"limit": 0})
    until_run(here)
    here.runs[0].ends = here.now + timedelta(days=9)
    run(here, 30)
    assert here.status.history[0].message == "ended by this monitor: not over within 10m"


def test_a_failed_run_that_somebody_has_repeated_is_followed_and_nothing_else_is_started():
    here = world(retry={"limit": 3, "backoff": "10m"})
    here.failing = 1.0
    until_over(here)
    run(here, 5)
    here.revive()
    run(here, 1)
    assert here.status.run.name == here.runs[0].name
    assert here.status.retry is None
    assert here.status.history == ()
    run(here, 30)
    assert here.status.history[0].phase == "Succeeded"
    assert len(here.runs) == 1
    assert len(here.asked) == 1


def test_a_failed_run_is_not_followed_by_another_while_nobody_says_what_became_of_it():
    here = world(retry={"limit": 3, "backoff": "10m"})
    here.failing = 1.0
    until_over(here)
    run(here, 20, reachable=False)
    assert len(here.asked) == 1
    assert conditions(here)["RetrainingTriggered"] == ("False", "RunUnknown")
    until_run(here)
    assert len(here.asked) == 2


@pytest.mark.parametrize("sees_workflows", [True, False])
def test_a_run_without_a_row_is_never_one_of_two(sees_workflows):
    """The server said 500 and began it; it is deleted after seven minutes."""
    here = world(retry={"limit": 3, "backoff": "5m"})
    here.sees_workflows = sees_workflows
    for _ in range(120):
        here.turn(answer="ghost")
        here.wait(10)
    ghosts = len(here.runs)
    assert ghosts == 2
    run(here, 40)
    check_runs(here)
    assert sum(not one.ghost for one in here.runs) == 1


def test_a_request_that_never_shows_is_repeated_after_ten_minutes_and_six_times_at_most():
    here = world(retry={"limit": 0}, cooldown="24h")
    run(here, 3 * 60, answer="never")
    moments = [at for at, _ in here.asked]
    assert len(moments) == 6
    assert all(b - a >= timedelta(minutes=10) for a, b in itertools.pairwise(moments))
    assert "asked for 6 times and has never been seen" in here.status.history[0].message


def test_a_refused_request_is_repeated_soon_and_a_waiting_run_has_not_begun():
    here = world()
    while not here.asked:
        run(here, 0.2, answer="refused")
    run(here, 5, answer="refused")
    assert 5 <= len(here.asked) <= 12
    while not here.runs:
        run(here, 0.2)
    here.runs[0].begins = here.now + timedelta(minutes=5)
    here.runs[0].ends = here.now + timedelta(minutes=9)
    here.turn()
    assert here.status.run.phase == "Pending"
    assert "has not begun yet" in here.status.message


def test_a_retry_waits_while_drift_is_gone_and_is_dropped_once_another_decision_may_be_made():
    here = world(retry={"limit": 3, "backoff": "10m"}, cooldown="10h")
    here.failing = 1.0
    until_over(here)
    here.drifted = False
    run(here, 60)
    assert len(here.asked) == 1
    (said,) = [each for each in here.status.conditions if each.type == "RetrainingTriggered"]
    assert said.reason == "RetryPending"
    assert "waits for a measurement in which the metrics fail" in said.message
    run(here, 10 * 60, seconds=60)
    assert here.status.retry is None
    # A measurement in twenty of this world cannot be made.
    assert conditions(here)["RetrainingTriggered"][1] in ("NotNeeded", "NotMeasured")


def test_nothing_happens_without_drift_and_moderate_is_looked_at_more_often():
    here = world()
    here.drifted = False
    run(here, 120)
    assert not here.asked
    assert here.status.phase == "Monitoring"
    gaps = [(b.at - a.at, a.metrics[0].state) for a, b in itertools.pairwise(here.measured)]
    assert min(gap for gap, state in gaps if state == "Stable") >= timedelta(seconds=60)
    assert max(gap for gap, state in gaps if state == "Moderate") <= timedelta(seconds=30)


def test_the_same_rows_do_not_count_twice():
    here = world()
    here.rows = 5000
    here.random = type("Idle", (), {"choice": lambda s, x: 0, "random": lambda s: 0.5,
                                    "uniform": lambda s, a, b: a})()  # fmt: skip
    run(here, 60)
    assert here.status.metrics[0].failed_in_a_row == 1
    assert not here.asked


@pytest.mark.parametrize("answer", ["lost", "late", "refused", "never"])
def test_a_request_whose_fate_is_unknown_ends_in_exactly_one_run(answer):
    here = world()
    run(here, 10, answer=answer)
    run(here, 30)
    assert len(here.runs) == 1


def test_killed_between_the_note_and_the_call():
    here = world()
    while here.status.run is None:
        here.turn(store="killed" if len(here.measured) > 6 and here.measurement else "kept")
        here.wait(10)
        if here.asked:
            break
    run(here, 30)
    assert len(here.runs) == 1


def test_labels_gate_holds_back_and_says_so():
    here = world(labels={"minFraction": 0.6})
    here.labelled = 0.2
    run(here, 60)
    assert not here.asked
    assert conditions(here)["RetrainingTriggered"] == ("False", "LabelsMissing")
    here.labelled = None
    run(here, 10)
    assert conditions(here)["RetrainingTriggered"] == ("False", "LabelsUnknown")
    here.labelled = 0.7
    run(here, 20)
    assert len(here.runs) == 1


def test_a_manual_trigger_waits_for_its_name():
    here = world(policy="Manual")
    run(here, 60)
    assert not here.asked
    assert here.status.phase == "Drifted"
    assert conditions(here)["RetrainingTriggered"] == ("False", "WaitsForApproval")
    here.approval = "something-else"
    run(here, 5)
    assert not here.asked
    here.approval = run_name("fraud", here.status.decision.checksum)
    run(here, 5)
    assert [each.name for each in here.runs] == [here.approval]


def test_a_dry_run_records_and_starts_nothing():
    here = world(dryRun=True)
    run(here, 50)
    assert not here.asked
    assert len(here.records) == 1
    assert here.status.history[0].message == "dry run"


def test_a_run_that_never_ends_is_stopped_at_its_deadline():
    here = world(runDeadline="10m")
    while not here.runs:
        run(here, 0.5)
    here.runs[0].ends = here.now + timedelta(days=9)
    run(here, 30)
    assert here.runs[0].ending_until is not None
    assert here.status.history[0].phase == "Failed"


def test_a_new_champion_counts_anew():
    here = world()
    here.rows = 5000
    run(here, 0.4)
    assert here.status.metrics[0].failed_in_a_row == 1
    here.champion = "2"
    run(here, 0.5)
    assert here.status.version == "2"
    assert here.status.metrics[0].failed_in_a_row <= 1
    assert not here.asked


def test_a_wrong_spec_is_named_in_a_condition_and_changes_nothing():
    with pytest.raises(ConfigError) as error:
        parse_monitor({"modelRef": {"name": "fraud"}, "interval": "0s"})
    status = refuse(MonitorStatus(samples=7), error.value, 3, START)
    assert status.phase == "Failed"
    assert status.samples == 7
    assert "spec.interval" in status.conditions[0].message


def answer(world):
    return world.status.answer and (world.status.answer.taken, world.status.answer.reason)


def test_a_person_gets_a_run_without_drift_and_without_a_cooldown():
    here = world(cooldown="24h")
    here.drifted = False
    run(here, 30)
    here.request = "one"
    here.turn()
    assert answer(here) == (True, "Started")
    assert conditions(here)["RequestTaken"] == ("True", "Started")
    assert here.status.decision.reason == "Requested"
    (record,) = here.records.values()
    assert record.measurement.version == here.champion
    while here.status.run is not None:
        run(here, 1)
    run(here, 60)
    assert len(here.runs) == 1, "asked for once, it runs once"
    here.request = "two"
    here.turn()
    assert answer(here) == (True, "Started")
    assert len({each.name for each in here.runs}) == 2


def test_a_request_never_runs_beside_another_run_and_says_why():
    here = world()
    until_run(here)
    name = here.status.run.name
    here.request = "one"
    here.turn()
    assert answer(here) == (False, "RunInProgress")
    assert conditions(here)["RequestTaken"] == ("False", "RunInProgress")
    assert name in here.status.answer.message
    while here.status.run is not None:
        run(here, 1)
    assert len(here.runs) == 1, "it does not wait in line"


def test_a_request_replaces_a_run_where_that_is_the_policy():
    here = world(concurrencyPolicy="Replace")
    until_run(here)
    first = here.status.run.name
    here.request = "one"
    while answer(here) is None:
        run(here, 1)
    assert answer(here) == (True, "Started")
    old, new = here.runs
    assert old.name == first
    over = next(each for each in here.status.history if each.name == first)
    assert "replaced" in over.stopped
    assert new.name == run_name("fraud", here.status.decision.checksum)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policy": "Disabled"}, "Disabled"),
        ({"dryRun": True}, "DryRun"),
        ({"spec": {"suspend": True}}, "Suspended"),
        ({"labels": {"minFraction": 0.9}}, "LabelsMissing"),
    ],
)
def test_what_forbids_a_run_forbids_one_that_is_asked_for(changes, reason):
    here = world(**changes)
    here.labelled = 0.5
    here.request = "one"
    run(here, 5)
    assert answer(here) == (False, reason)
    assert conditions(here)["RequestTaken"] == ("False", reason)
    assert not here.runs


def test_requests_keep_the_weekly_limit():
    here = world(maxRunsPerWeek=2)
    here.drifted = False
    for number in range(3):
        here.request = str(number)
        here.turn()
        while here.status.run is not None:
            run(here, 5)
    assert answer(here) == (False, "WeeklyLimit")
    assert len(here.runs) == 2


def test_a_request_waits_for_a_registry_that_is_silent():
    here = world()
    here.champion = None
    here.request = "one"
    here.turn()
    assert answer(here) is None
    assert conditions(here)["RequestTaken"] == ("Unknown", "Waiting")
    here.champion = "1"
    here.turn()
    assert answer(here) == (True, "Started")
