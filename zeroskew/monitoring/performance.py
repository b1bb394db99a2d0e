"""How good a version was for its users, measured on what came true since.

Every number here is *measured* on labels; nothing is estimated from scores alone. A question that
was asked many times counts once per version and role, with its last answer. AUC has DeLong's
interval; calibration is what happened per what was predicted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zeroskew.errors import DataError
from zeroskew.evaluation.measures import SortedScores
from zeroskew.monitoring.label_source import KNOWN_AT, LABEL, MOMENT, LabelSource, with_labels
from zeroskew.monitoring.reports import Report
from zeroskew.rollout.logged_predictions import LoggedVersion
from zeroskew.serving.log_schema import parquet_name

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

MIN_OF_EACH = 30
"""Rows of either class below which nothing is said of how good a version is."""
SLICES = 20
Z = 1.959963984540054
Every = Literal["1h", "1d", "1w"]


@dataclass(frozen=True, slots=True)
class Performance:
    """One version in one role, over all rows, a slice, or a stretch of time."""

    version: str
    role: str
    slice: str
    """`column=value`; empty: all rows."""
    start: datetime | None
    """Of the stretch; None: all of the window."""
    predictions: int
    labelled: int
    positives: int
    auc: float | None = None
    """None with too few labels of a class."""
    auc_low: float | None = None
    auc_high: float | None = None
    log_loss: float | None = None
    brier: float | None = None
    ece: float | None = None
    """Expected calibration error, ten bins of equally many rows."""
    observed_per_expected: float | None = None
    """Positives per sum of scores: above 1, more came true than was predicted."""
    ratio_low: float | None = None
    ratio_high: float | None = None
    delay_p50: float | None = None
    """Seconds from the moment asked about until the label was known."""
    delay_p90: float | None = None

    @property
    def coverage(self) -> float:
        """Share of the predictions with a label."""
        return self.labelled / self.predictions if self.predictions else 0.0

    def to_json(self) -> dict[str, Any]:
        said = {name: getattr(self, name) for name in self.__dataclass_fields__}
        start = self.start.isoformat() if self.start else None
        return said | {"start": start, "coverage": self.coverage}


@dataclass(frozen=True, slots=True)
class LivePerformance:
    """All of a model in a window."""

    model: str
    at: datetime
    """Labels known by then count."""
    due: int
    """Predictions about moments at least `max_delay` before `at`."""
    due_labelled: int
    rows: tuple[Performance, ...]

    def whole(self, version: str, role: str) -> Performance | None:
        """Over the whole window."""
        for row in self.rows:
            if (row.version, row.role, row.slice, row.start) == (version, role, "", None):
                return row
        return None

    def over_time(self, version: str, role: str) -> tuple[Performance, ...]:
        return tuple(
            row for row in self.rows
            if (row.version, row.role) == (version, role) and row.start is not None
        )  # fmt: skip

    def report(self, version: str) -> Report:
        """For the monitor: AUC of what the version answered users with, and the label coverage."""
        mine = [row for row in self.rows if row.version == version]
        answered = [r for r in mine if r.role == "users" and not r.slice and r.start is None]
        whole = answered[0] if answered else None
        value = whole.auc if whole else None
        enough = value is not None
        fraction = self.due_labelled / self.due if self.due else None
        text = "" if enough else f"fewer than {MIN_OF_EACH} labels of a class"
        return Report(
            "performance", self.model, version, self.at, value,
            whole.auc_low if whole and whole.auc_low is not None else -math.inf,
            whole.auc_high if whole and whole.auc_high is not None else math.inf,
            whole.labelled if whole else 0,
            text,
            {
                "coverage": {
                    "fraction": fraction, "due": self.due, "labelled": self.due_labelled
                },
                "rows": [row.to_json() for row in mine],
            },
        )  # fmt: skip


def measure_performance(
    log: str,
    model: str,
    versions: Sequence[str],
    labels: LabelSource,
    *,
    since: datetime,
    until: datetime,
    now: datetime | None = None,
    max_delay: timedelta = timedelta(days=7),
    every: Every = "1d",
    slices: Sequence[str] = (),
) -> LivePerformance:
    """Predictions answered in [since, until), with the labels known by `now` (default: `until`).

    Beside the roles of the log there is `users`: champion and canary together. Memory grows with
    the number of predictions, by about a hundred bytes each.

    Raises `ServingError` and `DataError` as `LoggedVersion` and `LabelSource.read` do.
    """
    import polars as pl

    now = until if now is None else now
    known = labels.read(now)
    own = {parquet_name(name) if name != MOMENT else MOMENT: name for name in labels.keys}
    found: list[Performance] = []
    due = due_labelled = 0
    for version in versions:
        asked = LoggedVersion(
            log, model, version, since=since, until=until, roles=("champion", "canary", "shadow")
        )
        there = asked.columns
        if there and (missing := [n for n in (*own, *slices) if n not in there]):
            raise DataError(
                f"the prediction log has no column {', '.join(missing)}",
                where=f"{model} version {version}",
            )
        wanted = tuple(dict.fromkeys(("role", "score", MOMENT, "answered_at", *own, *slices)))
        if not there:
            continue
        rows = asked.read(asked.since, asked.until, wanted)
        # Another answer to the same question: only the last one was acted upon.
        rows = (
            rows.sort("answered_at")
            .unique(subset=["role", *own], keep="last", maintain_order=True)
            .rename({name: key for name, key in own.items() if name != key})
        )
        both = with_labels(rows, known).filter(pl.col("score").is_finite())
        answering = both.filter(pl.col("role") != "shadow")
        old = answering.filter(pl.col(MOMENT) <= now - max_delay)
        due += old.height
        due_labelled += old.height - old[LABEL].null_count()
        named = {"users": answering} if answering.height else {}
        named |= {str(r[0]): part for r, part in both.partition_by("role", as_dict=True).items()}
        for role, part in named.items():
            found += _of_role(version, role, part, every, slices)
    return LivePerformance(model, now.astimezone(UTC), due, due_labelled, tuple(found))


def _of_role(
    version: str, role: str, part: pl.DataFrame, every: str, slices: Sequence[str]
) -> list[Performance]:
    import polars as pl

    found = [_one(version, role, "", None, part)]
    stretches = part.with_columns(pl.col(MOMENT).dt.truncate(every).alias("stretch"))
    for (start,), rows in sorted(stretches.partition_by("stretch", as_dict=True).items()):
        found.append(_one(version, role, "", start, rows))
    for column in slices:
        counts = part[column].drop_nulls().value_counts(sort=True).head(SLICES)
        for value in counts[column].to_list():
            rows = part.filter(pl.col(column) == value)
            found.append(_one(version, role, f"{column}={value}", None, rows))
    return found


def _one(
    version: str, role: str, where: str, start: datetime | None, rows: pl.DataFrame
) -> Performance:
    known = rows.drop_nulls(LABEL)
    labels, scores = known[LABEL].to_numpy(), known["score"].to_numpy().astype(np.float64)
    positives = int(labels.sum())
    base = (version, role, where, start, rows.height, known.height, positives)
    if min(positives, known.height - positives) < MIN_OF_EACH:
        return Performance(*base)
    low, area, high = auc_interval(scores, labels)
    loss, brier, ece = SortedScores(scores, labels).measure(("log_loss", "brier", "ece"))
    ratio = observed_per_expected(scores, labels)
    delays = (known[KNOWN_AT] - known[MOMENT]).dt.total_seconds().to_numpy()
    middle, late = np.quantile(delays, (0.5, 0.9))
    return Performance(
        *base, area, low, high, loss, brier, ece, ratio[1], ratio[0], ratio[2],
        float(middle), float(late),
    )  # fmt: skip


def auc_interval(
    scores: NDArray[np.float64], labels: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Lower end, AUC, upper end: 95 %, by DeLong's variance on the logit scale.

    E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44 (1988); by midranks, after
    X. Sun, W. Xu, IEEE Signal Processing Letters 21 (2014). Both classes must be there.
    """
    positive = scores[labels > 0.5]
    negative = scores[labels <= 0.5]
    m, n = len(positive), len(negative)
    all_ranks = _midranks(np.concatenate([positive, negative]))
    area = float((all_ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
    hits = (all_ranks[:m] - _midranks(positive)) / n
    alarms = 1.0 - (all_ranks[m:] - _midranks(negative)) / m
    variance = hits.var(ddof=1) / m + alarms.var(ddof=1) / n
    if not 0.0 < area < 1.0:
        return area, area, area
    spread = Z * math.sqrt(variance) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(-(logit + side * spread))) for side in (-1, 1))
    return low, area, high


def observed_per_expected(
    scores: NDArray[np.float64], labels: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Lower end, ratio, upper end: positives per sum of scores, 95 % by the binomials' variance."""
    expected = float(scores.sum())
    if expected <= 0:
        return math.nan, math.nan, math.nan
    ratio = float(labels.sum()) / expected
    rate = labels.mean()
    spread = Z * math.sqrt(len(labels) * rate * (1 - rate)) / expected
    return max(0.0, ratio - spread), ratio, ratio + spread


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle: NDArray[np.float64] = ends - (counts - 1) / 2
    return middle[inverse]
