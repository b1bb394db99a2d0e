"""Column encoding against the cell codec, and its refusals."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.errors import SchemaError
from zeroskew.features import redis_layout as layout
from zeroskew.features import wire_columns as wire

VALUES = {
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300)),
    "int32": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "float64": (pa.float64(), st.floats()),
    "float32": (pa.float32(), st.floats(width=32)),
    "bool": (pa.bool_(), st.booleans()),
    "string": (pa.string(), st.text(max_size=5) | st.text(min_size=120, max_size=140)),
    "bytes": (pa.binary(), st.binary(max_size=200)),
    "json": (pa.string(), st.just('{"a":1}')),
    "int64_list": (pa.list_(pa.int64()), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)),
    "float32_list": (pa.list_(pa.float32()), st.lists(st.floats(width=32, allow_nan=False))),
    "string_list": (pa.list_(pa.string()), st.lists(st.text(max_size=5), max_size=4)),
}


@pytest.mark.parametrize("kind", sorted(VALUES))
def test_columns_are_the_cells_one_by_one(kind):
    arrow, values = VALUES[kind]

    @given(st.lists(st.none() | values, min_size=1, max_size=40), st.booleans())
    def check(column, sliced):
        array = pa.array(column, arrow)
        if sliced:
            array, column = array.slice(1), column[1:]
        cells = wire.encode_column(array, kind, "c").to_pylist()
        assert cells == [layout.encode_value(v, layout.KINDS[kind]) for v in column]

    check()


@given(st.lists(st.integers(-(2**55), 2**55), min_size=1, max_size=40))
def test_event_times_are_the_cells_one_by_one(micros):
    cells = wire.encode_event_times(np.array(micros)).to_pylist()
    assert cells == [layout.encode_event_time(m) for m in micros]


def test_timestamps_are_seconds_and_a_null_is_feasts_stand_in():
    moment = datetime(2026, 1, 2, 3, 4, 5, 999999, tzinfo=UTC)
    kind = layout.KINDS["timestamp"]
    expected = [
        layout.encode_value(int(moment.timestamp()), kind),
        layout.encode_value(layout.NULL_TIMESTAMP, kind),
    ]
    for unit in ("us", "ns", "ms"):
        column = pa.array([moment.replace(microsecond=999000), None], pa.timestamp(unit, "UTC"))
        assert wire.encode_column(column, "timestamp", "c").to_pylist() == expected


@st.composite
def key_tables(draw):
    kinds = draw(st.lists(st.sampled_from(sorted(layout.KEY_KINDS)), min_size=1, max_size=3))
    pools = {
        "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
        "timestamp": (pa.int64(), st.integers(-(2**40), 2**40)),
        "int32": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
        "string": (pa.string(), st.text(max_size=9)),
        "bytes": (pa.binary(), st.binary(max_size=9)),
    }
    size = draw(st.integers(1, 8))
    return [
        (
            f"key{len(kinds) - i}",
            kind,
            pa.array(draw(st.lists(pools[kind][1], min_size=size, max_size=size)), pools[kind][0]),
        )
        for i, kind in enumerate(kinds)
    ]


@given(key_tables())
def test_keys_are_the_keys_one_by_one(columns):
    keys = wire.encode_keys(columns, "flights").to_pylist()
    for row, key in enumerate(keys):
        values = {name: (kind, column[row].as_py()) for name, kind, column in columns}
        assert key == layout.entity_key("flights", values)


@given(st.lists(st.binary(max_size=9) | st.just(b"x" * 5000), min_size=1, max_size=9))
def test_bulk_strings(cells):
    array = pa.array(cells, pa.binary())
    expected = [b"$%d\r\n%b\r\n" % (len(c), c) * 2 for c in cells]
    assert wire.bulk_strings([array, array]).to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array(["1"]), "int64"),
        (pa.array([1.5]), "int64"),
        (pa.array([2**40]), "int32"),
        (pa.array([1]), "string"),
        (pa.array([1]), "bool"),
        (pa.array(["a"]), "float64"),
        (pa.array([datetime(2026, 1, 1, tzinfo=UTC)]), "int64"),
        (pa.array(["2026-01-01"]), "timestamp"),
        (pa.array([["a"]]), "int64_list"),
    ],
)
def test_another_type_is_refused_by_column_name(values, kind):
    with pytest.raises(SchemaError, match=r"column speed .*"):
        wire.encode_column(values, kind, "speed")


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pa.array([1.0, math.nan, None]), "int64", [1, None, None]),
        (pa.array([1, None], pa.int8()), "int64", [1, None]),
        (pa.array([1, None], pa.uint16()), "float64", [1.0, None]),
        (pa.array(["a", None], pa.large_string()), "string", ["a", None]),
        (pa.array(["a", None]).dictionary_encode(), "string", ["a", None]),
        (pa.nulls(2), "string", [None, None]),
        (pa.nulls(2), "int64", [None, None]),
        (pa.array([1.1, None]), "float32", [np.float32(1.1), None]),
    ],
)
def test_other_widths_of_the_same_type_are_taken(values, kind, expected):
    cells = wire.encode_column(values, kind, "c").to_pylist()
    assert cells == [layout.encode_value(v, layout.KINDS[kind]) for v in expected]
