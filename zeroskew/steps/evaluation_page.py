"""The evaluation as a page: how good, compared with whom, where it is weak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zeroskew.pages import Badge, Page, Svg, Tile, line_chart

if TYPE_CHECKING:
    from zeroskew.evaluation import Metrics, Verdict
    from zeroskew.model_config import ModelConfig

NAMES = {
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Calibration error",
}
_BADGES = {
    "first": Badge("first version", "plain"),
    "wins": Badge("wins", "good"),
    "loses": Badge("loses", "bad"),
}


def evaluation_page(
    config: ModelConfig,
    manifest: Any,
    metrics: Metrics,
    champion: Metrics | None,
    champion_version: int | None,
    verdict: Verdict,
) -> str:
    """HTML of one evaluation; `champion` is the champion on the same rows, if there is one."""
    page = Page(
        f"{config.name}: evaluation",
        f"{metrics.rows:,} held-out rows, training set {manifest.content_hash[:12]}",
        badge=_BADGES[verdict.outcome],
    )
    tones = {"first": "plain", "wins": "good", "loses": "bad"}
    page.note(verdict.reason, tones[verdict.outcome])  # type: ignore[arg-type]
    page.metrics(
        Tile(NAMES.get(name, name), measure.value, _interval(measure))
        for name, measure in metrics.values.items()
    )
    _beside(page, metrics, champion, champion_version)
    compared = {"this version": metrics}
    if champion is not None:
        compared[f"champion, version {champion_version}"] = champion
    page.section("Curves")
    page.figures(curves(compared))
    counts = metrics.confusion
    page.section("Confusion", f"A score from {counts.threshold:g} counts as a positive.")
    page.table(
        ["", "Predicted 0", "Predicted 1"],
        [[f"Label {label}", *row] for label, row in enumerate(counts.matrix)],
    )
    page.metrics(
        [
            Tile("Precision", counts.precision),
            Tile("Recall", counts.recall),
            Tile("Share of label 1", metrics.base_rate),
        ]
    )
    if metrics.slices:
        page.section("Slices", "Where it is weak. Too few rows say nothing and are left blank.")
        page.table(
            ["Column", "Value", "Rows", "Share of label 1", "AUC", "Log loss", ""],
            [
                [
                    s.column, s.value, s.rows, s.base_rate, _value(s, "auc"),
                    _value(s, "log_loss"), s.note,
                ]
                for s in metrics.slices
            ],
        )  # fmt: skip
    return page.render()


def _beside(
    page: Page, metrics: Metrics, champion: Metrics | None, champion_version: int | None
) -> None:
    """One table: this version, the champion, and what knowing nothing comes to."""
    head = ["Metric", "This version", "Baseline"]
    rows = [
        [NAMES.get(name, name), measure.value, metrics.baseline[name]]
        for name, measure in metrics.values.items()
    ]
    caption = "On the same rows. The baseline gives every row the share of label 1 as its score."
    if champion is None:
        page.section("Beside a baseline", caption)
    else:
        page.section(f"Beside the champion, version {champion_version}", caption)
        head.insert(2, "Champion")
        for row, name in zip(rows, metrics.values, strict=True):
            row.insert(2, champion.values[name].value)
    page.table(head, rows)


def curves(compared: Mapping[str, Metrics]) -> list[tuple[Svg, str]]:
    """ROC and calibration with a line for each, with their captions."""
    roc = {name: ([p[0] for p in m.roc], [p[1] for p in m.roc]) for name, m in compared.items()}
    calibration = {
        name: ([b.score for b in m.calibration], [b.rate for b in m.calibration])
        for name, m in compared.items()
    }
    return [
        (
            line_chart(
                roc, title="ROC", x_label="False positive rate",
                y_label="True positive rate", x_range=(0, 1), y_range=(0, 1), diagonal=True,
            ),
            "Share of label 1 that is found, against share of label 0 raised as an alarm.",
        ),
        (
            line_chart(
                calibration, title="Calibration", x_label="Mean score",
                y_label="Share of label 1", x_range=(0, 1), y_range=(0, 1), diagonal=True,
                points=True,
            ),
            "On the diagonal, a score is a probability.",
        ),
    ]  # fmt: skip


def _interval(measure: Any) -> str:
    if measure.low is None or measure.high is None:
        return ""
    return f"95 %: {measure.low:.4f} to {measure.high:.4f}"


def _value(piece: Any, name: str) -> float | None:
    measure = piece.values.get(name)
    return None if measure is None else measure.value
