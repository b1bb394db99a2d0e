"""The entity rows of a retrieval, in whatever form they are given: pandas, Polars, Arrow or SQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl
import pyarrow as pa

from zeroskew.errors import ConfigError, SchemaError, ZeroskewError
from zeroskew.features.sources import READ_ERRORS, is_readable, scan_source, unreadable

EVENT_TIMESTAMP = "event_timestamp"


def entity_rows_of(entity_df: Any, registry: Any, project: str, repo_path: Any) -> pl.DataFrame:
    """Entity rows as a Polars frame, from pandas, Arrow, Polars or SQL."""
    if isinstance(entity_df, pl.DataFrame):
        return entity_df
    if isinstance(entity_df, pl.LazyFrame):
        return entity_df.collect()
    if isinstance(entity_df, str):
        return _run_sql(entity_df, registry, project, repo_path)
    if isinstance(entity_df, pa.Table):
        return pl.DataFrame(entity_df)
    return _from_pandas(entity_df)


def _from_pandas(entity_df: Any) -> pl.DataFrame:
    import pandas as pd

    if entity_df.index.name and entity_df.index.name not in entity_df.columns:
        entity_df = entity_df.reset_index()
    repeated = entity_df.columns[entity_df.columns.duplicated()]
    if len(repeated):
        raise SchemaError(f"column {repeated[0]!r} is there twice", where="entity rows")
    try:
        return pl.from_pandas(entity_df)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError):
        pass
    # Columns of Python objects: moments of several zones, mixed numbers and text.
    columns = {}
    for name in entity_df.columns:
        column = entity_df[name]
        if column.dtype == object:
            kept = column.dropna()
            if len(kept) and all(isinstance(v, datetime) for v in kept):
                column = pd.to_datetime(column, utc=True)
        try:
            columns[str(name)] = pl.from_pandas(column)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as error:
            raise SchemaError(
                f"column {name!r} mixes types: {error}",
                where="entity rows",
                mend="give the column one type",
            ) from None
    return pl.DataFrame(columns)


def event_timestamp_of(rows: pl.DataFrame) -> str:
    """Name of the event time: `event_timestamp`, else the only time column there is."""
    if EVENT_TIMESTAMP in rows.columns:
        return EVENT_TIMESTAMP
    times = [name for name, kind in rows.schema.items() if isinstance(kind, pl.Datetime)]
    if len(times) == 1:
        return times[0]
    raise SchemaError(
        "lack a column event_timestamp"
        + (f", and could be timed by any of: {', '.join(times)}" if times else ""),
        where="entity rows",
        mend="rename the column that says when the question is asked",
    )


def _run_sql(query: str, registry: Any, project: str, repo_path: Any) -> pl.DataFrame:
    tables: dict[str, pl.LazyFrame] = {}
    sources = [(s.name, s) for s in registry.list_data_sources(project, allow_cache=True)]
    views = registry.list_feature_views(project, allow_cache=True)
    sources += [(v.name, v.batch_source) for v in views if v.batch_source is not None]
    for name, source in sources:
        # Only what the query names is opened: another table may not be written yet.
        if name in query and is_readable(source):
            tables[name] = scan_source(source, repo_path)
    try:
        with pl.SQLContext(tables) as context:
            return context.execute(query, eager=True)
    except ZeroskewError:
        raise
    except FileNotFoundError as error:
        raise unreadable(str(error.filename or "entity rows"), error) from None
    except READ_ERRORS as error:
        raise ConfigError(
            f"cannot be run: {str(error).splitlines()[0]}",
            where="SQL of the entity rows",
            mend=f"its tables can be read_parquet('…') or: {', '.join(n for n, _ in sources)}",
        ) from None
