"""When a value that was served is the value that the join gives: equal, different, one-sided.

Exact by default. Null and NaN are one and the same nothing; a feature of type float32 is compared
in float32, whatever type holds it; a timestamp in whole seconds, which is what the online store
keeps of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zeroskew.errors import ConfigError
from zeroskew.features import moments

MATCH, MISMATCH, MISSING, EXTRA = 0, 1, 2, 3
OUTCOMES = ("match", "mismatch", "missing", "extra")
"""By code: the same; both there and not the same; offline has it, online served none; online served
it, offline has none."""

Codes = NDArray[np.uint8]

FLOATS = ("float64", "float32")
COMPARED = frozenset({*FLOATS, "int64", "int32", "bool", "string", "bytes", "timestamp"})
"""Kinds with a column type of their own; lists of them are compared one by one."""


def check_tolerances(tolerances: Mapping[str, float]) -> None:
    """Raises `ConfigError` unless it maps float64 and float32 to numbers from 0 to below 1."""
    for kind, value in tolerances.items():
        if kind not in FLOATS or not 0 <= value < 1:
            raise ConfigError(
                f"{kind}: {value} is no relative tolerance",
                where="tolerance",
                mend="give float64 or float32 a number from 0 (exact) to below 1, such as 1e-9",
            )


def comparable(kind: str) -> bool:
    """Whether values of this kind can be compared: what the log holds as text of its own cannot."""
    return kind.removesuffix("_list") in COMPARED


def outcomes(
    served: pl.Series,
    joined: pl.Series,
    kind: str,
    *,
    tolerance: float = 0.0,
    infinite_is_missing: bool = False,
) -> Codes:
    """Outcome of every row.

    `kind` is the feature's declared type. `tolerance` is relative: floats a and b are equal if
    |a - b| ≤ tolerance · max(|a|, |b|). `infinite_is_missing` is for what a request computes: the
    server turns infinities to nothing before a graph sees them, and so does training's encoder.
    """
    if kind.endswith("_list"):
        return _lists(served, joined, kind.removesuffix("_list"), tolerance)
    left, right = _plain(served, kind), _plain(joined, kind)
    if infinite_is_missing:
        left, right = _finite(left), _finite(right)
    gone, none = left.is_null().to_numpy(), right.is_null().to_numpy()
    return _codes(gone, none, _same(left, right, kind, tolerance))


def _codes(gone: NDArray[np.bool_], none: NDArray[np.bool_], same: NDArray[np.bool_]) -> Codes:
    both = np.where(same, MATCH, MISMATCH)
    one_sided = np.where(gone, np.where(none, MATCH, MISSING), EXTRA)
    return np.where(gone | none, one_sided, both).astype(np.uint8)


def _plain(column: pl.Series, kind: str) -> pl.Series:
    """In the type in which values of the kind are compared, NaN as null."""
    found = column.dtype
    if found == pl.Categorical or isinstance(found, pl.Enum):
        column = column.cast(pl.String)
    elif kind == "timestamp" and (isinstance(found, pl.Datetime) or found in (pl.Date, pl.Null)):
        utc = moments.as_utc(column, where="served values").dt.cast_time_unit("us")
        return utc.to_physical() // 1_000_000
    elif found == pl.Boolean and kind != "bool":
        column = column.cast(pl.Int8)
    if kind in FLOATS and column.dtype.is_numeric():
        column = column.cast(pl.Float32 if kind == "float32" else pl.Float64)
    return column.fill_nan(None) if column.dtype.is_float() else column


def _finite(column: pl.Series) -> pl.Series:
    if not column.dtype.is_float():
        return column
    return column.to_frame().select(
        pl.when(pl.first().is_finite()).then(pl.first())
    ).to_series()  # fmt: skip


def _same(left: pl.Series, right: pl.Series, kind: str, tolerance: float) -> NDArray[np.bool_]:
    """Where both are there and equal; what has no common type never is."""
    if left.dtype == pl.Null or right.dtype == pl.Null:
        return np.zeros(len(left), np.bool_)
    numbers = left.dtype.is_numeric() and right.dtype.is_numeric()
    if left.dtype != right.dtype and not numbers:
        return np.zeros(len(left), np.bool_)
    equal = (left == right).fill_null(False).to_numpy()
    if tolerance and kind in FLOATS and numbers:
        a, b = left.cast(pl.Float64).to_numpy(), right.cast(pl.Float64).to_numpy()
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.abs(a - b) <= tolerance * np.maximum(np.abs(a), np.abs(b))
        # Near infinity everything would be within a share of it.
        equal = equal | (near & np.isfinite(a) & np.isfinite(b))
    return np.asarray(equal)


# --- lists ---------------------------------------------------------------------------------------


def _lists(served: pl.Series, joined: pl.Series, kind: str, tolerance: float) -> Codes:
    """The log holds a list as JSON."""
    left = [_read(value) for value in served.to_list()]
    right = [_items(value) for value in joined.to_list()]
    gone = np.array([value is None for value in left], np.bool_)
    none = np.array([value is None for value in right], np.bool_)
    same = np.array(
        [
            a is not None and b is not None and _equal_items(a, b, kind, tolerance)
            for a, b in zip(left, right, strict=True)
        ],
        np.bool_,
    )
    return _codes(gone, none, same)


def _read(value: Any) -> list[Any] | None:
    if not isinstance(value, str):
        return _items(value)
    try:
        found = json.loads(value)
    except ValueError:
        found = value
    return found if isinstance(found, list) else [found]


def _items(value: Any) -> list[Any] | None:
    return None if value is None else [_json_item(item) for item in value]


def _json_item(item: Any) -> Any:
    """As the log's JSON holds it."""
    if isinstance(item, datetime):
        return item.isoformat()
    if isinstance(item, bytes):
        return item.decode("utf-8", "replace")
    return None if isinstance(item, float) and not np.isfinite(item) else item


def _equal_items(left: list[Any], right: list[Any], kind: str, tolerance: float) -> bool:
    if len(left) != len(right):
        return False
    if kind == "timestamp":
        return [_moment(item) for item in left] == [_moment(item) for item in right]
    if kind not in FLOATS:
        return left == right
    a, b = (pl.Series(side, dtype=pl.Float64, strict=False) for side in (left, right))
    return not outcomes(a, b, kind, tolerance=tolerance).any()


def _moment(item: Any) -> Any:
    """Seconds since the epoch, if the item says a moment."""
    if isinstance(item, str):
        try:
            return int(moments.aware(datetime.fromisoformat(item)).timestamp())
        except ValueError:
            return item
    return int(item) if isinstance(item, float) else item
