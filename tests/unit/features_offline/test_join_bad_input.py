"""What is wrong with a table is said once, with the table, the column and the mend."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from zeroskew.errors import DataError, SchemaError
from zeroskew.features.join import JoinView, point_in_time_join
from zeroskew.features.sources import scan_parquet

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
ROWS = pl.DataFrame({"k": [1], "event_timestamp": [NOON]})
SOURCE = pl.DataFrame({"k": [1], "at": [NOON], "written": [NOON], "x": [1.5]})


def view(frame=SOURCE, **changes) -> JoinView:
    said = {
        "name": "drivers",
        "frame": frame.lazy(),
        "keys": {"k": "k"},
        "features": {"x": "x"},
        "timestamp": "at",
        "created_timestamp": "written",
        "where": "data/drivers.parquet",
    }
    return JoinView(**(said | changes))


def complaint(kind, rows=ROWS, *views, **options) -> str:
    with pytest.raises(kind) as caught:
        point_in_time_join(rows, list(views), **options)
    assert caught.value.where
    assert caught.value.mend
    return str(caught.value)


def test_entity_rows_without_event_time():
    text = complaint(SchemaError, ROWS, view(), event_timestamp="asked_at")
    assert "entity rows: lacks column 'asked_at'" in text
    assert "k, event_timestamp" in text


def test_entity_rows_without_a_key_name_the_view_that_wants_it():
    text = complaint(SchemaError, ROWS.rename({"k": "driver"}), view())
    assert "lacks column 'k', which drivers is joined on" in text


@pytest.mark.parametrize("column", ["k", "at", "written", "x"])
def test_a_source_without_a_column(column):
    text = complaint(SchemaError, ROWS, view(SOURCE.drop(column)))
    assert f"drivers (data/drivers.parquet): lacks column '{column}'" in text


def test_text_key_against_number():
    text = complaint(SchemaError, ROWS.cast({"k": pl.String}), view())
    assert "key 'k' is String in the entity rows, but 'k' is Int64" in text
    assert "cast" in text


def test_fractions_are_no_integer_keys():
    rows = pl.DataFrame({"k": [1.5], "event_timestamp": [NOON]})
    assert "key 'k' is Float64" in complaint(SchemaError, rows, view())


@pytest.mark.parametrize("column", ["at", "written"])
def test_numbers_are_no_times(column):
    text = complaint(
        SchemaError, ROWS, view(SOURCE.with_columns(pl.lit(1_700_000_000).alias(column)))
    )
    assert f"drivers (data/drivers.parquet): column '{column}' holds" in text
    assert "from_epoch" in text


def test_text_that_is_no_time():
    rows = ROWS.with_columns(event_timestamp=pl.lit("yesterday"))
    text = complaint(SchemaError, rows, view())
    assert "entity rows: column 'event_timestamp' is text that does not read as time" in text
    assert "yesterday" in text


def test_an_entity_column_named_like_a_feature():
    text = complaint(SchemaError, ROWS.with_columns(x=pl.lit(0.0)), view())
    assert "column 'x' is in entity rows as well as a feature of drivers" in text


def test_two_views_with_a_feature_of_one_name():
    text = complaint(SchemaError, ROWS, view(), view(name="cars"))
    assert "column 'x' is in drivers as well as a feature of cars" in text
    assert "full feature names" in text


def test_a_feature_that_does_not_fit_its_declared_type():
    text = complaint(SchemaError, ROWS, view(types={"x": pl.Int64()}))
    assert "feature 'x' is declared Int64, but the table holds Float64 with values" in text
    text = complaint(SchemaError, ROWS, view(types={"x": pl.String()}))
    assert "feature 'x' is declared String, but the table holds Float64" in text


def test_a_whole_number_in_a_float_column_fits(tmp_path):
    frame = SOURCE.with_columns(x=pl.Series([float("nan")]))
    joined = point_in_time_join(ROWS, [view(frame, types={"x": pl.Int64()})])
    assert joined.get_column("x").to_list() == [None]


def test_a_parquet_cut_short(tmp_path):
    path = tmp_path / "drivers.parquet"
    SOURCE.write_parquet(path)
    path.write_bytes(path.read_bytes()[:-30])
    text = complaint(DataError, ROWS, view(scan_parquet(str(path)), where=str(path)))
    assert f"drivers ({path}): cannot be read" in text
    assert "cut short" in text


def test_a_parquet_with_a_damaged_page(tmp_path):
    path = tmp_path / "drivers.parquet"
    pl.DataFrame({"k": [1] * 5000, "at": [NOON] * 5000, "written": [NOON] * 5000, "x": range(5000)}
    ).write_parquet(path, compression="zstd")  # fmt: skip
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    path.write_bytes(bytes(data))
    assert "cannot be read" in complaint(DataError, ROWS, view(scan_parquet(str(path))))


def test_a_file_that_is_empty_or_no_parquet(tmp_path):
    path = tmp_path / "drivers.parquet"
    for content in (b"", b"driver,x\n1,2\n"):
        path.write_bytes(content)
        assert "cannot be read" in complaint(DataError, ROWS, view(scan_parquet(str(path))))


def test_a_file_that_goes_away_between_opening_and_reading(tmp_path):
    path = tmp_path / "drivers.parquet"
    SOURCE.write_parquet(path)
    frame = scan_parquet(str(path))
    frame.collect_schema()
    path.unlink()
    complaint(DataError, ROWS, view(frame))


def test_a_parquet_with_any_bytes_changed_is_read_or_refused(tmp_path):
    """Nothing but an answer or a DataError, not even where Polars itself panics."""
    path = tmp_path / "drivers.parquet"
    frame = pl.DataFrame(
        {"k": range(2000), "at": [NOON] * 2000, "x": [f"v{i}" for i in range(2000)]}
    )
    frame.write_parquet(path, row_group_size=300)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for attempt in range(120):
        spoilt = bytearray(good)
        if attempt % 2:
            spoilt[rng.integers(len(good) - 2500, len(good))] = rng.integers(0, 256)
        else:
            for _ in range(8):
                spoilt[rng.integers(0, len(good))] = rng.integers(0, 256)
        path.write_bytes(bytes(spoilt))
        source = view(created_timestamp=None, frame=scan_parquet(str(path)))
        try:
            point_in_time_join(ROWS, [source])
        except DataError:
            refused += 1
    assert refused > 30
