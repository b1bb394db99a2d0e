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


SEQUENCE = st.lists(
    st.tuples(
        st.sampled_from([1, 5, 20, 61, 300, 1800]),
        st.fixed_dictionaries(
            {
                "reachable": st.sampled_from([True, True, True, False]),
                "answer": st.sampled_from(["good", "good", "lost", "late", "never", "refused"]),
                "store": st.sampled_from(["kept", "kept", "kept", "failed", "killed"]),
                "restart": st.sampled_from([False, False, False, True]),
            }
        ),
        st.sampled_from(["", "", "", "calm", "drift", "champion", "suspend", "resume", "approve"]),
    ),
    min_size=30,
    max_size=120,
)


@settings(max_examples=250, deadline=None)
@given(
    SEQUENCE,
    st.sampled_from(["Forbid", "Replace"]),
    st.sampled_from(["Automatic", "Manual"]),
    st.integers(0, 10**6),
)
def test_whatever_happens_nothing_is_started_twice_or_too_often(turns, concurrency, policy, seed):
    here = world(seed, concurrencyPolicy=concurrency, policy=policy, maxRunsPerWeek=2)
    free = here.spec
    for seconds, turn, event in turns:
        if event in ("calm", "drift"):
            here.drifted = event == "drift"
        elif event == "champion":
            here.champion = str(int(here.champion) + 1)
        elif event in ("suspend", "resume"):
            here.spec = free.model_copy(update={"suspend": event == "suspend"})
        elif event == "approve" and here.status.decision is not None:
            here.approval = run_name("fraud", here.status.decision.checksum)
        here.turn(**turn)
        here.wait(seconds)

    names = Counter(each.name for each in here.runs)
    assert all(count == 1 for count in names.values()), names
    assert here.suspended_acts == 0
    # Of the decisions: who is killed right after one may ask for its run much later.
    moments = sorted({action.decision.at for _, action in here.decided})
    assert len(moments) == len({name for _, name in here.asked})
    cooldown = as_timedelta(here.spec.trigger.cooldown)
    assert all(b - a >= cooldown for a, b in itertools.pairwise(moments))
    for at in moments:
        assert sum(at - timedelta(days=7) < other <= at for other in moments) <= 2
    for one in here.runs:
        ended = [other for other in here.runs if other is not one and other.created >= one.created]
        for other in ended:
            assert one.phase(other.created) != "Running" or one.stopped, "two at once"
    decisions = {action.decision.checksum: action.decision for _, action in here.decided}
    for decision in decisions.values():
        failing = [
            each for each in here.measured
            if each.at <= decision.at + timedelta(seconds=1) and each.version == decision.champion
        ]  # fmt: skip
        states = [(each.digest, each.metrics[0].state) for each in failing]
        failed = {digest for digest, state in states if state == "Failed"}
        assert len(failed) >= 2, "it failed in two measurements of different rows"
        assert decision.rows >= here.spec.window.min_samples


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
    assert 2 <= len(here.runs) <= 3, "the weekly limit holds"
    run(here, 24 * 60, seconds=300)
    assert len(here.runs) == 3
    assert conditions(here)["RetrainingTriggered"] == ("False", "WeeklyLimit")


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
    assert here.runs[0].stopped
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
