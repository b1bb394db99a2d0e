"""Evaluate a model on held-out rows, and judge a challenger against the champion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroskew.errors import DataError
from zeroskew.evaluation.measures import (
    HIGHER_IS_BETTER,
    METRICS,
    Floats,
    SortedScores,
    calibration_curve,
    checked,
    confusion,
    draws,
    interval,
    roc_points,
)
from zeroskew.evaluation.result import Metrics, Slice, Verdict
from zeroskew.model_config import Evaluation
from zeroskew.record import Measure

SLICE_ROWS = 100
"""Fewer rows than this say nothing about a slice: its rows are counted, its metrics left out."""

SLICES_PER_COLUMN = 50
"""Most frequent values that get a slice of their own; `(other)` gathers the rest."""

Progress = Callable[[str, int, int], None]

_WORDS = {"auc": "AUC", "pr_auc": "PR-AUC", "log_loss": "log loss", "brier": "Brier score"}


def evaluate(
    score: ArrayLike,
    label: ArrayLike,
    *,
    config: Evaluation,
    slices: Mapping[str, Any] | None = None,
    seed: int = 7,
    on_progress: Progress | None = None,
) -> Metrics:
    """Measure `score` (n probabilities) against `label` (n times 0 or 1).

    `slices` maps a column's name to its n values (numpy, polars or list). Intervals are 95 %
    percentile intervals of `config.bootstrap` resamples; slices get them too.

    Raises `DataError` if there are no rows, lengths differ, a score is not a probability, or the
    labels are of one class.
    """
    scores, labels = checked(score, label)
    columns = {name: _texts(name, values, len(scores)) for name, values in (slices or {}).items()}
    values = _with_intervals(scores, labels, config.bootstrap, seed, on_progress)
    parts: list[Slice] = []
    for done, (name, texts) in enumerate(columns.items(), 1):
        parts.extend(_slices(name, texts, scores, labels, config.bootstrap, seed))
        if on_progress:
            on_progress("slices", done, len(columns))
    return Metrics(
        rows=len(scores),
        base_rate=float(labels.mean()),
        values=values,
        confusion=confusion(scores, labels, config.threshold),
        roc=roc_points(scores, labels),
        calibration=calibration_curve(scores, labels),
        slices=tuple(parts),
        bootstrap=config.bootstrap,
        seed=seed,
    )


def compare(
    challenger: ArrayLike,
    champion: ArrayLike | None,
    label: ArrayLike,
    *,
    config: Evaluation,
    seed: int = 7,
    on_progress: Progress | None = None,
) -> Verdict:
    """Judge two models' scores of the same rows; `champion` None means there is none yet.

    The challenger wins if it is better by more than `config.margin`. The interval of the
    difference comes from a paired bootstrap: both models are measured on the same drawn rows,
    which takes out the luck of the rows. It informs and does not decide.

    Raises `DataError` as `evaluate` does.
    """
    metric, margin = config.metric, config.margin
    scores, labels = checked(challenger, label, what="challenger's scores")
    ours = SortedScores(scores, labels)
    rows, one = len(scores), (metric,)
    new = ours.measure(one)[0]
    if champion is None:
        drawn = np.array([ours.measure(one, c)[0] for c in draws(rows, config.bootstrap, seed)])
        value = Measure(new, *interval(drawn))
        reason = f"There is no champion to beat: the first version, {_WORDS[metric]} {value}."
        return Verdict("first", metric, margin, value, None, None, rows, reason)
    theirs = SortedScores(checked(champion, label, what="champion's scores")[0], labels)
    old = theirs.measure(one)[0]
    position = np.empty(rows, np.intp)
    position[ours.order] = np.arange(rows)
    same_rows = position[theirs.order]
    pairs = np.empty((config.bootstrap, 2))
    for index, counts in enumerate(draws(rows, config.bootstrap, seed)):
        pairs[index] = ours.measure(one, counts)[0], theirs.measure(one, counts[same_rows])[0]
        if on_progress:
            on_progress("comparing with the champion", index + 1, config.bootstrap)
    sign = 1.0 if metric in HIGHER_IS_BETTER else -1.0
    difference = Measure(sign * (new - old), *interval(sign * (pairs[:, 0] - pairs[:, 1])))
    return Verdict(
        outcome="wins" if difference.value > margin else "loses",
        metric=metric,
        margin=margin,
        challenger=Measure(new, *interval(pairs[:, 0])),
        champion=Measure(old, *interval(pairs[:, 1])),
        difference=difference,
        rows=rows,
        reason=_reason(metric, new, old, difference, margin),
    )


def _with_intervals(
    scores: Floats, labels: Floats, bootstrap: int, seed: int, on_progress: Progress | None = None
) -> dict[str, Measure]:
    rows = SortedScores(scores, labels)
    drawn = np.empty((bootstrap, len(METRICS)))
    for index, counts in enumerate(draws(len(scores), bootstrap, seed)):
        drawn[index] = rows.measure(METRICS, counts)
        if on_progress:
            on_progress("bootstrap", index + 1, bootstrap)
    plain = rows.measure(METRICS)
    return {
        name: Measure(value, *interval(drawn[:, at]))
        for at, (name, value) in enumerate(zip(METRICS, plain, strict=True))
    }


def _slices(
    column: str, texts: NDArray[Any], scores: Floats, labels: Floats, bootstrap: int, seed: int
) -> Iterator[Slice]:
    names, codes, sizes = np.unique(texts, return_inverse=True, return_counts=True)
    by_size = np.argsort(-sizes, kind="stable")
    masks = [(str(names[at]), codes == at) for at in by_size[:SLICES_PER_COLUMN]]
    if len(rest := by_size[SLICES_PER_COLUMN:]):
        masks.append(("(other)", np.isin(codes, rest)))
    for value, mask in masks:
        part, truth = scores[mask], labels[mask]
        rows, rate = len(part), float(truth.mean())
        if rows < SLICE_ROWS:
            yield Slice(column, value, rows, rate, note=f"fewer than {SLICE_ROWS} rows")
        elif truth.min() == truth.max():
            yield Slice(column, value, rows, rate, note=f"all labels are {int(truth[0])}")
        else:
            yield Slice(column, value, rows, rate, _with_intervals(part, truth, bootstrap, seed))


def _texts(name: str, values: Any, rows: int) -> NDArray[Any]:
    texts = ["(missing)" if v is None or v != v else str(v) for v in values]
    if len(texts) != rows:
        raise DataError(
            f"slice column `{name}` has {len(texts):,} values for {rows:,} scores",
            where="evaluation",
        )
    return np.array(texts, dtype=str)


def _reason(metric: str, new: float, old: float, difference: Measure, margin: float) -> str:
    size = abs(difference.value)
    gap = f"{size:.4f} {'better' if difference.value > 0 else 'worse'}" if size else "as good"
    facts = f"{_WORDS[metric]} {new:.4f} against the champion's {old:.4f}: {gap}"
    low, high = difference.low, difference.high
    if low is not None and high is not None:
        zero = "" if low > 0 or high < 0 else ", which contains 0"
        facts += f" (95 % interval {low:+.4f} to {high:+.4f}{zero})"
    if difference.value > margin:
        return f"{facts}, more than the margin of {margin:g}."
    if difference.value > 0:
        return f"{facts}, not more than the margin of {margin:g}."
    return f"{facts}."
