"""The histogram of a numeric column: the training set's own quantiles as frozen bins.

Counting is exact for every NumPy number type. A few comparisons of the whole array beat a binary
search per value by ten times: there are never more than `bins - 1` edges, and a comparison runs at
the speed of memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroskew.errors import DataError
from zeroskew.profiles.columns import Column

CHUNK = 1 << 17
"""Values compared at a time, so that a chunk stays in the cache while every edge passes."""


@dataclass(frozen=True, slots=True)
class NumericProfile:
    """Counts of numbers between frozen edges.

    Bin 0 holds values below `edges[0]`, bin i those with `edges[i-1] <= value < edges[i]`, the
    last one the rest; values outside the training range fall into the outer bins and are counted
    in `below` and `above` as well. `nulls` counts absent values, NaN and infinities (a network
    sees all three as missing); `infinite` says how many of them were infinities.
    """

    edges: tuple[float, ...]
    low: float | None
    """Smallest finite training value (rounded down to float32, so that a value that was stored
    as float32 is not outside); None where there was none."""
    high: float | None
    counts: tuple[int, ...]
    nulls: int = 0
    infinite: int = 0
    below: int = 0
    above: int = 0
    smallest: float | None = None
    """Smallest finite value of the rows counted here."""
    largest: float | None = None

    kind = "numeric"

    @property
    def total(self) -> int:
        """Rows, nulls included."""
        return sum(self.counts) + self.nulls

    @classmethod
    def learn(cls, column: Column, bins: int = 10) -> NumericProfile:
        """Freeze edges at the quantiles of `column` and count it."""
        values = column.numbers()
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if not len(finite):
            return cls(edges=(), low=None, high=None, counts=(0,)).measure(column)
        ordered = np.sort(finite)
        low, high = _range(ordered[0].item(), ordered[-1].item())
        edges = tuple(_edges(ordered, bins))
        empty = cls(edges=edges, low=low, high=high, counts=(0,) * (len(edges) + 1))
        return empty.measure(column)

    def measure(self, column: Column) -> NumericProfile:
        """Count another column with these edges."""
        values = column.numbers()
        nulls, infinite = column.nulls, 0
        if values.dtype.kind == "b":
            values = values.view(np.uint8)
        if not len(values):
            return self._counted((0,) * len(self.counts), nulls, 0, 0, 0, None, None)
        there = len(values)
        smallest, largest = values.min(), values.max()
        if np.isnan(smallest):
            # No comparison with NaN holds, so that it can stay in; only the ends need care.
            smallest, largest = np.fmin.reduce(values), np.fmax.reduce(values)
            there -= int(np.count_nonzero(np.isnan(values)))
            nulls += len(values) - there
        if there and not (np.isfinite(smallest) and np.isfinite(largest)):
            finite = values[np.isfinite(values)]
            infinite = there - len(finite)
            nulls += infinite
            values, there = finite, len(finite)
            if there:
                smallest, largest = values.min(), values.max()
        if not there:
            return self._counted((0,) * len(self.counts), nulls, infinite, 0, 0, None, None)
        # What lies in the outer bins because it is outside the training range.
        low, high = smallest.item(), largest.item()
        below = above = 0
        if self.low is not None and low < self.low:
            below = there - int(_at_least(values, (self.low,))[0])
        if self.high is not None and high > self.high:
            above = int(_at_least(values, (math.nextafter(self.high, math.inf),))[0])
        reached = [there, *_at_least(values, self.edges).tolist(), 0]
        counts = tuple(here - there for here, there in itertools.pairwise(reached))
        return self._counted(counts, nulls, infinite, below, above, float(low), float(high))

    def _counted(
        self,
        counts: tuple[int, ...],
        nulls: int,
        infinite: int,
        below: int,
        above: int,
        smallest: float | None,
        largest: float | None,
    ) -> NumericProfile:
        return NumericProfile(
            self.edges, self.low, self.high, counts,
            nulls, infinite, below, above, smallest, largest,
        )  # fmt: skip

    def same_bins(self, other: Any) -> bool:
        """Whether `other` was counted with the same frozen bins."""
        return isinstance(other, NumericProfile) and (
            (self.edges, self.low, self.high) == (other.edges, other.low, other.high)
        )

    def merge(self, other: NumericProfile) -> NumericProfile:
        """The profile of both sets of rows. The caller has checked `same_bins`."""
        return self._counted(
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            self.nulls + other.nulls,
            self.infinite + other.infinite,
            self.below + other.below,
            self.above + other.above,
            min((v for v in (self.smallest, other.smallest) if v is not None), default=None),
            max((v for v in (self.largest, other.largest) if v is not None), default=None),
        )

    def labels(self) -> tuple[str, ...]:
        """A short text per bin, for tables and charts."""
        if not self.edges:
            return ("all",)
        edges = short_numbers(self.edges)
        inner = (f"{a} to {b}" for a, b in itertools.pairwise(edges))
        return (f"< {edges[0]}", *inner, f"≥ {edges[-1]}")

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "edges": list(self.edges),
            "range": [self.low, self.high],
            "counts": list(self.counts),
            "nulls": self.nulls,
            "infinite": self.infinite,
            "outside": [self.below, self.above],
            "seen": [self.smallest, self.largest],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> NumericProfile:
        edges = tuple(float(edge) for edge in raw["edges"])
        counts = tuple(map(whole, raw["counts"]))
        if len(counts) != len(edges) + 1:
            raise DataError(f"{len(edges)} edges make {len(edges) + 1} bins, not {len(counts)}")
        if any(not a < b for a, b in itertools.pairwise(edges)) or not all(
            math.isfinite(edge) for edge in edges
        ):
            raise DataError("edges must be finite and ascending")
        low, high = (_maybe(value) for value in raw["range"])
        smallest, largest = (_maybe(value) for value in raw["seen"])
        below, above = map(whole, raw["outside"])
        nulls, infinite = whole(raw["nulls"]), whole(raw["infinite"])
        return cls(
            edges, low, high, counts, nulls, infinite, below, above, smallest, largest
        )  # fmt: skip


def whole(value: Any) -> int:
    """A count out of JSON: a whole number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"{value!r} is no count")
    return value


