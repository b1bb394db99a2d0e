"""The audit as a command, as a step and as a pipeline: what it writes, and how it ends."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta

import polars as pl
import pytest

from zeroskew.errors import ConfigError, DataError, ValidationFailed
from zeroskew.features.audit_log import Selection
from zeroskew.features.audit_result import AuditResult

pytestmark = pytest.mark.integration
MODEL_YAML = """
name: rides
description: How long will it take?
feature_service: rides
entity_rows: {path: rows.parquet, event_timestamp: event_timestamp, label: late,
  label_timestamp: label_timestamp, request_columns: [distance]}
"""


@pytest.fixture
def model(stage, monkeypatch):
    """The stage as a model's folder, with the endpoints in the environment."""
    (stage.folder / "model.yaml").write_text(MODEL_YAML)
    for name in ("MLFLOW", "REGISTRY", "RAY"):
        monkeypatch.delenv(f"ZEROSKEW_{name}", raising=False)
    monkeypatch.setenv("ZEROSKEW_HOME", str(stage.home / "home"))
    monkeypatch.setenv("ZEROSKEW_REDIS", stage.redis)
    monkeypatch.setenv("ZEROSKEW_PREDICTION_LOG", str(stage.predictions))
    return stage


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""
    from zeroskew.cli import main

    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zeroskew", "features", "audit", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_the_command_says_what_differs_and_ends_by_it(model, cli, tmp_path):
    code, out, _ = cli(model.folder)
    assert (code, out.strip()) == (4, "no rows in the log for this selection")
    model.materialise()
    model.serve(60)
    code, out, _ = cli(model.folder)
    assert code == 0
    assert "0 of 60 rows differ" in out

    model.drivers = model.drivers.with_columns(pl.col("rating") + 1)
    model.write()
    files = [tmp_path / name for name in ("audit.json", "audit.html", "audit.prom")]
    code, out, _ = cli(
        model.folder, "--version", "1", "--role", "champion", "--out", files[0], "--page",
        files[1], "--metrics", files[2],
    )  # fmt: skip
    assert code == 3
    assert "value_rewritten" in out
    result = AuditResult.from_json(json.loads(files[0].read_text()))
    assert list(result.by_cause) == ["value_rewritten"]
    assert "rating" in files[1].read_text()
    assert f'zeroskew_audit_rows{{model="rides"}} {result.rows}' in files[2].read_text()
    assert cli(model.folder, "--max-mismatch", "1")[0] == 0
    assert cli(model.folder, "--role", "shadow")[0] == 4
    assert cli(model.folder, "--since", "2024-03-08")[0] == 4
    assert cli(model.folder, "--since", "2024-03-08", "--by", "event_time")[0] == 4

    code, _, err = cli(model.folder, "--fraction", "2")
    assert (code, "no share of the requests" in err) == (2, True)
    code, _, err = cli(model.folder, "--tolerance", "float64=x")
    assert (code, "type=number" in err) == (2, True)
    code, _, err = cli(model.folder, "--role", "king")
    assert (code, "Traceback" in err) == (2, False)


def test_a_sample_takes_whole_requests_and_always_the_same(stage, moments):
    until, _ = moments
    stage.materialise()
    stage.serve(400)
    # The same requests, mirrored.
    stage._asked = 0
    stage.serve(400, version="2", role="shadow", at=until + timedelta(seconds=1))
    whole = stage.audit()
    half = stage.audit(selection=Selection(fraction=0.5), examples=10_000)
    assert whole.rows == 800
    assert 250 < half.rows < 550
    assert half.rows == stage.audit(selection=Selection(fraction=0.5)).rows
    other = Selection(fraction=0.5, seed=7)
    assert stage.audit(selection=other).rows != half.rows
    by_role = [
        stage.audit(selection=Selection(fraction=0.5, roles=(role,))).rows
        for role in ("champion", "shadow")
    ]
    assert by_role[0] == by_role[1] == half.rows / 2
    limited = stage.audit(selection=Selection(limit=200))
    assert limited.fraction == 0.25
    assert 100 < limited.rows < 300


