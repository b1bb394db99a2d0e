"""PipelineSchedules under the operator: from a minute that comes to a run, and all between."""

import random
import time
from datetime import UTC, datetime, timedelta

import pytest
from kfp_stand_in import KfpStandIn
from late_schedules import PIPELINE, keep_while_killed, make_late, schedule
from operator_stage import apply, operator_stage

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
FAILURES = {
    "good": [],
    "cut": ["cut"],
    "twice": ["twice"],
    "refuse": ["refuse", "refuse"],
    "error": ["error"],
    "lost": ["lost"],
    "worst": ["error", "cut"],
}


@pytest.fixture(scope="module")
def kfp():
    with KfpStandIn(pipelines=(PIPELINE,)) as running:
        yield running


@pytest.fixture(scope="module")
def kept(cluster_parts, tmp_path_factory, kfp):
    """A stage whose operator knows the pipelines, and gives a lost request up after seconds."""
    folder = tmp_path_factory.mktemp("kept")
    with operator_stage(
        *cluster_parts, folder, ZEROSKEW_KFP=kfp.url, ZEROSKEW_KFP_SETTLE_SECONDS="4"
    ) as stage:
        yield stage


@pytest.fixture
def space(kept):
    return kept.namespace()


def wait(stage, space, name, good, seconds=60):
    return stage.wait(space, good, seconds, name, "psched")


def running(status):
    return (status.get("active") or {}).get("phase") == "Running"


def condition(stage, status, kind):
    return stage.conditions(status)[kind]


def is_so(stage, kind, reason):
    return lambda s: stage.conditions(s).get(kind, ("", "", ""))[1] == reason


