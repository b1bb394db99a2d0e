"""A challenger judged by what it and the champion answered: passed, failed, or not known yet.

    result = analyse(question, metrics)
    result.outcome, result.message          # "Failed", "disagreement is 0.31 in 5,210 samples, …"

A metric fails when its whole interval lies outside its range, passes when its value lies inside,
and is inconclusive in between or with fewer samples than it asks for: more requests decide it. So
a challenger as good as its champion is hardly ever taken off by chance, and one that is plainly
worse is after as many requests as that takes. A slice is judged the same way by itself; one that is
too small says nothing, and stops nothing.

All together: Failed if a metric or a slice failed, else Error if a metric could not be made, else
Inconclusive if one is over all rows, else Passed. A dry run is shown and does not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from zeroskew.errors import DataError
from zeroskew.rollout.analysis_metrics import NOTHING, Compared, Number, measure
from zeroskew.rollout.analysis_result import AnalysisResult, MetricResult, Question
from zeroskew.rollout.logged_predictions import ALWAYS, LoggedVersion, spans
from zeroskew.rollout.paired_predictions import (
    KEY,
    SLACK,
    Pairing,
    Pairs,
    comparable,
    repeated_ids,
)
from zeroskew.rollout.rollout_judging import PAIRED, Metric
from zeroskew.rollout.rollout_state import Outcome

if TYPE_CHECKING:
    import polars as pl

    from zeroskew.profiles import Profile

SLICES = 20
"""Most values of a column that are looked at, the most frequent ones."""
SPAN_ROWS = 200_000
"""About how many rows of each version are in memory with all their columns."""


def analyse(
    question: Question,
    metrics: Iterable[Metric],
    labels: pl.DataFrame | None = None,
    failed: tuple[int, int] = (0, 0),
) -> AnalysisResult:
    """Judge by the log.

    `labels`: what came true, as far as it is known: `label` (0 or 1) beside `request_id` and `row`,
    or beside any other columns of the log that say which rows are meant, such as entity keys and
    `event_time`; rows that contradict each other do not count. `failed`: requests of champion and
    challenger that were answered by an error in the window, which no log holds: the growth of
    Triton's `zeroskew_requests_total{outcome="failed"}`.

    Raises `ServingError` for a log that cannot be read, and `DataError` for labels without `label`.
    """
    wanted = tuple(metrics)
    mirrored = question.mode == "shadow"
    place = question.log, question.model
    champion = LoggedVersion(
        *place, question.champion, since=question.since, until=question.until, roles=("champion",)
    )
    # The copy of a request at the edge of the window may be answered outside of it.
    slack = SLACK if mirrored else timedelta(0)
    challenger = LoggedVersion(
        *place,
        question.challenger,
        since=question.since - slack,
        until=question.until + slack,
        roles=(question.mode,),
    )
    labelled = _labels(labels)
    known = () if labelled is None else tuple(n for n in labelled.columns if n != "label")
    logs = [version.columns for version in (champion, challenger) if version.columns]
    keep = tuple(
        name
        for name in dict.fromkeys((*(s for m in wanted for s in m.slices), *known))
        if all(name in columns for columns in logs)
    )
    if lacking := [name for name in known if name not in keep]:
        raise DataError(f"the log has no column {', '.join(lacking)}", where="labels")
    one, other, pairs = _gathered(question, champion, challenger, keep, known)
    if labelled is not None:
        one, other = (_with_labels(side, labelled) for side in (one, other))
        pairs = Pairs(
            _with_labels(pairs.frame, labelled, "champion_"), pairs.lonely, pairs.uncalled,
            pairs.ambiguous, pairs.differing, pairs.examples, pairs.requests, pairs.copies,
        )  # fmt: skip
    return judge(question, wanted, one, other, pairs, failed=failed, bins=champion.score_bins())


def judge(
    question: Question,
    metrics: Sequence[Metric],
    champion: pl.DataFrame,
    challenger: pl.DataFrame,
    pairs: Pairs,
    *,
    failed: tuple[int, int] = (0, 0),
    bins: Profile | None = None,
) -> AnalysisResult:
    """The same from rows that are there already.

    Either side: columns `score`, `degraded`, `latency_us`, those of the slices, and `label` if
    known. `bins`: the champion's bins of scores.
    """
    mirrored = question.mode == "shadow"
    counted = mirrored and question.mirror_percent == 100
    everything = Compared(
        champion, challenger, pairs.frame, mirrored, pairs.unanswered if counted else 0, failed
    )
    found: list[MetricResult] = []
    for metric in metrics:
        if not mirrored and metric.type in PAIRED:
            continue
        found.append(_result(metric, everything, question.threshold, bins))
        for column in metric.slices:
            if champion.height and column not in champion.columns:
                text = f"{metric.name}: the log has no column {column} to slice by"
                found.append(_made(metric, NOTHING, "Error", text, column))
                continue
            lonely = pairs.lonely if counted else pairs.lonely.clear()
            for where, rows in _slices(everything, lonely, column):
                found.append(_result(metric, rows, question.threshold, bins, where))
    outcome, message = _together(found)
    frame = pairs.frame
    return AnalysisResult(
        question=question,
        outcome=outcome,
        message=message,
        pairs=frame.height,
        champion_rows=champion.height,
        challenger_rows=challenger.height,
        unanswered=pairs.unanswered,
        uncalled=pairs.uncalled,
        ambiguous=pairs.ambiguous,
        read_apart=int(frame["read_apart"].sum()),
        metrics=tuple(found),
        requests=pairs.requests,
        copies=pairs.copies,
        differing={name: count for name, count in pairs.differing.items() if count},
        examples=pairs.examples,
        scores=(champion["score"].to_numpy(), challenger["score"].to_numpy()),
        paired_scores=(frame["champion_score"].to_numpy(), frame["challenger_score"].to_numpy()),
    )


def metrics_from_json(raw: Iterable[Mapping[str, Any]]) -> tuple[Metric, ...]:
    """Metrics as in a manifest (camelCase). Raises pydantic's `ValidationError`."""
    return tuple(Metric.model_validate(each) for each in raw)


