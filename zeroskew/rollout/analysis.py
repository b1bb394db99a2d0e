"""A challenger judged by what it and the champion answered: passed, failed, or not known yet.

    result = analyse(question, metrics)
    result.outcome, result.message          # "Failed", "disagreement is 0.31 in 5,210 samples, …"

A metric fails when its whole interval lies outside its range, passes when its value lies inside,
and is inconclusive in between or with fewer samples than it asks for: more requests decide it. So
a challenger as good as its champion is hardly ever taken off by chance, and one that is plainly
worse is after as many requests as that takes. A slice is judged the same way by itself; one that is
too small says nothing, and stops nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from zeroskew.rollout.analysis_metrics import NOTHING, Number, measure
from zeroskew.rollout.paired_predictions import ALWAYS, Pairs, pair, read_predictions
from zeroskew.rollout.rollout_judging import PAIRED, Metric
from zeroskew.rollout.rollout_state import Outcome

if TYPE_CHECKING:
    import polars as pl

SLICES = 20
"""Most values of a column that are looked at, the most frequent ones."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which answers are compared."""

    log: str
    """Folder or s3:// prefix of the prediction log."""
    model: str
    champion: str
    challenger: str
    since: datetime
    until: datetime
    mode: Literal["shadow", "canary"] = "shadow"
    threshold: float = 0.5
    """Score from which on a decision is positive."""


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric over all rows, or over those of one slice."""

    name: str
    outcome: Outcome
    number: Number
    low: float | None
    """The range it must stay in."""
    high: float | None
    dry_run: bool
    message: str
    slice: str = ""
    """`column=value`; empty: all rows."""


@dataclass(frozen=True)
class AnalysisResult:
    """What came of it, for a status, for a page, and for whoever asks why."""

    outcome: Outcome
    message: str
    pairs: int
    champion_rows: int
    challenger_rows: int
    unanswered: int
    ambiguous: int
    metrics: tuple[MetricResult, ...]
    examples: pl.DataFrame | None = field(default=None, compare=False)
    """The pairs whose scores differ most."""
    scores: tuple[Any, Any] | None = field(default=None, compare=False)
    """Scores of champion and challenger."""

    def to_json(self) -> dict[str, Any]:
        """Numbers that are none become null."""
        return {
            "outcome": self.outcome,
            "message": self.message,
            "pairs": self.pairs,
            "championRows": self.champion_rows,
            "challengerRows": self.challenger_rows,
            "unanswered": self.unanswered,
            "ambiguous": self.ambiguous,
            "metrics": [
                {name: _finite(value) for name, value in asdict(each).items() if name != "number"}
                | {name: _finite(value) for name, value in asdict(each.number).items()}
                | {"range": {"min": each.low, "max": each.high}}
                for each in self.metrics
            ],
        }


def analyse(
    question: Question, metrics: Iterable[Metric], labels: pl.DataFrame | None = None
) -> AnalysisResult:
    """Judge by the log.

    `labels`: columns `request_id`, `row` and `label` (0 or 1), as far as they have arrived. Raises
    what `read_predictions` raises.
    """
    wanted = tuple(metrics)
    extra = sorted({name for metric in wanted for name in metric.slices})
    everything = any(metric.type == "FeatureMismatch" for metric in wanted)
    roles = ("shadow",) if question.mode == "shadow" else ("canary",)
    window = {"since": question.since, "until": question.until}
    columns = None if everything else extra
    champion = read_predictions(
        question.log, question.model, question.champion, **window, roles=("champion",),
        columns=columns,
    )  # fmt: skip
    challenger = read_predictions(
        question.log, question.model, question.challenger, **window, roles=roles, columns=columns,
    )  # fmt: skip
    pairs = pair(champion, challenger)
    if labels is not None and pairs.frame.height:
        known = labels.select("request_id", "row", "label").unique(["request_id", "row"])
        joined = pairs.frame.join(
            known, left_on=["champion_request_id", "champion_row"], right_on=["request_id", "row"],
            how="left",
        )  # fmt: skip
        pairs = Pairs(joined, pairs.unanswered, pairs.ambiguous)
    return judge(question, wanted, champion, challenger, pairs)


def judge(
    question: Question,
    metrics: tuple[Metric, ...],
    champion: pl.DataFrame,
    challenger: pl.DataFrame,
    pairs: Pairs,
) -> AnalysisResult:
    """The same from rows that are there already."""
    features = _features(champion, challenger)
    found: list[MetricResult] = []
    for metric in metrics:
        if question.mode == "canary" and metric.type in PAIRED:
            continue
        for where, one, other, both, lost in _parts(metric, champion, challenger, pairs):
            number = measure(
                metric.type, one, other, both,
                threshold=question.threshold, quantile=metric.quantile or 0.99,
                features=features, unanswered=lost if question.mode == "shadow" else 0,
            )  # fmt: skip
            found.append(_judged(metric, number, where))
    binding = [each for each in found if not each.dry_run]
    # A slice may be too small for ever; only all rows together can hold a rollout up.
    whole = [each for each in binding if not each.slice]
    failed = [each for each in binding if each.outcome == "Failed"]
    open_ = [each for each in whole if each.outcome == "Inconclusive"]
    outcome: Outcome = "Failed" if failed else "Inconclusive" if open_ else "Passed"
    worth_saying = failed or open_ or whole
    frame = pairs.frame
    examples = None
    if frame.height:
        gap = (frame["champion_score"] - frame["challenger_score"]).abs().alias("difference")
        examples = frame.with_columns(gap).sort("difference", descending=True).head(10)
    return AnalysisResult(
        outcome=outcome,
        message="; ".join(each.message for each in worth_saying[:4]),
        pairs=frame.height,
        champion_rows=champion.height,
        challenger_rows=challenger.height,
        unanswered=pairs.unanswered,
        ambiguous=pairs.ambiguous,
        metrics=tuple(found),
        examples=examples,
        scores=(
            (champion["score"].to_numpy(), challenger["score"].to_numpy())
            if champion.height and challenger.height
            else None
        ),
    )


def metrics_from_json(raw: Iterable[Mapping[str, Any]]) -> tuple[Metric, ...]:
    """Metrics as in a manifest (camelCase). Raises pydantic's `ValidationError`."""
    return tuple(Metric.model_validate(each) for each in raw)


