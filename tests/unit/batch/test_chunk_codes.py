"""The short way to category codes gives those of the one encoder."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.batch_chunk import _codes
from zeroskew.features.row import FeatureRow


def encoded(column):
    return FeatureRow((), ("one",)).encode({"one": column})[1][:, 0]


@given(st.lists(st.none() | st.text(max_size=4), max_size=80))
def test_strings_with_gaps(values):
    column = pl.Series("one", values, pl.String)
    np.testing.assert_array_equal(_codes(column), encoded(column))


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("one", [3, None, 3, 2**53 + 1], pl.Int64),
        pl.Series("one", [3, 7, 3], pl.Int64),
        pl.Series("one", [1.5, None, 2.0], pl.Float64),
        pl.Series("one", [True, None, False], pl.Boolean),
        pl.Series("one", [None, None], pl.String),
        pl.Series("one", ["a", "b"], pl.String).append(pl.Series("one", ["b", None], pl.String)),
    ],
)
def test_other_types_and_chunks(column):
    np.testing.assert_array_equal(_codes(column), encoded(column))