def _gathered(
    question: Question,
    champion: LoggedVersion,
    challenger: LoggedVersion,
    keep: tuple[str, ...],
    plain: tuple[str, ...],
) -> tuple[pl.DataFrame, pl.DataFrame, Pairs]:
    """Both sides' rows in the window with few columns, and their pairs.

    `keep`: further columns; texts among them become categories, but for those of `plain`.
    """
    import polars as pl

    versions = (champion, challenger)
    parts = [*spans(versions, SPAN_ROWS)] or [(champion.since, champion.until)]
    mirrored = question.mode == "shadow"
    compared, ages = _shared(champion, challenger) if mirrored else ((), ())
    moment = ("event_time",) if ages else ()
    columns = tuple(dict.fromkeys((*ALWAYS, *moment, *keep, *compared, *ages)))
    repeated = None
    if mirrored:
        repeated = repeated_ids(
            *([version.read(*part, KEY) for part in parts] for version in versions)
        )
    pairing = Pairing(compared=compared, ages=ages, keep=keep, repeated=repeated)
    small: tuple[list[pl.DataFrame], list[pl.DataFrame]] = ([], [])
    for part in parts:
        one, other = (
            frame.with_columns(
                pl.col(name).cast(pl.Categorical)
                for name in keep
                if name not in plain and frame.schema[name] == pl.String
            )
            for frame in (version.read(*part, columns) for version in versions)
        )
        if mirrored:
            pairing.add(one, other, None if part is parts[-1] else part[1])
        for at, frame in enumerate((one, other)):
            inside = frame["answered_at"].is_between(champion.since, champion.until, closed="left")
            small[at].append(
                frame.filter(inside).select(
                    pl.col("score").cast(pl.Float32),
                    "degraded",
                    pl.col("latency_us").cast(pl.Int64),
                    *keep,
                )
            )
    if not mirrored:
        pairing.add(one.clear(), other.clear())
    pairs = pairing.pairs((champion.complete_until, challenger.complete_until))
    return pl.concat(small[0]), pl.concat(small[1]), pairs


