"""Feast's own API over the Polars offline store: retrieval, ranges, SQL, pulling, writing."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from feast import FeatureView, Field, FileSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.types import Int64

from zeroskew.errors import ConfigError, DataError, FeatureStoreError, SchemaError
from zeroskew.features.repository import open_repository

START = datetime(2024, 5, 1, tzinfo=UTC)
REFS = ["stats:rating", "stats:trips", "weather:sky"]


@pytest.fixture
def store(model_folder):
    return open_repository(model_folder).store


@pytest.fixture
def rows(entity_rows) -> pd.DataFrame:
    return entity_rows.rename({"asked_at": "event_timestamp"}).drop("tip_known_at").to_pandas()


def data(name: str) -> Path:
    return Path(os.environ["ZEROSKEW_DATA"]) / "taxi" / name


def polars(job) -> pl.DataFrame:
    return pl.DataFrame(job.to_arrow())


def test_rows_come_back_once_in_order_with_their_columns(store, rows):
    rows = pd.concat([rows, rows.head(20)], ignore_index=True)
    result = store.get_historical_features(rows, REFS).to_df()
    assert list(result.columns) == [*rows.columns, "rating", "trips", "sky"]
    pd.testing.assert_frame_equal(
        result[rows.columns], rows, check_dtype=False, check_index_type=False
    )
    assert result["rating"].notna().sum() > 20


def test_full_feature_names_and_services(store, rows):
    full = polars(store.get_historical_features(rows, REFS, full_feature_names=True))
    assert full.columns[-3:] == ["stats__rating", "stats__trips", "weather__sky"]
    short = polars(store.get_historical_features(rows, REFS))
    assert full["stats__trips"].to_list() == short["trips"].to_list()
    service = polars(store.get_historical_features(rows, store.get_feature_service("fares")))
    assert service["sky"].equals(short["sky"])


def test_on_demand_features_with_sources_nobody_asked_for(store, rows):
    """`weighted` needs `rating`, which is fetched for it."""
    result = polars(store.get_historical_features(rows, ["weighted:weighted", "weather:sky"]))
    asked = polars(store.get_historical_features(rows, REFS))
    expected = asked.select(pl.col("rating") * pl.col("distance")).to_series()
    assert result["weighted"].fill_nan(None).equals(expected.alias("weighted"))
    assert "weighted__x" not in result.columns
    full = store.get_historical_features(rows, ["weighted:weighted"], full_feature_names=True)
    assert "weighted__weighted" in polars(full).columns


def test_on_demand_features_without_their_request_column(store, rows):
    from feast.errors import RequestDataNotFoundInEntityDfException

    with pytest.raises(RequestDataNotFoundInEntityDfException, match="distance"):
        store.get_historical_features(rows.drop(columns="distance"), ["weighted:weighted"])


def test_aliases_of_views_and_join_keys(store, rows, model_folder):
    """Two roles of one entity: the same view, joined on two columns."""
    text = (model_folder / "features.py").read_text()
    (model_folder / "features.py").write_text(
        text + '\nrelief = FeatureService(name="relief", features=['
        'stats[["rating"]].with_name("first"), '
        'stats[["rating"]].with_name("relief").with_join_key_map({"driver_id": "relief_id"})])\n'
    )
    store = open_repository(model_folder).store
    rows["relief_id"] = rows["driver_id"].to_numpy()[::-1].copy()
    service = store.get_feature_service("relief")
    result = polars(store.get_historical_features(rows, service, full_feature_names=True))
    assert result.columns[-2:] == ["first__rating", "relief__rating"]
    alone = rows.assign(driver_id=rows["relief_id"])
    expected = polars(store.get_historical_features(alone, ["stats:rating"]))
    assert result["relief__rating"].to_list() == expected["rating"].to_list()


def test_values_written_later_are_kept_out_by_default(store, model_folder):
    """A rating of noon that was written at one is unknown at half past twelve."""
    noon = START + timedelta(hours=12)
    pl.DataFrame(
        {
            "driver_id": [1, 1],
            "event_timestamp": [noon, noon],
            "created": [noon, noon + timedelta(hours=1)],
            "rating": [0.1, 0.9],
            "trip_count": [1, 9],
        }
    ).write_parquet(data("stats.parquet"))
    rows = pd.DataFrame(
        {"driver_id": [1, 1], "event_timestamp": [noon + timedelta(minutes=m) for m in (30, 60)]}
    )
    assert store.get_historical_features(rows, ["stats:trips"]).to_df()["trips"].tolist() == [1, 9]
    config = model_folder / "feature_store.yaml"
    config.write_text(
        config.read_text().replace(
            "Store\nonline", "Store\n  filter_by_created_timestamp: false\nonline"
        )
    )
    leaking = open_repository(model_folder).store
    job = leaking.get_historical_features(rows, ["stats:trips"])
    assert job.to_df()["trips"].tolist() == [9, 9]
    asked = leaking.get_historical_features(rows, ["stats:trips"], filter_by_created_timestamp=True)
    assert asked.to_df()["trips"].tolist() == [1, 9]


def test_entity_rows_of_every_make(store, rows):
    expected = polars(store.get_historical_features(rows, REFS))["trips"].to_list()
    naive = rows.assign(event_timestamp=rows["event_timestamp"].dt.tz_localize(None))
    zoned = rows.assign(event_timestamp=rows["event_timestamp"].dt.tz_convert("Asia/Tokyo"))
    text = rows.assign(event_timestamp=rows["event_timestamp"].map(lambda t: t.isoformat()))
    objects = rows.assign(event_timestamp=rows["event_timestamp"].astype(object))
    renamed = rows.rename(columns={"event_timestamp": "when"})
    narrow = rows.assign(driver_id=rows["driver_id"].astype("int32"))
    nullable = rows.assign(driver_id=rows["driver_id"].astype("Int64"))
    floats = rows.assign(driver_id=rows["driver_id"].astype("float64"))
    indexed = rows.set_index(pd.Index(range(7, 7 + len(rows))))
    for frame in (naive, zoned, text, objects, renamed, narrow, nullable, floats, indexed):
        result = polars(store.get_historical_features(frame, REFS))
        assert result["trips"].to_list() == expected


def test_missing_keys_and_times_get_nulls(store, rows):
    rows = rows.head(4).copy()
    rows["driver_id"] = rows["driver_id"].astype("Int64")
    rows.loc[0, "driver_id"] = pd.NA
    rows.loc[1, "event_timestamp"] = pd.NaT
    result = polars(store.get_historical_features(rows, REFS))
    assert result.height == 4
    assert result["trips"].to_list()[:2] == [None, None]
    assert result["sky"].to_list()[1] is None


def test_entity_rows_as_sql(store, rows, tmp_path):
    path = tmp_path / "asked.parquet"
    pl.from_pandas(rows).write_parquet(path)
    job = store.get_historical_features(
        f"SELECT driver_id, event_timestamp FROM read_parquet('{path}') WHERE driver_id < 10",
        ["stats:trips"],
    )
    expected = polars(store.get_historical_features(rows[rows["driver_id"] < 10], ["stats:trips"]))
    assert polars(job)["trips"].to_list() == expected["trips"].to_list()
    of_source = "SELECT DISTINCT driver_id, MAX(event_timestamp) AS event_timestamp FROM stats"
    of_source += " GROUP BY driver_id"
    assert polars(store.get_historical_features(of_source, ["stats:trips"])).height == 20
    for wrong in ("SELECT * FROM nowhere", "SELEC", "SELECT nothing FROM stats"):
        with pytest.raises(ConfigError, match="SQL of the entity rows") as caught:
            store.get_historical_features(wrong, ["stats:trips"])
        assert "stats" in str(caught.value)


def test_a_range_of_time_instead_of_entity_rows(store):
    source = pl.read_parquet(data("stats.parquet"))
    end = START + timedelta(days=2)
    result = polars(
        store.get_historical_features(
            features=["stats:trips", "stats:rating"], start_date=START, end_date=end
        )
    )
    inside = source.filter(pl.col("event_timestamp").is_between(START, end))
    keys = ["driver_id", "event_timestamp"]
    assert result.select(keys).equals(inside.select(keys).unique().sort(keys[::-1]))
    newest = inside.sort("created").unique(keys, keep="last", maintain_order=True).sort(keys[::-1])
    assert result["trips"].to_list() == newest["trip_count"].to_list()
    with pytest.raises(FeatureStoreError, match="nothing says which"):
        store.get_historical_features(features=REFS, start_date=START, end_date=end)


def test_a_range_without_an_end_reaches_to_now(store):
    result = store.get_historical_features(features=["stats:trips"], start_date=START).to_df()
    source = pl.read_parquet(data("stats.parquet"))
    assert len(result) == source.select("driver_id", "event_timestamp").n_unique()


def test_metadata(store, rows):
    metadata = store.get_historical_features(rows, REFS).metadata
    assert metadata.features == REFS
    assert set(metadata.keys) == {"driver_id", "city", "distance", "tip"}
    assert metadata.min_event_timestamp == rows["event_timestamp"].min()
    assert metadata.max_event_timestamp == rows["event_timestamp"].max()


def test_saved_datasets(store, rows, tmp_path):
    job = store.get_historical_features(rows, store.get_feature_service("fares"))
    path = str(tmp_path / "saved.parquet")
    storage = SavedDatasetFileStorage(path)
    saved = store.create_saved_dataset(job, "saved", storage)
    assert pl.read_parquet(path)["weighted"].null_count() < len(rows)
    again = store.get_saved_dataset("saved").to_df()
    assert len(again) == len(rows)
    assert saved.name == "saved"
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        store.create_saved_dataset(job, "second", storage)
    store.create_saved_dataset(job, "saved", storage, allow_overwrite=True)
    folder = SavedDatasetFileStorage(str(tmp_path / "folder"))
    for _ in range(2):
        store.create_saved_dataset(job, "folder", folder, allow_overwrite=True)
        assert pl.read_parquet(tmp_path / "folder" / "*.parquet").height == len(rows)
    assert sorted(p.name for p in tmp_path.iterdir() if "folder" in p.name) == ["folder"]


def pull_latest(store, start, end, created="created"):
    source = store.get_data_source("stats_source")
    return polars(
        store._get_provider().offline_store.pull_latest_from_table_or_query(
            store.config, source, ["driver_id"], ["rating", "trip_count"],
            "event_timestamp", created, start, end,
        )
    )  # fmt: skip


def test_the_newest_row_of_every_key(store):
    source = pl.read_parquet(data("stats.parquet"))
    start, end = START + timedelta(days=2), START + timedelta(days=4)
    latest = pull_latest(store, start, end)
    inside = source.filter(pl.col("event_timestamp").is_between(start, end))
    expected = inside.sort("event_timestamp", "created").unique("driver_id", keep="last")
    columns = ["driver_id", "rating", "trip_count", "event_timestamp", "created"]
    assert latest.sort("driver_id").equals(expected.select(columns).sort("driver_id"))
    with pytest.raises(SchemaError, match="lacks column 'written'"):
        pull_latest(store, start, end, "written")


def test_every_row_in_a_range(store):
    source = store.get_data_source("stats_source")
    job = store._get_provider().offline_store.pull_all_from_table_or_query(
        store.config, source, ["driver_id"], ["rating"], "event_timestamp"
    )
    assert polars(job).height == 600


def test_writing_rows_to_a_source(store, model_folder):
    def new(**changes):
        row = {
            "driver_id": [99],
            "event_timestamp": [START],
            "created": [START],
            "rating": [0.5],
            "trip_count": [1],
            "unused": [0.0],
        }
        return pa.table(row | changes)

    view = store.get_feature_view("stats")
    write = store._get_provider().offline_store.offline_write_batch
    told = []
    write(store.config, view, new(), told.append)
    assert told == [1]
    frame = pl.read_parquet(data("stats.parquet"))
    assert frame.height == 601
    assert frame.filter(pl.col("driver_id") == 99)["rating"].to_list() == [0.5]
    for wrong, words in (
        (new().drop_columns("rating"), "lack 'rating'"),
        (new(extra=[1]), "have 'extra' in addition"),
        (new(rating=["much"]), "do not fit"),
    ):
        with pytest.raises(SchemaError, match=words):
            write(store.config, view, wrong, None)
    assert pl.read_parquet(data("stats.parquet")).equals(frame)


def test_a_disk_that_fills_while_writing_changes_nothing(store, monkeypatch):
    from zeroskew.features import source_writing

    before = data("stats.parquet").read_bytes()

    def full(table, where):
        Path(where).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(source_writing.pq, "write_table", full)
    row = pl.read_parquet(data("stats.parquet")).head(1).to_arrow()
    write = store._get_provider().offline_store.offline_write_batch
    with pytest.raises(FeatureStoreError, match="No space left on device"):
        write(store.config, store.get_feature_view("stats"), row, None)
    assert data("stats.parquet").read_bytes() == before
    assert sorted(p.name for p in data(".").iterdir()) == ["stats.parquet", "weather.parquet"]


def test_feature_logs(store, tmp_path):
    from feast.feature_logging import FeatureServiceLoggingSource, LoggingConfig
    from feast.infra.offline_stores.file_source import FileLoggingDestination

    service = store.get_feature_service("fares")
    table = pa.table({"driver_id": [1, 2], "__log_date": ["2024-05-01", "2024-05-02"]})
    for number, partition in enumerate((None, ["__log_date"])):
        folder = tmp_path / f"log{number}"
        config = LoggingConfig(
            destination=FileLoggingDestination(path=str(folder), partition_by=partition)
        )
        write = store._get_provider().offline_store.write_logged_features
        source = FeatureServiceLoggingSource(service, "taxi")
        for _ in range(2):
            write(store.config, table, source, config, store.registry)
        read = pl.read_parquet(folder / "**/*.parquet", hive_partitioning=True)
        assert read.height == 4
        assert "__log_date" in read.columns


def test_feast_reads_the_columns_of_a_source(store):
    provider = store._get_provider()
    source = store.get_data_source("stats_source")
    types = dict(provider.get_table_column_names_and_types_from_data_source(store.config, source))
    assert types["driver_id"] == "int64"
    assert types["rating"] == "double"
    assert types["event_timestamp"] == "timestamp[us, tz=UTC]"
    sky = store.get_data_source("weather_source")
    types = dict(provider.get_table_column_names_and_types_from_data_source(store.config, sky))
    assert types["sky"] == "string"
    provider.offline_store.validate_data_source(store.config, source)
    data("stats.parquet").unlink()
    with pytest.raises(DataError, match=r"stats\.parquet: is not there"):
        provider.offline_store.validate_data_source(store.config, source)


@pytest.mark.parametrize("column", ["event_timestamp", "created"])
def test_a_source_without_its_time_columns(store, column):
    frame = pl.read_parquet(data("stats.parquet")).drop(column)
    frame.write_parquet(data("stats.parquet"))
    provider = store._get_provider()
    with pytest.raises(SchemaError, match=f"stats.parquet: lacks column '{column}'"):
        provider.offline_store.validate_data_source(
            store.config, store.get_data_source("stats_source")
        )


def test_views_without_entities(store, tmp_path, rows):
    frame = pl.DataFrame({"event_timestamp": [START, START + timedelta(days=3)], "index": [1, 2]})
    frame.write_parquet(tmp_path / "index.parquet")
    market = FeatureView(
        name="market",
        schema=[Field(name="index", dtype=Int64)],
        source=FileSource(
            name="market_source",
            path=str(tmp_path / "index.parquet"),
            timestamp_field="event_timestamp",
        ),
    )
    store.apply([market])
    result = polars(store.get_historical_features(rows, ["market:index", "stats:trips"]))
    late = pl.col("event_timestamp") >= START + timedelta(days=3)
    expected = result.select(index=pl.when(late).then(2).otherwise(1))
    assert result["index"].to_list() == expected["index"].to_list()
    source = store.get_data_source("market_source")
    pulled = polars(
        store._get_provider().offline_store.pull_latest_from_table_or_query(
            store.config, source, [], ["index"], "event_timestamp", None,
            START, START + timedelta(days=9),
        )
    )  # fmt: skip
    assert pulled["index"].to_list() == [2]
    assert "__dummy_id" in pulled.columns


@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        (lambda r: r.drop(columns="driver_id"), SchemaError, "lacks column 'driver_id'"),
        (lambda r: r.assign(driver_id=r["driver_id"].astype(str)), SchemaError, "key 'driver_id'"),
        (lambda r: r.assign(trips=0), SchemaError, "column 'trips' is in entity rows"),
        (lambda r: r.drop(columns="event_timestamp"), SchemaError, "event_timestamp"),
        (lambda r: r.assign(event_timestamp="soon"), SchemaError, "does not read as time"),
        (lambda r: r.assign(event_timestamp=5), SchemaError, "holds Int64, not time"),
        (
            lambda r: r.assign(driver_id=[[1], "x"] * (len(r) // 2)),
            SchemaError,
            "column 'driver_id' mixes types",
        ),
    ],
)
def test_wrong_entity_rows(store, rows, change, kind, told):
    with pytest.raises(kind) as caught:
        store.get_historical_features(change(rows), REFS).to_df()
    assert told in str(caught.value)


def test_a_declared_type_that_the_table_does_not_hold(store, rows):
    frame = pl.read_parquet(data("stats.parquet")).with_columns(pl.col("rating").cast(pl.String))
    frame.write_parquet(data("stats.parquet"))
    with pytest.raises(SchemaError, match="feature 'rating' is declared Float64") as caught:
        store.get_historical_features(rows, REFS).to_df()
    assert "stats.parquet" in str(caught.value)


def test_a_column_of_whole_numbers_for_a_declared_float(store, rows):
    frame = pl.read_parquet(data("stats.parquet"))
    frame.with_columns(rating=pl.col("trip_count")).write_parquet(data("stats.parquet"))
    result = polars(store.get_historical_features(rows, REFS))
    assert result.schema["rating"] == pl.Float64
