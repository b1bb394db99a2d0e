"""Parquet, Delta and Iceberg, on disk and in a real bucket: the same rows, the same join."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feast import FileSource
from feast.data_format import DeltaFormat, ParquetFormat
from feast.infra.data_sources.contrib.iceberg_catalog.iceberg_source import IcebergSource

from zeroskew.errors import ConfigError, DataError, SchemaError
from zeroskew.features import source_writing
from zeroskew.features.join import JoinView, point_in_time_join
from zeroskew.features.sources import column_types, place_of, scan_source, storage_options

pytestmark = pytest.mark.integration
START = datetime(2024, 5, 1, tzinfo=UTC)


def table(rows: int = 400, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    minutes = rng.integers(0, 9000, rows).tolist()
    return pl.DataFrame(
        {
            "driver_id": rng.integers(0, 30, rows),
            "event_timestamp": [START + timedelta(minutes=m) for m in minutes],
            "rating": rng.random(rows),
            "name": rng.choice(["ada", "bob", "zoë"], rows),
            "unused": rng.random(rows),
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )  # fmt: skip


QUESTIONS = pl.DataFrame(
    {
        "driver_id": list(range(32)),
        "event_timestamp": [START + timedelta(minutes=5000 + 7 * i) for i in range(32)],
    }
)


def joined(source, repo="/") -> pl.DataFrame:
    view = JoinView(
        "drivers",
        scan_source(source, repo),
        {"driver_id": "driver_id"},
        {"rating": "rating", "name": "name"},
        "event_timestamp",
        ttl=timedelta(days=2),
        where=place_of(source, repo),
    )
    return point_in_time_join(QUESTIONS, [view])


@pytest.fixture
def expected(tmp_path) -> pl.DataFrame:
    path = tmp_path / "plain" / "expected.parquet"
    path.parent.mkdir()
    table().write_parquet(path)
    result = joined(FileSource(path=str(path), timestamp_field="event_timestamp"))
    assert 5 < result["rating"].null_count() + 10 < 32
    return result


@pytest.fixture(params=["disk", "s3"])
def root(request, tmp_path) -> str:
    """Where a table goes: a folder, or a prefix of a bucket."""
    return request.getfixturevalue("s3") if request.param == "s3" else str(tmp_path)


def source_at(path: str, **said) -> FileSource:
    return FileSource(path=path, timestamp_field="event_timestamp", **said)


def options(path: str) -> dict[str, str] | None:
    return storage_options(source_at(path)) or None


def test_one_parquet_file(root, expected):
    path = f"{root}/drivers.parquet"
    table().write_parquet(path, storage_options=options(path), mkdir=True)
    source = source_at(path)
    assert joined(source).equals(expected)
    assert dict(column_types(source, "/"))["name"] == "string"


def test_a_folder_of_parquet_files(root, expected):
    whole = table()
    for number, part in enumerate([whole[:100], whole[100:250], whole[250:]]):
        path = f"{root}/drivers/year=2024/part-{number}.parquet"
        part.write_parquet(path, storage_options=options(path), mkdir=True)
    source = source_at(f"{root}/drivers", file_format=ParquetFormat())
    assert joined(source).equals(expected)
    assert dict(column_types(source, "/"))["year"] == "int64"


def test_a_delta_table(root, expected):
    path = f"{root}/delta"
    table()[:150].write_delta(path, storage_options=options(path))
    table()[150:].write_delta(path, storage_options=options(path), mode="append")
    source = source_at(path, file_format=DeltaFormat())
    assert joined(source).sort("driver_id").equals(expected.sort("driver_id"))
    assert dict(column_types(source, "/"))["event_timestamp"] == "timestamp[us, tz=UTC]"
    if "://" not in path:
        assert joined(source_at(path)).equals(joined(source))
    source_writing.append(source, QUESTIONS.head(1).with_columns(
        rating=pl.lit(9.5), name=pl.lit("new"), unused=pl.lit(0.0),
    ).select(table().columns).to_arrow(), "/")  # fmt: skip
    assert joined(source)["rating"].to_list()[0] == 9.5


@pytest.fixture
def catalog(tmp_path, root):
    """An Iceberg catalog in SQLite; its warehouse is a folder or the bucket."""
    from pyiceberg.catalog import load_catalog

    properties = {"uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"{root}/iceberg"}
    if "://" in root:
        from zeroskew.features.sources import _iceberg_properties

        properties |= _iceberg_properties(storage_options(source_at(root)))
    else:
        properties["warehouse"] = f"file://{root}/iceberg"
    catalog = load_catalog("lake", type="sql", **properties)
    catalog.create_namespace("taxi")
    made = catalog.create_table("taxi.drivers", schema=table().to_arrow().schema)
    made.append(table()[:150].to_arrow())
    made.append(table()[150:].to_arrow())
    return catalog, properties


def iceberg_source(properties) -> IcebergSource:
    return IcebergSource(
        name="drivers",
        catalog_type="sql",
        catalog_name="lake",
        warehouse=properties["warehouse"],
        namespace="taxi",
        table="drivers",
        catalog_properties=properties,
        timestamp_field="event_timestamp",
    )


def test_an_iceberg_table_of_a_catalog(catalog, expected):
    _, properties = catalog
    source = iceberg_source(properties)
    assert joined(source).equals(expected)
    assert place_of(source, "/").endswith("taxi.drivers")
    row = QUESTIONS.head(1).with_columns(rating=pl.lit(9.5), name=pl.lit("new"), unused=pl.lit(0.0))
    source_writing.append(source, row.to_arrow(), "/")
    assert joined(source)["rating"].to_list()[0] == 9.5


def test_an_iceberg_table_by_its_metadata_file(catalog, expected):
    made = catalog[0].load_table("taxi.drivers")
    source = source_at(made.metadata_location)
    assert joined(source).equals(expected)
    with pytest.raises(ConfigError, match="cannot be written to"):
        source_writing.append(source, table().to_arrow(), "/")
    folder = made.location().removeprefix("file://")
    if "://" not in folder:
        with pytest.raises(ConfigError, match="is the folder of an Iceberg table"):
            scan_source(source_at(folder), "/")


def test_a_snapshot_does_not_move_under_a_running_join(catalog):
    made, properties = catalog
    frame = scan_source(iceberg_source(properties), "/")
    made.load_table("taxi.drivers").append(table(10, seed=9).to_arrow())
    assert frame.collect().height == 400


def test_writing_and_reading_back_in_a_bucket(s3):
    """A file grows, a folder gets another file; a saved dataset is replaced."""
    from feast.errors import SavedDatasetLocationAlreadyExists

    rows = table(10).to_arrow()
    for path in (f"{s3}/new/one.parquet", f"{s3}/new/folder"):
        source = source_at(path)
        for count in (10, 20, 30):
            source_writing.append(source, rows, "/")
            assert scan_source(source, "/").collect().height == count
        with pytest.raises(SavedDatasetLocationAlreadyExists):
            source_writing.overwrite(source, rows, "/", allow_overwrite=False)
        source_writing.overwrite(source, rows, "/", allow_overwrite=True)
        assert scan_source(source, "/").collect().height == 10


def test_an_endpoint_of_the_sources_own(s3, s3_endpoint, monkeypatch, expected):
    path = f"{s3}/own.parquet"
    table().write_parquet(path, storage_options=options(path))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert joined(source_at(path, s3_endpoint_override=s3_endpoint)).equals(expected)


@pytest.mark.parametrize(
    "path", ["nothing.parquet", "nothing", "nothing/*.parquet", "nothing.metadata.json"]
)
def test_tables_that_are_not_there(root, path):
    with pytest.raises(DataError) as caught:
        scan_source(source_at(f"{root}/{path}"), "/")
    assert f"{root}/{path}" in str(caught.value)


@pytest.mark.parametrize("path", ["nothing", "nothing.parquet"])
def test_a_join_with_a_table_that_is_not_there(root, path):
    with pytest.raises(DataError) as caught:
        joined(source_at(f"{root}/{path}"))
    assert f"{root}/{path}" in str(caught.value)


def test_a_delta_table_that_is_not_there(root):
    with pytest.raises(DataError) as caught:
        joined(source_at(f"{root}/nothing", file_format=DeltaFormat()))
    assert f"{root}/nothing" in str(caught.value)


def test_a_folder_without_parquet(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no Parquet file"):
        scan_source(source_at(str(tmp_path / "empty")), "/")


def test_wrong_credentials(s3, monkeypatch):
    path = f"{s3}/secret.parquet"
    table().write_parquet(path, storage_options=options(path))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(DataError) as caught:
        joined(source_at(path))
    assert "secret.parquet" in str(caught.value)
    assert "cannot be read" in str(caught.value)


def test_a_parquet_cut_short_in_a_bucket(s3, tmp_path):
    from pyarrow import fs

    local = tmp_path / "whole.parquet"
    table().write_parquet(local)
    filesystem, path = source_writing._filesystem(f"{s3}/cut.parquet", options(s3))
    assert isinstance(filesystem, fs.S3FileSystem)
    with filesystem.open_output_stream(path) as stream:
        stream.write(local.read_bytes()[:-25])
    with pytest.raises(DataError, match=r"cut\.parquet: cannot be read"):
        joined(source_at(f"{s3}/cut.parquet"))


def test_files_of_one_folder_that_disagree(tmp_path):
    table(10).write_parquet(tmp_path / "t" / "a.parquet", mkdir=True)
    later = table(10).with_columns(pl.col("driver_id").cast(pl.Int32), extra=pl.lit(1))
    later.drop("unused").write_parquet(tmp_path / "t" / "b.parquet")
    frame = scan_source(source_at(str(tmp_path / "t")), "/").collect()
    assert frame.height == 20
    assert frame.schema["driver_id"] == pl.Int64
    assert frame["unused"].null_count() == 10
    text = table(10).with_columns(pl.col("driver_id").cast(pl.String))
    text.write_parquet(tmp_path / "t" / "c.parquet")
    with pytest.raises((DataError, SchemaError), match="driver_id"):
        joined(source_at(str(tmp_path / "t")))


def test_paths_start_at_the_repository(tmp_path, expected):
    table().write_parquet(tmp_path / "repo" / "data" / "d.parquet", mkdir=True)
    assert joined(source_at("data/d.parquet"), Path(tmp_path / "repo")).equals(expected)


def wipe(path: Path, unwanted, always: str = "") -> bytes:
    """The file with the bytes of unwanted row groups, and of one column, made unreadable."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    spoilt = bytearray(path.read_bytes())
    wiped = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for position in range(group.num_columns):
            column = group.column(position)
            if unwanted(group) or column.path_in_schema == always:
                start = column.dictionary_page_offset or column.data_page_offset
                size = column.total_compressed_size
                spoilt[start : start + size] = bytes(size)
                wiped += 1
    assert wiped > 60
    return bytes(spoilt)


