"""Logged values as Arrow columns of one fixed type per kind, so that every file reads alike.

Values that Arrow takes as they are go through at once; where one does not fit, the column is gone
through one by one and what fits no way becomes null, and is counted.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zeroskew.serving.log_schema import NATURAL_KINDS, TEXT_KINDS

MICROSECONDS = pa.timestamp("us", "UTC")
TYPES: Mapping[str, pa.DataType] = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "bytes": pa.binary(),
    "timestamp": MICROSECONDS,
}
_NONE = type(None)
_AS_THEY_ARE: Mapping[str, frozenset[type]] = {
    "int64": frozenset({int, _NONE}),
    "int32": frozenset({int, _NONE}),
    "float64": frozenset({float, int, _NONE}),
    "float32": frozenset({float, int, _NONE}),
    "string": frozenset({str, _NONE}),
    "bool": frozenset({bool, _NONE}),
    "bytes": frozenset({bytes, _NONE}),
    "timestamp": frozenset({dt.datetime, _NONE}),
}
_MOST_SECONDS = (1 << 63) // 1_000_000 - 1
_INTEGERS = {"int64": 1 << 63, "int32": 1 << 31}


def arrow_type(kind: str) -> pa.DataType:
    """Type of a column of that kind."""
    return TYPES.get(kind, pa.string())


def arrow_column(
    parts: Sequence[Any], kind: str, absent: NDArray[np.bool_] | None = None
) -> tuple[pa.Array, int]:
    """The column of all `parts` (sequences or arrays) in order, and how many values fit no way.

    `absent`: where the column is null whatever it holds. None, NaN and NaT are null.
    """
    values = _joined(parts)
    if isinstance(values, np.ndarray):
        made = _from_array(values, kind, absent)
        if made is not None:
            return made, 0
        values = _listed(values)
    if absent is not None and absent.any():
        gaps = absent.tolist()
        values = [None if gap else value for value, gap in zip(values, gaps, strict=True)]
    allowed = _AS_THEY_ARE.get(kind)
    if allowed is not None and allowed.issuperset(map(type, values)):
        try:
            return pa.array(values, arrow_type(kind), from_pandas=True), 0
        except (pa.ArrowException, OverflowError, ValueError):
            pass
    fitted, unfit = [], 0
    for value in values:
        fit = _fit(value, kind)
        unfit += fit is None and not _missing(value)
        fitted.append(fit)
    return pa.array(fitted, arrow_type(kind)), unfit


def _joined(parts: Sequence[Any]) -> Any:
    kinds = {part.dtype if isinstance(part, np.ndarray) else None for part in parts}
    if len(kinds) == 1 and None not in kinds:
        return np.concatenate(parts)
    values: list[Any] = []
    for part in parts:
        values.extend(_listed(part) if isinstance(part, np.ndarray) else part)
    return values


def _listed(part: NDArray[Any]) -> list[Any]:
    if part.dtype == np.dtype("M8[s]"):  # more of them than microseconds can count
        gaps = np.isnat(part).tolist()
        return [None if gap else n for gap, n in zip(gaps, part.view("i8").tolist(), strict=True)]
    if part.dtype.kind == "M":  # nanoseconds would become plain integers
        return part.astype("M8[us]").tolist()
    return part.tolist()


def _from_array(values: NDArray[Any], kind: str, absent: NDArray[np.bool_] | None) -> Any:
    """None where the array has not the type that its kind has in Arrow."""
    there = values.dtype.kind
    if kind in _INTEGERS:
        fits = there == "i" and values.dtype.itemsize <= (8 if kind == "int64" else 4)
    elif kind in ("float64", "float32"):
        fits = there == "f"
    elif kind == "bool":
        fits = there == "b"
    else:
        fits = kind == "timestamp" and values.dtype == np.dtype("M8[us]")
    if kind == "timestamp" and values.dtype == np.dtype("M8[s]"):
        seconds = values.view(np.int64)
        lost = (seconds > _MOST_SECONDS) | (seconds < -_MOST_SECONDS)
        if lost.any() and not np.isnat(values[lost]).all():
            return None
        values, fits = values.astype("M8[us]"), True
    if not fits:
        return None
    if there in "fM":
        gaps = np.isnan(values) if there == "f" else np.isnat(values)
        absent = gaps if absent is None else absent | gaps
    plain = pa.array(values, mask=absent)
    return plain.cast(arrow_type(kind), safe=False)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _fit(value: Any, kind: str) -> Any:
    """The value as its column holds it; None if it cannot."""
    if _missing(value):
        return None
    if kind in _INTEGERS:
        return _integer(value, _INTEGERS[kind])
    if kind in ("float64", "float32"):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            return None
    if kind == "bool":
        return bool(value) if isinstance(value, bool) or value in (0, 1) else None
    if kind == "timestamp":
        return _moment(value)
    if kind == "bytes":
        return value if isinstance(value, bytes) else _utf8(str(value)).encode()
    if isinstance(value, str | bytes) and kind in (*NATURAL_KINDS, *TEXT_KINDS):
        return _utf8(value)
    if kind in ("string", *TEXT_KINDS) and not isinstance(value, list | tuple | dict):
        return str(value)
    return _json(value)


def _integer(value: Any, limit: int) -> int | None:
    if isinstance(value, float):
        if not value.is_integer():
            return None
    elif not isinstance(value, int):
        return None
    number = int(value)
    return number if -limit <= number < limit else None


def _moment(value: Any) -> Any:
    """Seconds since the epoch, or a datetime, as microseconds."""
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value) or abs(value) > _MOST_SECONDS:
        return None
    return round(value * 1_000_000)


def _utf8(value: str | bytes) -> str:
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return raw.decode("utf-8", "replace")


def _json(value: Any) -> str:
    return _utf8(json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")))


def _plain(value: Any) -> Any:
    """Values that JSON has: no NaN (null), no bytes, texts as keys."""
    if isinstance(value, np.ndarray):
        value = _listed(value)
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return _utf8(value)
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return value
