"""The measures themselves, of all rows and of bootstrap resamples of them.

Scores are sorted once. A resample is then a vector of counts on the sorted rows (how often each
was drawn), so that its AUC costs two cumulative sums instead of another sort.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroskew.errors import DataError
from zeroskew.evaluation.result import CalibrationBin, Confusion

METRICS = ("auc", "pr_auc", "log_loss", "brier", "ece")
"""`auc` and `pr_auc` (average precision), `log_loss`, `brier` (mean squared error of the
probability) and `ece`, the expected calibration error."""

HIGHER_IS_BETTER = frozenset({"auc", "pr_auc"})

CALIBRATION_BINS = 10
"""Bins of the calibration curve and of `ece`, holding about equally many rows each."""

CLIP = float(np.finfo(np.float32).eps)
"""Log loss sees scores clipped to [CLIP, 1 − CLIP]: scores are float32, which rounds to 0 and 1."""

Floats = NDArray[np.float64]


class SortedScores:
    """Scores and labels of n rows, from the highest score down; equal scores form one group.

    `order` maps sorted rows to the rows as given. Counts (how often each row was drawn) are
    vectors over the sorted rows.
    """

    def __init__(self, scores: Floats, labels: Floats) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.scores, self.labels = scores[self.order], labels[self.order]
        ends = np.append(np.flatnonzero(np.diff(self.scores)), len(scores) - 1)
        self.thresholds: Floats = self.scores[ends]
        self._ends = None if len(ends) == len(scores) else ends
        clipped = np.clip(self.scores, CLIP, 1.0 - CLIP)
        loss = -np.where(self.labels > 0.5, np.log(clipped), np.log1p(-clipped))
        self._losses = np.stack([loss, (self.scores - self.labels) ** 2])
        self._residual = self.labels - self.scores
        self._bins = np.append(
            0, np.flatnonzero(np.diff(_groups(self.scores, CALIBRATION_BINS))) + 1
        )

    def cumulative(self, counts: Floats | None = None) -> tuple[Floats, Floats]:
        """Rows of label 1, and rows at all, at or above each distinct score, from the top down."""
        weight = np.ones(len(self.scores)) if counts is None else counts
        hits, seen = np.cumsum(weight * self.labels), np.cumsum(weight)
        return (hits, seen) if self._ends is None else (hits[self._ends], seen[self._ends])

    def measure(self, names: tuple[str, ...], counts: Floats | None = None) -> list[float]:
        """The metrics of that name, NaN where the drawn rows lack a class."""
        found: dict[str, float] = {}
        weight = np.ones(len(self.scores)) if counts is None else counts
        total = float(weight.sum())
        if "auc" in names or "pr_auc" in names:
            hits, seen = self.cumulative(weight)
            found["auc"], found["pr_auc"] = _auc(hits, seen), _average_precision(hits, seen)
        if "log_loss" in names or "brier" in names:
            found["log_loss"], found["brier"] = (self._losses @ weight / total).tolist()
        if "ece" in names:
            gaps = np.add.reduceat(self._residual * weight, self._bins)
            found["ece"] = float(np.abs(gaps).sum() / total)
        return [found[name] for name in names]


def _auc(hits: Floats, seen: Floats) -> float:
    """Share of (label 1, label 0) pairs in the right order, ties counting half (Mann-Whitney)."""
    alarms = seen - hits
    pairs = hits[-1] * alarms[-1]
    if pairs == 0:
        return float("nan")
    # Trapezoids below the curve of hits over false alarms.
    area = 0.5 * alarms[0] * hits[0] + 0.5 * (np.diff(alarms) @ (hits[1:] + hits[:-1]))
    return float(area / pairs)


def _average_precision(hits: Floats, seen: Floats) -> float:
    """Σ (recall_k − recall_{k−1}) · precision_k, the step-wise area under precision and recall."""
    if hits[-1] == 0:
        return float("nan")
    gained = np.diff(hits, prepend=0.0)
    return float((gained * hits / np.maximum(seen, 1.0)).sum() / hits[-1])


def draws(rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each row is drawn when `rows` rows are drawn with replacement."""
    random = np.random.default_rng(seed)
    kind = np.int32 if rows < 2**31 else np.int64
    for _ in range(resamples):
        drawn = random.integers(0, rows, rows, dtype=kind)
        yield np.bincount(drawn, minlength=rows).astype(np.float64)


