"""A profile as one vector of counts, so that a day is a sum of vectors and takes little memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroskew.errors import DataError
from zeroskew.profiles import CategoricalProfile, NumericProfile, Profile


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each column's counts are in a vector, and the bins they were counted in."""

    columns: tuple[tuple[str, str, tuple[Any, ...], tuple[float | None, float | None]], ...]
    """Name, kind, edges or values, range."""
    size: int


def packed(raw: Mapping[str, Any], where: str = "profile") -> tuple[Layout, NDArray[np.int64]]:
    """The JSON form of a profile as bins and one vector of counts.

    Smallest and largest values are left out. Raises `DataError` for what is no profile.
    """
    columns: list[tuple[str, str, tuple[Any, ...], tuple[float | None, float | None]]] = []
    counts: list[int] = []
    bins: tuple[Any, ...]
    more: tuple[int, ...]
    try:
        for name, column in raw["columns"].items():
            if column["kind"] == "numeric":
                low, high = column["range"]
                bins = tuple(column["edges"])
                columns.append((name, "numeric", bins, (low, high)))
                below, above = column["outside"]
                more, wanted = (column["nulls"], column["infinite"], below, above), len(bins) + 1
            else:
                bins = tuple(column["values"])
                columns.append((name, "categorical", bins, (None, None)))
                more, wanted = (column["unseen"], column["nulls"]), len(bins)
            if len(column["counts"]) != wanted:
                raise DataError(f"column `{name}`: counts do not fit the bins", where=where)
            counts += column["counts"]
            counts += more
        vector = np.array(counts)
        layout = Layout(tuple(columns), len(counts))
        hash(layout)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"is no profile: {type(error).__name__} {error}", where=where) from None
    if counts and (vector.dtype.kind != "i" or vector.min() < 0):
        raise DataError("is no profile: counts are whole numbers", where=where)
    return layout, vector.astype(np.int64, copy=False)


def unpacked(layout: Layout, counts: NDArray[np.int64], rows: int) -> Profile:
    """The profile of a vector."""
    made: dict[str, NumericProfile | CategoricalProfile] = {}
    values, at = counts.tolist(), 0
    for name, kind, bins, (low, high) in layout.columns:
        if kind == "numeric":
            end = at + len(bins) + 1
            nulls, infinite, below, above = values[end : end + 4]
            made[name] = NumericProfile(
                bins, low, high, tuple(values[at:end]), nulls, infinite, below, above
            )
            at = end + 4
        else:
            end = at + len(bins)
            unseen, nulls = values[end : end + 2]
            made[name] = CategoricalProfile(bins, tuple(values[at:end]), unseen, nulls)
            at = end + 2
    return Profile(made, rows)


def emptied(profile: Profile) -> Profile:
    """The same bins with nothing in them."""
    layout, counts = packed(profile.to_json())
    return unpacked(layout, np.zeros_like(counts), 0)
