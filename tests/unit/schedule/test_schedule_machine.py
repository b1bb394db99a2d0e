"""What holds of a schedule whatever the world does, and what it does when nothing goes wrong."""

from __future__ import annotations

import itertools
import random
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.schedule.machine import MOST_UNSEEN, refuse, run_name
from zeroskew.schedule.schedule_observations import RunObserved
from zeroskew.schedule.schedule_spec import parse_schedule
from zeroskew.schedule.schedule_state import ScheduleStatus

sys.path.insert(0, str(Path(__file__).parent))
from schedule_world import NAME, START, World


def spec(**changes):
    return parse_schedule(
        {"pipelineRef": {"name": "materialisation"}, "schedule": "0 * * * *", **changes}
    )


def world(seed=1, lengths=(10,), **changes):
    here = World(spec(**changes), random.Random(seed), lengths=lengths)
    here.random.random = lambda: 0.0  # type: ignore[method-assign]  # every run succeeds
    return here


TURNS = st.lists(
    st.tuples(
        st.sampled_from([1, 5, 20, 61, 300, 1800, 7200]),
        st.fixed_dictionaries(
            {
                "reachable": st.sampled_from([True, True, True, False]),
                "answer": st.sampled_from(["good", "good", "lost", "late", "never", "refused"]),
                "store": st.sampled_from(["kept", "kept", "kept", "failed", "killed"]),
                "restart": st.sampled_from([False, False, False, True]),
            }
        ),
    ),
    min_size=20,
    max_size=100,
)
MISSED = st.sampled_from(
    [
        {},
        {"policy": "Skip"},
        {"policy": "Skip", "startingDeadline": "20m"},
        {"policy": "RunLatest", "startingDeadline": "40m"},
        {"policy": "RunAll"},
        {"policy": "RunAll", "limit": 3},
        {"policy": "RunAll", "startingDeadline": "3h"},
    ]
)


def check(here):
    names = Counter(run.name for run in here.runs)
    assert all(count == 1 for count in names.values()), "a time has one run"
    times = [action.scheduled_time for _, action in here.asked]
    assert times == sorted(times), "no time is gone back to"
    for before, after in itertools.pairwise(sorted(here.runs, key=lambda run: run.created)):
        assert before.over <= after.created, "never two at once"
    first: dict[str, tuple[datetime, datetime]] = {}
    for at, action in here.asked:
        first.setdefault(action.name, (at, action.scheduled_time))
    for at, scheduled in first.values():
        assert timedelta() <= at - scheduled
    assert len(here.status.history) <= here.spec.history_limit


@settings(max_examples=60, deadline=None)
@given(
    turns=TURNS,
    schedule=st.sampled_from(["0 * * * *", "*/10 * * * *", "0 5 * * *", "* * * * *"]),
    missed=MISSED,
    policy=st.sampled_from(["Forbid", "Replace"]),
    seed=st.integers(0, 10**6),
)
def test_whatever_happens_every_time_is_run_once_or_missed(turns, schedule, missed, policy, seed):
    if missed.get("policy") == "RunAll":
        policy = "Forbid"
    here = World(
        spec(schedule=schedule, missed=missed, concurrencyPolicy=policy, historyLimit=3),
        random.Random(seed),
    )
    for seconds, turn in turns:
        here.turn(**turn)
        here.wait(seconds)
    # The world calms down: what waits comes to its end, and the account is closed.
    for _ in range(40):
        here.turn()
        here.wait(700)
    check(here)
    due = here.spec.times.between(START, here.status.counted_until, 10**6)
    accounted = here.status.missed + here.ended + (here.status.active is not None)
    assert accounted == len(due), "every time is run or missed, and none is both"
    assert here.now - here.status.counted_until <= timedelta(days=2)
    here.turn()
    assert here.status.next_schedule_time > here.now - timedelta(seconds=1)


@settings(max_examples=60, deadline=None)
@given(
    turns=TURNS,
    events=st.lists(
        st.sampled_from(["", "", "suspend", "resume", "other", "back"]), min_size=100, max_size=100
    ),
    missed=MISSED,
    seed=st.integers(0, 10**6),
)
def test_suspended_or_changed_nothing_of_the_past_is_caught_up(turns, events, missed, seed):
    here = World(spec(missed=missed), random.Random(seed))
    since = START
    clock = here.spec.clock
    for (seconds, turn), event in zip(turns, events, strict=False):
        paused = here.spec.suspend
        changes = {
            "suspend": {"suspend": True},
            "resume": {"suspend": False},
            "other": {"schedule": "30 * * * *"},
            "back": {"schedule": "0 * * * *"},
        }.get(event, {})
        here.spec = here.spec.model_copy(update=changes)
        resumed = paused and not here.spec.suspend
        before = len(here.asked)
        stored = here.status
        here.turn(**turn)
        if here.status is not stored and (resumed or here.spec.clock != clock):
            since, clock = here.now.replace(microsecond=0), here.spec.clock
        for at, action in here.asked[before:]:
            if here.status.active and here.status.active.asked == 1:
                assert action.scheduled_time > since or at == since
        here.wait(seconds)
    check(here)
    assert here.started_while_suspended == 0


