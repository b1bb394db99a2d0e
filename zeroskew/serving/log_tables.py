"""A segment's frames as Arrow tables, one per hour of event time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zeroskew.serving.log_columns import MICROSECONDS, arrow_column, arrow_type
from zeroskew.serving.log_frames import Batch, Damage, read_frames, split_columns
from zeroskew.serving.log_schema import LogSchema, age_name, parquet_name

NO_TIME = np.iinfo(np.int64).min
MISSING, STALE = 1, 2
HOUR = 3_600_000_000
CHUNK_BYTES = 8 << 20
"""Frames are turned into Arrow in portions: as Python values they take many times their size."""


@dataclass(slots=True)
class SegmentTables:
    """What was in one segment."""

    hours: dict[int, pa.Table] = field(default_factory=dict)
    """By hours since the epoch."""
    rows: int = 0
    unfit: int = 0
    """Values that did not fit their column's kind."""
    damage: Damage = field(default_factory=Damage)


def arrow_schema(schema: LogSchema) -> pa.Schema:
    """Columns of every file of this version, in order."""
    fields = [
        ("request_id", pa.string()),
        ("row", pa.int32()),
        ("event_time", MICROSECONDS),
        ("model_version", pa.string()),
        ("role", pa.string()),
        ("score", pa.float32()),
        ("degraded", pa.bool_()),
        ("answered_at", MICROSECONDS),
        ("latency_us", pa.int64()),
        ("trace_id", pa.string()),
        *((parquet_name(name), arrow_type(kind)) for name, kind in schema.columns.items()),
        ("missing", pa.list_(pa.string())),
        ("stale", pa.list_(pa.string())),
        *((age_name(view), pa.int64()) for view in schema.views),
    ]
    return pa.schema(fields)


def segment_tables(data: bytes, schema: LogSchema) -> SegmentTables:
    """Read every whole frame; order within an hour is the order of the frames."""
    made = SegmentTables()
    arrow = arrow_schema(schema)
    parts: dict[int, list[pa.Table]] = {}
    chunk: list[Batch] = []
    started = 0
    for end, batch in read_frames(data, made.damage):
        if _wrong_shape(batch, schema):
            made.damage.rows += len(batch.request_ids)
            continue
        if chunk and (batch.floats is None) != (chunk[0].floats is None):
            _take(chunk, schema, arrow, made, parts)
            chunk = []
        chunk.append(batch)
        if end - started >= CHUNK_BYTES:
            _take(chunk, schema, arrow, made, parts)
            chunk, started = [], end
    if chunk:
        _take(chunk, schema, arrow, made, parts)
    made.hours = {hour: pa.concat_tables(parts[hour]).combine_chunks() for hour in sorted(parts)}
    return made


def _wrong_shape(batch: Batch, schema: LogSchema) -> bool:
    floats = 0 if batch.floats is None else len(batch.floats)
    return (
        floats + len(batch.columns) != len(schema.columns)
        or len(batch.status) != len(schema.features)
        or len(batch.view_times) != len(schema.views)
    )


def _take(
    chunk: Sequence[Batch],
    schema: LogSchema,
    arrow: pa.Schema,
    made: SegmentTables,
    parts: dict[int, list[pa.Table]],
) -> None:
    times = np.concatenate([np.array(batch.event_times, np.int64) for batch in chunk])
    columns, unfit = _columns(chunk, times, schema)
    table = pa.Table.from_arrays([columns[name] for name in arrow.names], schema=arrow)
    made.rows += len(times)
    made.unfit += unfit
    hours = times // HOUR
    for hour in np.unique(hours).tolist():
        here = hours == hour
        part = table if here.all() else table.filter(pa.array(here))
        parts.setdefault(hour, []).append(part)


def _columns(
    chunk: Sequence[Batch], times: NDArray[np.int64], schema: LogSchema
) -> tuple[dict[str, Any], int]:
    """Arrow columns by Parquet name, and values that did not fit."""
    counts = [len(batch.request_ids) for batch in chunk]
    status = np.concatenate([batch.status for batch in chunk], axis=1)
    view_times = np.concatenate([batch.view_times for batch in chunk], axis=1)
    columns: dict[str, Any] = {
        "request_id": _texts(v for batch in chunk for v in batch.request_ids),
        "row": pa.array([v for batch in chunk for v in batch.rows], pa.int32()),
        "event_time": pa.array(times).cast(MICROSECONDS),
        "model_version": pa.repeat(pa.scalar(schema.version), len(times)),
        "role": _texts(v for batch in chunk for v in batch.roles),
        "score": pa.array(np.concatenate([batch.scores for batch in chunk])),
        "degraded": pa.array(np.repeat([bool(batch.degraded) for batch in chunk], counts)),
        "answered_at": pa.array(
            np.repeat(np.array([b.answered_at for b in chunk], np.int64), counts)
        ).cast(MICROSECONDS),
        "latency_us": pa.array(
            np.repeat(np.array([b.latency_microseconds for b in chunk], np.int64), counts)
        ),
        "trace_id": _texts(v for batch in chunk for v in batch.trace_ids),
        "missing": _names_where(status == MISSING, schema.features),
        "stale": _names_where(status == STALE, schema.features),
    }
    absent: Mapping[str, NDArray[np.bool_]] = dict(zip(schema.features, status != 0, strict=True))
    unfit = 0
    for name, kind, parts in _logged(chunk, schema):
        column, misfits = arrow_column(parts, kind, absent.get(name))
        columns[parquet_name(name)] = column
        unfit += misfits
    for view, seen in zip(schema.views, view_times, strict=True):
        unknown = seen == NO_TIME
        age = (times - np.where(unknown, times, seen)) // 1000
        columns[age_name(view)] = pa.array(age, pa.int64(), mask=unknown)
    return columns, unfit


def _logged(chunk: Sequence[Batch], schema: LogSchema) -> Iterator[tuple[str, str, Sequence[Any]]]:
    """Name, kind and parts of every column; `chunk` holds its floats in one way throughout."""
    together = chunk[0].floats is not None
    floats, others = split_columns(schema.columns) if together else ([], list(schema.columns))
    if together:
        numbers = np.concatenate([b.floats for b in chunk if b.floats is not None], axis=1)
        for name, values in zip(floats, numbers, strict=True):
            yield name, schema.columns[name], [values]
    for at, name in enumerate(others):
        yield name, schema.columns[name], [batch.columns[at] for batch in chunk]


def _texts(values: Iterable[Any]) -> pa.Array:
    return arrow_column([list(values)], "string")[0]


def _names_where(hits: NDArray[np.bool_], names: Sequence[str]) -> pa.Array:
    """Per row the names of the features that are marked; `hits` is `[features, rows]`."""
    by_row = hits.T
    offsets = np.zeros(len(by_row) + 1, np.int32)
    np.cumsum(by_row.sum(axis=1), out=offsets[1:])
    which = pa.array(np.nonzero(by_row)[1])
    return pa.ListArray.from_arrays(offsets, pa.array(names, pa.string()).take(which))
