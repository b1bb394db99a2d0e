"""The feature row: the numbers that enter the exported graph, and the only encoder that makes them.

Training, calibration, evaluation, batch prediction and serving all call `FeatureRow.encode`.
It holds no state that could differ between them: a number becomes float32 with NaN for missing, a
string becomes the 32-bit Murmur3 hash of its UTF-8 bytes. Everything that is learnt (medians,
scales, which hash is which category) is inside the graph. numpy and mmh3 only, so that it can run
inside Triton.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mmh3
import numpy as np
from numpy.typing import NDArray

MISSING = 0
"""Code of an absent category. A string that happens to hash to 0 is moved to 1."""

FEW_ROWS = 64
"""Rows up to which numpy's cost per call is more than that of the values."""
_NAN = float("nan")


def category_code(value: str) -> int:
    """Signed 32-bit Murmur3 (seed 0) of the UTF-8 bytes; never `MISSING`."""
    return mmh3.hash(value.encode("utf-8", "surrogatepass")) or 1


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """Order and kind of a model's inputs.

    The encoded form of n rows is `numeric`, float32 `[n, len(numeric)]` with NaN where a value is
    missing, and `categorical`, int32 `[n, len(categorical)]` with `MISSING`.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return self.numeric + self.categorical

    @property
    def schema_hash(self) -> str:
        """SHA-256 over names, kinds and order; equal iff two graphs take the same tensors."""
        text = json.dumps([list(self.numeric), list(self.categorical)])
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, list[str]]:
        return {"numeric": list(self.numeric), "categorical": list(self.categorical)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Sequence[str]]) -> FeatureRow:
        return cls(tuple(raw["numeric"]), tuple(raw["categorical"]))

    def encode(self, columns: Mapping[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Encode columns of equal length (numpy, pyarrow, polars series, pandas or lists).

        Raises `KeyError` with the name of a column that is not there. Infinite numbers count as
        missing: no training row holds one that the graph could have learnt from.
        """
        length = len(columns[self.names[0]]) if self.names else 0
        if length <= FEW_ROWS and all(type(columns[name]) is list for name in self.names):
            return self._encode_few(columns, length)
        numeric = np.empty((length, len(self.numeric)), np.float32)
        for position, name in enumerate(self.numeric):
            numeric[:, position] = _floats(columns[name])
        numeric[~np.isfinite(numeric)] = np.nan
        categorical = np.empty((length, len(self.categorical)), np.int32)
        for position, name in enumerate(self.categorical):
            categorical[:, position] = _codes(columns[name])
        return numeric, categorical

    def _encode_few(
        self, columns: Mapping[str, Any], length: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The same for a handful of rows in lists: one array, not one per column."""
        values = [_NAN if v is None else v for name in self.numeric for v in columns[name]]
        with np.errstate(over="ignore"):
            numeric = np.array(values, np.float64).astype(np.float32)
        numeric[~np.isfinite(numeric)] = np.nan
        codes = [_code(v) for name in self.categorical for v in columns[name]]
        return (
            np.ascontiguousarray(numeric.reshape(len(self.numeric), length).T),
            np.ascontiguousarray(
                np.array(codes, np.int32).reshape(len(self.categorical), length).T
            ),
        )


def _plain(column: Any) -> Any:
    """A numpy array or list, whichever the column's own library gives without copying twice."""
    if isinstance(column, np.ndarray | list | tuple):
        return column
    if hasattr(column, "to_numpy"):
        try:
            return column.to_numpy(zero_copy_only=False)
        except TypeError:
            return column.to_numpy()
    return list(column)


def _floats(column: Any) -> NDArray[np.float32]:
    values = _plain(column)
    with np.errstate(over="ignore"):
        if isinstance(values, np.ndarray) and values.dtype != object:
            # By way of float64, as a list of Python numbers goes: the same bits from both.
            return values.astype(np.float64, copy=False).astype(np.float32)
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64).astype(
            np.float32
        )


def _codes(column: Any) -> NDArray[np.int32]:
    """Hash every distinct string once; a training column has millions of rows and few values."""
    known: dict[Any, int] = {None: MISSING}
    codes = np.empty(len(column), np.int32)
    for index, value in enumerate(_plain(column)):
        code = known.get(value)
        if code is None:
            code = known[value] = _code(value)
        codes[index] = code
    return codes


def _code(value: Any) -> int:
    if type(value) is str:
        return category_code(value)
    # NaN is pandas' usual stand-in for an absent string.
    return MISSING if value is None or value != value else category_code(_text(value))


def _text(value: Any) -> str:
    """One spelling per value: an integer column that met a null comes back as floats."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