def test_chunks_of_any_size_count_the_same(stage, moments):
    """Over the bounds of files, hours and versions."""
    until, _ = moments
    stage.materialise(until - timedelta(days=1))
    stage.serve(90)
    stage.serve(70, version="2", at=until + timedelta(hours=3))
    told: list[tuple[str, int, int]] = []
    results = [
        stage.audit(chunk_rows=rows, on_progress=lambda *step: told.append(step))
        for rows in (1_000_000, 64, 7)
    ]
    first = results[0]
    assert first.rows == 160
    assert first.different > 100
    for other in results[1:]:
        assert other.features == first.features
        assert (other.different, other.periods) == (first.different, first.periods)
        assert other.examples == first.examples
    assert told[0] == ("rows audited", 0, 160)
    assert told[-1] == ("rows audited", 160, 160)
    assert {total for _, _, total in told} == {160}
    span = Selection(since=until + timedelta(hours=1), until=until + timedelta(hours=4))
    assert stage.audit(selection=span).rows == 70
    by_event = Selection(span.since, span.until, by="event_time")
    assert stage.audit(selection=by_event).rows == 70


def test_files_from_before_the_range_are_not_opened(stage, moments):
    until, _ = moments
    stage.materialise()
    stage.serve(20)
    stage.serve(30, at=until + timedelta(hours=2))
    for path in stage.predictions.rglob("*.parquet"):
        # As if each had been written when its rows were answered; the first is spoilt since.
        early = "hour=12" in str(path)
        if early:
            path.write_bytes(b"spoilt")
        written = until + timedelta(hours=0 if early else 2, seconds=30)
        os.utime(path, (written.timestamp(), written.timestamp()))
    with pytest.raises(DataError, match="no Parquet"):
        stage.audit()
    later = Selection(since=until + timedelta(hours=1))
    assert stage.audit(selection=later).rows == 30
    assert stage.audit(selection=Selection(later.since, by="event_time")).rows == 30


def test_what_the_log_does_not_hold_in_clear_is_not_judged(stage):
    stage.materialise()
    stage.serve(40)
    result = stage.audit(redacted=("rating", "distance"))
    assert set(result.not_audited) == {"rating", "minutes"}
    assert "distance" in result.not_audited["minutes"]
    assert (result.rows, result.different) == (40, 0)
    with pytest.raises(DataError, match="driver"):
        stage.audit(redacted=("driver",))


def test_a_log_that_is_none_is_one_message(stage):
    stage.materialise()
    stage.serve(20)
    stray = next(stage.predictions.rglob("*.parquet")).with_name("stray.parquet")
    stray.write_bytes(b"PAR1 not at all PAR1")
    with pytest.raises(DataError, match=r"stray\.parquet"):
        stage.audit()
    stray.unlink()
    pl.DataFrame({"request_id": ["a"]}).write_parquet(stray)
    with pytest.raises(DataError, match="lacks column"):
        stage.audit()
    with pytest.raises(ConfigError, match="nothing is in it"):
        Selection(*(stage.drivers["event_timestamp"][at] for at in (-1, 0)))


@pytest.mark.timeout(300)
def test_the_pipeline_keeps_its_report_and_fails_at_its_gate(model):
    from pipelines.consistency_audit import consistency_audit_pipeline
    from pipelines.run import run_locally

    model.materialise()
    model.serve(40)
    model.drivers = model.drivers.with_columns(pl.col("trips") + 1)
    model.write()
    day = {"start_time": "2024-03-07", "end_time": "2024-03-08", "version": "1"}
    with pytest.raises(ValidationFailed, match="value_rewritten"):
        run_locally(consistency_audit_pipeline(model.folder), day)
    (report,) = (model.home / "home/runs").rglob("report*")
    assert "value rewritten" in report.read_text()
    findings = json.loads(next((model.home / "home/runs").rglob("findings*")).read_text())
    assert AuditResult.from_json(findings).by_cause == {"value_rewritten": findings["different"]}


def test_versions_whose_logs_have_other_columns(stage, moments):
    """One lacks a feature, a request column and an age; one holds a feature in another type."""
    until, _ = moments
    stage.materialise()
    stage.serve(60)
    stage.serve(60, version="2")
    stage.serve(60, version="3", at=until + timedelta(seconds=1))
    old, wide = (next(stage.predictions.glob(f"*/version={v}/*/*/*.parquet")) for v in "23")
    frame = pl.read_parquet(old, hive_partitioning=False)
    frame.drop("rent", "distance", "age_shops").write_parquet(old)
    frame = pl.read_parquet(wide, hive_partitioning=False)
    frame.with_columns(pl.col("trips").cast(pl.String)).write_parquet(wide)
    result = stage.audit()
    counts = {each.feature: each for each in result.features}
    assert (result.rows, result.not_audited) == (180, {})
    assert [counts[name].values for name in ("rating", "rent", "minutes")] == [180, 120, 120]
    assert {name for name, each in counts.items() if each.different} == {"trips"}
    assert counts["trips"].match + counts["trips"].mismatch == 180