def test_each_time_starts_a_run_with_its_moments():
    here = world(
        parameters=[
            {"name": "end_time", "valueFrom": "scheduledTime"},
            {"name": "start_time", "valueFrom": "previousTime"},
            {"name": "days", "value": "30"},
        ]
    )
    here.go(59)
    assert not here.asked
    assert here.conditions["Ready"] == ("True", "Scheduled")
    assert here.conditions["OnTime"] == ("Unknown", "NoTimeYet")
    here.go(2)
    ((_, asked),) = here.asked
    assert asked.name == run_name(NAME, "team", datetime(2026, 3, 2, 11, tzinfo=UTC))
    assert asked.name.startswith("hourly-20260302t1100z-")
    assert asked.arguments == {
        "end_time": "2026-03-02T11:00:00Z", "start_time": "2026-03-02T10:00:00Z", "days": "30"
    }  # fmt: skip
    assert here.status.active.phase == "Running"
    assert here.conditions["Running"] == ("True", "RunInProgress")
    here.go(15)
    assert here.status.active is None
    assert here.status.last_run.phase == "Succeeded"
    assert here.conditions["LastRunSucceeded"] == ("True", "Succeeded")
    assert here.conditions["OnTime"] == ("True", "Started")
    assert here.status.next_schedule_time == datetime(2026, 3, 2, 12, tzinfo=UTC)
    here.go(24 * 60, 30)
    assert here.status.succeeded == len(here.runs) == 25
    assert here.status.missed == here.status.failed == 0
    assert len(here.status.history) == 10


@pytest.mark.parametrize(
    ("start", "wanted"),
    [
        # Clocks are put forward at 02:00 on the 29th: 02:30 does not exist, 03:00 is right after.
        (datetime(2026, 3, 28, 12, tzinfo=UTC), ["20260329t0100z", "20260330t0030z"]),
        # They are put back at 03:00 on the 25th: 02:30 exists twice, and the first one counts.
        (datetime(2026, 10, 24, 12, tzinfo=UTC), ["20261025t0030z", "20261026t0130z"]),
    ],
)
def test_a_night_in_which_clocks_change_has_one_run(start, wanted):
    here = world(schedule="30 2 * * *", timeZone="Europe/Berlin")
    here.now = here.since = start
    here.go(36 * 60 + 120, 60)
    assert here.started == wanted
    assert here.status.missed == 0


def test_two_schedules_of_one_name_in_two_namespaces_have_runs_of_two_names():
    moment = datetime(2026, 3, 2, 11, tzinfo=UTC)
    names = {run_name("a", "x", moment), run_name("a", "y", moment), run_name("a", "", moment)}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("missed", "started", "count"),
    [
        ({"policy": "Skip"}, [], 5),
        ({"policy": "Skip", "startingDeadline": "1h"}, ["20260302t1500z"], 4),
        ({"policy": "RunLatest"}, ["20260302t1500z"], 4),
        ({"policy": "RunLatest", "startingDeadline": "5m"}, [], 5),
        ({"policy": "RunAll"}, [f"20260302t1{hour}00z" for hour in range(1, 6)], 0),
        ({"policy": "RunAll", "limit": 2}, ["20260302t1400z", "20260302t1500z"], 3),
    ],
)
def test_times_that_nobody_kept_are_caught_up_or_left_out_as_stated(missed, started, count):
    here = world(missed=missed, lengths=(8,))
    here.turn()
    here.wait(5 * 3600 + 600)  # five hours without an operator
    here.go(1)
    assert here.started == started[:1]
    assert here.status.missed == count
    here.go(48)
    assert here.started == started
    if count:
        (told,) = [each for each in here.said if each.reason == "TimeMissed"]
        assert told.type == "Warning"
        assert "nobody kept this clock" in told.message
        assert here.status.last_miss.count == count


def test_a_run_that_takes_longer_is_alone_and_what_it_covers_is_left_out():
    here = world(lengths=(130,))
    here.go(125)
    assert here.started == ["20260302t1100z"]
    assert here.conditions["OnTime"] == ("False", "RunInProgress")
    assert here.conditions["Running"] == ("True", "RunInProgress")
    here.go(70)
    # 12:00 was left out while 11:00 went on, and 13:00 began right after it.
    assert here.started == ["20260302t1100z", "20260302t1300z"]
    assert here.status.missed == 1
    assert here.status.last_miss.reason == "RunInProgress"


def test_replace_ends_the_run_before_and_counts_it_neither_way():
    here = world(lengths=(600,), concurrencyPolicy="Replace")
    here.go(125)
    assert here.started == ["20260302t1100z", "20260302t1200z"]
    assert here.status.last_run.phase == "Replaced"
    assert (here.status.failed, here.status.succeeded) == (0, 0)
    assert here.runs[0].over <= here.runs[1].created


