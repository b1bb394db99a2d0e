"""What is appended comes back value by value, from any container, and damage stays local."""

from __future__ import annotations

import datetime as dt
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.serving.log_frames import MAGIC, Damage, FrameWriter, PredictionBatch, read_frames
from zeroskew.serving.log_redaction import redactions
from zeroskew.serving.log_schema import LogSchema, LogSettings
from zeroskew.serving.log_tables import HOUR, NO_TIME, segment_tables

NOON = 1_700_000_000_000_000 // HOUR * HOUR
INT64, INT32 = st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
MOMENTS = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC))
VALUES = {
    "int64": INT64,
    "int32": INT32,
    "float64": st.floats(),
    "float32": st.floats(width=32),
    "string": TEXT,
    "bool": st.booleans(),
    "bytes": st.binary(max_size=8),
    "timestamp": MOMENTS | st.integers(-(10**10), 10**10),
    "float64_list": st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    "string_list": st.lists(TEXT, max_size=3),
    "uuid": st.uuids().map(str),
}
DTYPES = {
    "int64": "i8", "int32": "i4", "float64": "f8", "float32": "f4", "bool": "?",
}  # fmt: skip


def schema_of(kinds: dict[str, str], features: int, views: int = 1) -> LogSchema:
    names = tuple(kinds)
    return LogSchema("m", "3", kinds, names[len(names) - features :], ("v", "w")[:views])


