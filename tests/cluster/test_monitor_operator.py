"""DriftMonitors under the operator: from a written profile to a run, and everything in between."""

import json
import time
from datetime import UTC, datetime

import pytest
from command_line import as_json, zeroskew
from kfp_stand_in import KfpStandIn
from operator_stage import apply, operator_stage, register
from served_predictions import serve

from zeroskew.monitoring.reports import Report, list_reports, write_report

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
PIPELINE = "flight-delay-training"
FAILURES = {
    "good": [],
    "cut": ["cut"],
    "twice": ["twice"],
    "refuse": ["refuse", "refuse"],
    "error": ["error"],
    "lost": ["lost"],
    "slow": ["slow"],
    "worst": ["error", "cut"],
    "ghost": ["ghost"],
}


@pytest.fixture(scope="module")
def kfp():
    with KfpStandIn(pipelines=(PIPELINE,)) as running:
        yield running


@pytest.fixture(scope="module")
def watched(cluster_parts, tmp_path_factory, kfp):
    """A stage whose operator knows the pipelines."""
    folder = tmp_path_factory.mktemp("watched")
    with operator_stage(
        *cluster_parts,
        folder,
        serving=False,
        ZEROSKEW_KFP=kfp.url,
        ZEROSKEW_KFP_SETTLE_SECONDS="40",
    ) as stage:
        yield stage


@pytest.fixture
def space(watched):
    return watched.namespace()


@pytest.fixture
def model(watched, tmp_path, request):
    """A model of the test's own; version 1 is its champion."""
    name = f"m_{abs(hash(request.node.name)) % 10**8}"
    register(watched.registry, tmp_path, name, versions=2)
    watched.registry.promote(name, 1, "first")
    return name


def monitor(model, space, name="watch", **changes):
    spec = {
        "modelRef": {"name": model},
        "interval": "2s",
        "window": {"minSamples": 500},
        "metrics": [{"name": "feature-psi", "type": "PSI", "failureLimit": 1}],
        "trigger": {
            "pipelineRef": {"name": PIPELINE, "experiment": "nightly", "serviceAccount": "runner"},
            "parameters": [
                {"name": "start_time", "value": "now-90d"},
                {"name": "end_time", "valueFrom": "windowEnd"},
                {"name": "trials", "value": "4"},
            ],
            "cooldown": "1h",
        },
    }
    trigger = spec["trigger"] | changes.pop("trigger", {})
    return {
        "apiVersion": "zeroskew.dev/v1alpha1", "kind": "DriftMonitor",
        "metadata": {"name": name, "namespace": space},
        "spec": spec | changes | {"trigger": trigger},
    }  # fmt: skip


def wait(stage, space, good, seconds=60, name="watch"):
    return stage.wait(space, good, seconds, name, "driftmonitor")


def phase(*names):
    return lambda status: status.get("phase") in names


def running(status):
    return (status.get("run") or {}).get("phase") == "Running"


def said(words):
    return lambda status: words in status.get("message", "")


def waits_for(stage, reason):
    """Nothing is triggered, for this reason."""
    return lambda s: s.get("conditions") and condition(stage, s, "RetrainingTriggered")[1] == reason


def condition(stage, status, kind):
    return stage.conditions(status)[kind][:2]


