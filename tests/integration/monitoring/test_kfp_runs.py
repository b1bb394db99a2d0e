"""Runs under names of their own, before a server that fails in every way: no cluster needed."""

from __future__ import annotations

import asyncio
import runpy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from operators.cluster_client import Refused
from operators.kfp.client import TOKEN_FILE, KfpClient, KfpSilent
from operators.kfp.request import RunRequest
from operators.kfp.runs import KfpRuns
from operators.kfp.workflows import Workflows
from operators.monitor_reconciler import run_request
from zeroskew.errors import ConfigError
from zeroskew.monitoring.monitor_state import Decision
from zeroskew.monitoring.trigger_spec import Trigger

pytestmark = pytest.mark.integration
_KFP = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "cluster/kfp_stand_in.py")))
NOW = datetime(2026, 3, 1, tzinfo=UTC)
RAW = {
    "display_name": "m-1",
    "pipeline_version_reference": {
        "pipeline_id": "p-training", "pipeline_version_id": "p-training-v1",
    },
}  # fmt: skip
DECISION = Decision(
    checksum="ab" * 32, reason="PSI", message="wind has moved", dominant_metric="feature-psi",
    failed_metrics=("feature-psi",), model="m", champion="3", generation=1, window_start=NOW,
    window_end=NOW, rows=1000, at=NOW,
)  # fmt: skip


@pytest.fixture
def kfp():
    with _KFP.KfpStandIn(pipelines=("training",), slow_seconds=0.2) as running:
        yield running


def trigger(**changes):
    said = {
        "pipelineRef": {"name": "training"},
        "parameters": [{"name": "end_time", "valueFrom": "windowEnd"}],
    }
    return Trigger.model_validate(said | changes)


class Cluster:
    """As much of the API server as Workflows are read by; `refused`: we may not."""

    def __init__(self, kfp, refused=False):
        self.kfp, self.refused = kfp, refused

    async def list(self, kind, namespaces, label=None):
        assert (kind.plural, label) == ("workflows", "pipeline/runid")
        if self.refused:
            raise Refused("workflows.argoproj.io is forbidden")
        return [each for each in self.kfp.workflows.values()
                if each["metadata"]["namespace"] in namespaces]  # fmt: skip


def live(kfp, *steps, multi_user=False, cluster=None):
    """Each step is given the runs; what the last one returns."""

    async def all_of_them():
        workflows = Workflows(cluster, "" if multi_user else "kubeflow") if cluster else None
        runs, result = KfpRuns(KfpClient(kfp.url, multi_user=multi_user), workflows), None
        try:
            for step in steps:
                result = await step(runs)
        finally:
            await runs.close()
        return result

    return asyncio.run(all_of_them())


def start(name="m-1", **changes):
    return lambda runs: runs.start(name, "team", run_request(trigger(**changes), DECISION))


def look(name="m-1"):
    return lambda runs: runs.look(name, "team")


def test_a_run_is_asked_for_once_and_seen_to_its_end(kfp):
    seen = live(kfp, start(), start(), look())
    (run,) = kfp.named("m-1")
    assert (seen.id, seen.finished_at) == (run["run_id"], None)
    assert run["description"] == "wind has moved"
    kfp.end(run["run_id"], "FAILED")
    seen = live(kfp, look())
    assert seen.phase == "Failed"
    assert seen.finished_at.year > 1970
    assert live(kfp, look("m-2")).phase == "Missing"


def test_a_run_is_pending_before_argo_starts_it_also_without_a_state(kfp):
    live(kfp, start())
    (run,) = kfp.named("m-1")
    states = []
    for phase in ("Pending", "Pending", "Running"):
        states.append(run["state"])
        seen = live(kfp, look())
        assert (seen.phase, seen.id) == (phase, run["run_id"])
    assert states == ["PENDING", None, "RUNNING"]


def test_a_terminated_run_is_ending_and_then_failed_and_never_canceled(kfp):
    live(kfp, start())
    (run,) = kfp.named("m-1")

    async def stopped(runs):
        await runs.stop(run["run_id"])
        # The server refuses the second one, as it is ending already.
        await runs.stop(run["run_id"])

    live(kfp, stopped)
    phases = []
    while "Failed" not in phases:
        phases.append(live(kfp, look()).phase)
    assert set(phases) == {"Ending", "Failed"}
    assert run["state"] == "FAILED"


