"""Checkpoints: weights as safetensors, everything else as JSON. No pickle.

A folder with `model.safetensors` and `checkpoint.json`. It is written beside its place and renamed,
so a folder that is there is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroskew.errors import TrainingError
from zeroskew.features.row import FeatureRow

if TYPE_CHECKING:
    from zeroskew.training.module import TabularNet

FORMAT = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "checkpoint.json"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself."""

    row: FeatureRow
    training_set: str
    """Content hash of the training set."""
    architecture: Mapping[str, Any]
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    epochs: int = 0
    """Epochs behind the kept weights."""
    seconds: float = 0.0
    calibration: tuple[float, float] = (1.0, 0.0)
    validation: Mapping[str, float] = field(default_factory=dict)


def save_checkpoint(folder: str | Path, network: TabularNet, info: CheckpointInfo) -> Path:
    """Write a checkpoint, replacing one that is there. Raises `TrainingError` if it cannot."""
    from safetensors.torch import save_file

    target = Path(folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            state = {name: value.contiguous() for name, value in network.state_dict().items()}
            save_file(state, str(scratch / WEIGHTS))
            description = {"format": FORMAT, **asdict(info), "row": info.row.to_json()}
            (scratch / DESCRIPTION).write_text(json.dumps(description, indent=2), encoding="utf-8")
            scratch.chmod(0o755)
            if target.exists():
                shutil.rmtree(target)
            os.replace(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise TrainingError(
            f"the checkpoint cannot be written: {error.strerror or error}",
            where=str(target),
            mend="free some space or choose another folder",
        ) from None
    return target


def load_checkpoint(folder: str | Path) -> tuple[TabularNet, CheckpointInfo]:
    """The network in evaluation mode, on the CPU. Raises `TrainingError` on a damaged folder."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from zeroskew.training.module import Architecture, TabularNet

    path = Path(folder)
    try:
        raw = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        if raw.get("format") != FORMAT:
            raise ValueError(f"format {raw.get('format')!r} instead of {FORMAT}")
        info = CheckpointInfo(
            row=FeatureRow.from_json(raw["row"]),
            training_set=raw["training_set"],
            architecture=raw["architecture"],
            hyperparameters=raw["hyperparameters"],
            seed=raw["seed"],
            epochs=raw["epochs"],
            seconds=raw["seconds"],
            calibration=tuple(raw["calibration"]),
            validation=raw["validation"],
        )
        network = TabularNet(Architecture.from_json(raw["architecture"]))
        network.load_state_dict(load_file(str(path / WEIGHTS)))
    except FileNotFoundError as error:
        raise TrainingError(
            f"there is no {Path(error.filename).name if error.filename else 'checkpoint'}",
            where=str(path),
            mend="give the folder that training wrote",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrainingError(
            f"the checkpoint is damaged: {first}", where=str(path), mend="train again"
        ) from None
    return network.eval(), info