def until(good, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := good()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_drift_starts_one_run_that_is_followed_to_its_end(watched, kfp, space, model, tmp_path):
    log = watched.operator.predictions
    serve(log, tmp_path / "spool", model)
    apply(watched.cluster, monitor(model, space))
    calm = wait(watched, space, phase("Monitoring"))
    assert condition(watched, calm, "DriftDetected") == ("False", "Stable")
    assert calm["version"] == "1"

    serve(log, tmp_path / "spool2", model, shift=2.0, rows=4000)
    asked = wait(watched, space, running)
    decision = asked["decision"]
    (run,) = kfp.named(f"watch-{decision['checksum'][:12]}")
    assert run["display_name"] == asked["run"]["name"]
    assert run["runtime_config"]["parameters"] == {
        "start_time": "now-90d", "end_time": decision["windowEnd"], "trials": 4
    }  # fmt: skip
    assert run["pipeline_version_reference"]["pipeline_version_id"] == f"p-{PIPELINE}-v2"
    assert (run["experiment_id"], run["service_account"]) == ("e-nightly", "runner")
    assert condition(watched, asked, "RetrainingTriggered") == ("True", "RunInProgress")

    (record,) = list_reports(str(log), "decision", model, "1")
    assert record.details["decision"] == decision
    (worst,) = record.details["measurement"]["metrics"]
    assert worst["state"] == "Failed"
    assert {each["feature"] for each in worst["features"]} == {f"feature_{i}" for i in range(5)}
    measured = watched.operator.measured()
    mine = f'monitor="watch",namespace="{space}"'
    values = [name for name in measured if name.startswith("zeroskew_drift_value") and mine in name]
    assert len(values) == 5
    assert all(measured[name] > 0.25 for name in values)
    said = f'model="{model}",monitor="watch",namespace="{space}"'
    assert measured[f'zeroskew_drift_state{{metric="feature-psi",{said}}}'] == 2

    kfp.end(run["run_id"], "SUCCEEDED")
    over = wait(watched, space, phase("CoolingDown"), 40)
    assert [each["phase"] for each in over["history"]] == ["Succeeded"]
    assert "run" not in over
    time.sleep(5)
    assert len(kfp.named("watch-" + decision["checksum"][:12])) == 1
    described = watched.cluster.kubectl("describe", "dm", "watch", "-n", space).stdout
    for words in ("DriftDetected", "RunRequested", "RunSucceeded", "is running"):
        assert words in described


def test_every_way_to_fail_ends_in_exactly_one_run(watched, kfp, model, tmp_path):
    """All at a time: a request whose fate is unknown is only repeated after a while."""
    space = watched.namespace()
    serve(watched.operator.predictions, tmp_path / "spool", model, shift=1.0)
    for name, fates in FAILURES.items():
        kfp.failures[f"{name}-"] = list(fates)
    apply(watched.cluster, *(monitor(model, space, name) for name in FAILURES))
    for name in FAILURES:
        found = wait(watched, space, running, 200, name)
        (alive,) = kfp.named(f"{name}-", alive=True)
        assert found["run"]["name"] == alive["display_name"]
    # What came late, or twice, was ended.
    time.sleep(25)
    for name in FAILURES:
        (alive,) = kfp.named(f"{name}-", alive=True)
        assert wait(watched, space, lambda s: s.get("run"), 5, name)["run"]["id"] == alive["run_id"]
    assert len(kfp.named("twice-")) == 2
    assert all(not left for left in kfp.failures.values())
    kfp.failures.clear()
    for name in FAILURES:
        (alive,) = kfp.named(f"{name}-", alive=True)
        kfp.end(alive["run_id"], "FAILED", "out of memory")
        failed = wait(watched, space, lambda s: s.get("retry"), 40, name)
        assert failed["history"][0]["phase"] == "Failed"
        assert f"#/runs/details/{alive['run_id']}" in failed["history"][0]["message"]
        assert failed["retry"]["attempts"] == 1
        assert condition(watched, failed, "RetrainingTriggered") == ("False", "RetryPending")
    apply_deleted(watched, space, FAILURES)


def test_a_run_that_failed_is_followed_by_another_and_one_that_kfp_repeats_by_none(
    watched, kfp, space, model, tmp_path
):
    serve(watched.operator.predictions, tmp_path / "spool", model, shift=1.0)
    often = {"retry": {"limit": 1, "backoff": "5s"}}
    apply(watched.cluster, monitor(model, space, "again", trigger=often))
    wait(watched, space, running, name="again")
    (first,) = kfp.named("again-")
    kfp.end(first["run_id"], "FAILED")
    again = wait(watched, space, lambda s: (s.get("run") or {}).get("attempt") == 2, name="again")
    assert again["run"]["name"] == f"{first['display_name']}-2"
    wait(watched, space, running, name="again")
    second = kfp.named("again-")[1]
    kfp.end(second["run_id"], "FAILED")
    over = wait(watched, space, phase("CoolingDown"), name="again")
    assert condition(watched, over, "RetrainingTriggered") == ("False", "CoolingDown")
    assert "the last of 2 runs" in watched.conditions(over)["RetrainingTriggered"][2]
    kfp.repeat(second["run_id"])
    # Nothing but its next turn tells it, and that is a measurement away at most.
    wait(watched, space, running, 60, "again")
    kfp.end(second["run_id"], "SUCCEEDED")
    done = wait(watched, space, phase("CoolingDown"), 60, "again")
    assert [each["phase"] for each in done["history"]] == ["Succeeded", "Failed"]
    assert len(kfp.named("again-")) == 2
    apply_deleted(watched, space, ["again"])


def apply_deleted(stage, space, names):
    stage.cluster.kubectl("delete", "dm", *names, "-n", space, "--wait=false")


def test_pipelines_that_are_down_get_the_run_once_they_are_back(
    watched, kfp, space, model, tmp_path
):
    serve(watched.operator.predictions, tmp_path / "spool", model, shift=1.0)
    kfp.down()
    try:
        apply(watched.cluster, monitor(model, space, "down"))
        waits = wait(watched, space, said("reached"), name="down")
        assert waits["phase"] == "Retraining"
        assert kfp.named("down-") == []
    finally:
        kfp.up()
    wait(watched, space, running, 90, "down")
    assert len(kfp.named("down-")) == 1
    apply_deleted(watched, space, ["down"])


def test_what_cannot_be_waits_with_a_reason(watched, kfp, space, model, tmp_path):
    apply(
        watched.cluster,
        monitor("nobody_knows", space, "stranger"),
        monitor(model, space, "unserved"),
    )
    stranger = wait(watched, space, lambda s: s.get("message"), name="stranger")
    assert stranger["phase"] == "Initializing"
    assert "no champion of nobody_knows" in stranger["message"]
    unserved = wait(
        watched, space, lambda s: "served nothing" in s.get("message", ""), name="unserved"
    )
    assert condition(watched, unserved, "DataAvailable") == ("False", "MeasuringFailed")
    wrong = monitor(model, space, "wrong", interval="2h", trigger={"cooldown": "1h"})
    told = watched.cluster.kubectl("apply", "-f", "-", input=json.dumps(wrong), check=False)
    assert told.returncode
    assert "cooldown must not be shorter" in told.stderr

    # Once it is served, it goes on.
    serve(watched.operator.predictions, tmp_path / "spool", model)
    wait(watched, space, phase("Monitoring"), name="unserved")
    assert kfp.named("unserved-") == []

    bad = monitor(model, space, "parameters")
    bad["spec"]["trigger"]["parameters"] = [{"name": "nobody", "value": "1"}]
    serve(watched.operator.predictions, tmp_path / "spool2", model, shift=2.0, rows=4000)
    apply(watched.cluster, bad)
    refused = wait(
        watched, space, lambda s: "no parameter" in s.get("message", ""), name="parameters"
    )
    assert "start_time" in refused["message"]
    assert kfp.named("parameters-") == []
    apply_deleted(watched, space, ["stranger", "unserved", "parameters"])


def test_suspended_manual_and_dry(watched, kfp, space, model, tmp_path):
    serve(watched.operator.predictions, tmp_path / "spool", model, shift=1.0)
    apply(
        watched.cluster,
        monitor(model, space, "still", suspend=True),
        monitor(model, space, "asks", trigger={"policy": "Manual"}),
        monitor(model, space, "dry", trigger={"dryRun": True}),
    )
    wait(watched, space, phase("Suspended"), name="still")
    asks = wait(watched, space, waits_for(watched, "WaitsForApproval"), name="asks")
    dry = wait(watched, space, phase("CoolingDown"), name="dry")
    assert dry["history"][0]["message"] == "dry run"
    time.sleep(3)
    assert kfp.named("still-") == kfp.named("asks-") == kfp.named("dry-") == []
    assert "lastMeasurementTime" not in watched.status(space, "still", "driftmonitor")

    name = f"asks-{asks['decision']['checksum'][:12]}"
    watched.cluster.kubectl("annotate", "dm", "asks", f"zeroskew.dev/approve={name}", "-n", space)
    wait(watched, space, running, name="asks")
    (run,) = kfp.named("asks-")
    assert run["display_name"] == name

    # A monitor that is gone is not shown any more; the run goes on.
    apply_deleted(watched, space, ["still", "asks", "dry"])
    until(lambda: not any(f'namespace="{space}"' in each and "drift" in each
                          for each in watched.operator.measured()))  # fmt: skip
    assert run["run_id"] not in kfp.terminated


def test_reports_of_audits_and_live_performance_count_and_labels_hold_back(
    watched, kfp, space, model, tmp_path
):
    log = str(watched.operator.predictions)
    serve(watched.operator.predictions, tmp_path / "spool", model)
    now = datetime.now(UTC)
    write_report(log, Report("consistency", model, "1", now, 0.02, 0.015, 0.025, 5000, "", {
        "features": {"feature_1": {"values": 5000, "different": 100, "rate": 0.02, "causes": {}}}
    }))  # fmt: skip

    def performance(fraction):
        rows = [{"version": "1", "role": "users", "slice": "", "start": None, "auc": 0.7,
                 "coverage": fraction}]  # fmt: skip
        report = Report("performance", model, "1", datetime.now(UTC), 0.7, 0.68, 0.72, 5000, "",
                        {"coverage": {"fraction": fraction}, "rows": rows})  # fmt: skip
        write_report(log, report)

    performance(0.3)
    metrics = [{"name": "audit", "type": "ConsistencyMismatch", "failureLimit": 1}]
    trigger = {"labels": {"minFraction": 0.5, "maxDelay": "1h"}}
    apply(watched.cluster, monitor(model, space, "audited", metrics=metrics, trigger=trigger))
    held = wait(watched, space, waits_for(watched, "LabelsMissing"), name="audited")
    assert "30%" in watched.conditions(held)["RetrainingTriggered"][2]
    measured = watched.operator.measured()
    assert (
        measured[
            f'zeroskew_consistency_mismatch_ratio{{feature="feature_1",model="{model}",version="1"}}'
        ]
        == 0.02
    )
    assert measured[f'zeroskew_live_auc{{model="{model}",role="users",version="1"}}'] == 0.7
    assert kfp.named("audited-") == []

    performance(0.8)
    wait(watched, space, running, 90, "audited")
    assert len(kfp.named("audited-")) == 1
    apply_deleted(watched, space, ["audited"])


@pytest.mark.timeout(900)
def test_a_person_starts_a_run_by_command_and_is_told_why_there_is_no_second(
    watched, space, model, kfp
):
    """Nothing was served and nothing drifts: he asks for it."""
    apply(watched.cluster, monitor(model, space))
    config, at = watched.cluster.kubeconfig, ("watch", "-n", space)
    before = len(kfp.runs)
    said = zeroskew(config, "monitor", "trigger", *at, "--wait", "120")
    assert "Started" in said
    status = watched.wait(
        space, lambda s: s.get("run", {}).get("id"), name="watch", kind="driftmonitor"
    )
    assert status["decision"]["reason"] == "Requested"
    assert len(kfp.runs) == before + 1
    said = zeroskew(config, "monitor", "trigger", *at, "--wait", "120", code=3)
    assert "RunInProgress" in said
    assert len(kfp.runs) == before + 1
    conditions = watched.conditions(watched.status(space, "watch", "driftmonitor"))
    assert conditions["RequestTaken"][:2] == ("False", "RunInProgress")
    assert status["run"]["name"] in zeroskew(config, "monitor", "status", *at)
    seen = as_json(config, "monitor", "status", *at)
    assert seen["status"]["answer"]["reason"] == "RunInProgress"
    apply(watched.cluster, monitor(model, space, suspend=True))
    said = zeroskew(config, "monitor", "trigger", *at, code=1)
    assert "spec.suspend" in said