def test_a_failed_run_that_somebody_has_repeated_goes_on(kfp):
    live(kfp, start())
    (run,) = kfp.named("m-1")
    kfp.end(run["run_id"], "FAILED")
    assert live(kfp, look()).phase == "Failed"
    kfp.repeat(run["run_id"])
    assert [live(kfp, look()).phase for _ in range(3)] == ["Pending", "Pending", "Running"]


@pytest.mark.parametrize("refused", [False, True])
def test_a_failed_run_says_where_its_log_is_and_which_step_failed(kfp, refused):
    live(kfp, start())
    (run,) = kfp.named("m-1")
    kfp.end(run["run_id"], "FAILED", "Error (exit code 1)")
    assert "error" not in run
    message = live(kfp, look(), cluster=Cluster(kfp, refused)).message
    assert f"see run {run['run_id']} in Kubeflow Pipelines" in message
    assert f"#/runs/details/{run['run_id']}" in message
    assert ("train: Error (exit code 1)" in message) is not refused


@pytest.mark.parametrize(
    "text",
    ["x" * 256, "wind 🌬 has moved", "ä" * 255 + "x", "a\ud800b", "nul\0", "日" * 400],
)
def test_a_description_is_one_that_the_server_can_keep(kfp, text):
    request = RunRequest(trigger().pipeline_ref, {}, text)
    live(kfp, lambda runs: runs.start("m-1", "team", request))
    (run,) = kfp.named("m-1")
    assert len(run["description"]) <= 255
    assert len(kfp.workflows) == 1
    assert run["description"][:1] == text[:1]


def test_a_description_of_255_characters_is_kept_whole(kfp):
    text = "ä" * 255
    live(kfp, lambda runs: runs.start("m-1", "t", RunRequest(trigger().pipeline_ref, {}, text)))
    assert kfp.named("m-1")[0]["description"] == text


@pytest.mark.parametrize("name", ["x" * 256, "m-🌬", ""])
def test_a_name_that_the_server_cannot_keep_is_refused_before_it_is_sent(kfp, name):
    seen = live(kfp, start(name), look(name))
    assert seen.phase == "Refused"
    assert "cannot be the name of a run" in seen.message
    assert kfp.workflows == {}


def test_an_argument_that_the_server_cannot_keep_is_refused_and_our_own_words_are_made_to_fit(kfp):
    wrong = [{"name": "end_time", "value": "now 🌬"}]
    seen = live(kfp, start(parameters=wrong), look())
    assert seen.phase == "Refused"
    assert "beyond the basic plane" in seen.message
    ours = [{"name": "end_time", "valueFrom": "message"}]
    decision = replace(DECISION, message="wind 🌬 has moved")
    request = run_request(trigger(parameters=ours), decision)
    live(kfp, lambda runs: runs.start("m-1", "team", request))
    assert len(kfp.named("m-1")) == len(kfp.workflows) == 1


def test_the_server_begins_what_it_cannot_keep_and_says_500(kfp):
    """What the mended client never sends."""

    async def straight(runs):
        for changes in ({"description": "x" * 256}, {"display_name": "wind 🌬"}):
            with pytest.raises(KfpSilent, match="500"):
                await runs._client.create_run(RAW | changes)

    live(kfp, straight)
    assert kfp.runs == {}
    assert len(kfp.workflows) == 2
    kfp.delete_orphans(older_than=0)
    assert kfp.workflows == {}


def test_a_run_that_goes_on_without_a_row_is_seen_and_not_asked_for_again(kfp):
    kfp.failures["m-1"] = ["ghost"]
    cluster = Cluster(kfp)
    seen = live(kfp, start(), look(), cluster=cluster)
    assert seen.phase == "Pending"
    assert "without a row" in seen.message
    live(kfp, start(), start(), cluster=cluster)
    assert len(kfp.workflows) == 1
    kfp.delete_orphans(older_than=0)
    assert live(kfp, look(), cluster=cluster).phase == "Missing"
    assert live(kfp, start(), look(), cluster=cluster).id


@pytest.mark.parametrize(("argo", "phase"), [("Succeeded", "Succeeded"), ("Error", "Failed")])
def test_a_run_that_ended_without_a_row_counts_as_what_it_was(kfp, argo, phase):
    kfp.failures["m-1"] = ["ghost"]
    live(kfp, start())
    (workflow,) = kfp.workflows.values()
    workflow["status"]["phase"] = argo
    assert live(kfp, look(), cluster=Cluster(kfp)).phase == phase


