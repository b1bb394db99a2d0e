"""Steps of the tickets model called as functions: what each says about data that is wrong."""

import importlib.util
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper

from zeroskew.batch_prediction import score_entity_rows
from zeroskew.errors import ConfigError, DataError, SchemaError
from zeroskew.steps.ingest import ingest_entity_rows
from zeroskew.steps.validate_sources import validate_feature_sources

pytestmark = pytest.mark.integration
MODEL = Path(__file__).parent / "models/tickets"
RANGE = ("2024-01-05", "2024-01-25")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    spec = importlib.util.spec_from_file_location("_tickets_data", MODEL / "data.py")
    data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(data)
    data.prepare(str(folder))
    return {path.stem: pl.read_parquet(path) for path in (folder / "tickets").glob("*.parquet")}


@pytest.fixture
def data(tables, tmp_path, monkeypatch):
    """The tables in a home of the test's own, to be spoilt."""
    for name in ("DATA", "REGISTRY", "REDIS", "MLFLOW"):
        monkeypatch.delenv(f"ZEROSKEW_{name}", raising=False)
    monkeypatch.setenv("ZEROSKEW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZEROSKEW_REDIS", "127.0.0.1:1")
    folder = tmp_path / "home/data/tickets"
    folder.mkdir(parents=True)
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    return folder


def check(data, tmp_path):
    rows = tmp_path / "rows"
    if not rows.exists():
        ingest_entity_rows(MODEL, *RANGE, rows)
    summary = validate_feature_sources(
        MODEL, *RANGE, rows, tmp_path / "findings.json", tmp_path / "report.html"
    )
    found = json.loads((tmp_path / "findings.json").read_text())
    failed = {
        (c["column"], c["measure"], c["value"]) for c in found["checks"] if c["outcome"] == "failed"
    }
    assert summary["failed"] == len(failed)
    assert (found["error"] is None) == (not failed)
    html = (tmp_path / "report.html").read_text()
    assert all(column in html for column, _, _ in failed)
    return failed


def test_good_sources_pass_and_are_counted(data, tmp_path, tables):
    assert check(data, tmp_path) == set()
    rows = pl.col("event_timestamp")
    start, end = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in RANGE)
    near = tables["agents"].filter(rows < end, rows >= start - timedelta(days=2))
    tickets = tables["entity_rows"].filter(rows < end, rows >= start)
    report = (tmp_path / "report.html").read_text()
    assert f"{near.height:,}" in report
    assert f"{tickets.height:,}" in report


def null_first(table, column):
    values = table[column].to_list()
    return table.with_columns(pl.Series(column, [None, *values[1:]], table[column].dtype))