def interval(drawn: Floats) -> tuple[float | None, float | None]:
    """95 % percentile interval; (None, None) where half the resamples lack a class."""
    known = drawn[np.isfinite(drawn)]
    if len(known) < len(drawn) / 2:
        return None, None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def roc_points(
    score: ArrayLike, label: ArrayLike, *, max_points: int = 200
) -> tuple[tuple[float, float, float], ...]:
    """The ROC curve: (false positive rate, true positive rate, threshold), from (0, 0) to (1, 1).

    Where there are more thresholds than `max_points`, the points are those spaced most evenly
    along the curve; each is an exact point of it. The first threshold is just above the largest
    score and finite, so that JSON can hold it.
    """
    rows = SortedScores(*checked(score, label))
    hits, seen = rows.cumulative()
    alarms = seen - hits
    tpr = np.concatenate([[0.0], hits / hits[-1]])
    fpr = np.concatenate([[0.0], alarms / alarms[-1]])
    thresholds = np.concatenate(
        [[np.nextafter(np.float32(rows.thresholds[0]), np.float32(2))], rows.thresholds]
    )
    if len(fpr) > max_points:
        along = fpr + tpr
        wanted = np.linspace(0.0, 2.0, max_points)
        keep = np.unique(np.searchsorted(along, wanted).clip(0, len(fpr) - 1))
        keep = np.unique(np.concatenate([[0], keep[keep > 0][: max_points - 2], [len(fpr) - 1]]))
        fpr, tpr, thresholds = fpr[keep], tpr[keep], thresholds[keep]
    return tuple(
        (float(x), float(y), float(t)) for x, y, t in zip(fpr, tpr, thresholds, strict=True)
    )


def confusion(score: ArrayLike, label: ArrayLike, threshold: float) -> Confusion:
    """Counts at `threshold`; a score equal to it is a positive."""
    scores, labels = checked(score, label)
    predicted = scores >= threshold
    actual = labels > 0.5
    hits = int((predicted & actual).sum())
    alarms = int(predicted.sum()) - hits
    misses = int(actual.sum()) - hits
    return Confusion(threshold, hits, alarms, misses, len(scores) - hits - alarms - misses)


def calibration_curve(
    score: ArrayLike, label: ArrayLike, *, bins: int = CALIBRATION_BINS
) -> tuple[CalibrationBin, ...]:
    """Mean score and share of label 1 in up to `bins` groups of about equal size, by score."""
    scores, labels = checked(score, label)
    groups = _groups(scores, bins)
    rows = np.bincount(groups)
    mean = np.bincount(groups, scores) / np.maximum(rows, 1)
    rate = np.bincount(groups, labels) / np.maximum(rows, 1)
    return tuple(
        CalibrationBin(float(m), float(r), int(n))
        for m, r, n in zip(mean, rate, rows, strict=True)
        if n
    )


def checked(score: ArrayLike, label: ArrayLike, *, what: str = "scores") -> tuple[Floats, Floats]:
    """Both as float64 vectors of equal length. Raises `DataError` on anything else."""
    scores, labels = _vector(score, what), _vector(label, "labels")
    if len(scores) != len(labels):
        raise DataError(
            f"{len(scores):,} {what} for {len(labels):,} labels",
            where="evaluation",
            mend="score exactly the held-out rows, in their order",
        )
    if not len(scores):
        raise DataError("there are no rows", where="evaluation", mend="widen the held-out range")
    if bad := int((~np.isfinite(scores)).sum()):
        raise DataError(
            f"{bad:,} of {len(scores):,} {what} are NaN or infinite", where="evaluation"
        )
    if scores.min() < 0 or scores.max() > 1:
        raise DataError(
            f"{what} lie in [{scores.min():.4g}, {scores.max():.4g}], not in [0, 1]",
            where="evaluation",
            mend="give probabilities, not logits",
        )
    if not np.isin(labels, (0.0, 1.0)).all():
        raise DataError("labels must be 0 or 1, without nulls", where="evaluation")
    if labels.min() == labels.max():
        raise DataError(
            f"all {len(labels):,} labels are {int(labels[0])}: nothing can be told apart",
            where="evaluation",
            mend="widen the held-out range until it holds both classes",
        )
    return scores, labels


def _groups(scores: Floats, bins: int) -> NDArray[np.intp]:
    """Number of each row's bin; bins hold about equally many rows, equal scores share one."""
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, scores, side="right")


def _vector(values: ArrayLike, what: str) -> Floats:
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{what} are not numbers", where="evaluation") from None
    if vector.ndim == 2 and vector.shape[1] == 1:
        vector = vector[:, 0]
    if vector.ndim != 1:
        raise DataError(
            f"{what} have shape {vector.shape}, not one value per row", where="evaluation"
        )
    return vector