def test_only_what_is_asked_for_is_read(tmp_path):
    """Row groups outside the questions' time and columns not named are skipped."""
    path = tmp_path / "big.parquet"
    rows = table(50_000).sort("event_timestamp")
    rows.write_parquet(path, row_group_size=1000)
    late = START + timedelta(minutes=6500)
    early = START + timedelta(minutes=1000)

    def outside(group) -> bool:
        times = group.column(1).statistics
        return times.min > late or times.max < early

    spoilt = wipe(path, outside, always="unused")
    before = joined(source_at(str(path)))
    path.write_bytes(spoilt)
    assert joined(source_at(str(path))).equals(before)


def test_few_keys_are_looked_up_in_few_row_groups(tmp_path):
    """In a table ordered by key, only the row groups of the asked keys are read."""
    path = tmp_path / "big.parquet"
    table(50_000).sort("driver_id").write_parquet(path, row_group_size=500)
    asked = QUESTIONS.filter(pl.col("driver_id").is_in([3, 4]))

    def answer() -> pl.DataFrame:
        view = JoinView(
            "drivers",
            scan_source(source_at(str(path)), "/"),
            {"driver_id": "driver_id"},
            {"rating": "rating", "name": "name"},
            "event_timestamp",
        )
        return point_in_time_join(asked, [view])

    before = answer()
    assert before["rating"].null_count() == 0
    spoilt = wipe(path, lambda group: group.column(0).statistics.min > 4)
    path.write_bytes(spoilt)
    assert answer().equals(before)