def _judged(metric: Metric, number: Number, where: str) -> MetricResult:
    low, high = metric.threshold_range.min, metric.threshold_range.max
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    name = f"{metric.name} of {where}" if where else metric.name
    outcome: Outcome
    if number.samples < metric.min_samples or math.isnan(number.value):
        outcome = "Inconclusive"
        text = f"{name}: {number.samples:,} of {metric.min_samples:,} samples so far"
    else:
        said = f"{name} is {number.value:.4g} in {number.samples:,} samples"
        above = number.value > most
        limit = f"{'above' if above else 'below'} {most if above else least:g}"
        if number.low > most or number.high < least:
            outcome, text = "Failed", f"{said}, {limit}"
        elif least <= number.value <= most:
            outcome, text = "Passed", said
        else:
            outcome = "Inconclusive"
            text = f"{said}, {limit}, but may be {number.low:.4g} to {number.high:.4g}"
    return MetricResult(metric.name, outcome, number, low, high, metric.dry_run, text, where)


def _parts(
    metric: Metric, champion: pl.DataFrame, challenger: pl.DataFrame, pairs: Pairs
) -> Iterable[tuple[str, pl.DataFrame, pl.DataFrame, pl.DataFrame, int]]:
    """All rows, then those of each slice: its name, both sides, pairs, unanswered."""
    yield "", champion, challenger, pairs.frame, pairs.unanswered
    for column in metric.slices:
        if not champion.height:
            continue
        counts = champion[column].drop_nulls().value_counts(sort=True).head(SLICES)
        for value in counts[column].to_list():
            yield (
                f"{column}={value}",
                champion.filter(champion[column] == value),
                challenger.filter(challenger[column] == value),
                pairs.frame.filter(pairs.frame[f"champion_{column}"] == value),
                0,
            )


def _features(champion: pl.DataFrame, challenger: pl.DataFrame) -> tuple[str, ...]:
    """Columns that both versions logged beyond those of every log."""
    own = {*ALWAYS, "event_time", "model_version", "trace_id", "missing", "stale"}
    return tuple(
        name
        for name in champion.columns
        if name in challenger.columns and name not in own and not name.startswith("age_")
    )


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = [
    "NOTHING", "AnalysisResult", "MetricResult", "Question", "analyse", "judge",
    "metrics_from_json",
]  # fmt: skip