@pytest.mark.parametrize(
    ("table", "spoil", "expected"),
    [
        ("agents", lambda t: t.drop("agent_load"), ("agents.agent_load", "column", "missing")),
        ("agents", lambda t: t.drop("agent"), ("agents.agent", "column", "missing")),
        ("agents", lambda t: t.drop("event_timestamp"),
         ("agents.event_timestamp", "column", "missing")),
        ("agents", lambda t: t.with_columns(pl.col("agent_load").cast(pl.String)),
         ("agents.agent_load", "type", "String")),
        ("agents", lambda t: t.with_columns(pl.col("event_timestamp").cast(pl.String)),
         ("agents.event_timestamp", "type", "String")),
        ("agents", lambda t: null_first(t, "agent"), ("agents.agent", "nulls", "1 of 2,400")),
        ("agents", lambda t: null_first(t, "event_timestamp"),
         ("agents.event_timestamp", "nulls", "1 of 2,400")),
        ("agents", lambda t: t.filter(pl.col("event_timestamp").dt.month() == 2),
         ("agents", "rows in range", "0")),
        ("customers", lambda t: t.clear(), ("customers", "rows in range", "0")),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_source_is_named(data, tmp_path, tables, table, spoil, expected):
    spoil(tables[table]).write_parquet(data / f"{table}.parquet")
    assert expected in check(data, tmp_path)


def test_a_source_that_is_gone_or_cut_short_is_a_finding(data, tmp_path):
    source = data / "agents.parquet"
    source.write_bytes(source.read_bytes()[:-50])
    assert ("agents", "readable", "no") in check(data, tmp_path)
    source.unlink()
    assert ("agents", "readable", "no") in check(data, tmp_path)


def test_entity_rows_without_a_key_are_named(data, tmp_path, tables):
    tables["entity_rows"].drop("customer").write_parquet(data / "entity_rows.parquet")
    assert ("entity rows.customer", "column", "missing") in check(data, tmp_path)


# --- batch prediction ----------------------------------------------------------------------------

NUMERIC, CATEGORICAL = ("agent_load", "log_words"), ("product",)


@pytest.fixture
def graph(tmp_path):
    """A graph whose score is agent_load / 1000: enough to see which row got which features."""
    inputs = [
        helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", len(NUMERIC)]),
        helper.make_tensor_value_info("categorical", TensorProto.INT32, ["batch", 1]),
    ]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [len(NUMERIC), 1], [0.001, 0.0]),
        helper.make_tensor("v", TensorProto.FLOAT, [1, 1], [0.0]),
    ]
    nodes = [
        helper.make_node("MatMul", ["numeric", "w"], ["a"]),
        helper.make_node("Cast", ["categorical"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["c", "v"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["score"]),
    ]
    made = helper.make_graph(nodes, "g", inputs, [output], weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    row = {"numeric": list(NUMERIC), "categorical": list(CATEGORICAL)}
    model.metadata_props.add(key="zeroskew.row", value=json.dumps(row))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def repository(data, monkeypatch):
    from zeroskew.endpoints import Endpoints
    from zeroskew.features.repository import open_repository

    for name, value in Endpoints.from_environment().environment().items():
        monkeypatch.setenv(name, value)
    return open_repository(MODEL)


def score(repository, graph, rows, out, **options):
    return score_entity_rows(
        repository, "tickets", graph, rows.lazy(), out, event_timestamp="event_timestamp", **options
    )


def questions(tables, count=500):
    return tables["entity_rows"].select("agent", "customer", "words", "event_timestamp").sample(
        count, shuffle=True, seed=5
    )  # fmt: skip


def test_each_row_gets_the_features_of_its_own_time(repository, graph, tables, tmp_path):
    rows = questions(tables)
    report = score(repository, graph, rows, tmp_path / "out.parquet", version="3")
    scored = pl.read_parquet(tmp_path / "out.parquet")
    assert scored.columns == [*rows.columns, "score", "model_version"]
    assert scored.select(rows.columns).equals(rows)
    expected = []
    history = tables["agents"].sort("event_timestamp")
    for agent, asked in rows.select("agent", "event_timestamp").iter_rows():
        known = history.filter(
            pl.col("agent") == agent,
            pl.col("created") <= asked,
            pl.col("event_timestamp") >= asked - timedelta(days=2),
        )
        expected.append(known["agent_load"][-1] / 1000 if known.height else math.nan)
    np.testing.assert_allclose(scored["score"].to_numpy(), expected, rtol=1e-5)
    assert report.rows == 500
    assert report.mean_score == pytest.approx(np.mean(expected), rel=1e-5, nan_ok=True)


def test_chunks_change_nothing(repository, graph, tables, tmp_path):
    rows = questions(tables)
    score(repository, graph, rows, tmp_path / "whole.parquet")
    score(repository, graph, rows, tmp_path / "parts.parquet", chunk_rows=77)
    whole, parts = (pl.read_parquet(tmp_path / f"{n}.parquet") for n in ("whole", "parts"))
    assert parts.equals(whole)


def test_no_rows_give_an_empty_file_with_its_columns(repository, graph, tables, tmp_path):
    report = score(repository, graph, questions(tables).clear(), tmp_path / "out.parquet")
    assert report.rows == 0
    scored = pl.read_parquet(tmp_path / "out.parquet")
    assert scored.height == 0
    assert scored.schema["score"] == pl.Float32


def test_other_definitions_are_refused(repository, graph, tables, tmp_path):
    with pytest.raises(ConfigError, match="trained with feature definitions aaaaaaaaaaaa"):
        score(repository, graph, questions(tables), tmp_path / "o", schema_version="a" * 64)
    same = repository.schema_version("tickets")
    score(repository, graph, questions(tables), tmp_path / "o", schema_version=same)


def test_a_graph_that_reads_an_unknown_feature_is_refused(repository, graph, tables, tmp_path):
    model = onnx.load(graph)
    row = {"numeric": ["agent_load", "agent_mood"], "categorical": ["product"]}
    model.metadata_props[0].value = json.dumps(row)
    onnx.save(model, graph)
    with pytest.raises(ConfigError, match="agent_mood, which service tickets does not have"):
        score(repository, graph, questions(tables), tmp_path / "out.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop("agent"), "agent"),
        (lambda rows: rows.drop("words"), "words"),
        (lambda rows: rows.drop("event_timestamp"), "event time"),
        (lambda rows: rows.with_columns(score=1.0), "already have a column 'score'"),
    ],
)
def test_rows_that_cannot_be_asked_leave_no_file(
    repository, graph, tables, tmp_path, change, message
):
    out = tmp_path / "out/scores.parquet"
    with pytest.raises(SchemaError, match=message):
        score(repository, graph, change(questions(tables)), out)
    assert not list(tmp_path.glob("out/*"))


def test_an_interrupted_run_leaves_the_old_file(repository, graph, tables, tmp_path):
    out = tmp_path / "scores.parquet"
    score(repository, graph, questions(tables, 10), out)
    before = out.read_bytes()

    def stop(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(repository, graph, questions(tables), out, chunk_rows=50, on_progress=stop)
    assert out.read_bytes() == before
    assert [p.name for p in tmp_path.glob("*scores*")] == ["scores.parquet"]
    with pytest.raises(DataError, match="cannot be written"):
        score(repository, graph, questions(tables), out / "below.parquet")