def oracle(kind: str, value):
    """What a reader must find, said without Arrow."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if kind == "timestamp":
        if isinstance(value, int):
            return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=value)
        return value
    return (
        json.dumps(value, ensure_ascii=False, separators=(",", ":")) if "_list" in kind else value
    )


def same(kind: str, found, expected) -> bool:
    if kind == "float32" and expected is not None:
        expected = float(np.float32(expected))
    if isinstance(found, float) and isinstance(expected, float):
        return math.copysign(1, found) == math.copysign(1, expected) and found == expected
    return type(found) is type(expected) and found == expected


@st.composite
def batches(draw):
    """Kinds, and some batches of rows of them; each column a list, or an array that holds it."""
    kinds = {
        f"c{i}": kind
        for i, kind in enumerate(draw(st.lists(st.sampled_from(list(VALUES)), max_size=5)))
    }
    features = draw(st.integers(0, len(kinds)))
    made = []
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.sampled_from([1, 1, 2, 3, 40]))
        columns = {}
        for name, kind in kinds.items():
            whole = kind in DTYPES and draw(st.booleans())
            element = VALUES[kind] if whole else st.none() | VALUES[kind]
            distinct = draw(st.lists(element, min_size=1, max_size=4))
            values = [distinct[i % len(distinct)] for i in range(n)]
            columns[name] = np.array(values, DTYPES[kind]) if whole else values
        ages = draw(st.lists(st.none() | st.integers(-(10**9), 10**12), min_size=n, max_size=n))
        hours = draw(st.sampled_from([[0], [0, 1], [0, -1, 30]]))
        times = [NOON + hours[i % len(hours)] * HOUR + i for i in range(n)]
        made.append(
            PredictionBatch(
                request_ids=[draw(TEXT)] * n,
                rows=list(range(n)),
                event_times=times,
                columns=columns,
                status=np.array(
                    draw(st.lists(st.integers(0, 2), min_size=features * n, max_size=features * n)),
                    np.uint8,
                ).reshape(features, n),
                view_times=np.array(
                    [[NO_TIME if a is None else t - a for a, t in zip(ages, times, strict=True)]],
                    np.int64,
                ),
                scores=np.linspace(0, 1, n, dtype=np.float32)[:, None][:, 0],
                roles=[draw(st.sampled_from(["champion", "shadow"])) for _ in range(n)],
                trace_ids=[draw(st.none() | TEXT)] * n,
                latency_microseconds=draw(st.integers(0, 10**9)),
                degraded=draw(st.booleans()),
                answered_at=draw(st.integers(0, 2 * 10**15)),
            )
        )
    return kinds, features, made


def expected_rows(kinds, features, made):
    names = list(kinds)[len(kinds) - features :]
    for batch in made:
        for i in range(len(batch.scores)):
            states = {name: batch.status[f, i] for f, name in enumerate(names)}
            seen = int(batch.view_times[0, i])
            yield {
                "request_id": batch.request_ids[i],
                "row": i,
                "event_time": batch.event_times[i],
                "model_version": "3",
                "role": batch.roles[i],
                "score": float(batch.scores[i]),
                "degraded": batch.degraded,
                "latency_us": batch.latency_microseconds,
                "answered_at": dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
                + dt.timedelta(microseconds=batch.answered_at),
                "trace_id": batch.trace_ids[i],
                "missing": [n for n in names if states[n] == 1],
                "stale": [n for n in names if states[n] == 2],
                "age_v": None if seen == NO_TIME else (batch.event_times[i] - seen) // 1000,
            }, {
                name: None if states.get(name) else oracle(kind, _item(batch.columns[name][i]))
                for name, kind in kinds.items()
            }  # fmt: skip


def _item(value):
    return value.item() if isinstance(value, np.generic) else value


@settings(deadline=None, max_examples=120)
@given(batches())
def test_every_value_comes_back_in_its_hour(given_batches):
    kinds, features, made = given_batches
    writer = FrameWriter(kinds, {})
    data = b"".join(writer.frame(batch) for batch in made)
    tables = segment_tables(data, schema_of(kinds, features))
    assert (tables.damage.rows, tables.damage.bytes, tables.unfit) == (0, 0, 0)
    found: dict[int, list] = {
        hour: table.set_column(
            2, "event_time", table["event_time"].cast(pa.int64())
        ).to_pylist()
        for hour, table in tables.hours.items()
    }  # fmt: skip
    for fixed, values in expected_rows(kinds, features, made):
        row = found[fixed["event_time"] // HOUR].pop(0)
        assert {name: row[name] for name in fixed} == fixed
        for name, kind in kinds.items():
            assert same(kind, row[name], values[name]), (name, kind, row[name], values[name])
    assert not any(found.values())


def some_frames(count: int, columns: int = 2) -> list[bytes]:
    writer = FrameWriter({f"c{i}": "float64" if i % 2 else "int64" for i in range(columns)}, {})
    return [
        writer.frame(
            PredictionBatch(
                [f"r{k}"] * 2, [0, 1], [NOON, NOON],
                {f"c{i}": [k, None] for i in range(columns)},
                np.zeros((0, 2), np.uint8), np.zeros((1, 2), np.int64),
                np.zeros(2, np.float32), ["champion"] * 2, [None] * 2, 1, False,
            )
        )
        for k in range(count)
    ]  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 4), st.data())
def test_a_damaged_frame_costs_its_own_rows_only(victim, data):
    frames = some_frames(5)
    raw = bytearray(b"".join(frames))
    start = sum(map(len, frames[:victim]))
    at = data.draw(st.integers(start, start + len(frames[victim]) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    damage = Damage()
    found = [batch.request_ids[0] for _, batch in read_frames(bytes(raw), damage)]
    assert found == [f"r{k}" for k in range(5) if k != victim]
    assert damage.bytes == len(frames[victim])
    assert damage.rows in (0, 2) or at - start in range(8, 12)


@given(st.integers(0, 10_000))
def test_a_torn_end_keeps_what_is_before_it(cut):
    frames = some_frames(4)
    raw = b"".join(frames)[:cut]
    whole = sum(sum(map(len, frames[: k + 1])) <= cut for k in range(4))
    damage = Damage()
    assert len(list(read_frames(raw, damage))) == whole
    assert damage.bytes == len(raw) - sum(map(len, frames[:whole]))


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_garbage_between_frames_is_passed_over(before, after):
    frame = some_frames(1)[0]
    raw = before + MAGIC + after + frame + MAGIC[:3]
    assert len(list(read_frames(raw, Damage()))) == 1


def one_column(kind: str, values: list, **redact):
    n = len(values)
    batch = PredictionBatch(
        ["r"] * n, list(range(n)), [NOON] * n, {"c": values}, np.zeros((0, n), np.uint8),
        np.zeros((1, n), np.int64), np.zeros(n, np.float32), ["champion"] * n, [None] * n, 1, False,
    )  # fmt: skip
    frame = FrameWriter({"c": kind}, redact).frame(batch)
    tables = segment_tables(frame, schema_of({"c": kind}, 0))
    (table,) = tables.hours.values()
    return table["c"].to_pylist(), tables.unfit


@pytest.mark.parametrize(
    ("kind", "value", "found", "unfit"),
    [
        ("int64", 2**63, None, 1),
        ("int64", 2**200, None, 1),
        ("int64", 1.5, None, 1),
        ("int64", 7.0, 7, 0),
        ("int64", True, 1, 0),
        ("int64", "7", None, 1),
        ("int64", np.int64(2**62 + 1), 2**62 + 1, 0),
        ("int32", 2**31, None, 1),
        ("float64", 2**60 + 1, float(2**60), 0),
        ("float64", "x", None, 1),
        ("float64", np.float32(1.5), 1.5, 0),
        ("bool", 1, True, 0),
        ("bool", 2, None, 1),
        ("string", b"\xff", "\ufffd", 0),
        ("string", "\ud800", "\ufffd\ufffd\ufffd", 0),
        ("string", 5, "5", 0),
        ("bytes", "é", "é".encode(), 0),
        ("timestamp", 10**18, None, 1),
        ("timestamp", dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), 0),
        ("timestamp", np.datetime64("NaT", "s"), None, 0),
        ("timestamp", np.datetime64("2024-01-01", "s"), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), 0),
        ("float64_list", [1.0, float("nan"), None], "[1.0,null,null]", 0),
        ("float64_list", np.array([0.5, 1.5]), "[0.5,1.5]", 0),
        ("string_map", {"a": [1], 2: b"x"}, '{"a":[1],"2":"x"}', 0),
    ],
)
def test_values_of_another_type_fit_or_are_counted(kind, value, found, unfit):
    assert one_column(kind, [value, None]) == ([found, None], unfit)


def test_arrays_of_moments_keep_nat():
    seconds = np.array(["2024-01-01", "NaT"], "M8[s]")
    expected = [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None]
    assert one_column("timestamp", seconds) == (expected, 0)
    assert one_column("timestamp", np.repeat(seconds.astype("M8[ns]"), 40))[0][::40] == expected
    far = np.array([10**15, 0], "M8[s]")
    found, unfit = one_column("timestamp", np.array([2**60, 0], "i8").view("M8[s]"))
    assert (found, unfit) == ([None, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)], 1)
    assert one_column("timestamp", far)[0][1] is not None


def test_redaction_happens_before_anything_is_written():
    kinds = {"c": "string"}
    secret = redactions({"c": "hash"}, kinds, {"ZEROSKEW_LOG_KEY": "k" * 100})
    other = redactions({"c": "hash"}, kinds, {"ZEROSKEW_LOG_KEY": "another"})
    found, _ = one_column("string", ["ada", "ada", "bob", None], **secret)
    assert found[0] == found[1] != found[2]
    assert found[3] is None
    assert len(found[0]) == 32
    assert "ada" not in "".join(filter(None, found))
    assert found[0] != one_column("string", ["ada"], **other)[0][0]
    assert (
        one_column("string", ["ada", "b"], **redactions({"c": "drop"}, kinds, {}))[0] == [None] * 2
    )


def test_a_hash_is_of_the_value_not_of_its_container():
    hashed = redactions({"c": "hash"}, {"c": "int64"}, {"ZEROSKEW_LOG_KEY": "k"})
    (a,), (b,), (c,) = (
        one_column("string", values, **hashed)[0]
        for values in ([7], np.array([7], np.int64), [7.0])
    )
    assert a == b == c


@pytest.mark.parametrize(
    ("redact", "says"),
    [
        ({"c": "hash"}, "ZEROSKEW_LOG_KEY"),
        ({"x": "drop"}, "x is no column"),
        ({"c": "rot13"}, "rot13"),
    ],
)
def test_a_redaction_that_cannot_work_is_refused(redact, says):
    with pytest.raises(ConfigError, match=says):
        redactions(redact, {"c": "string"}, {})


def test_settings_and_names():
    read = LogSettings.from_json({"segment_mib": 2, "flush_seconds": 0.5, "redact": {"a": "drop"}})
    assert (read.segment_bytes, read.flush_seconds) == (2 << 20, 0.5)
    with pytest.raises(ConfigError):
        LogSettings.from_json({"segment_mib": 0})
    with pytest.raises(ConfigError):
        LogSettings.from_json({"spool_mib": "much"})
    schema = schema_of({"hour": "int64", "score": "float64"}, 2)
    assert LogSchema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    with pytest.raises(ConfigError, match="served_hour"):
        schema_of({"hour": "int64", "served_hour": "int64"}, 0)


def test_what_is_no_number_costs_only_itself_in_a_float_column():
    columns = [[0.5, None], ["many", 1.5], [2.5, 3.5]]
    frames = b"".join(
        FrameWriter({"c": "float64"}, {}).frame(
            PredictionBatch(
                ["r"] * 2, [0, 1], [NOON] * 2, {"c": values}, np.zeros((0, 2), np.uint8),
                np.zeros((1, 2), np.int64), np.zeros(2, np.float32), ["champion"] * 2, [None] * 2,
                1, False,
            )
        )
        for values in columns
    )  # fmt: skip
    tables = segment_tables(frames, schema_of({"c": "float64"}, 0))
    (table,) = tables.hours.values()
    assert table["c"].to_pylist() == [0.5, None, None, 1.5, 2.5, 3.5]
    assert (tables.rows, tables.unfit, tables.damage.rows) == (6, 1, 0)