def test_a_run_that_never_ends_is_stopped_at_its_deadline_and_has_failed():
    here = world(lengths=(6000,), runDeadline="90m")
    here.go(165)
    assert here.status.last_run.phase == "Failed"
    assert "more than 90m" in here.status.last_run.message
    assert here.status.failed_in_a_row == 1
    assert [each.reason for each in here.said if each.type == "Warning"] == ["RunFailed"]


def test_a_failed_run_is_not_repeated_before_the_next_time():
    here = world()
    here.random.random = lambda: 1.0
    here.go(110)
    assert here.started == ["20260302t1100z"]
    assert here.conditions["LastRunSucceeded"] == ("False", "Failed")
    here.go(60)
    assert here.started == ["20260302t1100z", "20260302t1200z"]
    assert here.status.failed_in_a_row == 2


def test_pipelines_that_are_down_get_the_newest_time_once_they_are_back():
    here = world()
    here.go(130, reachable=False)
    assert here.runs == []
    assert here.conditions["OnTime"] == ("False", "NotStarted")
    said = next(each.message for each in here.status.conditions if each.type == "OnTime")
    assert "connection refused" in said
    here.go(5)
    assert here.started == ["20260302t1200z"]
    assert here.status.missed == 1


def test_a_refusal_is_told_and_asked_again_with_growing_pauses():
    here = world(schedule="0 11 * * *")
    here.go(90, 5, answer="refused")
    asked = [at for at, _ in here.asked]
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(asked)]
    assert gaps[:5] == [10, 20, 40, 80, 160]
    assert set(gaps[5:]) == {300}
    here.go(10, 5)
    assert here.started == ["20260302t1100z"]


def test_requests_that_never_show_are_given_up():
    here = world(schedule="0 11 * * *")
    here.go(120, answer="never")
    assert len(here.asked) == MOST_UNSEEN
    assert here.status.active is None
    assert here.status.missed == 1
    assert here.conditions["OnTime"] == ("False", "NotStarted")


def test_what_was_asked_for_when_it_was_suspended_is_left_out_or_followed():
    asked = world()
    asked.go(61, answer="refused")
    asked.spec = spec(suspend=True)
    asked.go(5, answer="refused")
    assert asked.status.active is None
    assert asked.status.last_miss.reason == "Suspended"
    running = world()
    running.go(62)
    running.spec = spec(suspend=True)
    running.go(120)
    assert running.status.last_run.phase == "Succeeded"
    assert running.started == ["20260302t1100z"]
    assert running.conditions["Ready"] == ("True", "Suspended")
    assert running.status.next_schedule_time is None
    running.spec = spec()
    running.go(10)
    # 12:00 and 13:00 passed on purpose.
    assert running.started == ["20260302t1100z"]
    assert running.status.missed == 0


def test_a_failed_run_that_the_server_repeats_is_followed_again():
    here = world()
    here.random.random = lambda: 1.0
    here.go(80)
    assert here.status.failed == 1
    (run,) = here.runs
    run.ends, run.good = here.now + timedelta(minutes=70), True
    here.go(45)
    assert here.status.active.name == run.name
    assert (here.status.failed, here.status.failed_in_a_row) == (0, 0)
    assert len(here.runs) == 1, "12:00 waits"
    here.go(40)
    assert here.status.succeeded >= 1
    assert len(here.runs) == 2


def test_a_run_that_was_deleted_has_failed():
    here = world(lengths=(50,))
    here.go(65)
    here.runs.clear()
    here.go(1)
    assert here.status.last_run.phase == "Failed"
    assert "not there any more" in here.status.last_run.message


def test_a_run_that_has_not_begun_says_so_and_one_without_a_row_is_asked_for_again():
    here = world()
    here.go(60, answer="never")
    look = here._observed

    def pending(name, reachable):
        return RunObserved("Pending", shown, "no node has 4 CPUs")

    here._observed = pending
    shown = "id-1"
    here.go(3)
    assert here.status.active.phase == "Pending"
    assert here.conditions["Running"] == ("False", "Pending")
    assert "no node has 4 CPUs" in here.status.active.message
    # Begun without a row, which the server then deletes: it was never there.
    shown = ""
    here.go(2)
    here._observed = look
    here.go(15)
    assert here.started == ["20260302t1100z"]
    assert (here.status.failed, here.status.missed) == (0, 0)


def test_a_status_that_was_lost_finds_the_run_by_its_name():
    here = world(lengths=(50,))
    here.go(70)
    here.status = ScheduleStatus()
    here.go(5)
    assert here.started == ["20260302t1100z"]
    assert here.status.active.id == here.runs[0].name


def test_a_wrong_spec_is_named_in_a_condition_and_changes_nothing():
    with pytest.raises(ConfigError) as error:
        parse_schedule({"pipelineRef": {"name": "p"}, "schedule": "61 * * * *"})
    status = refuse(ScheduleStatus(missed=7), error.value, 3, START)
    assert status.missed == 7
    assert status.observed_generation == 3
    (ready,) = status.conditions
    assert (ready.type, ready.status, ready.reason) == ("Ready", "False", "InvalidSpec")
    assert "spec.schedule" in ready.message
