"""Entity rows of a range: its ends, its messages, and files that cannot be what they should."""

from datetime import UTC, datetime

import polars as pl
import pytest

from zeroskew.errors import DataError, SchemaError
from zeroskew.steps.ingest import ingest_entity_rows, locate

TIME = pl.Datetime("us", "UTC")
DAYS = [datetime(2024, 1, day, tzinfo=UTC) for day in range(1, 11)]


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEROSKEW_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZEROSKEW_DATA", raising=False)
    folder = tmp_path / "tickets"
    folder.mkdir()
    (folder / "model.yaml").write_text(
        "name: tickets\nfeature_service: s\n"
        "entity_rows: {path: tickets/rows.parquet, label: y, event_timestamp: asked}\n"
    )
    (tmp_path / "home/data/tickets").mkdir(parents=True)
    return folder


def rows_file(tmp_path):
    return tmp_path / "home/data/tickets/rows.parquet"


def frame():
    return pl.DataFrame({"asked": DAYS, "y": [0, 1] * 5}, schema_overrides={"asked": TIME})


def test_the_start_is_in_and_the_end_is_out(model, tmp_path):
    frame().sample(fraction=1, shuffle=True, seed=1).write_parquet(rows_file(tmp_path))
    out = tmp_path / "out/rows"
    summary = ingest_entity_rows(model, "2024-01-03", "2024-01-06T02:00:00+02:00", out)
    assert sorted(pl.read_parquet(out)["asked"]) == DAYS[2:5]
    assert summary["rows"] == 3
    assert summary["start_time"] == "2024-01-03T00:00:00+00:00"
    assert summary["end_time"] == "2024-01-06T00:00:00+00:00"
    assert summary["first"].startswith("2024-01-03")
    assert summary["last"].startswith("2024-01-05")


def test_a_folder_of_files_is_read_whole(model, tmp_path):
    folder = rows_file(tmp_path)
    folder.mkdir()
    frame()[:5].write_parquet(folder / "a.parquet")
    frame()[5:].write_parquet(folder / "b.parquet")
    assert ingest_entity_rows(model, "2024-01-01", "2024-02-01", tmp_path / "out")["rows"] == 10


def test_an_empty_range_says_what_there_is(model, tmp_path):
    frame().write_parquet(rows_file(tmp_path))
    with pytest.raises(DataError, match=r"it holds 2024-01-01 00:00:00.* to 2024-01-10"):
        ingest_entity_rows(model, "2025-01-01", "2025-02-01", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (lambda: frame().rename({"asked": "when"}), "no column 'asked'"),
        (lambda: frame().with_columns(pl.col("asked").dt.replace_time_zone(None)), "time zone"),
        (lambda: frame().with_columns(pl.col("asked").cast(pl.String)), "time zone"),
        (lambda: frame().clear(), "it holds none at all"),
    ],
)
def test_rows_that_cannot_be_taken_are_one_message(model, tmp_path, rows, message):
    rows().write_parquet(rows_file(tmp_path))
    with pytest.raises((SchemaError, DataError), match=message):
        ingest_entity_rows(model, "2024-01-01", "2024-02-01", tmp_path / "out")


def test_a_missing_file_and_one_cut_short(model, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        ingest_entity_rows(model, "2024-01-01", "2024-02-01", tmp_path / "out")
    frame().write_parquet(rows_file(tmp_path))
    whole = rows_file(tmp_path).read_bytes()
    for size in (0, 10, len(whole) - 20):
        rows_file(tmp_path).write_bytes(whole[:size])
        with pytest.raises(DataError, match="cut short"):
            ingest_entity_rows(model, "2024-01-01", "2024-02-01", tmp_path / "out")


def test_paths_start_at_the_data_unless_they_are_whole():
    assert locate("a/b.parquet", "s3://bucket/data/") == "s3://bucket/data/a/b.parquet"
    assert locate("/a/b.parquet", "s3://bucket/data") == "/a/b.parquet"
    assert locate("s3://x/b.parquet", "/data") == "s3://x/b.parquet"
