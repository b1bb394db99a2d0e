"""Step `evaluate`: the exported graph on held-out rows, and the champion on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zeroskew.steps.files import write_json, write_text
from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import ProgressLines, step


@dataclass(frozen=True, slots=True)
class Shown:
    """What a dashboard draws of an evaluation."""

    metrics: dict[str, float | str]
    roc: tuple[list[float], list[float], list[float]]
    """False positive rates, true positive rates, thresholds."""
    categories: list[str]
    confusion: list[list[int]]
    """Rows: label; columns: prediction."""


@step("evaluation", "report")
def evaluate_against_champion(
    model: str | Path,
    training_set: str | Path,
    exported: str | Path,
    evaluation: str | Path,
    report: str | Path,
) -> Shown:
    """Measure `model.onnx` of an export folder on the test rows, and judge it.

    Writes `evaluation` (JSON: metrics, verdict, champion's version and metrics, profile of the
    scores, the rows it stands on) and `report` (HTML).
    Raises `ConfigError` if the champion cannot be scored on these rows, `DataError` if the rows
    cannot be measured (one class only).
    """
    from zeroskew.evaluation import compare, evaluate
    from zeroskew.export.scoring import Scorer
    from zeroskew.features.content_hash import content_hash
    from zeroskew.features.training_set import TrainingSet
    from zeroskew.profiles import Profile
    from zeroskew.steps.champion import score_champion
    from zeroskew.steps.evaluation_page import evaluation_page

    config = read_config(model)
    progress = ProgressLines()
    rows = TrainingSet.open(Path(training_set))
    numeric, categorical, label = rows.encode("test")
    scores = Scorer(Path(exported) / "model.onnx", threads=0).score(numeric, categorical)
    wanted = [name for name in config.evaluation.slices if name in rows.columns]
    slices = rows.read("test", columns=wanted).to_dict() if wanted else {}
    limits, seed = config.evaluation, config.training.seed
    metrics = evaluate(scores, label, config=limits, slices=slices, seed=seed, on_progress=progress)
    champion = score_champion(config.name, rows, "test")
    theirs = None
    if champion is not None:
        theirs = evaluate(champion.scores, label, config=limits, seed=seed, on_progress=progress)
    verdict = compare(
        scores,
        champion.scores if champion else None,
        label,
        config=limits,
        seed=seed,
        on_progress=progress,
    )
    against = champion.version if champion else None
    write_json(
        evaluation,
        {
            "metrics": metrics.to_json(),
            "champion": None if theirs is None else theirs.to_json(),
            "compared_against": against,
            "verdict": verdict.to_json(),
            # Frozen bins of the score: serving is measured with them, and drift against them.
            "scores": Profile.learn({"score": scores}).to_json(),
            "data_hash": rows.manifest.content_hash,
            "held_out_hash": content_hash(rows.read("test")),
        },
    )
    write_text(report, evaluation_page(config, rows.manifest, metrics, theirs, against, verdict))
    roc = metrics.roc
    shown: dict[str, float | str] = {name: m.value for name, m in metrics.values.items()}
    if verdict.difference is not None:
        shown[f"{verdict.metric}_over_champion"] = verdict.difference.value
    return Shown(
        metrics=shown | {"rows": metrics.rows, "verdict": verdict.outcome},
        roc=([p[0] for p in roc], [p[1] for p in roc], [p[2] for p in roc]),
        categories=["0", "1"],
        confusion=metrics.confusion.matrix,
    )
