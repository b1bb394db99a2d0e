"""Step `ingest`: the labelled questions of a range of time, out of the model's entity rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from zeroskew.endpoints import Endpoints
from zeroskew.errors import DataError, SchemaError
from zeroskew.steps.files import replacing, sha256
from zeroskew.steps.model_folder import parse_range, prepare_data, read_config
from zeroskew.steps.step import ProgressLines, step


@step("out")
def ingest_entity_rows(
    model: str | Path, start_time: str, end_time: str, out: str | Path
) -> dict[str, Any]:
    """Write the entity rows with start ≤ event time < end to one Parquet file.

    The folder's data.py runs first, if there is one, so that the sources are up to date. Returns
    `start_time` and `end_time` as absolute moments, `rows`, the `first` and `last` event time, and
    `sha256` of the file.

    Raises `DataError` if the range holds no row, `SchemaError` if the event time is not a UTC
    timestamp, `ConfigError` for moments that cannot be read.
    """
    config = read_config(model)
    start, end = parse_range(start_time, end_time)
    data_root = Endpoints.from_environment().data
    prepare_data(model, data_root, ProgressLines())
    path = locate(config.entity_rows.path, data_root)
    time = config.entity_rows.event_timestamp
    rows = scan(path)
    _check_time(rows.collect_schema(), time, path)
    frame = rows.filter(pl.col(time) >= start, pl.col(time) < end).collect()
    if frame.is_empty():
        span = rows.select(first=pl.col(time).min(), last=pl.col(time).max()).collect().row(0)
        held = f"it holds {span[0]} to {span[1]}" if span[0] else "it holds none at all"
        raise DataError(
            f"no entity row between {start.isoformat()} and {end.isoformat()}",
            where=path,
            mend=f"choose another range; {held}",
        )
    with replacing(out) as temporary:
        frame.write_parquet(temporary)
    return {
        "start_time": start.isoformat(),
        "end_time": end.isoformat(),
        "rows": frame.height,
        "first": frame[time].min().isoformat(),  # type: ignore[union-attr]
        "last": frame[time].max().isoformat(),  # type: ignore[union-attr]
        "sha256": sha256(out),
    }


def locate(path: str, data_root: str) -> str:
    """A path of model.yaml or of a user: whole as it is, else below the data endpoint."""
    if "://" in path or Path(path).is_absolute():
        return path
    return f"{data_root.rstrip('/')}/{path}"


def scan(path: str) -> pl.LazyFrame:
    """Parquet file or folder, local or in a bucket, as a lazy frame whose schema could be read.

    Raises `DataError` if it is missing, empty or cut short.
    """
    try:
        folder = "://" not in path and Path(path).is_dir()
        frame = pl.scan_parquet(f"{path}/**/*.parquet" if folder else path)
        frame.collect_schema()
    except FileNotFoundError:
        raise DataError(
            "there is no such file", where=path, mend="see `entity_rows.path` in model.yaml"
        ) from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"is not a Parquet file, or is cut short: {str(error).splitlines()[0]}", where=path
        ) from None
    return frame


def _check_time(schema: pl.Schema, column: str, path: str) -> None:
    if column not in schema:
        raise SchemaError(
            f"there is no column {column!r}",
            where=path,
            mend="see `entity_rows.event_timestamp` in model.yaml",
        )
    kind = schema[column]
    if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        raise SchemaError(
            f"column {column!r} is {kind}, not a timestamp with a time zone",
            where=path,
            mend="write it as a timestamp in UTC: without a zone nobody knows what is the past",
        )
