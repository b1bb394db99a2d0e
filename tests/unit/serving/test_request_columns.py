"""What a tensor must be like, and what is said when it is not."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.features.read_plan import PlanGroup, PlanKey, PlanTransform, ReadPlan
from zeroskew.serving.request_columns import (
    LONGEST,
    BadRequest,
    RequestColumn,
    read_column,
    read_event_times,
    request_columns,
)


def plan(request: dict[str, str], key: str = "int64") -> ReadPlan:
    return ReadPlan(
        project="p", service="s", schema_version="v",
        groups=(PlanGroup((PlanKey("user", "user", key),), (), ()),), names=(),
        transforms=(PlanTransform("t", "transforms.py:f", "python", (), request, {}),),
    )  # fmt: skip


def column(kind: str, optional: bool = False) -> RequestColumn:
    return RequestColumn("x", kind, entity=False, optional=optional)


def texts(*values: bytes) -> np.ndarray:
    return np.array(values, object).reshape(-1, 1)


def test_inputs_are_entities_then_request_columns():
    found = request_columns(plan({"amount": "float64", "note": "string"}), ["note"])
    assert [(c.name, c.datatype, c.optional) for c in found] == [
        ("user", "INT64", False), ("amount", "FP64", False), ("note", "BYTES", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "optional", "said"),
    [
        ({"tags": "string_list"}, (), "a string_list cannot be sent"),
        ({"event_timestamp": "int64"}, (), "taken by the moment"),
        ({"amount": "float64"}, ("amuont",), "amuont is no request column"),
        ({"amount": "float64"}, ("user",), "user is no request column"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anybody_asks(given, optional, said):
    with pytest.raises(ConfigError, match=said):
        request_columns(plan(given), optional)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_integers_come_back_exactly(values):
    array = np.array(values, np.int64).reshape(-1, 1)
    assert read_column(column("int64"), array, len(values)) == values


@given(st.lists(st.text(max_size=20), min_size=1))
def test_texts_come_back_exactly(values):
    values = [v.encode("utf-8", "replace").decode() for v in values]
    array = texts(*(v.encode() for v in values))
    assert read_column(column("string"), array, len(values)) == values


@given(st.lists(st.floats(), min_size=1), st.booleans())
def test_numbers_that_are_none_are_refused_or_missing(values, optional):
    array = np.array(values).reshape(-1, 1)
    refused = any(math.isinf(v) or (math.isnan(v) and not optional) for v in values)
    if refused:
        with pytest.raises(BadRequest, match="only finite numbers"):
            read_column(column("float64", optional), array, len(values))
    else:
        found = read_column(column("float64", optional), array, len(values))
        assert found == [None if math.isnan(v) else v for v in values]


@given(st.lists(st.binary(max_size=8), min_size=1))
def test_bytes_that_are_no_utf8_are_named_by_row(values):
    def valid(value: bytes) -> bool:
        try:
            value.decode()
        except UnicodeDecodeError:
            return False
        return True

    bad = [row for row, value in enumerate(values) if not valid(value)]
    if bad:
        with pytest.raises(BadRequest, match=f"row {bad[0]} is not UTF-8"):
            read_column(column("string"), texts(*values), len(values))
    assert read_column(column("bytes"), texts(*values), len(values)) == values


def test_missing_too_long_and_misshapen():
    with pytest.raises(BadRequest, match=r"`x` \(INT64\) is missing"):
        read_column(column("int64"), None, 2)
    assert read_column(column("int64", optional=True), None, 2) == [None, None]
    with pytest.raises(BadRequest, match=f"{LONGEST} are the most"):
        read_column(column("string"), texts(b"a", b"x" * (LONGEST + 1)), 2)
    for shape in ((2,), (1, 2), (2, 2), (3, 1)):
        with pytest.raises(BadRequest, match="has the shape"):
            read_column(column("int64"), np.zeros(shape, np.int64), 2)


def test_moments_are_not_in_the_future():
    now = int(time.time() * 1e6)
    assert read_event_times(None, 1) is None
    assert read_event_times(np.array([[0], [now]]), 2) == [0, now]
    for wrong in (-1, now + 10**9):
        with pytest.raises(BadRequest, match="row 1"):
            read_event_times(np.array([[now], [wrong]]), 2)
    with pytest.raises(BadRequest, match="has the shape"):
        read_event_times(np.array([now]), 1)
