"""Reads a column of any container without importing the library it came from.

Polars, pandas and Arrow are told apart by what their columns can do. What comes out is either
numbers (a NumPy array in its own type, so that a float32 column is never copied to float64) or
texts with counts, and how many values were absent.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroskew.errors import SchemaError

Numbers = NDArray[Any]

LONGEST_TEXT = 128
"""Characters of a category that a profile keeps; a longer one keeps its start and a digest."""

_NUMBER_TYPES = (int, float, np.number, np.bool_, Decimal)
_MOMENT_TYPES = (dt.datetime, dt.date, dt.timedelta, np.datetime64, np.timedelta64)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def columns_of(frame: Any) -> Iterator[tuple[str, Any]]:
    """Name and column, in order, of a mapping or of a Polars, pandas or Arrow table."""
    if isinstance(frame, Mapping):
        yield from ((str(name), column) for name, column in frame.items())
        return
    names = getattr(frame, "column_names", None)
    if names is None:
        names = getattr(frame, "columns", None)
    if names is None or not hasattr(frame, "__getitem__"):
        raise SchemaError(
            f"a {type(frame).__name__} is no table",
            mend="give a mapping of name to column, or a Polars, pandas or Arrow table",
        )
    for name in names:
        yield str(name), frame[name]


class Column:
    """One column, looked at once: `numbers` or `texts`, whichever fits.

    `kind` is "numbers", "texts" or "empty" (nothing but nulls, without a type). Moments and spans
    of time are numbers: seconds since 1970 UTC, seconds.
    """

    def __init__(self, raw: Any, name: str = "") -> None:
        self.name = name
        self._texts: tuple[dict[str, int], int] | None = None
        self.length, self.nulls, self._values = _without_nulls(raw, name)
        values = self._values
        if isinstance(values, np.ndarray) and values.dtype.kind in "biufmM":
            self.kind = "numbers"
        elif len(values) == 0:
            self.kind = "empty"
        elif isinstance(values, dict):
            self.kind = "texts"
        else:
            self.kind = _kind_of_objects(values)

    def numbers(self) -> Numbers:
        """Values without nulls (NaN may be among them). Raises `SchemaError` for texts."""
        values = self._values
        if self.kind == "empty":
            return np.empty(0)
        if self.kind == "texts":
            raise SchemaError(
                f"column `{self.name}` holds text (such as {_example(values)}) "
                "where its profile has numbers",
                mend="give the column the type it was trained with",
            )
        if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
            return values
        if isinstance(values, np.ndarray) and values.dtype.kind in "mM":
            return _seconds(values)
        return np.fromiter((_number(value) for value in values), np.float64, len(values))

    def texts(self) -> tuple[dict[str, int], int]:
        """Text and count of every value, and the nulls (NaN counts as one)."""
        if self._texts is None:
            self._texts = self._count_texts()
        return self._texts

    def _count_texts(self) -> tuple[dict[str, int], int]:
        values = self._values
        if isinstance(values, dict):
            counted: Iterable[tuple[Any, int]] = values.items()
        elif isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
            distinct, counts = np.unique(values, return_counts=True)
            counted = zip(distinct.tolist(), counts.tolist(), strict=True)
        elif isinstance(values, np.ndarray):
            counted = _count(values.tolist()).items()
        else:
            counted = _count(values).items()
        texts: dict[str, int] = {}
        nulls = self.nulls
        for value, count in counted:
            if _missing(value):
                nulls += count
                continue
            text = text_of(value)
            texts[text] = texts.get(text, 0) + count
        return texts, nulls


def text_of(value: Any) -> str:
    """One spelling per category, whatever type a container gave it.

    An integer column that met a null comes back as floats (3.0 is "3"); bytes are UTF-8, with
    replacement characters where they are not.
    """
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
    elif isinstance(value, bool | np.bool_):
        text = "true" if value else "false"
    elif isinstance(value, float | np.floating) and float(value).is_integer():
        text = str(int(value))
    else:
        text = str(value)
    if len(text) <= LONGEST_TEXT:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{text[: LONGEST_TEXT - 18]}…#{digest}"


def _without_nulls(raw: Any, name: str) -> tuple[int, int, Any]:
    """Length, nulls and what is left: an array, a list of objects, or a dict of counts."""
    if isinstance(raw, np.ndarray):
        return _from_numpy(raw, name)
    if isinstance(raw, list | tuple):
        return _from_objects(raw)
    if callable(getattr(raw, "null_count", None)) and hasattr(raw, "to_physical"):
        return _from_polars(raw, name)
    if hasattr(raw, "null_count") and hasattr(raw, "drop_null"):
        return _from_arrow(raw, name)
    if hasattr(raw, "isna") and hasattr(raw, "dropna"):
        return _from_pandas(raw, name)
    if isinstance(raw, str | bytes) or not hasattr(raw, "__len__"):
        raise SchemaError(
            f"column `{name}` is a {type(raw).__name__}, not a sequence of values",
            mend="give an array, a list or a series",
        )
    if hasattr(raw, "__array__"):
        return _from_numpy(np.asarray(raw), name)
    return _from_objects(list(raw))


def _from_polars(series: Any, name: str) -> tuple[int, int, Any]:
    length, nulls = len(series), int(series.null_count())
    kind = str(series.dtype)
    if kind == "Null":
        return length, nulls, []
    if kind.startswith(("String", "Categorical", "Enum")):
        # A column may itself be called "count", which is what Polars would call the counts.
        counted = series.drop_nulls().alias("text").value_counts(name="rows")
        texts, counts = counted["text"].to_list(), counted["rows"].to_list()
        return length, nulls, dict(zip(texts, counts, strict=True))
    clean = series.drop_nulls() if nulls else series
    if series.dtype.is_numeric() or kind == "Boolean" or kind.startswith(("Date", "Duration")):
        array = np.asarray(clean.to_numpy())
        if array.dtype.kind in "biufmM":
            return length, nulls, array
    return length, nulls, clean.to_list()


def _from_arrow(column: Any, name: str) -> tuple[int, int, Any]:
    length, nulls = len(column), int(column.null_count)
    kind = str(column.type)
    clean = column.drop_null() if nulls else column
    if "string" in kind and not kind.startswith(("dictionary", "list", "struct", "map")):
        counted = clean.value_counts()
        return length, nulls, {row["values"]: row["counts"] for row in counted.to_pylist()}
    if kind == "null" or not kind.startswith(
        ("int", "uint", "float", "double", "halffloat", "bool", "timestamp", "date", "duration")
    ):
        return length, nulls, clean.to_pylist()
    try:
        array = clean.to_numpy(zero_copy_only=False)
    except TypeError:
        array = clean.to_numpy()
    return length, nulls, _from_numpy(array, name)[2]


def _from_pandas(series: Any, name: str) -> tuple[int, int, Any]:
    if getattr(series, "ndim", 1) != 1:
        raise SchemaError(f"column `{name}` is there more than once")
    length = len(series)
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "biuf":
        return _from_numpy(series.to_numpy(), name)
    if series.dtype.kind not in "biufmM":
        try:
            counted = series.value_counts()
            texts = {value: int(count) for value, count in counted.items() if count}
        except TypeError:  # lists, dicts: not hashable
            texts = {}
        if set(map(type, texts)) == {str}:
            return length, length - sum(texts.values()), texts
    clean = series.dropna()
    if getattr(series.dtype, "tz", None) is not None:
        clean = clean.dt.tz_convert("UTC").dt.tz_localize(None)
    array = clean.to_numpy()
    _, more, values = _from_numpy(array, name)
    return length, length - len(clean) + more, values


def _from_numpy(array: NDArray[Any], name: str) -> tuple[int, int, Any]:
    if array.ndim != 1:
        raise SchemaError(
            f"column `{name}` has {array.ndim} dimensions", mend="give one value per row"
        )
    kind = array.dtype.kind
    if kind in "mM":
        absent = int(np.count_nonzero(np.isnat(array)))
        return len(array), absent, array[~np.isnat(array)] if absent else array
    if kind == "f":
        if array.dtype.itemsize not in (4, 8):  # half and extended precision: the next that is fast
            array = array.astype(np.float32 if array.dtype.itemsize == 2 else np.float64)
        return len(array), 0, array
    if kind in "biu":
        return len(array), 0, array
    if kind in "OUS":
        return _from_objects(array.tolist())
    raise SchemaError(
        f"column `{name}` has the type {array.dtype}, which has no distribution",
        mend="leave it out, or turn it into numbers or text",
    )


def _from_objects(values: list[Any] | tuple[Any, ...]) -> tuple[int, int, Any]:
    types = set(map(type, values))
    if types == {str} or types == {str, type(None)}:
        texts = Counter(values)
        nulls = texts.pop(None, 0)
        return len(values), nulls, dict(texts)
    if types <= {float} or types <= {bool} or types <= {int}:
        try:
            array = np.asarray(values) if types else np.empty(0, object)
        except OverflowError:
            array = np.empty(0, object)
        if array.dtype.kind in "biuf":
            return len(values), 0, array
    clean = [value for value in values if not _missing(value)]
    return len(values), len(values) - len(clean), clean


def _missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return isinstance(value, float | np.floating | Decimal) and bool(value != value)


def _kind_of_objects(values: list[Any]) -> str:
    types = set(map(type, values))
    if all(issubclass(kind, _NUMBER_TYPES) for kind in types):
        return "numbers"
    if all(issubclass(kind, _MOMENT_TYPES) for kind in types):
        return "numbers"
    return "texts"


def _number(value: Any) -> float:
    if isinstance(value, np.datetime64 | np.timedelta64):
        return float(_seconds(np.array([value]))[0])
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, dt.datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return (moment - _EPOCH).total_seconds()
    if isinstance(value, dt.date):
        return (value - _EPOCH.date()).total_seconds()
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _seconds(values: NDArray[Any]) -> NDArray[np.float64]:
    unit = "datetime64[us]" if values.dtype.kind == "M" else "timedelta64[us]"
    return values.astype(unit).astype(np.int64) / 1e6


def _count(values: list[Any]) -> Mapping[Any, int]:
    try:
        return Counter(values)
    except TypeError:  # lists, dicts: not hashable
        return Counter(map(str, values))


def _example(values: Any) -> str:
    for value in values:
        if not isinstance(value, _NUMBER_TYPES):
            return repr(text_of(value)[:40])
    return repr(text_of(next(iter(values)))[:40])
