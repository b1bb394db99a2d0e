"""Step `join`: the training set, and what a server will need to read the same features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from zeroskew.errors import DataError
from zeroskew.record import code_sha
from zeroskew.steps.files import write_json
from zeroskew.steps.model_folder import parse_range, read_config
from zeroskew.steps.step import ProgressLines, step

FEATURE_TYPES = "feature_types.json"
READ_PLAN = "read_plan.json"
"""Beside the rows: types of the service's features, and how to read them from the online store.
Later steps need them and need not import Feast for it."""


@step("training_set")
def join_training_set(
    model: str | Path,
    start_time: str,
    end_time: str,
    entity_rows: str | Path,
    training_set: str | Path,
) -> dict[str, Any]:
    """Join, split and freeze the training set of a range of time into a folder.

    Returns the manifest's numbers: `content_hash`, rows per split, `purged`, `cuts`,
    `feature_schema_version`. Raises `DataError`, `SchemaError` and `ConfigError` as
    `build_training_set` does.
    """
    from zeroskew.features.read_plan_compiler import compile_read_plan
    from zeroskew.features.repository import feature_row, open_repository
    from zeroskew.features.training_set import build_training_set

    config = read_config(model)
    start, end = parse_range(start_time, end_time)
    repository = open_repository(model)
    service, inputs, rows = config.feature_service, config.inputs, config.entity_rows
    row = feature_row(repository, service, exclude=inputs.exclude, categorical=inputs.categorical)
    try:
        questions = pl.read_parquet(entity_rows)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"cannot be read: {error}", where=str(entity_rows)) from None
    out = Path(training_set)
    built = build_training_set(
        repository,
        service=service,
        entity_rows=questions,
        label=rows.label,
        event_timestamp=rows.event_timestamp,
        start=start,
        end=end,
        label_timestamp=rows.label_timestamp,
        validation=config.split.validation,
        test=config.split.test,
        row=row,
        out=out,
        code_sha=code_sha(model),
        on_progress=ProgressLines(),
    )
    write_json(out / FEATURE_TYPES, repository.feature_types(service))
    write_json(out / READ_PLAN, compile_read_plan(repository, service).to_json())
    manifest = built.manifest
    return {
        "content_hash": manifest.content_hash,
        "feature_schema_version": manifest.feature_schema_version,
        "cuts": list(manifest.cuts),
        "inputs": len(row.names),
        "purged": sum(manifest.purged.values()),
        **{f"{split}_rows": count for split, count in manifest.rows.items()},
    }
