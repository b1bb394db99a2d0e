"""Step `register`: a version with its whole lineage, and the place its verdict earns it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroskew.steps import version_files as inside
from zeroskew.steps.files import read_json, write_json
from zeroskew.steps.join import READ_PLAN
from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import ProgressLines, step

if TYPE_CHECKING:
    from zeroskew.features.training_set import TrainingSet
    from zeroskew.model_config import ModelConfig
    from zeroskew.record import VersionRecord

IMAGE_VARIABLE = "ZEROSKEW_IMAGE"
CHALLENGER = "challenger"


@step("registered")
def register_version(
    model: str | Path,
    training_set: str | Path,
    profile: str | Path,
    checkpoint: str | Path,
    exported: str | Path,
    evaluation: str | Path,
    registered: str | Path,
) -> dict[str, Any]:
    """Register what the run produced, and act on the verdict.

    A version that wins, or has nobody to beat, gets the alias `challenger`: it may be rolled out. A
    version that loses is archived. `registered` (JSON) and the result hold `name`, `version`,
    `verdict`, `reason` and `stage`.

    Raises `RegistryError` if the registry cannot be reached, `AliasConflict` if somebody else moved
    the alias at the same time; registering again is safe.
    """
    from zeroskew.features.training_set import TrainingSet
    from zeroskew.registry import Registry

    config = read_config(model)
    rows = TrainingSet.open(Path(training_set))
    record = version_record(config, rows, Path(checkpoint), Path(exported), Path(evaluation))
    folder = Path(model)
    files: dict[str, str | Path] = {
        inside.EXPORT: exported,
        inside.CHECKPOINT: checkpoint,
        inside.PROFILE: profile,
        inside.EVALUATION: evaluation,
        inside.MANIFEST: rows.folder / "manifest.json",
        inside.READ_PLAN: rows.folder / READ_PLAN,
        inside.MODEL_YAML: folder / "model.yaml",
    }
    if (folder / inside.TRANSFORMS).is_file():
        files[inside.TRANSFORMS] = folder / inside.TRANSFORMS
    registry = Registry.from_environment()
    version = registry.register(
        config.name,
        record,
        files,
        params=read_json(Path(checkpoint) / "checkpoint.json")["hyperparameters"],
        on_progress=ProgressLines(),
    )
    if registry.champion(config.name) == version:
        # A repeated run whose version was promoted meanwhile: it is beyond being a challenger.
        pass
    elif record.verdict == "loses":
        registry.archive(config.name, version)
    else:
        before = registry.alias(config.name, CHALLENGER)
        registry.set_alias(config.name, CHALLENGER, version, expected=before)
    found = registry.version(config.name, version)
    result = {
        "name": config.name,
        "version": version,
        "verdict": record.verdict,
        "reason": record.verdict_reason,
        "stage": found.stage,
    }
    write_json(registered, result | {"aliases": list(found.aliases)})
    return result


def version_record(
    config: ModelConfig, rows: TrainingSet, checkpoint: Path, exported: Path, evaluation: Path
) -> VersionRecord:
    """The lineage record, from what each step wrote."""
    from zeroskew.evaluation import Metrics, Verdict
    from zeroskew.export.export import ExportRecord
    from zeroskew.record import VersionRecord, compute_cost

    manifest = rows.manifest
    judged = read_json(evaluation)
    metrics, verdict = Metrics.from_json(judged["metrics"]), Verdict.from_json(judged["verdict"])
    training, export = read_json(checkpoint / "result.json"), ExportRecord.read(exported)
    seconds = float(training["seconds"]["total"])
    return VersionRecord(
        model=config.name,
        data_hash=manifest.content_hash,
        data_rows=sum(manifest.rows.values()),
        data_start=manifest.time_range[0],
        data_end=manifest.time_range[1],
        feature_service=manifest.feature_service,
        feature_schema_version=manifest.feature_schema_version,
        code_sha=manifest.code_sha,
        image=os.environ.get(IMAGE_VARIABLE, ""),
        training_seconds=seconds,
        compute_cost=compute_cost(
            seconds, config.cost, cpus=training["cpus"], gpus=training["gpus"]
        ),
        currency=config.cost.currency,
        calibration_hash=export.calibration_hash,
        onnx_sha256=dict(export.onnx_sha256),
        precision=export.precision,
        precision_reason=export.precision_reason,
        plans=dict(export.plans),
        metrics=dict(metrics.values),
        held_out_rows=metrics.rows,
        held_out_start=manifest.cuts[1],
        held_out_end=manifest.time_range[1],
        held_out_hash=judged["held_out_hash"],
        compared_against=judged["compared_against"],
        verdict=verdict.outcome,
        verdict_reason=verdict.reason,
        compared_by=verdict.metric,
        margin=verdict.margin,
        difference=verdict.difference,
    )
