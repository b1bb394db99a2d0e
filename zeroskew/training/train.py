"""Training, from a training set's folder to a checkpoint's: search, final fit, calibration."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zeroskew.errors import TrainingError
from zeroskew.features.training_set import TrainingSet
from zeroskew.model_config import ModelConfig
from zeroskew.training.ray_session import ray_session

OnProgress = Callable[[str, int, int], None]
CODE = 1
"""Raise when the same settings would train another network: unfinished searches start anew."""


@dataclass(frozen=True)
class TrainingResult:
    """What training came to and what it took."""

    checkpoint: Path
    hyperparameters: dict[str, Any]
    trials: list[dict[str, Any]]
    epochs: int
    validation: dict[str, float]
    calibration: tuple[float, float]
    seconds: dict[str, float]
    """Wall seconds by stage: `search`, `fit`, `total`."""
    cpus: float
    """CPUs that were at training's disposal, for its cost."""
    gpus: float

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "checkpoint": str(self.checkpoint)}


def train(
    training_set_dir: str | Path,
    config: ModelConfig,
    out: str | Path,
    *,
    ray_address: str = "",
    resume: bool = True,
    state: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> TrainingResult:
    """Search, fit and calibrate; write the checkpoint folder `out`.

    `state`: where an interrupted search is found again (default: beside `out`); it is keyed by
    training set and settings, so runs of other data or settings never mix. `resume=False` starts
    the search anew. Deterministic given `config.training.seed`, but for which trials ASHA stops
    early when several run at once. Raises `TrainingError`.
    """
    started = time.monotonic()
    training_set = TrainingSet.open(Path(training_set_dir))
    fit_rows, validation = _rows(training_set, "train"), _rows(training_set, "validation")
    settings = config.training
    _check(fit_rows.label, validation.label, settings.batch_size, str(training_set_dir))
    content_hash = training_set.manifest.content_hash
    target = Path(out)
    home = Path(state) if state else target.parent / f".{target.name}-state"
    folder = (home / _key(content_hash, config)).absolute()
    if not resume:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)

    from zeroskew.training.checkpoint import CheckpointInfo, save_checkpoint
    from zeroskew.training.fit import fit
    from zeroskew.training.search import search
    from zeroskew.training.vocabulary import learn_statistics

    statistics = learn_statistics(
        fit_rows.numeric, fit_rows.categorical, config.inputs.max_categories
    )
    if on_progress:
        on_progress("start Ray", 0, 1)
    with ray_session(ray_address):
        gpu = _use_gpu(settings.use_gpu)
        found = search(
            fit_rows.tail(settings.search_rows), validation, statistics, settings,
            folder / "search", gpu=gpu, on_progress=on_progress,
        )  # fmt: skip
        searched = time.monotonic()
        final = fit(
            fit_rows, validation, statistics, found.best, settings,
            folder / "fit", gpu=gpu, on_progress=on_progress,
        )  # fmt: skip
        cpus, gpus = _resources()
    ended = time.monotonic()

    from zeroskew.training.optimise import make_network

    network = make_network(statistics, found.best, settings.seed)
    network.load_state_dict(final.weights)
    info = CheckpointInfo(
        row=training_set.row,
        training_set=content_hash,
        architecture=network.architecture.to_json(),
        hyperparameters=found.best.to_json(),
        seed=settings.seed,
        epochs=final.epochs,
        seconds=ended - started,
        calibration=final.calibration,
        validation=final.validation,
    )
    save_checkpoint(target, network.eval(), info)
    result = TrainingResult(
        checkpoint=target,
        hyperparameters=found.best.to_json(),
        trials=found.to_json(),
        epochs=final.epochs,
        validation=final.validation,
        calibration=final.calibration,
        seconds={
            "search": searched - started,
            "fit": ended - searched,
            "total": ended - started,
        },
        cpus=cpus,
        gpus=gpus,
    )
    (target / "result.json").write_text(json.dumps(result.to_json(), indent=2), encoding="utf-8")
    return result


def _rows(training_set: TrainingSet, split: str) -> Any:
    from zeroskew.training.optimise import Rows

    return Rows(*training_set.encode(split))


def _check(train: Any, validation: Any, batch_size: int, where: str) -> None:
    for name, label in (("training", train), ("validation", validation)):
        if len(label) == 0:
            raise TrainingError(
                f"the {name} split has no rows",
                where=where,
                mend="widen the time range or change `split` in model.yaml",
            )
        if not np.isin(label, (0.0, 1.0)).all():
            raise TrainingError(
                f"a label of the {name} split is neither 0 nor 1",
                where=where,
                mend="leave rows without a label out of the entity rows",
            )
        if label.min() == label.max():
            raise TrainingError(
                f"every label of the {name} split is {int(label[0])}: there is nothing to learn",
                where=where,
                mend="widen the time range or check the label column",
            )
    if batch_size > len(train):
        raise TrainingError(
            f"training.batch_size is {batch_size}, but there are {len(train)} training rows",
            where="model.yaml",
            mend="choose a smaller batch or a wider time range",
        )


def _key(content_hash: str, config: ModelConfig) -> str:
    text = json.dumps(
        [CODE, content_hash, config.training.model_dump(mode="json"), config.inputs.max_categories]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _use_gpu(setting: bool | str) -> bool:
    import ray

    there = ray.cluster_resources().get("GPU", 0) >= 1
    if setting is True and not there:
        raise TrainingError(
            "training.use_gpu is true, but Ray sees no GPU",
            where="model.yaml",
            mend="set `use_gpu: auto`, or name a cluster with GPUs in ZEROSKEW_RAY",
        )
    return bool(setting) and there


def _resources() -> tuple[float, float]:
    import ray

    found = ray.cluster_resources()
    return float(found.get("CPU", os.cpu_count() or 1)), float(found.get("GPU", 0))
