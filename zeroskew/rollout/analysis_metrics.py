"""One number that compares a challenger with its champion, with an interval, from what was logged.

Intervals are of 95 %: Wilson's for shares, order statistics for quantiles (the ranks of a
binomial), a paired bootstrap for AUC. A ratio is put between the ends of its two sides' intervals,
which is wider than need be. PSI has no interval; what chance alone explains
(`zeroskew.profiles.psi.chance_bound`) takes its place.
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

    from zeroskew.profiles import Profile

Z = 1.959963984540054
FEW_ERRORS = 0.001
"""Share of errors below which a champion counts as having that many: else a single error of the
challenger beside none of the champion would be infinitely more, for ever."""


@dataclass(frozen=True, slots=True)
class Number:
    """A value, what it was made from, and where it may as well lie."""

    value: float
    low: float
    high: float
    samples: int
    """Pairs, or rows of the smaller side."""


NOTHING = Number(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Compared:
    """The rows that a metric is made from: all of a window, or those of a slice.

    Either side: `score`, `degraded`, `latency_us`, and `label` if labels were given. Pairs: as in
    `Pairs.frame`, and `label`.
    """

    champion: pl.DataFrame
    challenger: pl.DataFrame
    pairs: pl.DataFrame
    mirrored: bool
    """Both versions were asked the same; else the requests were divided between them."""
    unanswered: int = 0
    """Rows of the champion that the challenger had a copy of and did not answer."""
    failed: tuple[int, int] = (0, 0)
    """Requests of champion and challenger that were answered by an error, and so are not logged."""


def measure(
    kind: MetricType,
    rows: Compared,
    *,
    threshold: float = 0.5,
    quantile: float = 0.99,
    bins: Profile | None = None,
) -> Number:
    """The metric over these rows; `NOTHING` without any.

    `threshold`: score from which on a decision is positive. `bins`: a profile with the column
    `score` whose bins PSI is made with; None: quantiles of the champion's scores. Raises
    `DataError` for labels that are none.
    """
    if kind == "AUC":
        return _auc_difference(rows)
    if kind == "Disagreement":
        return _disagreement(rows.pairs, threshold)
    if kind == "ScoreDifference":
        return _score_difference(rows.pairs, quantile)
    if kind == "FeatureMismatch":
        together = rows.pairs.filter(~rows.pairs["read_apart"])
        return share(int(together["mismatched"].sum()), together.height)
    if not rows.champion.height or not rows.challenger.height:
        return NOTHING
    if kind == "ScorePSI":
        return _score_psi(rows.champion, rows.challenger, bins)
    if kind == "ErrorRatio":
        ours, theirs = rows.failed[1], rows.failed[0]
        # A copy that was answered by an error is not in the log either: it is one of these.
        lost = max(rows.unanswered, ours) if rows.mirrored else ours
        return ratio(
            share(_errors(rows.challenger) + lost, rows.challenger.height + lost),
            share(_errors(rows.champion) + theirs, rows.champion.height + theirs),
            FEW_ERRORS,
        )
    slower, faster = (
        quantile_of(side["latency_us"].to_numpy().astype(np.float64), quantile)
        for side in (rows.challenger, rows.champion)
    )
    return ratio(slower, faster, 1.0)


def share(hits: int, rows: int) -> Number:
    """hits / rows with Wilson's interval (E. B. Wilson, 1927)."""
    if not rows:
        return NOTHING
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


def ratio(one: Number, other: Number, least: float) -> Number:
    """one / other, which counts as `least` where it is below."""
    return Number(
        one.value / max(other.value, least),
        one.low / max(other.high, least),
        one.high / max(other.low, least),
        min(one.samples, other.samples),
    )


def _disagreement(pairs: pl.DataFrame, threshold: float) -> Number:
    one, other = (_scores(pairs, f"{who}_") for who in ("champion", "challenger"))
    differ = ((one >= threshold) != (other >= threshold)) | (np.isnan(one) != np.isnan(other))
    return share(int(differ.sum()), pairs.height)


def _score_difference(pairs: pl.DataFrame, quantile: float) -> Number:
    if not pairs.height:
        return NOTHING
    one, other = (_scores(pairs, f"{who}_") for who in ("champion", "challenger"))
    gap = np.abs(one - other)
    no_number = np.isnan(one) != np.isnan(other)
    # As far apart as probabilities can be.
    gap[no_number] = 1.0
    gap[np.isnan(gap)] = 0.0
    return quantile_of(gap, quantile)


def _errors(side: pl.DataFrame) -> int:
    return int((side["degraded"] | ~side["score"].is_finite()).sum())


def _scores(frame: pl.DataFrame, prefix: str = "") -> NDArray[np.float64]:
    return frame[f"{prefix}score"].to_numpy().astype(np.float64)


def _score_psi(champion: pl.DataFrame, challenger: pl.DataFrame, bins: Profile | None) -> Number:
    from zeroskew.profiles import Profile
    from zeroskew.profiles.psi import drift

    scores = [{"score": side["score"].to_numpy()} for side in (champion, challenger)]
    expected = Profile.learn(scores[0]) if bins is None else bins.measure(scores[0])
    actual = expected.measure(scores[1])
    found = drift(expected.columns["score"], actual.columns["score"])
    # Below what chance explains, it says nothing; above, it is what it is.
    low = found.psi if found.psi > found.chance else 0.0
    return Number(found.psi, low, found.psi, found.samples)


def _auc_difference(rows: Compared) -> Number:
    """Challenger's AUC minus champion's, on the rows whose label is known."""
    if rows.mirrored:
        if "label" not in rows.pairs.columns:
            return NOTHING
        known = rows.pairs.drop_nulls("label")
        if known["label"].n_unique() < 2:
            return Number(math.nan, math.nan, math.nan, known.height)
        found = _verdict(
            _scores(known, "challenger_"), _scores(known, "champion_"), known
        ).difference
        return Number(found.value, *_interval(found), known.height)
    sides = []
    for side in (rows.challenger, rows.champion):
        if "label" not in side.columns:
            return NOTHING
        known = side.drop_nulls("label")
        if known["label"].n_unique() < 2:
            return Number(math.nan, math.nan, math.nan, known.height)
        one = _verdict(_scores(known), None, known).challenger
        sides.append(Number(one.value, *_interval(one), known.height))
    return difference(*sides)


def difference(one: Number, other: Number) -> Number:
    """one − other of two independent samples, from their intervals.

    The square-and-add rule of R. G. Newcombe (Statistics in Medicine 17, 1998).
    """
    value = one.value - other.value
    return Number(
        value,
        value - math.hypot(one.value - one.low, other.high - other.value),
        value + math.hypot(one.high - one.value, other.value - other.low),
        min(one.samples, other.samples),
    )


def _verdict(one: NDArray[np.float64], other: NDArray[np.float64] | None, known: Any) -> Any:
    from zeroskew.evaluation import compare
    from zeroskew.model_config import Evaluation

    labels = known["label"].cast(int).to_numpy()
    return compare(one, other, labels, config=Evaluation(metric="auc"))


def _interval(found: Any) -> tuple[float, float]:
    # Too few of a class for an interval: nothing is known.
    return (
        -math.inf if found.low is None else found.low,
        math.inf if found.high is None else found.high,
    )
