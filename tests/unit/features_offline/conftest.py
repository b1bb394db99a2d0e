"""A small model folder: drivers with hourly statistics, a city, and a request-time function."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

CONFIG = """\
project: taxi
provider: local
registry: ${ZEROSKEW_REGISTRY}
offline_store:
  type: zeroskew.features.offline_store.PolarsOfflineStore
online_store:
  type: redis
  connection_string: ${ZEROSKEW_REDIS}
entity_key_serialization_version: 3
"""

FEATURES = """\
import os
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

DATA = os.environ["ZEROSKEW_DATA"] + "/taxi"

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
city = Entity(name="city", join_keys=["city"], value_type=ValueType.STRING)

stats_source = FileSource(
    name="stats_source",
    path=DATA + "/stats.parquet",
    timestamp_field="event_timestamp",
    created_timestamp_column="created",
    field_mapping={"trip_count": "trips"},
)
stats = FeatureView(
    name="stats",
    entities=[driver],
    ttl=timedelta(hours=6),
    schema=[Field(name="rating", dtype=Float64), Field(name="trips", dtype=Int64)],
    source=stats_source,
)
weather = FeatureView(
    name="weather",
    entities=[city],
    ttl=timedelta(0),
    schema=[Field(name="sky", dtype=String)],
    source=FileSource(
        name="weather_source", path=DATA + "/weather.parquet", timestamp_field="event_timestamp"
    ),
)
request = RequestSource(name="request", schema=[Field(name="distance", dtype=Float64)])


@on_demand_feature_view(
    sources=[request, stats],
    schema=[Field(name="weighted", dtype=Float64)],
    mode="python",
)
def weighted(inputs):
    # A comment that changes nothing.
    return {
        "weighted": [
            None if rating is None or rating != rating else rating * distance
            for rating, distance in zip(inputs["rating"], inputs["distance"])
        ]
    }


fares = FeatureService(name="fares", features=[stats, weather, weighted])
plain = FeatureService(name="plain", features=[stats[["rating"]]])
"""

START = datetime(2024, 5, 1, tzinfo=UTC)


def write_data(folder: Path, rows: int = 600) -> None:
    """Hourly rows of 20 drivers, some written late, and a sky over two cities."""
    rng = np.random.default_rng(5)
    hours = rng.integers(0, 24 * 10, rows)
    moments = [START + timedelta(hours=int(h)) for h in hours]
    late = rng.integers(0, 600, rows).tolist()
    written = [m + timedelta(minutes=d) for m, d in zip(moments, late, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(
        {
            "driver_id": rng.integers(0, 20, rows),
            "event_timestamp": moments,
            "created": written,
            "rating": [None if r < 0.05 else round(r, 3) for r in rng.random(rows).tolist()],
            "trip_count": rng.integers(0, 50, rows),
            "unused": rng.random(rows),
        },
        strict=False,
    ).write_parquet(folder / "stats.parquet")
    days = [START + timedelta(days=d) for d in range(12)]
    pl.DataFrame(
        {
            "city": ["oslo", "rome"] * 12,
            "event_timestamp": [d for d in days for _ in range(2)],
            "sky": ["snow", "sun", "rain", "fog"] * 6,
        }
    ).write_parquet(folder / "weather.parquet")


def questions(count: int = 300) -> pl.DataFrame:
    """Labelled entity rows, out of order; the answer comes within two hours."""
    rng = np.random.default_rng(6)
    waits = rng.integers(1, 120, count).tolist()
    moments = [START + timedelta(minutes=int(m)) for m in rng.integers(0, 60 * 24 * 10, count)]
    return pl.DataFrame(
        {
            "driver_id": rng.integers(0, 24, count),
            "city": rng.choice(["oslo", "rome", "nowhere"], count),
            "asked_at": moments,
            "distance": rng.random(count).round(3),
            "tip": rng.integers(0, 2, count),
            "tip_known_at": [m + timedelta(minutes=d) for m, d in zip(moments, waits, strict=True)],
        }
    )


@pytest.fixture
def model_folder(tmp_path, monkeypatch) -> Path:
    """A model's folder with its data; ZEROSKEW_REDIS is not set."""
    folder = tmp_path / "taxi_model"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(CONFIG)
    (folder / "features.py").write_text(FEATURES)
    monkeypatch.setenv("ZEROSKEW_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ZEROSKEW_REGISTRY", str(tmp_path / "state" / "registry.db"))
    monkeypatch.delenv("ZEROSKEW_REDIS", raising=False)
    write_data(tmp_path / "data" / "taxi")
    return folder


@pytest.fixture
def entity_rows() -> pl.DataFrame:
    return questions()
