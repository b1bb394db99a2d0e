"""Whole-kind decoding against the cell-by-cell codec, which is held against protobuf."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.features import redis_layout as layout
from zeroskew.features.online_decode import (
    NO_TIME,
    BlockSpec,
    decode_block,
    decode_event_times,
    many_status,
)
from zeroskew.features.online_decode_few import decode_few, few_status
from zeroskew.features.read_plan import PlanFeature

CELLS = {
    "int64": st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300),
    "int32": st.integers(-(2**31), 2**31 - 1) | st.integers(-300, 300),
    "float64": st.floats(allow_nan=False),
    "float32": st.floats(width=32, allow_nan=False),
    "bool": st.booleans(),
    "string": st.text(max_size=5) | st.text(min_size=125, max_size=135),
    "bytes": st.binary(max_size=5),
    "decimal": st.just("1.50"),
    "timestamp": st.integers(-(2**36), 2**36),
    "int64_list": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
}


@st.composite
def tables(draw, kind):
    features = draw(st.integers(1, 6))
    rows = draw(st.integers(1, 30))
    cell = CELLS[kind].map(lambda v: layout.encode_value(v, layout.KINDS[kind]))
    if draw(st.booleans()):
        cell = cell | st.just(b"") | st.none()
    pool = draw(st.lists(cell, min_size=1, max_size=12))
    picks = np.random.default_rng(draw(st.integers(0, 99))).integers(0, len(pool), rows * features)
    return [[b"before", *[pool[i] for i in row], b"after"] for row in picks.reshape(rows, -1)]


@pytest.mark.parametrize("decode", [decode_block, decode_few])
@pytest.mark.parametrize("kind", sorted(CELLS))
def test_blocks_are_what_the_cells_say(kind, decode):
    @given(tables(kind))
    def check(rows):
        count = len(rows[0]) - 2
        features = [PlanFeature(f"f{i}", b"", kind, 0) for i in range(count)]
        block = decode(BlockSpec(kind, features, 0), [row[1:] for row in rows])
        expected = [[layout.decode_value(r[1 + f])[1] for r in rows] for f in range(count)]
        status = (few_status if decode is decode_few else many_status)([block], None, len(rows))
        for codes, column, wanted in zip(status, block.columns(None), expected, strict=True):
            assert len(column) == len(rows)
            there = [v is not None for v in wanted]
            assert (codes == 0).tolist() == there
            found = column.tolist() if isinstance(column, np.ndarray) else list(column)
            if kind == "timestamp":
                found = column.astype("int64").tolist()
            for mine, value in zip(found, wanted, strict=True):
                if value is not None:
                    assert mine == value
                    assert math.copysign(1, mine) == math.copysign(1, value) if value == 0 else True
        inverse = np.arange(len(rows))[::-1].repeat(2)
        spread = dict(block.python(None, inverse))
        if kind != "timestamp":
            for f, wanted in enumerate(expected):
                assert spread[f"f{f}"] == [wanted[i] for i in inverse]
        assert {len(c) for c in block.columns(inverse)} == {2 * len(rows)}

    check()


@given(
    st.lists(
        st.none()
        | st.integers(-(10**15), 4 * 10**15).map(layout.encode_event_time)
        | st.integers(1_500_000_000, 1_900_000_000).map(
            lambda s: layout.encode_event_time(s * 1_000_000)
        )
        | st.just(b"\x08\x80\x80\x80\x80\x08\x10\x01"),  # one nanosecond
        min_size=2,
        max_size=200,
    )
)
def test_event_times_are_what_the_cells_say(cells):
    rows = [cells[i : i + 2] for i in range(0, len(cells) - 1, 2)]
    first, second = decode_event_times(rows, 2)
    for times, column in ((first, 0), (second, 1)):
        wanted = [
            NO_TIME if r[column] is None else layout.decode_event_time(r[column]) for r in rows
        ]
        assert times.tolist() == wanted


@pytest.mark.parametrize(
    ("count", "decode"), [(1, decode_few), (1, decode_block), (60, decode_block)]
)
@pytest.mark.parametrize(
    ("stored", "value", "wanted"),
    [("int32", 7, "int64"), ("int64", 7, "float64"), ("float32", 0.5, "float64"),
     ("int64", 7, "int32")],
)  # fmt: skip
def test_a_narrower_type_of_an_older_definition_is_widened(count, decode, stored, value, wanted):
    cell = layout.encode_value(value, layout.KINDS[stored])
    feature = PlanFeature("f", b"", wanted, 0)
    (column,) = decode(BlockSpec(wanted, [feature], 0), [[cell]] * count).columns(None)
    assert column.dtype == np.dtype(wanted)
    assert column.tolist() == [value] * count


@pytest.mark.parametrize(
    ("count", "decode"), [(1, decode_few), (1, decode_block), (60, decode_block)]
)
@pytest.mark.parametrize(
    ("stored", "value", "wanted"),
    [("string", "7", "int64"), ("int64", 2**60 + 1, "float64"), ("float64", 0.5, "int64"),
     ("int64", 1, "string"), ("int64", 2**40, "int32"), ("string", "a", "bool"),
     ("float64", 1e300, "float32"), ("int64", 5, "timestamp")],
)  # fmt: skip
def test_another_type_is_refused_by_name(count, decode, stored, value, wanted):
    cell = layout.encode_value(value, layout.KINDS[stored])
    with pytest.raises(
        ValueError, match=f"feature speed is {wanted}, the stored value .* {stored}"
    ):
        decode(BlockSpec(wanted, [PlanFeature("speed", b"", wanted, 0)], 0), [[cell]] * count)


@given(st.lists(st.binary(max_size=14), min_size=1, max_size=60), st.sampled_from(sorted(CELLS)))
def test_broken_cells_are_a_value_error_or_a_value(cells, kind):
    with contextlib.suppress(ValueError):
        block = decode_block(
            BlockSpec(kind, [PlanFeature("f", b"", kind, 0)], 0), [[c] for c in cells]
        )
        assert {len(column) for column in block.columns(None)} == {len(cells)}
