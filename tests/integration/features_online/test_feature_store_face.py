"""The simple face: training data, online values, push; the two sides agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import polars as pl
import pytest

from zeroskew.errors import ConfigError, FeatureStoreError, SchemaError
from zeroskew.features.store import FeatureStore

pytestmark = pytest.mark.integration

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = T0 + timedelta(hours=11)


@pytest.fixture
def store(model):
    made = FeatureStore(model)
    made.materialise(end=NOW)
    return made


def test_one_entity_is_values_and_many_are_lists(store):
    one = store.get_online_features(3, ["trips", "rating", "cars:seats"], now=NOW)
    assert one == {"trips": 310, "rating": None, "seats": 4}
    many = store.get_online_features([1, 99, 1], ["trips"], now=NOW)
    assert many == {"trips": [110, None, 110]}
    assert store.get_online_features({"driver_id": 2}, "trips", now=NOW) == {"trips": 210}
    rows = [{"driver_id": 1, "city": "Rome"}, {"driver_id": 2, "city": "Oslo"}]
    assert store.get_online_features(rows, ["wind", "trips"], now=NOW) == {
        "wind": [9.0, None],
        "trips": [110, 210],
    }


def test_a_stale_value_is_none_as_in_training(store):
    late = T0 + timedelta(hours=10) + timedelta(days=2)
    assert store.get_online_features(1, "trips", now=late) == {"trips": 110}
    later = late + timedelta(microseconds=1)
    assert store.get_online_features(1, ["trips", "seats"], now=later) == {
        "trips": None,
        "seats": 4,
    }
    for moment, value in ((late, 110), (later, None)):
        rows = pl.DataFrame({"driver_id": [1], "event_timestamp": [moment]})
        joined = store.join(rows, ["trips"])
        assert joined.get_column("trips").to_list() == [value]


def test_a_service_with_a_request_time_feature(store):
    entity = {"driver_id": 1, "city": "Rome"}
    answer = store.get_online_features(entity, "everything", request={"distance": 220.0}, now=NOW)
    assert answer["km_per_trip"] == 2.0
    assert list(answer) == [
        "trips", "rating", "note", "joined", "seats", "power", "wind", "km_per_trip",
    ]  # fmt: skip
    nobody = {"driver_id": 99, "city": "Rome"}
    assert (
        store.get_online_features(nobody, "everything", request={"distance": 1.0}, now=NOW)[
            "km_per_trip"
        ]
        is None
    )
    with pytest.raises(SchemaError, match="request column distance is not given"):
        store.get_online_features(entity, "everything")
    assert store.plan("everything").transforms[0].function == "features.py:per_trip"


def test_training_rows_are_the_moments_of_change(store):
    """Stats are recorded a minute after they are true, and not known before."""
    minute = timedelta(minutes=1)
    frame = store.get_training_data([1, 3], ["trips", "seats"], T0, T0 + timedelta(hours=6))
    assert frame.columns == ["driver_id", "event_timestamp", "trips", "seats"]
    assert frame.rows() == [
        (1, T0, None, 4),
        (3, T0, None, 4),
        (1, T0 + minute, 100, 4),
        (3, T0 + minute, 300, 4),
        (1, T0 + timedelta(hours=5) + minute, 105, 4),
        (3, T0 + timedelta(hours=5) + minute, 305, 4),
    ]


def test_training_rows_at_given_moments_keep_their_order(store):
    ids = pl.DataFrame(
        {
            "driver_id": [3, 1, 3],
            "event_timestamp": [T0 + timedelta(hours=h) for h in (7, 2, 30)],
        }
    )
    for given in (ids, ids.to_pandas(), ids.to_dict(as_series=False)):
        frame = store.get_training_data(given, "trips", T0, T0 + timedelta(days=1))
        assert frame.get_column("trips").to_list() == [305, 100]


@pytest.mark.parametrize("kind", [pl.DataFrame, pd.DataFrame, dict])
def test_pushed_values_are_served_at_once_and_feast_sees_them(store, kind):
    columns = {
        "driver_id": [1, 500],
        "event_timestamp": [NOW, NOW],
        "created": [NOW, NOW],
        "trips": [7, 8],
        "rating": [0.5, None],
        "note": ["a", None],
        "joined": [T0, T0],
    }
    frame = columns if kind is dict else kind(columns)
    assert store.push("stats_push", frame)["stats"].written == 2
    answer = store.get_online_features([1, 500], ["trips", "rating"], now=NOW)
    assert answer == {"trips": [7, 8], "rating": [0.5, None]}
    feasts = store.repository.store.get_online_features(
        features=["stats:trips"], entity_rows=[{"driver_id": 500}]
    ).to_dict()
    assert feasts["trips"] == [8]


def test_what_feast_pushes_we_read(store):
    frame = pd.DataFrame(
        {
            "driver_id": [2], "event_timestamp": [pd.Timestamp(NOW)], "trips": [9],
            "created": [pd.Timestamp(NOW)], "rating": [1.0], "note": ["x"],
            "joined": [pd.Timestamp(T0)],
        }
    )  # fmt: skip
    store.repository.store.push("stats_push", frame)
    assert store.get_online_features(2, "trips", now=NOW) == {"trips": 9}


def test_mistakes_are_named(store):
    with pytest.raises(ConfigError, match="did you mean rating"):
        store.get_online_features(1, ["ratin"])
    with pytest.raises(ConfigError, match="no feature is asked for"):
        store.get_online_features(1, [])
    with pytest.raises(SchemaError, match="needs 2 keys"):
        store.get_online_features(1, ["wind", "trips"])
    with pytest.raises(SchemaError, match="another type"):
        store.get_online_features("one", ["trips"])
    with pytest.raises(ConfigError, match="is not before end_time"):
        store.get_training_data([1], "trips", T0, T0)
    with pytest.raises(FeatureStoreError, match="no row falls into"):
        store.get_training_data([1], "trips", T0 - timedelta(days=9), T0 - timedelta(days=8))
    with pytest.raises(SchemaError, match="key column driver_id is missing"):
        store.get_training_data(pl.DataFrame({"id": [1]}), "trips", T0, NOW)
    with pytest.raises(SchemaError, match="not those of the source"):
        store.push("stats_push", {"driver_id": [1], "event_timestamp": [NOW]}, to="offline")
    with pytest.raises(SchemaError, match="is missing"):
        store.push("stats_push", {"driver_id": [1], "event_timestamp": [NOW]})
