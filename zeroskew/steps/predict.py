"""Step `predict`: a table of entity rows, scored with a registered version."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from zeroskew.endpoints import Endpoints
from zeroskew.steps.files import replacing
from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import ProgressLines, step


@step("predictions")
def predict_entity_rows(
    model: str | Path,
    entity_rows: str,
    version: str,
    output: str,
    predictions: str | Path,
) -> dict[str, Any]:
    """Score Parquet `entity_rows` (below the data endpoint, or a whole path).

    `version` is an alias or number of the registry. Writes `predictions`, and a copy to the local
    path or URL `output`, unless that is empty. Where `ZEROSKEW_RAY` names a cluster, it does the
    scoring. Returns `version`, `rows` and `mean_score`.

    Raises `RegistryError` if there is no such version, and what `score_entity_rows` raises.
    """
    from zeroskew.batch_prediction import score_entity_rows
    from zeroskew.features.repository import open_repository
    from zeroskew.registry import Registry
    from zeroskew.steps.ingest import locate, scan
    from zeroskew.steps.version_files import GRAPH

    config = read_config(model)
    endpoints = Endpoints.from_environment()
    rows = scan(locate(entity_rows, endpoints.data))
    registry = Registry.from_environment()
    found = registry.version(config.name, version)
    with tempfile.TemporaryDirectory() as folder:
        files = registry.download(
            config.name, found.version, Path(folder) / "version", only=(GRAPH,)
        )
        report = score_entity_rows(
            open_repository(model),
            config.feature_service,
            files / GRAPH,
            rows,
            predictions,
            event_timestamp=config.entity_rows.event_timestamp,
            version=str(found.version),
            schema_version=found.record.feature_schema_version,
            on_progress=ProgressLines(),
            ray_address=endpoints.ray,
        )
    if output:
        _copy(Path(predictions), output)
    return {"version": found.version, "rows": report.rows, "mean_score": report.mean_score}


def _copy(file: Path, output: str) -> None:
    if "://" not in output:
        with replacing(output) as temporary:
            shutil.copyfile(file, temporary)
        return
    import fsspec

    # An object store shows an object when its upload is complete.
    with file.open("rb") as source, fsspec.open(output, "wb") as target:
        shutil.copyfileobj(source, target)
