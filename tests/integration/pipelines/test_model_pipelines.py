"""A small model through its pipelines, every step a process of its own, as on a laptop.

Tests of one module run in order and build on one another: a champion, a challenger, predictions.
"""

import dataclasses
import json
import math
import os
import runpy
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines.batch_prediction import batch_prediction_pipeline
from pipelines.materialisation import materialisation_pipeline
from pipelines.run import run_locally
from pipelines.training import training_pipeline
from zeroskew.errors import ConfigError, DataError, RegistryError, ValidationFailed
from zeroskew.features.row import FeatureRow
from zeroskew.monitoring.monitor_state import Decision
from zeroskew.monitoring.reports import Report, write_report
from zeroskew.registry import Registry
from zeroskew.rollout.rollout_state import to_json

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
SERVED = runpy.run_path(str(Path(__file__).parents[2] / "cluster/served_predictions.py"))
MODEL = Path(__file__).parent / "models/tickets"
FIRST = {"start_time": "2024-01-02", "end_time": "2024-02-10"}
SECOND = {"start_time": "2024-01-12", "end_time": "2024-02-20T00:00:00+00:00"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    ours = [name for name in os.environ if name.startswith("ZEROSKEW_")]
    before = {name: os.environ.pop(name) for name in ours}
    os.environ["ZEROSKEW_HOME"] = str(folder)
    yield folder
    os.environ.pop("ZEROSKEW_HOME")
    os.environ.update(before)


@pytest.fixture(scope="module")
def registry(home):
    return Registry(f"sqlite:///{home}/mlflow/mlflow.db", f"{home}/mlflow/artifacts")


@pytest.fixture(scope="module")
def first(home):
    return run_locally(training_pipeline(MODEL), FIRST)


@pytest.fixture(scope="module")
def champion(first, registry):
    version = first.steps["register"].parameters["version"]
    registry.promote("tickets", version, "first version", expected_champion=None)
    return version


@pytest.fixture(scope="module")
def decision(champion, home):
    """Checksum of a monitor's decision about what the champion was asked."""
    log, now = home / "predictions", datetime.now(UTC).replace(microsecond=0)
    SERVED["serve"](log, home / "spool", "tickets", str(champion), shift=1.0)
    made = Decision(
        checksum="0123456789abcdef" * 4, reason="PSI", message="feature-psi: feature_0 0.9",
        dominant_metric="feature-psi", failed_metrics=("feature-psi",), model="tickets",
        champion=str(champion), generation=1, window_start=now - timedelta(hours=24),
        window_end=now, rows=1000, at=now,
    )  # fmt: skip
    report = Report("decision", "tickets", str(champion), now, 0.9, 0.9, 0.9, 1000, made.message,
                    {"decision": to_json(made)})  # fmt: skip
    write_report(str(log), report, name=made.short)
    return made.checksum


@pytest.fixture(scope="module")
def second(champion, decision):
    return run_locally(training_pipeline(MODEL), SECOND | {"decision": decision})


def test_the_first_version_has_its_whole_lineage(first, registry):
    assert first.steps["register"].parameters == {"version": 1, "verdict": "first"}
    found = registry.version("tickets", 1)
    assert (found.stage, found.aliases) == ("Staging", ("challenger",))
    record, joined = found.record, first.steps["join"].metadata["training_set"]
    assert record.data_hash == joined["content_hash"]
    assert record.feature_schema_version == joined["feature_schema_version"]
    assert record.data_start == "2024-01-02T00:00:00+00:00"
    assert record.training_seconds > 0
    assert record.compute_cost > 0
    assert record.calibration_hash
    assert record.verdict == "first"
    assert record.compared_against is None
    assert record.metrics["auc"].value > 0.6
    assert record.metrics["auc"].low < record.metrics["auc"].value < record.metrics["auc"].high
    graph = first.steps["export"].metadata["exported"]["onnx_sha256"]
    assert dict(record.onnx_sha256) == graph


def test_the_version_holds_what_a_server_needs(first, registry, tmp_path):
    files = registry.download("tickets", 1, tmp_path / "version")
    held = {path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file()}
    assert held >= {
        "export/model.onnx", "export/model.fp32.onnx", "export/export.json", "profile.json",
        "checkpoint/model.safetensors", "evaluation.json", "manifest.json", "read_plan.json",
        "transforms.py", "model.yaml",
    }  # fmt: skip


def test_the_dashboard_gets_curves_tables_and_pages(first):
    evaluate = first.steps["evaluate"]
    curves = evaluate.metadata["curves"]
    points = curves["confidenceMetrics"]
    assert points[0]["recall"] == 0.0
    assert points[-1]["recall"] == 1.0
    assert all(math.isfinite(p["confidenceThreshold"]) for p in points)
    assert len(curves["confusionMatrix"]["rows"]) == 2
    assert evaluate.metadata["metrics"]["verdict"] == "first"
    for step, pages in (("evaluate", 1), ("validate-sources", 1), ("validate-training-set", 1)):
        html = first.steps[step].artifacts["report"].read_text()
        assert html.count("<html") == pages
        assert "http://" not in html.replace("http://www.w3.org", "")
    assert "Beside a baseline" in evaluate.artifacts["report"].read_text()


def test_a_run_that_a_decision_asked_for_shows_what_it_was_about(first, second):
    assert "drift-report" not in first.steps
    page = second.steps["drift-report"].artifacts["page"].read_text()
    assert "Decision 0123456789ab" in page
    assert "feature-psi: feature_0 0.9" in page
    assert "feature_4" in page


def test_the_challenger_is_compared_with_the_champion_on_the_same_rows(second, champion, registry):
    step = second.steps["register"]
    assert step.parameters["version"] == 2
    judged = json.loads(second.steps["evaluate"].artifacts["evaluation"].read_text())
    record = registry.version("tickets", 2).record
    assert judged["compared_against"] == record.compared_against == champion
    assert judged["champion"]["rows"] == judged["metrics"]["rows"] == record.held_out_rows
    gain = judged["metrics"]["values"]["auc"][0] - judged["champion"]["values"]["auc"][0]
    assert record.difference.value == pytest.approx(gain)
    found = registry.version("tickets", 2)
    if gain > 0.001:
        assert (record.verdict, found.stage, found.aliases) == ("wins", "Staging", ("challenger",))
    else:
        assert (record.verdict, found.stage, found.aliases) == ("loses", "Archived", ())
    assert registry.champion("tickets") == champion
    assert (
        "Beside the champion, version 1" in second.steps["evaluate"].artifacts["report"].read_text()
    )


def test_a_register_step_repeated_after_the_promotion_leaves_the_champion(
    first, champion, registry, home, tmp_path, monkeypatch
):
    from zeroskew.steps.register import register_version

    monkeypatch.setenv("ZEROSKEW_HOME", str(home))
    names = ("training_set", "profile", "checkpoint", "exported", "evaluation")
    made = {k: v for step in first.steps.values() for k, v in step.artifacts.items() if k in names}
    before = registry.version("tickets", champion)
    again = register_version(MODEL, **made, registered=tmp_path / "registered.json")
    assert again["version"] == champion
    assert registry.version("tickets", champion) == before


def test_the_second_set_is_measured_against_the_champions_profile(second):
    measures = second.steps["validate-training-set"].metadata["measures"]
    assert 0 <= measures["largest_psi"] < 0.25


def test_the_champions_scores_are_its_own_graphs(second, registry, champion, tmp_path):
    """What `evaluate` says of the champion can be computed from the registry alone."""
    from sklearn.metrics import roc_auc_score

    from zeroskew.export.scoring import Scorer
    from zeroskew.features.training_set import TrainingSet

    rows = TrainingSet.open(second.steps["join"].artifacts["training_set"])
    files = registry.download("tickets", champion, tmp_path / "version")
    scorer = Scorer(files / "export/model.onnx")
    row = FeatureRow.from_json(json.loads(scorer.metadata["zeroskew.row"]))
    test = rows.read("test")
    score = scorer.score(*row.encode(test.to_dict()))
    judged = json.loads(second.steps["evaluate"].artifacts["evaluation"].read_text())
    expected = roc_auc_score(test["reopened"].to_numpy(), score)
    assert judged["champion"]["values"]["auc"][0] == pytest.approx(expected, abs=1e-6)


def training_set_with(second, folder, change):
    """A copy of the second training set whose tables went through `change`."""
    from zeroskew.features.training_set import TrainingSet

    shutil.copytree(second.steps["join"].artifacts["training_set"], folder)
    for path in folder.glob("*.parquet"):
        change(pl.read_parquet(path)).write_parquet(path)
    return TrainingSet.open(folder)


def test_a_champion_with_fewer_features_reads_its_own(second, registry, home, tmp_path):
    from zeroskew.steps.champion import score_champion

    rows = training_set_with(second, tmp_path / "more", lambda t: t.with_columns(mood=pl.lit(1.0)))
    more = dataclasses.replace(
        rows.manifest, row={"numeric": [*rows.row.numeric, "mood"], "categorical": ["product"]}
    )
    rows = dataclasses.replace(rows, manifest=more)
    found = score_champion("tickets", rows, "test")
    assert found.version == registry.champion("tickets")
    assert len(found.scores) == rows.read("test").height


def test_a_champion_whose_features_are_gone_cannot_be_compared(second, home, tmp_path):
    from zeroskew.steps.champion import score_champion

    rows = training_set_with(second, tmp_path / "fewer", lambda t: t.drop("agent_load"))
    with pytest.raises(ConfigError, match="version 1, reads agent_load, which this training set"):
        score_champion("tickets", rows, "test")


def test_batch_prediction_scores_as_evaluation_did(second, champion, home, registry, tmp_path):
    """The test rows, asked again as plain questions, get the scores the champion's graph gives."""
    from zeroskew.export.scoring import Scorer
    from zeroskew.features.training_set import TrainingSet

    rows = TrainingSet.open(second.steps["join"].artifacts["training_set"]).read("test")
    questions = rows.select("customer", "agent", "words", "event_timestamp").sample(
        fraction=1.0, shuffle=True, seed=1
    )
    questions.write_parquet(home / "questions.parquet")
    out = tmp_path / "scores.parquet"
    done = run_locally(
        batch_prediction_pipeline(MODEL),
        {"entity_rows": str(home / "questions.parquet"), "output": str(out)},
    )
    scores = pl.read_parquet(out)
    assert scores.drop("score", "model_version").equals(questions)
    assert scores["model_version"].unique().to_list() == [str(champion)]
    metadata = done.steps["predict"].metadata["predictions"]
    assert metadata["rows"] == questions.height
    assert metadata["mean_score"] == pytest.approx(scores["score"].mean(), abs=1e-6)
    files = registry.download("tickets", champion, tmp_path / "version")
    scorer = Scorer(files / "export/model.onnx")
    row = FeatureRow.from_json(json.loads(scorer.metadata["zeroskew.row"]))
    joined = questions.join(
        rows.unique(questions.columns, keep="first"), on=questions.columns, maintain_order="left"
    )
    expected = scorer.score(*row.encode(joined.to_dict()))
    np.testing.assert_allclose(scores["score"].to_numpy(), expected)


def test_what_was_materialised_is_what_was_joined(first, home):
    end = datetime(2024, 2, 10, tzinfo=UTC)
    run = run_locally(materialisation_pipeline(MODEL), {"end_time": end.isoformat()})
    measures = run.steps["materialise"].metadata["measures"]
    assert measures["agents"] == 40
    assert measures["customers"] == 300
    again = run_locally(materialisation_pipeline(MODEL), {"end_time": end.isoformat()})
    assert again.steps["materialise"].metadata["measures"]["written"] == 0

    from zeroskew.embedded import valkey
    from zeroskew.endpoints import Endpoints
    from zeroskew.features.store import FeatureStore

    os.environ["ZEROSKEW_REDIS"] = valkey.ensure(home / "valkey")
    try:
        Endpoints.from_environment().export()
        store = FeatureStore(MODEL)
        served = store.get_online_features([7, 8], ["agent_load"], now=end)
    finally:
        for name in [n for n in os.environ if n.startswith("ZEROSKEW_") and n != "ZEROSKEW_HOME"]:
            del os.environ[name]
    source = pl.read_parquet(home / "data/tickets/agents.parquet").filter(
        pl.col("event_timestamp") <= end, pl.col("event_timestamp") > end - timedelta(days=2)
    )
    newest = source.sort("event_timestamp").group_by("agent").last()
    expected = {row["agent"]: row["agent_load"] for row in newest.iter_rows(named=True)}
    assert served["agent_load"] == [expected[7], expected[8]]


def test_an_unknown_version_is_one_message(champion, home):
    rows = home / "data/tickets/entity_rows.parquet"
    arguments = {"entity_rows": str(rows), "version": "99"}
    with pytest.raises(RegistryError, match="no version 99"):
        run_locally(batch_prediction_pipeline(MODEL), arguments)


def test_an_empty_range_is_one_message(home):
    nowhere = {"start_time": "2030-01-01", "end_time": "2030-02-01"}
    with pytest.raises(DataError, match=r"no entity row between .*2030"):
        run_locally(training_pipeline(MODEL), nowhere)


def test_a_batch_outside_its_gates_stops_the_pipeline_with_a_table(tmp_path, home, monkeypatch):
    monkeypatch.setenv("ZEROSKEW_HOME", str(tmp_path))
    knobs = tmp_path / "data/tickets/knobs.json"
    knobs.parent.mkdir(parents=True)
    knobs.write_text(json.dumps({"broken_from_day": 20}))
    events = []
    with pytest.raises(ValidationFailed) as caught:
        run_locally(training_pipeline(MODEL), FIRST, on_event=events.append)
    text = str(caught.value)
    assert "agent_load" in text
    assert "out of range" in text
    assert "≤ 1 %" in text
    ran = [event.step for event in events if event.kind == "started"]
    assert ran[-1] == "gate: training set"
    assert "train" not in ran
    (report,) = tmp_path.glob("runs/*/*/validate-training-set/report")
    assert "agent_load" in report.read_text()


def test_a_source_cut_short_stops_the_pipeline_at_its_gate(first, tmp_path, home, monkeypatch):
    monkeypatch.setenv("ZEROSKEW_HOME", str(tmp_path))
    shutil.copytree(home / "data", tmp_path / "data")
    source = tmp_path / "data/tickets/agents.parquet"
    source.write_bytes(source.read_bytes()[:-100])
    events = []
    with pytest.raises(ValidationFailed, match=r"agents +readable(.|\n)*cut\s+short"):
        run_locally(training_pipeline(MODEL), FIRST, on_event=events.append)
    assert [e.step for e in events if e.kind == "started"][-1] == "gate: sources"


@pytest.mark.slow
def test_interrupted_while_ray_trains_it_leaves_no_process(first, home, tmp_path):
    """Ctrl-C in the middle of a search: Ray's servers and workers are gone with the rest."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import signal, sys
            from pipelines.run import run_locally
            from pipelines.training import training_pipeline

            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                run_locally(training_pipeline({str(MODEL)!r}), {FIRST!r}, {str(tmp_path)!r})
            except KeyboardInterrupt:
                sys.exit(130)
            """
        )
    )
    process = subprocess.Popen([sys.executable, str(script)], cwd=MODEL.parents[4])
    try:
        wait_for(lambda: any("raylet" in c for c in below(process.pid).values()), 240)
        running = set(below(process.pid))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        wait_for(lambda: not running & set(living()), 10)
        assert len(running) > 4
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def living():
    """Process id → (parent, command), zombies left out."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if state != "Z":
            found[int(entry.name)] = (int(parent), command)
    return found


def below(root):
    """Process id → command of everything below a process."""
    every, found, edge = living(), {}, {root}
    while edge := {pid for pid, (parent, _) in every.items() if parent in edge} - set(found):
        found |= {pid: every[pid][1] for pid in edge}
    return found


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
