"""Feast's SDK writes, our reader reads: every type, absent entities, aliases, one round trip."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import redis
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import (
    Array,
    Bool,
    Bytes,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    UnixTimestamp,
)
from feast.value_type import ValueType

from zeroskew.errors import FeatureStoreError, OnlineStoreUnavailable, SchemaError
from zeroskew.features.online_reader import (
    MISSING,
    NO_TIME,
    PRESENT,
    STALE,
    OnlineReader,
    connect,
)
from zeroskew.features.read_plan import ReadPlan
from zeroskew.features.read_plan_compiler import compile_plan

pytestmark = pytest.mark.integration

T0 = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
TYPES = {
    "f64": (Float64, [1.5, -0.0, None, 1e300]),
    "f64b": (Float64, [2.5, 3.5, 4.5, 5.5]),
    "f32": (Float32, [0.5, None, 2.25, -8.0]),
    "i64": (Int64, [0, -1, 2**62, None]),
    "i64b": (Int64, [127, 128, -(2**63), 2**63 - 1]),
    "i32": (Int32, [-5, 7, None, 2**31 - 1]),
    "flag": (Bool, [True, False, None, True]),
    "text": (String, ["", "héllo", None, "x" * 500]),
    "blob": (Bytes, [b"", b"\x00\xff", None, b"abc"]),
    "when": (UnixTimestamp, [T0, None, T0 - timedelta(days=9), T0]),
    "floats": (Array(Float64), [[1.0, 2.0], [], None, [3.0]]),
    "ints": (Array(Int64), [[1, -2], [], None, [3]]),
    "words": (Array(String), [["a", "b"], [], None, ["é"]]),
}


@pytest.fixture
def store(tmp_path, valkey_address):
    config = RepoConfig(
        project="types",
        provider="local",
        registry=str(tmp_path / "registry.db"),
        online_store={"type": "redis", "connection_string": valkey_address},
        offline_store={"type": "file"},
        entity_key_serialization_version=3,
    )
    return FeatureStore(config=config)


def source(tmp_path, name):
    return FileSource(name=name, path=str(tmp_path / f"{name}.parquet"), timestamp_field="ts")


@pytest.fixture
def typed(store, tmp_path):
    """A view of every type and one sharing its entity; four drivers, the last without `side`."""
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    frame = pd.DataFrame({"driver_id": [1, 2, 3, 4], "ts": [T0] * 4})
    for name, (_, values) in TYPES.items():
        frame[name] = pd.Series(values, dtype=object)
    everything = FeatureView(
        name="everything",
        entities=[driver],
        ttl=timedelta(days=1),
        schema=[Field(name="driver_id", dtype=Int64)]
        + [Field(name=name, dtype=dtype) for name, (dtype, _) in TYPES.items()],
        source=source(tmp_path, "everything"),
    )
    side = FeatureView(
        name="side",
        entities=[driver],
        ttl=timedelta(0),
        schema=[Field(name="driver_id", dtype=Int64), Field(name="extra", dtype=Int64)],
        source=source(tmp_path, "side"),
    )
    service = FeatureService(name="all", features=[everything, side])
    frame.head(0).astype({"ts": "datetime64[us, UTC]"})[["ts"]].to_parquet(
        tmp_path / "everything.parquet"
    )
    frame[["driver_id", "ts"]].assign(extra=1).to_parquet(tmp_path / "side.parquet")
    store.apply([driver, everything, side, service])
    from feast.infra.online_stores.redis import RedisOnlineStore
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from feast.type_map import python_values_to_proto_values

    online = RedisOnlineStore()
    protos = {
        name: [python_values_to_proto_values([v], dtype.to_value_type())[0] for v in values]
        for name, (dtype, values) in TYPES.items()
    }
    keys = [
        EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=i)]) for i in (1, 2, 3, 4)
    ]
    online.online_write_batch(
        store.config,
        everything,
        [(k, {n: protos[n][i] for n in TYPES}, T0, None) for i, k in enumerate(keys)],
        None,
    )
    online.online_write_batch(
        store.config,
        side,
        [(k, {"extra": Value(int64_val=i)}, T0, None) for i, k in enumerate(keys[:3])],
        None,
    )
    return store, service


def same(ours, theirs):
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours == theirs and np.signbit(ours) == np.signbit(theirs)
    if isinstance(ours, datetime):
        return ours == (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC))
    return ours == theirs and type(ours) is type(theirs)


@pytest.mark.parametrize("asked", [[1], [4, 2, 99, 1, 2, 3], list(range(1, 60)) * 2])
def test_every_type_as_feasts_own_reader_gives_it(typed, asked):
    store, service = typed
    plan = compile_plan(store, service, name="all")
    plan = ReadPlan.from_json(plan.to_json())  # as it reaches the model server
    rows = OnlineReader(connect(store.config.online_store.connection_string), plan).read(
        {"driver_id": asked}
    )
    theirs = store.get_online_features(
        features=service, entity_rows=[{"driver_id": i} for i in asked]
    ).to_dict()
    ours = rows.to_dict()
    assert set(ours) == set(theirs) - {"driver_id"}
    for name, values in ours.items():
        for mine, other in zip(values, theirs[name], strict=True):
            assert same(mine, other), (name, mine, other)


def test_columns_have_their_own_types_and_a_status(typed):
    store, service = typed
    plan = compile_plan(store, service, name="all")
    reader = OnlineReader(connect(store.config.online_store.connection_string), plan)
    rows = reader.read({"driver_id": np.array([1, 4, 77])}, now=T0 + timedelta(days=1))
    assert rows.values["f64b"].dtype == np.float64
    assert rows.values["f32"].dtype == np.float32
    assert rows.values["i64"].dtype == np.int64
    assert rows.values["i32"].dtype == np.int32
    assert rows.values["flag"].dtype == np.bool_
    assert rows.values["when"].dtype == "datetime64[s]"
    assert rows.status["f64b"].tolist() == [PRESENT, PRESENT, MISSING]
    assert rows.status["i64"].tolist() == [PRESENT, MISSING, MISSING]
    assert rows.status["extra"].tolist() == [PRESENT, MISSING, MISSING]
    micros = int(T0.timestamp() * 1e6)
    assert rows.event_times["everything"].tolist() == [micros, micros, NO_TIME]
    assert rows.event_times["side"].tolist() == [micros, NO_TIME, NO_TIME]


def test_a_value_is_stale_the_moment_it_is_older_than_its_ttl(typed):
    store, service = typed
    reader = OnlineReader(
        connect(store.config.online_store.connection_string),
        compile_plan(store, service, name="all"),
    )
    limit = T0 + timedelta(days=1)
    assert reader.read({"driver_id": [1]}, now=limit).status["f64"].tolist() == [PRESENT]
    late = reader.read({"driver_id": [1, 3, 9]}, now=limit + timedelta(microseconds=1))
    assert late.status["f64"].tolist() == [STALE, MISSING, MISSING]
    assert late.values["f64"][0] == 1.5  # what the store holds is still to be seen
    columns = late.columns()
    assert np.isnan(columns["f64"]).all()
    assert columns["i64"] == [None, None, None]
    assert columns["text"] == [None, None, None]
    assert columns["extra"] == [0, 2, None]  # a TTL of zero never expires
    assert late.to_dict(stale=False)["f64"] == [None, None, None]
    assert late.to_dict()["f64"] == [1.5, None, None]


def commands_during(address, call):
    host, _, port = address.rpartition(":")
    watcher = redis.Redis(host=host, port=int(port))
    before = watcher.info("commandstats")
    call()
    after = watcher.info("commandstats")
    names = {k: v["calls"] - before.get(k, {"calls": 0})["calls"] for k, v in after.items()}
    return {k.removeprefix("cmdstat_"): n for k, n in names.items() if n and k != "cmdstat_info"}


def test_views_of_one_entity_and_repeated_entities_are_one_command_each(typed, valkey_address):
    store, service = typed
    reader = OnlineReader(connect(valkey_address), compile_plan(store, service, name="all"))
    reader.read({"driver_id": [1]})
    asked = [1, 2, 1, 1, 2, 3]
    done = commands_during(valkey_address, lambda: reader.read({"driver_id": asked}))
    assert done == {"hmget": 3}


def test_an_alias_two_keys_and_no_key(store, tmp_path, valkey_address):
    """The same view twice under two names, a view with two keys, one without an entity."""
    airport = Entity(name="airport", join_keys=["airport"], value_type=ValueType.STRING)
    carrier = Entity(name="carrier", join_keys=["carrier"], value_type=ValueType.STRING)
    weather = FeatureView(
        name="weather",
        entities=[airport],
        schema=[Field(name="airport", dtype=String), Field(name="wind", dtype=Float64)],
        source=source(tmp_path, "weather"),
    )
    route = FeatureView(
        name="route",
        entities=[carrier, airport],
        schema=[
            Field(name="carrier", dtype=String),
            Field(name="airport", dtype=String),
            Field(name="delay", dtype=Int64),
        ],
        source=source(tmp_path, "route"),
    )
    world = FeatureView(
        name="world",
        entities=[],
        schema=[Field(name="oil", dtype=Float64)],
        source=source(tmp_path, "world"),
    )
    origin = weather.with_name("origin").with_join_key_map({"airport": "from"})
    target = weather.with_name("target").with_join_key_map({"airport": "to"})
    service = FeatureService(name="trip", features=[origin, target, route, world])
    ends = FeatureService(name="ends", features=[origin, target, world])
    leg = FeatureService(name="leg", features=[route, world])
    weather_rows = pd.DataFrame({"airport": ["JFK", "LAX"], "wind": [5.0, 9.0], "ts": [T0, T0]})
    route_rows = pd.DataFrame({"carrier": ["UA"], "airport": ["JFK"], "delay": [3], "ts": [T0]})
    world_rows = pd.DataFrame({"oil": [80.5], "ts": [T0]})
    for name, frame in (("weather", weather_rows), ("route", route_rows), ("world", world_rows)):
        frame.to_parquet(tmp_path / f"{name}.parquet")
    store.apply([airport, carrier, weather, route, world, service, ends, leg])
    store.materialize(T0 - timedelta(days=1), T0 + timedelta(days=1))

    plan = compile_plan(store, service, name="trip", full_feature_names=True)
    assert len(plan.groups) == 4
    assert plan.entity_columns == {
        "from": "string", "to": "string", "airport": "string", "carrier": "string",
    }  # fmt: skip
    given = {
        "from": ["JFK", "LAX", "JFK"],
        "to": ["LAX", "???", "LAX"],
        "airport": ["JFK", "JFK", "JFK"],
        "carrier": ["UA", "XX", "UA"],
    }
    client = connect(valkey_address)
    ours = OnlineReader(client, plan).read(given).to_dict()
    # Feast's SDK mixes the aliases up when the entity is also asked for under its own name, so
    # it judges the two halves of the service.
    for half in (ends, leg):
        part = compile_plan(store, half, name=half.name, full_feature_names=True)
        entity_rows = [{k: given[k][i] for k in part.entity_columns} for i in range(3)]
        theirs = store.get_online_features(
            features=half, entity_rows=entity_rows, full_feature_names=True
        ).to_dict()
        assert {k: ours[k] for k in part.names} == {k: theirs[k] for k in part.names}
    assert ours == {
        "origin__wind": [5.0, 9.0, 5.0],
        "target__wind": [9.0, None, 9.0],
        "route__delay": [3, None, 3],
        "world__oil": [80.5, 80.5, 80.5],
    }


def test_wrong_input_is_named(typed):
    store, service = typed
    reader = OnlineReader(
        connect(store.config.online_store.connection_string),
        compile_plan(store, service, name="all"),
    )
    with pytest.raises(SchemaError, match="driver_id is not given"):
        reader.read({"driver": [1]})
    for wrong in (["a"], [1.5], [2**63], [[1]]):
        with pytest.raises(SchemaError, match=r"driver_id \(int64\)"):
            reader.read({"driver_id": wrong})
    rows = reader.read({"driver_id": [None, 1.0, 1]}, now=T0)  # a null is nobody, 1.0 is 1
    assert rows.status["f64b"].tolist() == [MISSING, PRESENT, PRESENT]
    assert len(reader.read({"driver_id": []})) == 0
    assert reader.read({"driver_id": []}).to_dict()["f64"] == []


def test_a_type_that_changed_is_widened_or_refused(typed, valkey_address):
    """The store still holds what an older definition wrote."""
    store, service = typed
    client = connect(valkey_address)
    plan = compile_plan(store, service, name="all")
    raw = plan.to_json()
    for feature in raw["groups"][0]["features"]:
        if feature["name"] == "i32":
            feature["kind"] = "int64"
        if feature["name"] == "f32":
            feature["kind"] = "float64"
    raw["groups"][0]["features"].sort(key=lambda f: f["kind"])
    wider = OnlineReader(client, ReadPlan.from_json(raw)).read({"driver_id": [1, 2]})
    assert wider.values["i32"].tolist() == [-5, 7]
    assert wider.to_dict()["f32"] == [0.5, None]
    for feature in raw["groups"][0]["features"]:
        if feature["name"] == "text":
            feature["kind"] = "float64"
    raw["groups"][0]["features"].sort(key=lambda f: f["kind"])
    with pytest.raises(FeatureStoreError, match="feature text is float64, the stored value"):
        OnlineReader(client, ReadPlan.from_json(raw)).read({"driver_id": [2]})


def test_a_store_that_is_gone_or_silent_is_said_within_the_deadline(typed, tmp_path):
    import socket
    import time

    from zeroskew.embedded.valkey import EmbeddedValkey

    store, service = typed
    plan = compile_plan(store, service, name="all")
    server = EmbeddedValkey(tmp_path / "mine")
    address = server.start()
    reader = OnlineReader(connect(address), plan, seconds=0.5)
    assert reader.read({"driver_id": [1]}).status["f64"].tolist() == [MISSING]
    server.stop()
    with pytest.raises(OnlineStoreUnavailable, match=address):
        reader.read({"driver_id": [1]})
    server.start()
    assert server.address == address
    reader.read({"driver_id": [1]})  # the same reader, as soon as the store is back
    server.stop()
    server.start()
    reader.read({"driver_id": [1]})  # and over a connection that died unseen
    server.stop()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        deaf = OnlineReader(
            connect(f"127.0.0.1:{silent.getsockname()[1]},socket_timeout=0.5"), plan, seconds=0.5
        )
        started = time.monotonic()
        with pytest.raises(OnlineStoreUnavailable, match="zeroskew up"):
            deaf.read({"driver_id": [1]})
        assert time.monotonic() - started < 3