def test_without_the_right_to_see_workflows_a_run_without_a_row_is_missing(kfp):
    kfp.failures["m-1"] = ["ghost"]
    seen = live(kfp, start(), look(), cluster=Cluster(kfp, refused=True))
    assert seen.phase == "Missing"
    assert "500" in seen.message


def test_a_version_that_is_gone_gives_500_and_is_looked_up_again(kfp, monkeypatch):
    async def gone(self, run):
        kfp.gone_versions.add(run["pipeline_version_reference"]["pipeline_version_id"])
        return await create(self, run)

    create = KfpClient.create_run
    monkeypatch.setattr(KfpClient, "create_run", gone)
    seen = live(kfp, start(), look())
    assert seen.phase == "Missing", "it may have been carried out, for all we know"
    assert "version p-training-v2 is gone, it is looked up again" in seen.message
    monkeypatch.setattr(KfpClient, "create_run", create)
    live(kfp, start())
    assert kfp.named("m-1")[0]["pipeline_version_reference"]["pipeline_version_id"].endswith("v1")


@pytest.mark.parametrize(
    ("fate", "phase", "made"),
    [("refuse", "Refused", 0), ("error", "Missing", 0), ("lost", "Running", 1),
     ("cut", "Running", 1), ("twice", "Running", 2), ("slow", "Running", 1),
     ("ghost", "Missing", 0)],
)  # fmt: skip
def test_what_became_of_a_request_is_seen_as_it_is(kfp, fate, phase, made):
    kfp.failures["m-1"] = [fate]
    seen = live(kfp, start(), look(), look(), look())
    assert seen.phase == phase
    assert len(kfp.named("m-1")) == made
    assert len(kfp.named("m-1", alive=True)) == min(made, 1)
    if phase != "Running":
        assert any(word in seen.message for word in ("archived", "503", "500"))


def test_of_two_runs_the_older_counts_and_the_other_is_ended(kfp):
    older = kfp.create({"display_name": "m-1"})
    newer = kfp.create({"display_name": "m-1"})
    older["created_at"], newer["created_at"] = "2026-03-01T00:00:05Z", "2026-03-01T00:00:04Z"
    seen = live(kfp, look())
    assert seen.id == newer["run_id"]
    assert kfp.terminated == {older["run_id"]}


