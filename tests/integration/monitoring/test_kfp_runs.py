"""Runs under names of their own, before a server that fails in every way: no cluster needed."""

from __future__ import annotations

import asyncio
import runpy
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from operators.kfp.client import TOKEN_FILE, KfpClient
from operators.kfp.runs import KfpRuns
from operators.monitor_reconciler import run_request
from zeroskew.errors import ConfigError
from zeroskew.monitoring.monitor_state import Decision
from zeroskew.monitoring.trigger_spec import Trigger

pytestmark = pytest.mark.integration
_KFP = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "cluster/kfp_stand_in.py")))
NOW = datetime(2026, 3, 1, tzinfo=UTC)
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


def live(kfp, *steps, multi_user=False):
    """Each step is given the runs; what the last one returns."""

    async def all_of_them():
        runs, result = KfpRuns(KfpClient(kfp.url, multi_user=multi_user)), None
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
    assert (seen.phase, seen.id, seen.finished_at) == ("Running", run["run_id"], None)
    assert run["description"] == "wind has moved"
    kfp.end(run["run_id"], "FAILED", "no memory")
    seen = live(kfp, look())
    assert (seen.phase, seen.message) == ("Failed", "no memory")
    assert seen.finished_at.year > 1970
    assert live(kfp, look("m-2")).phase == "Missing"


@pytest.mark.parametrize(
    ("fate", "phase", "made"),
    [("refuse", "Refused", 0), ("error", "Missing", 0), ("lost", "Running", 1),
     ("cut", "Running", 1), ("twice", "Running", 2), ("slow", "Running", 1)],
)  # fmt: skip
def test_what_became_of_a_request_is_seen_as_it_is(kfp, fate, phase, made):
    kfp.failures["m-1"] = [fate]
    seen = live(kfp, start(), look())
    assert seen.phase == phase
    assert len(kfp.named("m-1")) == made
    assert len(kfp.named("m-1", alive=True)) == min(made, 1)
    if phase != "Running":
        assert "archived" in seen.message or "503" in seen.message


def test_of_two_runs_the_older_counts_and_the_other_is_ended(kfp):
    older = kfp.create({"display_name": "m-1"})
    newer = kfp.create({"display_name": "m-1"})
    older["created_at"], newer["created_at"] = "2026-03-01T00:00:05Z", "2026-03-01T00:00:04Z"
    seen = live(kfp, look())
    assert seen.id == newer["run_id"]
    assert older["state"] == "CANCELED"


def test_names_are_found_on_every_page_and_no_name_stands_for_another(kfp):
    for number in range(120):
        kfp.create({"display_name": f"m-1{number}"})
    assert live(kfp, look()).phase == "Missing"
    kfp.create({"display_name": "m-1"})
    assert live(kfp, look()).phase == "Running"


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

    assert live(kfp, start(), renewed).phase == "Running"
    token.unlink()
    assert "cannot be read" in live(kfp, look()).message


def test_a_namespace_is_named_where_there_are_several_users_only(kfp):
    assert live(kfp, look()).phase == "Missing"
    # The stand-in is a server for one user, which refuses it.
    assert "filtered by namespace" in live(kfp, look(), multi_user=True).message


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
