"""The one encoder: whatever library a column comes in, the same numbers leave it."""

import mmh3
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.features.row import MISSING, FeatureRow, category_code

ROW = FeatureRow(numeric=("amount", "count"), categorical=("city", "kind"))
text = st.one_of(st.none(), st.text(max_size=8))
number = st.one_of(st.none(), st.floats(width=32))
integer = st.one_of(st.none(), st.integers(-(2**24), 2**24))
huge = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(number, integer, text, integer), min_size=1, max_size=30))
def test_every_container_gives_the_same_bits(rows: list[tuple]) -> None:
    data = {name: [row[i] for row in rows] for i, name in enumerate(ROW.names)}
    frame = pl.DataFrame(
        data,
        schema={"amount": pl.Float64, "count": pl.Int64, "city": pl.String, "kind": pl.Int64},
        strict=False,
    )
    expected_numbers, expected_codes = ROW.encode(data)
    arrow = frame.to_arrow()
    for container in (
        frame,
        {n: frame[n].to_numpy() for n in frame.columns},
        frame.to_pandas(),
        arrow,
    ):
        numbers, codes = ROW.encode(container)
        np.testing.assert_array_equal(numbers, expected_numbers)
        np.testing.assert_array_equal(codes, expected_codes)
    for position, (amount, count, city, kind) in enumerate(rows):
        for column, value in enumerate((amount, count)):
            got = expected_numbers[position, column]
            finite = value is not None and np.isfinite(value)
            assert got == np.float32(value) if finite else np.isnan(got)
        for column, value in enumerate((city, kind)):
            want = (
                MISSING
                if value is None
                else mmh3.hash(str(value).encode("utf-8", "surrogatepass")) or 1
            )
            assert expected_codes[position, column] == want


def test_an_integer_category_spells_alike_as_float() -> None:
    row = FeatureRow((), ("zone",))
    ints = row.encode({"zone": pl.Series([4, 7])})[1]
    floats = row.encode({"zone": pd.Series([4.0, 7.0, np.nan])})[1]
    assert ints[:, 0].tolist() == floats[:2, 0].tolist()
    assert floats[2, 0] == MISSING


def test_no_string_is_coded_as_missing() -> None:
    # murmur3_32 of the empty string with seed 0 is 0.
    assert mmh3.hash(b"") == 0
    assert category_code("") == 1


def test_infinite_numbers_are_missing() -> None:
    row = FeatureRow(("x",), ())
    assert np.isnan(row.encode({"x": [np.inf, -np.inf, 1e300]})[0]).all()


def test_absent_column_is_named() -> None:
    with pytest.raises(KeyError, match="count"):
        ROW.encode({"amount": [1.0], "city": ["a"], "kind": [1]})


def test_chunked_arrow_and_json_round_trip() -> None:
    column = pa.chunked_array([["a", None], ["b"]])
    codes = FeatureRow((), ("city",)).encode({"city": column})[1]
    assert codes[:, 0].tolist() == [category_code("a"), MISSING, category_code("b")]
    assert FeatureRow.from_json(ROW.to_json()) == ROW
    assert FeatureRow(("a",), ("b",)).schema_hash != FeatureRow(("a", "b"), ()).schema_hash


@given(st.lists(huge, min_size=1, max_size=20))
def test_huge_integers_round_the_same_way(values: list[int]) -> None:
    row = FeatureRow(("n",), ())
    from_list = row.encode({"n": values})[0]
    from_array = row.encode({"n": np.array(values, np.int64)})[0]
    np.testing.assert_array_equal(from_list, from_array)