def _maybe(value: Any) -> float | None:
    return None if value is None else float(value)


def short_numbers(numbers: tuple[float, ...]) -> list[str]:
    """Texts with as few digits as keep neighbours apart (at least three)."""
    largest = max(map(abs, numbers), default=0.0)
    # What is left of a subtraction, such as 2.7e-15 between −2 and 3, reads as zero.
    rounded = tuple(0.0 if abs(number) < 1e-12 * largest else number for number in numbers)
    texts: list[str] = []
    for digits in range(3, 18):
        texts = [f"{number:.{digits}g}" for number in rounded]
        if len(set(texts)) == len(set(rounded)):
            break
    return [_grouped(text).replace("-", "−") for text in texts]


def _grouped(text: str) -> str:
    number = float(text)
    if "e" in text and not 1e3 <= abs(number) < 1e7:
        return text.replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
    places = 0 if "e" in text else len(text.partition(".")[2])
    return f"{number:,.{places}f}"


def _range(low: float, high: float) -> tuple[float, float]:
    """The range widened to the nearest float32 and float64, finite all the same."""
    with np.errstate(over="ignore"):
        narrow_low, narrow_high = float(np.float32(low)), float(np.float32(high))
    wide_low, wide_high = float(low), float(high)
    if wide_low > low:  # an integer beyond 2^53
        wide_low = math.nextafter(wide_low, -math.inf)
    if wide_high < high:
        wide_high = math.nextafter(wide_high, math.inf)
    return (
        min(wide_low, narrow_low) if math.isfinite(narrow_low) else wide_low,
        max(wide_high, narrow_high) if math.isfinite(narrow_high) else wide_high,
    )


def _edges(ordered: NDArray[Any], bins: int) -> list[float]:
    """Edges between sorted values that part them into at most `bins` bins.

    Up to `bins` distinct values get a bin each. Otherwise the cuts stand at the quantiles; a cut
    never parts equal values: it moves to the nearer end of their run, and a value so frequent
    that two quantiles fall on it gets a bin of its own. The edge is the middle between the values
    on both sides, so that rounding to float32 does not move a frequent value across it.
    """
    cuts = _run_starts(ordered, bins)
    if cuts is None:
        cuts = _quantile_cuts(ordered, bins)
    edges: list[float] = []
    for cut in cuts:
        edge = _between(ordered[cut - 1].item(), ordered[cut].item())
        if edge is not None and (not edges or edge > edges[-1]):
            edges.append(edge)
    return edges


def _run_starts(ordered: NDArray[Any], most: int) -> list[int] | None:
    """Where each distinct value after the first begins; None for more than `most` values."""
    starts: list[int] = []
    position = 0
    for _ in range(most):
        position = int(np.searchsorted(ordered, ordered[position], side="right"))
        if position == len(ordered):
            return starts
        starts.append(position)
    return None


def _quantile_cuts(ordered: NDArray[Any], bins: int) -> list[int]:
    length = len(ordered)
    runs: dict[tuple[int, int], list[int]] = {}
    for k in range(1, bins):
        ideal = length * k // bins
        value = ordered[ideal]
        run = (
            int(np.searchsorted(ordered, value, side="left")),
            int(np.searchsorted(ordered, value, side="right")),
        )
        runs.setdefault(run, []).append(ideal)
    cuts: set[int] = set()
    for (start, end), ideals in runs.items():
        if len(ideals) > 1:
            cuts.update((start, end))
        else:
            cuts.add(start if ideals[0] - start <= end - ideals[0] else end)
    return sorted(cuts - {0, length})


def _between(left: float, right: float) -> float | None:
    """A float64 with left < edge <= right; None where none is (integers beyond 2^53)."""
    a, b = float(left), float(right)
    middle = a / 2 + b / 2
    for edge in (middle, b, math.nextafter(b, -math.inf)):
        if left < edge <= right:
            return edge
    return None


def _at_least(values: NDArray[Any], thresholds: tuple[float, ...]) -> NDArray[np.int64]:
    """How many values are >= each threshold, exactly, without converting the values."""
    reached = np.zeros(len(thresholds), np.int64)
    exact = [_threshold(threshold, values.dtype) for threshold in thresholds]
    found = np.empty(min(CHUNK, len(values)), np.bool_)
    for start in range(0, len(values), CHUNK):
        chunk = values[start : start + CHUNK]
        mark = found[: len(chunk)]
        for k, threshold in enumerate(exact):
            if threshold is True:
                reached[k] += len(chunk)
            elif threshold is not False:
                np.greater_equal(chunk, threshold, out=mark)
                reached[k] += np.count_nonzero(mark)
    return reached


def _threshold(threshold: float, dtype: np.dtype[Any]) -> Any:
    """The smallest value of `dtype` >= threshold; True if all are above, False if none is."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            here = dtype.type(threshold)
        if float(here) < threshold:
            here = np.nextafter(here, dtype.type(np.inf))
        return here
    if math.isinf(threshold):
        return threshold < 0
    ceiling, limits = math.ceil(threshold), np.iinfo(dtype)
    if ceiling <= limits.min:
        return True
    return False if ceiling > limits.max else dtype.type(ceiling)
