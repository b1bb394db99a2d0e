"""The champion on a training set's rows: its own graph, its own inputs, the same questions."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zeroskew.errors import ConfigError
from zeroskew.features.row import FeatureRow
from zeroskew.steps.version_files import GRAPH

if TYPE_CHECKING:
    from zeroskew.features.training_set import TrainingSet


@dataclass(frozen=True, slots=True)
class Champion:
    """A version that answers users, with its scores of the rows in question."""

    version: int
    scores: NDArray[np.float32]


def score_champion(model: str, training_set: TrainingSet, split: str) -> Champion | None:
    """Scores of a split's rows, in order, by the champion's graph; None if there is no champion.

    The champion may have been trained on other features than this set: it reads its own columns,
    as its graph names them. Raises `ConfigError` if the set does not hold one of them.
    """
    from zeroskew.export.scoring import Scorer
    from zeroskew.registry import Registry

    registry = Registry.from_environment()
    version = registry.champion(model)
    if version is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        files = registry.download(model, version, Path(folder) / "champion", only=(GRAPH,))
        scorer = Scorer(files / GRAPH, threads=0)
        row = row_of(scorer.metadata, where=f"{model} version {version}")
        held = set(training_set.columns)
        if missing := [name for name in row.names if name not in held]:
            raise ConfigError(
                f"the champion, version {version}, reads {', '.join(missing)}, which this training "
                "set does not hold, so the two cannot be compared on the same rows",
                where=model,
                mend="keep the feature in the feature service until the champion is replaced, and "
                "name it in `inputs.exclude` if the new model shall not read it",
            )
        frame = training_set.read(split, columns=list(row.names))
        return Champion(version, scorer.score(*row.encode(frame.to_dict())))


def row_of(metadata: dict[str, str], *, where: str) -> FeatureRow:
    """The feature row that a graph carries in its metadata."""
    try:
        return FeatureRow.from_json(json.loads(metadata["zeroskew.row"]))
    except (KeyError, ValueError, TypeError):
        raise ConfigError(
            "the graph does not say which features it reads",
            where=where,
            mend="register a version that was exported by this platform",
        ) from None
