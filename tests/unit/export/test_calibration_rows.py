"""Which rows calibrate: the same for ever, spread over the split, and named by their values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.errors import ExportError
from zeroskew.export.calibration_rows import named_rows, spread


@given(st.integers(0, 5_000), st.integers(1, 500), st.text(max_size=8))
def test_spread_picks_distinct_rows_in_order(rows: int, limit: int, seed: str) -> None:
    chosen = spread(rows, limit, seed=seed)
    assert len(chosen) == min(rows, limit)
    assert (np.diff(chosen) > 0).all()
    assert not len(chosen) or (chosen[0] >= 0 and chosen[-1] < rows)
    assert (spread(rows, limit, seed=seed) == chosen).all()


def test_spread_is_pinned() -> None:
    """A calibration hash of last year must still name the same rows."""
    assert spread(1_000_000, 5, seed="content").tolist() == [
        122784, 172937, 404704, 467010, 954010,
    ]  # fmt: skip
    assert spread(50, 5, seed="other").tolist() != spread(50, 5, seed="content").tolist()


def test_spread_covers_all_of_the_time_range() -> None:
    chosen = spread(100_000, 2_000, seed="x")
    tenths = np.bincount(chosen // 10_000, minlength=10)
    assert tenths.min() > 150  # 200 expected, standard deviation 13


def test_the_hash_covers_every_value_and_the_schema() -> None:
    numeric = np.arange(400, dtype=np.float32).reshape(200, 2)
    categorical = np.arange(200, dtype=np.int32).reshape(200, 1)
    name = named_rows(numeric, categorical, row_hash="r").hash
    assert named_rows(numeric.copy(), categorical.copy(), row_hash="r").hash == name
    other = numeric.copy()
    other[199, 1] = np.nextafter(other[199, 1], np.float32(0))
    assert named_rows(other, categorical, row_hash="r").hash != name
    assert named_rows(numeric, categorical[::-1].copy(), row_hash="r").hash != name
    assert named_rows(numeric, categorical, row_hash="s").hash != name


def test_the_bits_of_nan_do_not_matter() -> None:
    quiet = np.full((200, 1), np.nan, np.float32)
    other = np.full((200, 1), 0x7FC00001, np.uint32).view(np.float32)
    none = np.zeros((200, 0), np.int32)
    assert quiet.tobytes() != other.tobytes()
    assert named_rows(quiet, none, row_hash="").hash == named_rows(other, none, row_hash="").hash


def test_too_few_rows() -> None:
    with pytest.raises(ExportError, match="99 training rows are too few"):
        named_rows(np.zeros((99, 1), np.float32), np.zeros((99, 0), np.int32), row_hash="")
