"""An analysis for people: the verdict, every number beside its range, and where the two differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zeroskew.pages import Badge, Page, Tile, number_text, paired_histogram
from zeroskew.rollout.analysis import AnalysisResult, MetricResult, Question
from zeroskew.rollout.logged_predictions import ALWAYS

_TONES: dict[str, Any] = {
    "Passed": "good", "Failed": "bad", "Inconclusive": "warn", "Error": "bad",
}  # fmt: skip


def analysis_page(question: Question, result: AnalysisResult) -> Page:
    """One self-contained page."""
    page = Page(
        f"{question.model}: version {question.challenger} beside version {question.champion}",
        f"answered from {question.since:%Y-%m-%d %H:%M:%S} to {question.until:%Y-%m-%d %H:%M:%S} "
        f"UTC, {question.mode}",
        badge=Badge(result.outcome, _TONES[result.outcome]),
    )
    page.text(result.message)
    page.metrics(
        [
            Tile("Pairs", result.pairs),
            Tile("Champion's rows", result.champion_rows),
            Tile("Challenger's rows", result.challenger_rows),
            Tile("Not answered by the challenger", result.unanswered),
            Tile("Ids used twice, left out", result.ambiguous),
        ]
    )
    whole = [each for each in result.metrics if not each.slice]
    slices = [each for each in result.metrics if each.slice]
    page.section("Metrics").table(_HEAD, [_row(each, each.name) for each in whole])
    if slices:
        page.section("Slices", "Each judged by itself; small ones stop nothing.").table(
            _HEAD, [_row(each, f"{each.name}: {each.slice}") for each in slices]
        )
    if result.scores is not None:
        edges = np.linspace(0.0, 1.0, 21)
        shares = [np.histogram(each, edges)[0] / len(each) for each in result.scores]
        page.section("Scores").figure(
            paired_histogram(
                [f"{low:.2f}" for low in edges[:-1]], shares[0].tolist(), shares[1].tolist(),
                names=("champion", "challenger"), title="Share of answers by score",
            )
        )  # fmt: skip
    if result.examples is not None and result.examples.height:
        page.section("Largest differences", "The same request, answered by both.").table(
            *_examples(result)
        )
    return page


_HEAD = ["Metric", "Outcome", "Value", "95 % interval", "Range", "Samples"]


def _row(each: MetricResult, name: str) -> list[Any]:
    number = each.number
    outcome = f"{each.outcome} (dry run)" if each.dry_run else each.outcome
    return [
        name,
        Badge(outcome, _TONES[each.outcome]),
        _text(number.value),
        "" if math.isnan(number.low) else f"{_text(number.low)} to {_text(number.high)}",
        f"{'' if each.low is None else f'≥ {each.low:g} '}"
        f"{'' if each.high is None else f'≤ {each.high:g}'}",
        number.samples,
    ]


def _text(value: float) -> str:
    return number_text(value) if math.isfinite(value) else "unknown" if math.isnan(value) else "∞"


def _examples(result: AnalysisResult) -> tuple[list[str], list[list[Any]]]:
    frame = result.examples
    assert frame is not None
    features = [
        name.removeprefix("champion_")
        for name in frame.columns
        if name.startswith("champion_") and name.removeprefix("champion_") not in ALWAYS
    ][:12]
    head = ["Request", "Champion", "Challenger", *features]
    rows = [
        [
            row["champion_request_id"],
            f"{row['champion_score']:.4f}",
            f"{row['challenger_score']:.4f}",
            *(_both(row[f"champion_{name}"], row.get(f"challenger_{name}")) for name in features),
        ]
        for row in frame.iter_rows(named=True)
    ]
    return head, rows


def _both(one: Any, other: Any) -> str:
    left, right = (("–" if each is None else str(each))[:40] for each in (one, other))
    return left if left == right else f"{left} | {right}"
