"""Outcomes of two columns, beside an oracle that looks at one pair at a time."""

from __future__ import annotations

import json
import math
import struct
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.features.audit_compare import (
    EXTRA,
    MATCH,
    MISMATCH,
    MISSING,
    check_tolerances,
    comparable,
    outcomes,
)

START = datetime(2024, 1, 1, tzinfo=UTC)
TYPES = {
    "float64": pl.Float64, "float32": pl.Float32, "int64": pl.Int64, "int32": pl.Int32,
    "string": pl.String, "bool": pl.Boolean, "bytes": pl.Binary,
    "timestamp": pl.Datetime("us", "UTC"),
}  # fmt: skip
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1.0 + 2**-52, 0.1, math.inf, -math.inf, math.nan, 5e-324]),
    st.floats(width=64),
)
VALUES = {
    "float64": FLOATS,
    "float32": st.floats(width=32),
    "int64": st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1)),
    "int32": st.integers(-(2**31), 2**31 - 1) | st.integers(0, 2),
    "string": st.sampled_from(["", "a", "A", "ä", "a ", "0"]) | st.text(max_size=3),
    "bool": st.booleans(),
    "bytes": st.binary(max_size=2),
    "timestamp": st.integers(-(10**7), 10**7).map(lambda us: START + timedelta(microseconds=us)),
}


def absent(value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def to_float32(value: float) -> float:
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def oracle(served, joined, kind, tolerance=0.0) -> int:
    if absent(served) or absent(joined):
        if absent(served) and absent(joined):
            return MATCH
        return MISSING if absent(served) else EXTRA
    if kind == "timestamp":
        return MISMATCH if served.replace(microsecond=0) != joined.replace(microsecond=0) else MATCH
    if kind == "float32":
        served, joined = to_float32(served), to_float32(joined)
    if served == joined:
        return MATCH
    if tolerance and math.isfinite(served) and math.isfinite(joined):
        a, b = Fraction(served), Fraction(joined)
        if abs(a - b) <= Fraction(tolerance) * max(abs(a), abs(b)):
            return MATCH
    return MISMATCH


@st.composite
def columns(draw):
    kind = draw(st.sampled_from(sorted(VALUES)))
    value = st.none() | VALUES[kind]
    # Pairs that are the same are as likely as pairs that are not.
    pair = st.one_of(value.map(lambda v: (v, v)), st.tuples(value, value))
    return kind, draw(st.lists(pair, max_size=12))


@settings(max_examples=300, deadline=None)
@given(columns())
def test_every_pair_has_the_outcome_that_the_oracle_gives(given):
    kind, pairs = given
    left = pl.Series("f", [a for a, _ in pairs], dtype=TYPES[kind])
    right = pl.Series("f", [b for _, b in pairs], dtype=TYPES[kind])
    wanted = [oracle(a, b, kind) for a, b in pairs]
    assert outcomes(left, right, kind).tolist() == wanted


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.none() | FLOATS, st.floats(-3e-9, 3e-9)), max_size=12),
    st.sampled_from([1e-9, 1e-12, 0.01]),
)
def test_a_tolerance_is_relative_to_the_larger(rows, tolerance):
    pairs = [(a, a if absent(a) else a * (1 + off)) for a, off in rows]
    left = pl.Series("f", [a for a, _ in pairs], dtype=pl.Float64)
    right = pl.Series("f", [b for _, b in pairs], dtype=pl.Float64)
    found = outcomes(left, right, "float64", tolerance=tolerance).tolist()
    for (a, b), outcome in zip(pairs, found, strict=True):
        if absent(a) or absent(b) or not (math.isfinite(a) and math.isfinite(b)):
            assert outcome == oracle(a, b, "float64")
            continue
        # The last place of the product is the machine's.
        distance, largest = abs(Fraction(a) - Fraction(b)), max(abs(Fraction(a)), abs(Fraction(b)))
        limit, slack = Fraction(tolerance) * largest, Fraction(tolerance) * largest / 10**6
        if abs(distance - limit) > slack + Fraction(5e-324):
            assert outcome == (MATCH if distance <= limit else MISMATCH)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.lists(st.none() | FLOATS, max_size=3), min_size=1, max_size=6))
def test_lists_are_compared_with_what_the_log_writes_of_them(lists):
    from zeroskew.serving.log_columns import arrow_column

    served, unfit = arrow_column([lists], "float64_list")
    assert unfit == 0
    joined = pl.Series("f", lists, dtype=pl.List(pl.Float64))
    assert not outcomes(pl.Series(pl.from_arrow(served)), joined, "float64_list").any()
    other = [[*(each or []), 1.0] for each in lists]
    changed = outcomes(pl.Series([json.dumps(each) for each in other]), joined, "float64_list")
    wanted = [EXTRA if each is None else MISMATCH for each in lists]
    assert changed.tolist() == wanted


def test_a_float32_feature_is_equal_whatever_type_holds_it():
    served = pl.Series([0.1], dtype=pl.Float32)
    assert outcomes(served, pl.Series([0.1]), "float32").tolist() == [MATCH]
    assert outcomes(served, pl.Series([0.1]), "float64").tolist() == [MISMATCH]


def test_types_that_have_nothing_in_common_never_match():
    text, number = pl.Series(["1", None]), pl.Series([1, None])
    assert outcomes(text, number, "int64").tolist() == [MISMATCH, MATCH]
    assert outcomes(pl.Series([None, None]), number, "int64").tolist() == [MISSING, MATCH]
    assert outcomes(pl.Series([True]), pl.Series([1]), "int64").tolist() == [MATCH]


def test_infinities_that_a_request_computes_are_nothing_to_a_graph():
    served, joined = pl.Series([None, None, 1.0], dtype=pl.Float64), pl.Series([math.inf, 2.0, 1.0])
    plain = outcomes(served, joined, "float64").tolist()
    assert plain == [MISSING, MISSING, MATCH]
    computed = outcomes(served, joined, "float64", infinite_is_missing=True).tolist()
    assert computed == [MATCH, MISSING, MATCH]


@pytest.mark.parametrize("given", [{"float64": -1e-9}, {"float64": 1.0}, {"int64": 0.1}])
def test_a_tolerance_that_is_none_is_refused(given):
    with pytest.raises(ConfigError, match="relative tolerance"):
        check_tolerances(given)


def test_kinds_that_the_log_holds_as_text_of_its_own_are_not_compared():
    assert comparable("float32_list")
    assert not comparable("map")
