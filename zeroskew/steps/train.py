"""Step `train`: search, final fit, calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zeroskew.endpoints import Endpoints
from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import ProgressLines, step


@step("checkpoint")
def train_model(
    model: str | Path, training_set: str | Path, checkpoint: str | Path
) -> dict[str, Any]:
    """Train on a training set's folder and write a checkpoint's folder.

    Returns what it took and came to: `seconds` (and `search_seconds`, `fit_seconds`), `cpus`,
    `gpus`, `trials`, `epochs`, the validation metrics as `validation_…`, and the chosen
    `hyperparameters`. Raises `TrainingError`, `DataError`, `ConfigError` as the library does.
    """
    from zeroskew.training.train import train

    result = train(
        Path(training_set),
        read_config(model),
        Path(checkpoint),
        ray_address=Endpoints.from_environment().ray,
        on_progress=ProgressLines(),
    )
    return {
        "seconds": round(result.seconds["total"], 2),
        "search_seconds": round(result.seconds["search"], 2),
        "fit_seconds": round(result.seconds["fit"], 2),
        "cpus": result.cpus,
        "gpus": result.gpus,
        "trials": len(result.trials),
        "epochs": result.epochs,
        **{f"validation_{name}": value for name, value in result.validation.items()},
        "hyperparameters": result.hyperparameters,
    }
