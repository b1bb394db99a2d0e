"""Step `validate_training_set`: the gates of model.yaml, and the shift since the champion."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl

from zeroskew.features.training_set import SPLITS, TrainingSet
from zeroskew.profiles import Profile
from zeroskew.steps.files import read_json, write_json, write_text
from zeroskew.steps.join import FEATURE_TYPES
from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import step
from zeroskew.steps.validation_findings import as_json
from zeroskew.steps.version_files import PROFILE
from zeroskew.validation import validate


@step("findings", "profile", "report")
def check_training_set(
    model: str | Path,
    training_set: str | Path,
    findings: str | Path,
    profile: str | Path,
    report: str | Path,
) -> dict[str, float]:
    """Measure the model's inputs over all splits of a training set.

    The reference is the profile that the champion was registered with; without a champion there is
    none, and no shift. Writes `findings` (JSON for `gate`), `profile` (of this set) and `report`
    (HTML). Returns `rows`, `columns`, `failed`, and `largest_psi` if there was a reference. Bad
    data does not raise.
    """
    config = read_config(model)
    rows = TrainingSet.open(Path(training_set))
    types = read_json(Path(training_set) / FEATURE_TYPES)
    inputs = list(rows.row.names)
    frame = pl.concat([rows.read(split, columns=inputs) for split in SPLITS])
    checked = validate(
        frame,
        {name: types[name] for name in inputs},
        config.validation,
        _champion_profile(config.name),
        where=f"training set of {config.name}",
        categorical=config.inputs.categorical,
    )
    write_json(findings, as_json(checked))
    write_json(profile, checked.profile.to_json())
    write_text(report, checked.html())
    shifts = [c.drift.psi for c in checked.columns if c.drift is not None]
    return {
        "rows": frame.height,
        "columns": len(inputs),
        "failed": len(checked.failed),
        **({"largest_psi": max(shifts)} if shifts else {}),
    }


def _champion_profile(model: str) -> Profile | None:
    from zeroskew.registry import Registry

    registry = Registry.from_environment()
    version = registry.champion(model)
    if version is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        files = registry.download(model, version, Path(folder) / "champion", only=(PROFILE,))
        return Profile.load(files / PROFILE)