def test_names_are_found_on_every_page_and_no_name_stands_for_another(kfp):
    for number in range(120):
        kfp.create({"display_name": f"m-1{number}"})
    assert live(kfp, look()).phase == "Missing"
    kfp.create({"display_name": "m-1"})
    assert live(kfp, look()).id == kfp.named("m-1")[-1]["run_id"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pipelineRef": {"name": "nobody"}}, "has none: pipeline 'nobody'"),
        ({"pipelineRef": {"name": "training", "versionName": "v9"}}, "has none: version 'v9'"),
        ({"pipelineRef": {"name": "training", "experiment": "x"}}, "has none: experiment 'x'"),
        ({"parameters": [{"name": "luck", "value": "1"}]}, "no parameter 'luck'; it has end_time"),
        ({"parameters": [{"name": "trials", "value": "many"}]}, "'many' is no NUMBER_INTEGER"),
        ({"parameters": [{"name": "trials", "value": "true"}]}, "'true' is no NUMBER_INTEGER"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_the_reason(kfp, changes, said):
    seen = live(kfp, start(**changes), look())
    assert seen.phase == "Refused"
    assert said in seen.message
    assert kfp.runs == {}


def test_parameters_have_the_types_of_the_pipeline_and_the_version_is_the_named_one(kfp):
    live(kfp, start(
        pipelineRef={"name": "training", "versionName": "v1", "experiment": "nightly"},
        parameters=[{"name": "trials", "value": "12"}, {"name": "start_time", "value": "12"}],
    ))  # fmt: skip
    (run,) = kfp.runs.values()
    assert run["runtime_config"]["parameters"] == {"trials": 12, "start_time": "12"}
    assert run["pipeline_version_reference"]["pipeline_version_id"] == "p-training-v1"
    assert run["experiment_id"] == "e-nightly"


def test_a_server_that_is_away_or_talks_nonsense_is_an_observation(kfp, monkeypatch):
    kfp.down()
    assert live(kfp, look()).phase == "Unknown"
    assert live(kfp, start(), look()).phase == "Unknown"
    kfp.up()
    handler = kfp._server.RequestHandlerClass
    monkeypatch.setattr(handler, "do_GET", lambda self: self.wfile.write(b"HTTP/1.1 200 OK\r\n"
                        b"Content-Length: 4\r\nConnection: close\r\n\r\noops"))  # fmt: skip
    seen = live(kfp, look())
    assert seen.phase == "Unknown"
    assert "no object" in seen.message


def test_the_token_is_read_anew_and_a_wrong_one_is_told(kfp, tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("first\n")
    monkeypatch.setenv(TOKEN_FILE, str(token))
    kfp.token = "first"

    async def renewed(runs):
        kfp.token = "second"
        seen = await runs.look("m-1", "team")
        assert seen.phase == "Unknown"
        assert "401" in seen.message
        token.write_text("second")
        return await runs.look("m-1", "team")

    assert live(kfp, start(), renewed).id == kfp.named("m-1")[0]["run_id"]
    token.unlink()
    assert "cannot be read" in live(kfp, look()).message


def test_a_server_for_one_user_does_not_hear_the_namespace(kfp):
    live(kfp, lambda runs: runs.start("m-1", "a", run_request(trigger(), DECISION)))
    assert live(kfp, lambda runs: runs.look("m-1", "b")).id


@pytest.fixture
def many():
    """A server for several users."""
    with _KFP.KfpStandIn(multi_user=True) as running:
        running.add_experiment("Default", "team")
        yield running


def test_with_several_users_a_pipeline_of_another_namespace_is_none(many):
    many.add_pipeline("training", "other")
    seen = live(many, start(), look(), multi_user=True)
    assert seen.phase == "Refused"
    assert "has none: pipeline 'training' in namespace team" in seen.message
    many.add_pipeline("training", "team")
    live(many, start(), multi_user=True)
    (run,) = many.named("m-1")
    assert run["pipeline_version_reference"]["pipeline_id"] == "p-team-training"


def test_with_several_users_a_run_is_in_the_default_experiment_of_its_namespace(many):
    many.add_pipeline("training", "team")
    many.add_pipeline("training", "lonely")
    live(many, start(), multi_user=True)
    assert many.named("m-1")[0]["experiment_id"] == "e-team-Default"
    lonely = run_request(trigger(), DECISION)
    seen = live(
        many, lambda runs: runs.start("m-2", "lonely", lonely),
        lambda runs: runs.look("m-2", "lonely"), multi_user=True,
    )  # fmt: skip
    assert "has none: experiment 'Default' in namespace lonely" in seen.message


def test_with_several_users_a_namespace_that_is_closed_is_told(many):
    many.forbidden.add("team")
    assert "403" in live(many, look(), multi_user=True).message


def test_names_are_told_by_name_then_display_name_and_exactly(kfp):
    kfp.add_pipeline("Training")
    live(kfp, start())
    (run,) = kfp.named("m-1")
    assert run["pipeline_version_reference"]["pipeline_id"] == "p-training"
    kfp.add_pipeline("p2", display_name="Nightly training")
    live(kfp, start("m-2", pipelineRef={"name": "Nightly training"}))
    assert kfp.named("m-2")[0]["pipeline_version_reference"]["pipeline_id"] == "p-p2"
    kfp.create({"display_name": "M-3"})
    assert live(kfp, look("m-3")).phase == "Missing"


def test_a_name_with_signs_that_are_unescaped_twice_is_found(kfp):
    kfp.create({"display_name": "100 %+1"})
    assert live(kfp, look("100 %+1")).id
    assert live(kfp, look("100 %2")).phase == "Missing"


def test_no_server_at_all_is_told():
    async def without():
        runs = KfpRuns(None)
        await runs.start("m-1", "team", run_request(trigger(), DECISION))
        return await runs.look("m-1", "team")

    seen = asyncio.run(without())
    assert seen.phase == "Refused"
    assert "ZEROSKEW_KFP" in seen.message
    with pytest.raises(ConfigError, match="no server of Kubeflow Pipelines"):
        KfpClient("ml-pipeline:8888")
