"""Feast's own stores as peers: the same answers where Feast is right, and where it is not.

Feast's `duckdb` store is right about matching, TTL, created ties and the created filter; random
histories are joined through both. Its `file` store (Dask) is not: it drops rows whose value expired
or that share key and time, and breaks created ties at random. Those cases are here as small tables,
so that a Feast release that mends them is noticed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Float64, Int64

pytestmark = pytest.mark.integration
START = datetime(2024, 5, 1, tzinfo=UTC)
OURS = "zeroskew.features.offline_store.PolarsOfflineStore"
REFS = ["drives:rating", "drives:trips", "city:index", "both:pair"]


def store(folder: Path, kind: str, **offline) -> FeatureStore:
    return FeatureStore(
        config=RepoConfig(
            project="peers",
            provider="local",
            registry=str(folder / f"{kind.rpartition('.')[2]}.db"),
            offline_store={"type": kind, **offline},
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
        )
    )


def apply(store: FeatureStore, folder: Path, ttl: timedelta) -> FeatureStore:
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    city = Entity(name="town", join_keys=["town"], value_type=ValueType.STRING)
    views = [
        FeatureView(
            name=name,
            entities=entities,
            ttl=limit,
            schema=[Field(name=n, dtype=t) for n, t in fields],
            source=FileSource(
                name=f"{name}_source",
                path=str(folder / f"{name}.parquet"),
                timestamp_field="event_timestamp",
                created_timestamp_column="created",
            ),
        )
        for name, entities, limit, fields in (
            ("drives", [driver], ttl, [("rating", Float64), ("trips", Int64)]),
            ("city", [city], timedelta(0), [("index", Int64)]),
            ("both", [driver, city], ttl, [("pair", Float64)]),
        )
    ]
    store.apply([driver, city, *views])
    return store


def history(rng, rows: int, keys: dict, **values) -> pl.DataFrame:
    """Rows over ten days on a coarse grid, so that ties in event time are common."""
    event = rng.integers(0, 240, rows) * 3600
    # Distinct creation times: of two rows with equal times Feast takes either.
    created = event + rng.permutation(rows) * 60 - rows * 20
    return pl.DataFrame(
        {
            **{name: rng.choice(options, rows) for name, options in keys.items()},
            "event_timestamp": [START + timedelta(seconds=int(s)) for s in event],
            "created": [START + timedelta(seconds=int(s)) for s in created],
            **{name: make(rows) for name, make in values.items()},
        }
    )


@pytest.fixture
def tables(tmp_path, request) -> pl.DataFrame:
    rng = np.random.default_rng(request.param)
    drivers, towns = np.arange(12), np.array(["oslo", "rome", "bern"])
    history(
        rng, 300, {"driver_id": drivers}, rating=rng.random, trips=lambda n: rng.integers(0, 99, n)
    ).write_parquet(tmp_path / "drives.parquet")
    history(rng, 60, {"town": towns}, index=lambda n: rng.integers(0, 99, n)).write_parquet(
        tmp_path / "city.parquet"
    )
    history(rng, 300, {"driver_id": drivers, "town": towns}, pair=rng.random).write_parquet(
        tmp_path / "both.parquet"
    )
    minutes = rng.integers(-600, 60 * 24 * 11, 250)
    return pl.DataFrame(
        {
            "driver_id": rng.integers(0, 14, 250),
            "town": rng.choice([*towns, "nowhere"], 250),
            "event_timestamp": [START + timedelta(minutes=int(m)) for m in minutes // 60 * 60],
            "row": np.arange(250),
        }
    )


def answers(store: FeatureStore, rows: pl.DataFrame, **options) -> pl.DataFrame:
    job = store.get_historical_features(rows.to_pandas(), REFS, **options)
    result = pl.DataFrame(job.to_arrow()).sort("row")
    names = [ref.partition(":")[2] for ref in REFS]
    return result.select("row", *names).with_columns(pl.col("trips", "index").cast(pl.Float64))


@pytest.mark.parametrize("tables", range(4), indirect=True)
@pytest.mark.parametrize("hours", [0, 20])  # not 30: duckdb refuses "1 day and 6 hours"
@pytest.mark.parametrize("filtered", [False, True])
def test_random_histories_join_as_in_feasts_duckdb_store(tables, tmp_path, hours, filtered):
    ttl = timedelta(hours=hours)
    ours = apply(store(tmp_path, OURS, filter_by_created_timestamp=filtered), tmp_path, ttl)
    duck = apply(store(tmp_path, "duckdb"), tmp_path, ttl)
    options = {"filter_by_created_timestamp": True} if filtered else {}
    mine, theirs = answers(ours, tables), answers(duck, tables, **options)
    assert mine.equals(theirs)
    assert 0 < mine["rating"].null_count() < mine.height


@pytest.mark.parametrize("tables", [11], indirect=True)
def test_feast_reads_the_latest_rows_as_we_do(tables, tmp_path):
    """`materialize` pulls the latest rows; both stores hand over the same."""
    pulled = []
    for kind in (OURS, "duckdb"):
        one = apply(store(tmp_path, kind), tmp_path, timedelta(0))
        job = one._get_provider().offline_store.pull_latest_from_table_or_query(
            one.config, one.get_data_source("both_source"), ["driver_id", "town"], ["pair"],
            "event_timestamp", "created", START + timedelta(days=2), START + timedelta(days=7),
        )  # fmt: skip
        columns = ["driver_id", "town", "pair"]
        pulled.append(pl.DataFrame(job.to_arrow()).select(columns).sort(columns))
    assert pulled[0].equals(pulled[1])
    assert pulled[0].height > 10


@pytest.fixture
def small(tmp_path):
    """Write one history of drives; join it through our store and through Feast's file store."""

    def join(source: pl.DataFrame, rows: pd.DataFrame, ttl: timedelta = timedelta(0)):
        source.with_columns(rating=pl.lit(0.0)).write_parquet(tmp_path / "drives.parquet")
        results = []
        for kind in (OURS, "file"):
            one = apply(store(tmp_path, kind), tmp_path, ttl)
            frame = one.get_historical_features(rows, ["drives:trips"]).to_df()
            results.append(frame["trips"].tolist())
        return results

    return join


def drives(*rows) -> pl.DataFrame:
    return pl.DataFrame(
        [(1, START + timedelta(hours=e), START + timedelta(hours=c), v) for e, c, v in rows],
        schema=["driver_id", "event_timestamp", "created", "trips"],
        orient="row",
    )


def asked(*hours, **more) -> pd.DataFrame:
    moments = [START + timedelta(hours=h) for h in hours]
    return pd.DataFrame({"driver_id": [1] * len(hours), "event_timestamp": moments, **more})


def plain(values) -> list:
    return [None if v != v else int(v) for v in values]


def test_feasts_file_store_drops_rows_whose_value_expired(small):
    mine, theirs = small(drives((0, 0, 7)), asked(1, 50), timedelta(hours=2))
    assert plain(mine) == [7, None]
    assert len(theirs) == 1


def test_feasts_file_store_drops_rows_that_share_key_and_time(small):
    mine, theirs = small(drives((0, 0, 7)), asked(1, 1, role=["a", "b"]))
    assert plain(mine) == [7, 7]
    assert len(theirs) == 1


def test_feasts_stores_let_a_backfill_leak_unless_asked_not_to(small):
    """At hour 1 nobody knew the value that was written for hour 0 at hour 9."""
    mine, theirs = small(drives((0, 0, 7), (0, 9, 99)), asked(1, 10))
    assert plain(mine) == [7, 99]
    assert plain(theirs) == [99, 99]
