"""One number that compares a challenger with its champion, with an interval, from what was logged.

Intervals are of 95 %: Wilson's for shares, order statistics for quantiles (the ranks of a
binomial), Katz's on the logarithm for ratios of shares. PSI has no interval; what chance alone
explains (`zeroskew.profiles.psi.chance_bound`) takes its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zeroskew.rollout.rollout_judging import MetricType

if TYPE_CHECKING:
    import polars as pl

Z = 1.959963984540054
TOLERANCE = 1e-6
"""Relative difference from which on two floats are different values of a feature."""


@dataclass(frozen=True, slots=True)
class Number:
    """A value, what it was made from, and where it may as well lie."""

    value: float
    low: float
    high: float
    samples: int
    """Pairs, or rows of the smaller side."""


NOTHING = Number(math.nan, math.nan, math.nan, 0)


def measure(
    kind: MetricType,
    champion: pl.DataFrame,
    challenger: pl.DataFrame,
    pairs: pl.DataFrame,
    *,
    threshold: float,
    quantile: float,
    features: tuple[str, ...],
    unanswered: int,
) -> Number:
    """The metric over these rows; `NOTHING` without any.

    `threshold`: score from which on a decision is positive. `features`: columns of both versions.
    `unanswered`: requests of the champion that the challenger had a copy of and did not answer.
    """
    if kind == "Disagreement":
        if not pairs.height:
            return NOTHING
        one, other = _scores(pairs, "champion_"), _scores(pairs, "challenger_")
        return share(int(((one >= threshold) != (other >= threshold)).sum()), pairs.height)
    if kind == "ScoreDifference":
        if not pairs.height:
            return NOTHING
        gap = np.abs(_scores(pairs, "champion_") - _scores(pairs, "challenger_"))
        return quantile_of(gap, quantile)
    if kind == "FeatureMismatch":
        if not pairs.height or not features:
            return NOTHING
        return share(int(mismatched(pairs, features).sum()), pairs.height)
    if not champion.height or not challenger.height:
        return NOTHING
    if kind == "ScorePSI":
        return _score_psi(champion, challenger)
    if kind == "ErrorRatio":
        errors = int(challenger["degraded"].sum()) + unanswered
        asked = challenger.height + unanswered
        return ratio_of_shares(errors, asked, int(champion["degraded"].sum()), champion.height)
    if kind == "LatencyRatio":
        ours, theirs = (
            quantile_of(side["latency_us"].to_numpy().astype(np.float64), quantile)
            for side in (challenger, champion)
        )
        return Number(
            ours.value / max(theirs.value, 1.0),
            ours.low / max(theirs.high, 1.0),
            ours.high / max(theirs.low, 1.0),
            min(ours.samples, theirs.samples),
        )
    return _auc_difference(pairs)


def share(hits: int, rows: int) -> Number:
    """hits / rows with Wilson's interval (E. B. Wilson, 1927)."""
    value = hits / rows
    middle = (value + Z * Z / (2 * rows)) / (1 + Z * Z / rows)
    half = (
        Z * math.sqrt(value * (1 - value) / rows + Z * Z / (4 * rows * rows)) / (1 + Z * Z / rows)
    )
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Number(value, min(value, low), max(value, high), rows)


def quantile_of(values: NDArray[np.float64], quantile: float) -> Number:
    """A quantile with the order statistics around it that a binomial makes an interval of."""
    ordered = np.sort(values)
    rows = len(ordered)
    spread = Z * math.sqrt(rows * quantile * (1 - quantile))
    low, high = math.floor(rows * quantile - spread), math.ceil(rows * quantile + spread)
    return Number(
        float(np.quantile(ordered, quantile)),
        float(ordered[max(0, low)]),
        # With too few rows nothing is known about how large it may be.
        float(ordered[high]) if high < rows else math.inf,
        rows,
    )


def ratio_of_shares(hits: int, rows: int, other_hits: int, other_rows: int) -> Number:
    """(hits / rows) / (other_hits / other_rows), half a hit added to each, with Katz's interval."""
    one, other = (hits + 0.5) / (rows + 1), (other_hits + 0.5) / (other_rows + 1)
    ratio = one / other
    spread = Z * math.sqrt(
        max(0.0, 1 / (hits + 0.5) - 1 / (rows + 1) + 1 / (other_hits + 0.5) - 1 / (other_rows + 1))
    )
    return Number(ratio, ratio * math.exp(-spread), ratio * math.exp(spread), min(rows, other_rows))


def mismatched(pairs: pl.DataFrame, features: tuple[str, ...]) -> NDArray[np.bool_]:
    """Rows in which any feature of the two versions differs; missing equals missing."""
    differs = np.zeros(pairs.height, bool)
    for name in features:
        one, other = pairs[f"champion_{name}"], pairs[f"challenger_{name}"]
        if one.dtype.is_float() or other.dtype.is_float():
            left, right = (_floats(column) for column in (one, other))
            gap = ~np.isclose(left, right, rtol=TOLERANCE, atol=0.0, equal_nan=True)
        else:
            gap = one.ne_missing(other).to_numpy()
        differs |= gap
    return differs


def _floats(column: pl.Series) -> NDArray[np.float64]:
    import polars as pl

    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _scores(frame: pl.DataFrame, prefix: str = "") -> NDArray[np.float64]:
    return frame[f"{prefix}score"].to_numpy().astype(np.float64)


def _score_psi(champion: pl.DataFrame, challenger: pl.DataFrame) -> Number:
    from zeroskew.profiles import Profile
    from zeroskew.profiles.psi import drift

    expected = Profile.learn({"score": _scores(champion)})
    actual = expected.measure({"score": _scores(challenger)})
    found = drift(expected.columns["score"], actual.columns["score"])
    # Below what chance explains, it says nothing; above, it is what it is.
    low = found.psi if found.psi > found.chance else 0.0
    return Number(found.psi, low, found.psi, found.samples)


def _auc_difference(pairs: pl.DataFrame) -> Number:
    """Challenger's AUC minus champion's on the pairs whose label is known (column `label`)."""
    from zeroskew.errors import DataError
    from zeroskew.evaluation.judge import compare
    from zeroskew.model_config import Evaluation

    if "label" not in pairs.columns:
        return NOTHING
    known = pairs.filter(pairs["label"].is_not_null())
    try:
        found: Any = compare(
            _scores(known, "challenger_"), _scores(known, "champion_"),
            known["label"].to_numpy(), config=Evaluation(metric="auc"),
        ).difference  # fmt: skip
    except DataError:
        return NOTHING
    low = found.value if found.low is None else found.low
    high = found.value if found.high is None else found.high
    return Number(found.value, low, high, known.height)