def until(good, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := good()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def name_of(name, moment):
    return f"{name}-{moment:%Y%m%dt%H%Mz}-"


def test_a_minute_that_comes_is_one_run_of_the_newest_version(kept, kfp, space):
    manifest = schedule(
        space, "minutely",
        parameters=[
            {"name": "start_time", "valueFrom": "previousTime"},
            {"name": "end_time", "valueFrom": "scheduledTime"},
            {"name": "trials", "value": "4"},
        ],
    )  # fmt: skip
    manifest["spec"]["schedule"] = "* * * * *"
    reference = {"name": PIPELINE, "experiment": "nightly", "serviceAccount": "runner"}
    manifest["spec"]["pipelineRef"] = reference
    apply(kept.cluster, manifest)
    first = wait(kept, space, "minutely", lambda s: s.get("nextScheduleTime"), 20)
    assert condition(kept, first, "Ready")[:2] == ("True", "Scheduled")
    assert condition(kept, first, "OnTime")[:2] == ("Unknown", "NoTimeYet")
    due = datetime.fromisoformat(first["nextScheduleTime"])
    asked = wait(kept, space, "minutely", running, 100)
    run = kfp.named(name_of("minutely", due))[0]
    assert run["display_name"] == asked["active"]["name"]
    late = datetime.fromisoformat(asked["active"]["requestedTime"]) - due
    assert timedelta() <= late <= timedelta(seconds=15)
    assert run["runtime_config"]["parameters"] == {
        "start_time": f"{due - timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}",
        "end_time": f"{due:%Y-%m-%dT%H:%M:%SZ}", "trials": 4,
    }  # fmt: skip
    assert run["pipeline_version_reference"]["pipeline_version_id"] == f"p-{PIPELINE}-v2"
    assert (run["experiment_id"], run["service_account"]) == ("e-nightly", "runner")
    # The next minute comes while it goes on: it waits, and says so.
    waits = wait(kept, space, "minutely", is_so(kept, "OnTime", "RunInProgress"), 100)
    assert run["display_name"] in condition(kept, waits, "OnTime")[2]
    assert len(kfp.named("minutely-")) == 1
    kfp.end(run["run_id"], "FAILED")
    failed = wait(kept, space, "minutely", lambda s: s.get("failed") == 1)
    assert failed["lastRun"]["phase"] == "Failed"
    assert condition(kept, failed, "LastRunSucceeded")[:2] == ("False", "Failed")
    (second,) = until(lambda: kfp.named("minutely-")[1:2])
    kfp.end(second["run_id"], "SUCCEEDED")
    over = wait(kept, space, "minutely", lambda s: s.get("succeeded") == 1)
    assert over["lastSuccessfulTime"]
    measured = kept.operator.measured()
    mine = f'namespace="{space}",'
    outcomes = {
        outcome: measured[
            f'zeroskew_schedule_runs_total{{{mine}outcome="{outcome}",schedule="minutely"}}'
        ]
        for outcome in ("succeeded", "failed")
    }
    assert outcomes == {"succeeded": 1, "failed": 1}
    assert measured[f'zeroskew_schedule_failed_in_a_row{{{mine}schedule="minutely"}}'] == 0
    described = kept.cluster.kubectl("describe", "psched", "minutely", "-n", space).stdout
    for words in ("RunRequested", "RunStarted", "RunFailed", "RunSucceeded"):
        assert words in described
    kept.cluster.kubectl("delete", "psched", "minutely", "-n", space)
    until(lambda: not any("minutely" in name for name in kept.operator.measured()))


def test_times_missed_while_the_operator_was_down_are_kept_as_stated(kept, kfp, space):
    kept.operator.kill()
    try:
        latest, _, every = (
            make_late(kept, schedule(space, name, missed={"policy": policy}), 3)
            for name, policy in (
                ("latest", "RunLatest"), ("skipped", "Skip"), ("every", "RunAll"),
            )
        )  # fmt: skip
    finally:
        kept.operator.start()
        kept.operator.wait_healthy()
    found = wait(kept, space, "latest", running)
    assert [run["display_name"] for run in kfp.named("latest-")] == [found["active"]["name"]]
    assert found["active"]["name"].startswith(name_of("latest", latest[-1]))
    assert found["missed"] == 2
    left_out = wait(kept, space, "skipped", lambda s: s.get("missed") == 3)
    assert kfp.named("skipped-") == []
    reason, message = condition(kept, left_out, "OnTime")[1:]
    assert reason == "NotWatched"
    assert "3 times" in message
    # One after the other, the oldest first, never two at once.
    for number, moment in enumerate(every, 1):
        (run,) = until(lambda n=number: kfp.named("every-")[n - 1 : n])
        assert run["display_name"].startswith(name_of("every", moment))
        wait(kept, space, "every", running)
        assert len(kfp.named("every-")) == number
        kfp.end(run["run_id"], "SUCCEEDED")
    done = wait(kept, space, "every", lambda s: s.get("succeeded") == 3)
    assert done["missed"] == 0
    events = kept.cluster.kubectl("get", "events", "-n", space).stdout
    assert events.count("TimeMissed") == 2
    mine = f'zeroskew_schedule_missed_total{{namespace="{space}"'
    assert kept.operator.measured()[f'{mine},schedule="skipped"}}'] == 3
    # Counts are those of the status, so that a new operator does not begin at 0.
    kept.operator.kill()
    kept.operator.start()
    kept.operator.wait_healthy()
    until(lambda: kept.operator.measured().get(f'{mine},schedule="latest"}}') == 2)


def test_suspended_nothing_starts_and_nothing_is_caught_up_later(kept, kfp, space):
    manifest = schedule(space, "paused", suspend=True, missed={"policy": "RunAll"})
    make_late(kept, manifest, 3)
    still = wait(kept, space, "paused", is_so(kept, "Ready", "Suspended"))
    assert "nextScheduleTime" not in still
    row = kept.cluster.kubectl("get", "psched", "paused", "-n", space).stdout.splitlines()[1]
    assert "true" in row
    manifest["spec"]["suspend"] = False
    apply(kept.cluster, manifest)
    wait(kept, space, "paused", is_so(kept, "Ready", "Scheduled"))
    time.sleep(3)
    assert kfp.named("paused-") == []
    assert kept.status(space, "paused", "psched")["missed"] == 0


def test_every_way_to_fail_ends_in_exactly_one_run(kept, kfp, space):
    for name, fates in FAILURES.items():
        kfp.failures[f"{name}-"] = list(fates)
    for name in FAILURES:
        make_late(kept, schedule(space, name), 1)
    for name in FAILURES:
        found = wait(kept, space, name, running, 120)
        (alive,) = kfp.named(f"{name}-", alive=True)
        assert found["active"]["name"] == alive["display_name"]
        assert found["missed"] == 0
    # What was there twice was ended.
    until(lambda: len(kfp.named("twice-", alive=True)) == 1)
    assert all(not left for left in kfp.failures.values())
    kfp.failures.clear()


def test_pipelines_that_are_down_get_the_newest_time_once_they_are_back(kept, kfp, space):
    kfp.down()
    try:
        (moment,) = make_late(kept, schedule(space, "down"), 1)
        waits = wait(kept, space, "down", is_so(kept, "OnTime", "NotStarted"))
        assert "Kubeflow Pipelines" in condition(kept, waits, "OnTime")[2]
        name = f'zeroskew_schedule_late_seconds{{namespace="{space}",schedule="down"}}'
        assert kept.operator.measured()[name] >= (datetime.now(UTC) - moment).total_seconds() - 60
    finally:
        kfp.up()
    wait(kept, space, "down", running, 90)
    assert len(kfp.named("down-")) == 1


def test_a_time_that_cannot_be_started_within_its_deadline_is_missed_and_told(kept, kfp, space):
    bad = schedule(
        space, "wrong", pipelineRef={"name": "nobody-has-it"},
        missed={"policy": "RunLatest", "startingDeadline": "10s"},
    )  # fmt: skip
    bad["spec"]["schedule"] = "* * * * *"
    apply(kept.cluster, bad)
    missed = wait(kept, space, "wrong", lambda s: s.get("missed", 0) > 0, 150)
    assert missed["lastMiss"]["reason"] == "NotStarted"
    assert "nobody-has-it" in missed["lastMiss"]["message"]
    assert kfp.named("wrong-") == []
    kept.cluster.kubectl("delete", "psched", "wrong", "-n", space)


def test_what_only_the_operator_can_tell_is_in_a_condition(kept, kfp, space):
    bad = schedule(space, "never")
    bad["spec"]["schedule"] = "0 0 31 2 *"
    apply(kept.cluster, bad)
    found = wait(kept, space, "never", is_so(kept, "Ready", "InvalidSpec"))
    assert "has no time" in condition(kept, found, "Ready")[2]
    assert kept.operator.measured()[
        f'zeroskew_schedule_accepted{{namespace="{space}",schedule="never"}}'
    ] == 0  # fmt: skip
    # Set right, it goes on; a name of a run in another namespace is another one.
    apply(kept.cluster, schedule(space, "never"))
    wait(kept, space, "never", is_so(kept, "Ready", "Scheduled"))


def test_killed_again_and_again_every_time_is_one_run(kept, kfp):
    assert keep_while_killed(kept, kfp, kills=10, dice=random.Random(1)) == 20