def _shared(
    champion: LoggedVersion, challenger: LoggedVersion
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Features and ages that both versions have."""
    one, other = champion.kinds, challenger.kinds
    inputs = tuple(
        name for name in champion.inputs
        if name in challenger.inputs and comparable(one[name], other[name])
    )  # fmt: skip
    return inputs, tuple(name for name in champion.ages if name in challenger.ages)


def _labels(labels: pl.DataFrame | None) -> pl.DataFrame | None:
    import polars as pl

    if labels is None:
        return None
    if "label" not in labels.columns or len(labels.columns) < 2:
        raise DataError(
            "there is no column `label` beside the keys of its rows",
            where="labels",
            mend="give request_id and row, or entity keys and event_time, with label 0 or 1",
        )
    label = labels["label"].drop_nulls()
    if not label.cast(pl.Float64, strict=False).is_in([0.0, 1.0]).all():
        raise DataError("labels must be 0 or 1", where="labels")
    keys = [name for name in labels.columns if name != "label"]
    one = labels.drop_nulls("label").group_by(keys).agg(pl.col("label").unique())
    return one.filter(pl.col("label").list.len() == 1).with_columns(
        pl.col("label").list.first().cast(pl.Int8)
    )


def _with_labels(frame: pl.DataFrame, labels: pl.DataFrame, prefix: str = "") -> pl.DataFrame:
    import polars as pl

    keys = [name for name in labels.columns if name != "label"]
    try:
        typed = labels.cast({name: frame.schema[f"{prefix}{name}"] for name in keys})  # type: ignore[arg-type]
    except pl.exceptions.PolarsError as error:
        raise DataError(f"do not fit the log: {error}", where="labels") from None
    return frame.join(
        typed, left_on=[f"{prefix}{name}" for name in keys], right_on=keys, how="left"
    )


def _result(
    metric: Metric, rows: Compared, threshold: float, bins: Profile | None, where: str = ""
) -> MetricResult:
    try:
        number = measure(
            metric.type, rows, threshold=threshold, quantile=metric.quantile or 0.99, bins=bins
        )
    except DataError as error:
        return _made(metric, NOTHING, "Error", f"{metric.name}: {error}", where)
    low, high = metric.threshold_range.min, metric.threshold_range.max
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    name = f"{metric.name} of {where}" if where else metric.name
    outcome: Outcome
    if number.samples < metric.min_samples or math.isnan(number.value):
        outcome = "Inconclusive"
        text = f"{name}: {number.samples:,} of {metric.min_samples:,} samples so far"
        if number.samples >= metric.min_samples:
            text = f"{name}: labels of one class only in {number.samples:,} samples"
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
    return _made(metric, number, outcome, text, where)


def _made(metric: Metric, number: Number, outcome: Outcome, text: str, where: str) -> MetricResult:
    wanted = metric.threshold_range
    return MetricResult(
        metric.name, metric.type, outcome, number, wanted.min, wanted.max, metric.dry_run, text,
        where,
    )  # fmt: skip


def _together(found: Sequence[MetricResult]) -> tuple[Outcome, str]:
    binding = [each for each in found if not each.dry_run]
    whole = [each for each in binding if not each.slice]
    failed = [each for each in binding if each.outcome == "Failed"]
    errors = [each for each in binding if each.outcome == "Error"]
    # A slice may be too small for ever; only all rows together can hold a rollout up.
    open_ = [each for each in whole if each.outcome == "Inconclusive"]
    outcome: Outcome = (
        "Failed" if failed else "Error" if errors else "Inconclusive" if open_ else "Passed"
    )
    said = failed or errors or open_ or whole
    return outcome, "; ".join(each.message for each in said[:4]) or "there is nothing to judge by"


def _slices(rows: Compared, lonely: pl.DataFrame, column: str) -> Iterable[tuple[str, Compared]]:
    """The most frequent values of a column, and the rows that have them."""
    import polars as pl

    if not rows.champion.height:
        return
    counts = rows.champion[column].drop_nulls().value_counts(sort=True).head(SLICES)
    for value in counts[column].to_list():
        is_it = pl.col(column) == value
        part = Compared(
            rows.champion.filter(is_it),
            rows.challenger.filter(is_it),
            rows.pairs.filter(pl.col(f"champion_{column}") == value)
            if rows.mirrored else rows.pairs,
            rows.mirrored,
            lonely.filter(is_it).height,
        )  # fmt: skip
        yield f"{column}={value}", part


__all__ = [
    "SLICES", "AnalysisResult", "MetricResult", "Question", "analyse", "judge", "metrics_from_json",
]  # fmt: skip
