"""A small model's folder with real sources, for everything that talks to an online store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

FEATURES = """
import os
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource
from feast import RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float32, Float64, Int64, String, UnixTimestamp

DATA = os.environ["ZEROSKEW_DATA"]
driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
city = Entity(name="city", join_keys=["city"], value_type=ValueType.STRING)


def source(name, created=""):
    return FileSource(
        name=name, path=f"{DATA}/{name}.parquet", timestamp_field="event_timestamp",
        created_timestamp_column=created, field_mapping={"raw_seats": "seats"},
    )


stats_source = source("stats", "created")
stats_push = PushSource(name="stats_push", batch_source=stats_source)
stats = FeatureView(
    name="stats", entities=[driver], ttl=timedelta(days=2),
    schema=[
        Field(name="driver_id", dtype=Int64), Field(name="trips", dtype=Int64),
        Field(name="rating", dtype=Float64), Field(name="note", dtype=String),
        Field(name="joined", dtype=UnixTimestamp),
    ],
    source=stats_push,
)
car_source = source("cars")
cars = FeatureView(
    name="cars", entities=[driver], ttl=timedelta(0),
    schema=[
        Field(name="driver_id", dtype=Int64), Field(name="seats", dtype=Int64),
        Field(name="power", dtype=Float32),
    ],
    source=car_source,
)
weather_source = source("weather")
weather = FeatureView(
    name="weather", entities=[city], ttl=timedelta(hours=3),
    schema=[Field(name="city", dtype=String), Field(name="wind", dtype=Float64)],
    source=weather_source,
)
archive_source = source("archive")
archive = FeatureView(
    name="archive", entities=[city], online=False,
    schema=[Field(name="city", dtype=String), Field(name="past", dtype=Float64)],
    source=archive_source,
)
asked = RequestSource(name="asked", schema=[Field(name="distance", dtype=Float64)])


def per_trip(inputs):
    return {
        "km_per_trip": [
            None if t in (None, 0) else d / t for d, t in zip(inputs["distance"], inputs["trips"])
        ]
    }


trip = on_demand_feature_view(
    sources=[asked, stats[["trips"]]], schema=[Field(name="km_per_trip", dtype=Float64)],
    mode="python",
)(per_trip)
driver_service = FeatureService(name="driver_service", features=[stats, cars])
everything = FeatureService(name="everything", features=[stats, cars, weather, trip])
"""

STORE = """
project: drivers
provider: local
registry: {folder}/registry.db
offline_store: {{type: {offline}}}
online_store: {{type: redis, connection_string: "${{ZEROSKEW_REDIS}}"}}
entity_key_serialization_version: 3
"""

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def write_sources(data: Path) -> None:
    """Ten drivers with three versions of their stats each; two cities."""
    hours = [0, 5, 10]
    rows = [(d, T0 + timedelta(hours=h), h) for d in range(10) for h in hours]
    pl.DataFrame(
        {
            "driver_id": [d for d, _, _ in rows],
            "event_timestamp": [t for _, t, _ in rows],
            "created": [t + timedelta(minutes=1) for _, t, _ in rows],
            "trips": [100 * d + h for d, _, h in rows],
            "rating": [None if d == 3 else d + h / 10 for d, _, h in rows],
            "note": [None if d == 4 else f"driver {d} é {h}" for d, _, h in rows],
            "joined": [datetime(2020, 1, 1 + d, tzinfo=UTC) for d, _, _ in rows],
        },
        schema_overrides={
            "event_timestamp": pl.Datetime("us", "UTC"),
            "created": pl.Datetime("us", "UTC"),
            "joined": pl.Datetime("us", "UTC"),
        },
    ).write_parquet(data / "stats.parquet")
    pl.DataFrame(
        {
            "driver_id": list(range(8)),
            "event_timestamp": [T0] * 8,
            "raw_seats": [4] * 7 + [None],
            "power": [d * 1.5 for d in range(8)],
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC"), "power": pl.Float32},
    ).write_parquet(data / "cars.parquet")
    for name, column in (("weather", "wind"), ("archive", "past")):
        pl.DataFrame(
            {
                "city": ["Köln", "Rome"],
                "event_timestamp": [T0 + timedelta(hours=9), T0 + timedelta(hours=10)],
                column: [3.5, 9.0],
            },
            schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
        ).write_parquet(data / f"{name}.parquet")


@pytest.fixture
def offline_type():
    """Offline store of the model; tests that must not care about it parametrize this."""
    return "zeroskew.features.offline_store.PolarsOfflineStore"


@pytest.fixture
def model(tmp_path, valkey_address, offline_type, monkeypatch):
    """Folder of the model; its data, registry and online store are this test's own."""
    folder = tmp_path / "drivers"
    data = tmp_path / "data"
    folder.mkdir()
    data.mkdir()
    (folder / "features.py").write_text(FEATURES)
    (folder / "feature_store.yaml").write_text(STORE.format(folder=tmp_path, offline=offline_type))
    write_sources(data)
    monkeypatch.setenv("ZEROSKEW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZEROSKEW_DATA", str(data))
    monkeypatch.setenv("ZEROSKEW_REGISTRY", str(tmp_path / "registry.db"))
    monkeypatch.setenv("ZEROSKEW_REDIS", valkey_address)
    return folder
