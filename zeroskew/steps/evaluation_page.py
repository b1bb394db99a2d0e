"""The evaluation as a page: how good, compared with whom, where it is weak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zeroskew.pages import Badge, Page, Tile, line_chart

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
    if champion is not None:
        page.section(f"Beside the champion, version {champion_version}", "On the same rows.")
        page.table(
            ["Metric", "This version", "Champion"],
            [
                [NAMES.get(name, name), measure.value, champion.values[name].value]
                for name, measure in metrics.values.items()
            ],
        )
    curves = {"this version": _xy(metrics.roc)}
    calibration = {"this version": _calibration(metrics)}
    if champion is not None:
        name = f"champion, version {champion_version}"
        curves[name], calibration[name] = _xy(champion.roc), _calibration(champion)
    page.section("Curves")
    page.figures(
        [
            (
                line_chart(
                    curves, title="ROC", x_label="False positive rate",
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
        ]
    )  # fmt: skip
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


def _interval(measure: Any) -> str:
    if measure.low is None or measure.high is None:
        return ""
    return f"95 %: {measure.low:.4f} to {measure.high:.4f}"


def _value(piece: Any, name: str) -> float | None:
    measure = piece.values.get(name)
    return None if measure is None else measure.value


def _xy(roc: Any) -> tuple[list[float], list[float]]:
    return [point[0] for point in roc], [point[1] for point in roc]


def _calibration(metrics: Metrics) -> tuple[list[float], list[float]]:
    return [b.score for b in metrics.calibration], [b.rate for b in metrics.calibration]
