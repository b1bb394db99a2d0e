"""Population stability index of two profiles, and what its size means.

    PSI = Σ over bins of (a − e) · ln(a / e)

with e and a the shares of rows of the reference (expected) and of the current data (actual). A
share below `FLOOR` counts as `FLOOR`, so that an empty bin costs at most ln(1 / FLOOR) times its
counterpart and never infinity; shares are not scaled up or down to make room for it. Nulls are a
bin. Of a categorical column, values with less than `RARE` of the reference's rows share one bin,
so that there are never more than a hundred of them: a PSI over a thousand bins is mostly noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from zeroskew.profiles.categorical import CategoricalProfile
from zeroskew.profiles.numeric import NumericProfile
from zeroskew.profiles.profile import ColumnProfile, Profile, require_same_bins

FLOOR = 1e-4
"""Smallest share of rows that a bin counts with."""

RARE = 0.01
"""Categories with a smaller share of the reference are compared together."""

MIN_SAMPLES = 500
"""Rows on either side below which a verdict is inconclusive."""

MODERATE, SIGNIFICANT = 0.1, 0.25

Verdict = Literal["stable", "moderate", "significant", "inconclusive"]


class Bins(NamedTuple):
    """Rows per bin of two profiles, side by side."""

    labels: tuple[str, ...]
    expected: tuple[int, ...]
    actual: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a column has moved from its reference."""

    psi: float
    """NaN where one side has no rows."""
    verdict: Verdict
    samples: int
    """Rows of the smaller side."""
    chance: float
    """A PSI that sampling alone stays below (see `chance_bound`)."""

    @property
    def conclusive(self) -> bool:
        return self.verdict != "inconclusive"


def psi(expected: ColumnProfile, actual: ColumnProfile, *, column: str = "") -> float:
    """PSI of one column; NaN where one side has no rows.

    Raises `DataError` when the two were counted with different bins.
    """
    _, before, after = paired_bins(expected, actual, column=column, labels=False)
    return _psi(before, after)


def _psi(before: Sequence[int], after: Sequence[int]) -> float:
    rows_before, rows_after = sum(before), sum(after)
    if not rows_before or not rows_after:
        return math.nan
    terms = []
    for here, there in zip(before, after, strict=True):
        e, a = max(here / rows_before, FLOOR), max(there / rows_after, FLOOR)
        terms.append((a - e) * math.log(a / e))
    return math.fsum(terms)


def paired_bins(
    expected: ColumnProfile, actual: ColumnProfile, *, column: str = "", labels: bool = True
) -> Bins:
    """The bins that `psi` sums over: histogram or categories, then nulls."""
    require_same_bins(expected, actual, column)
    if isinstance(expected, NumericProfile) and isinstance(actual, NumericProfile):
        texts = (*expected.labels(), "null") if labels else ()
        return Bins(texts, (*expected.counts, expected.nulls), (*actual.counts, actual.nulls))
    assert isinstance(expected, CategoricalProfile)
    assert isinstance(actual, CategoricalProfile)
    # Values stand by frequency where the reference was learnt; a measured one need not be sorted.
    least = RARE * expected.total
    frequent = [i for i, count in enumerate(expected.counts) if count >= least and count > 0]
    before = [expected.counts[i] for i in frequent]
    after = [actual.counts[i] for i in frequent]
    texts = (*(expected.values[i] for i in frequent), "rare", "unseen", "null") if labels else ()
    return Bins(
        texts,
        (*before, sum(expected.counts) - sum(before), expected.unseen, expected.nulls),
        (*after, sum(actual.counts) - sum(after), actual.unseen, actual.nulls),
    )


def chance_bound(bins: int, expected_rows: int, actual_rows: int) -> float:
    """A PSI that two samples of one distribution stay below, but for once in some ten thousand.

    Without drift, PSI / (1/n + 1/m) is close to χ² with bins − 1 degrees of freedom (B. Yurdakul,
    J. Naranjo: Statistical properties of the population stability index, Journal of Risk Model
    Validation 14(4), 2020). This is its mean plus six standard deviations: bins with a handful of
    rows have a heavier tail than χ².
    """
    if not expected_rows or not actual_rows:
        return math.inf
    degrees = max(bins - 1, 1)
    scale = 1 / expected_rows + 1 / actual_rows
    return scale * (degrees + 6 * math.sqrt(2 * degrees))


def drift(expected: ColumnProfile, actual: ColumnProfile, *, column: str = "") -> Drift:
    """PSI of one column with its verdict.

    Inconclusive below `MIN_SAMPLES` rows on either side, and where a PSI that would be moderate or
    significant is no larger than chance explains (columns with many categories and few rows).
    """
    _, before, after = paired_bins(expected, actual, column=column, labels=False)
    value = _psi(before, after)
    rows = sum(before), sum(after)
    used = sum(1 for here, there in zip(before, after, strict=True) if here or there)
    chance = chance_bound(used, *rows)
    verdict: Verdict
    if min(rows) < MIN_SAMPLES or MODERATE <= value <= chance:
        verdict = "inconclusive"
    elif value < MODERATE:
        verdict = "stable"
    else:
        verdict = "moderate" if value <= SIGNIFICANT else "significant"
    return Drift(value, verdict, min(rows), chance)


def compare(reference: Profile, current: Profile) -> dict[str, Drift]:
    """Drift of every column that both profiles have, in the reference's order.

    Raises `DataError` when a column was counted with different bins.
    """
    return {
        name: drift(column, current.columns[name], column=name)
        for name, column in reference.columns.items()
        if name in current.columns
    }
