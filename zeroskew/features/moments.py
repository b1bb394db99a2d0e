"""Time columns of any origin as UTC: what has no zone is UTC, what is no time is an error.

Inside the library a moment is `Datetime("us", "UTC")`. Files and frames come with milliseconds,
nanoseconds, other zones, dates or text.
"""

from __future__ import annotations

import datetime as dt
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zeroskew.errors import SchemaError

UTC = pl.Datetime("us", "UTC")
_PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def as_utc(column: pl.Series, *, where: str) -> pl.Series:
    """The column as `Datetime(unit, "UTC")` with its own precision kept.

    Naive values are taken as UTC, dates as their midnight, text as ISO 8601. Raises `SchemaError`
    for numbers (nobody knows since when, in which unit) and for text that is no time.
    """
    kind = column.dtype
    if isinstance(kind, pl.Datetime):
        if kind.time_zone is None:
            return column.dt.replace_time_zone("UTC")
        return column if kind.time_zone == "UTC" else column.dt.convert_time_zone("UTC")
    if kind == pl.Date:
        return column.cast(UTC)
    if kind == pl.Null:
        return column.cast(UTC)
    if kind in (pl.String, pl.Categorical) or isinstance(kind, pl.Enum):
        return _parse(column.cast(pl.String), where)
    raise SchemaError(
        f"column {column.name!r} holds {kind}, not time",
        where=where,
        mend="write it as a timestamp; for seconds since 1970: pl.from_epoch(column, 's')",
    )


def _parse(column: pl.Series, where: str) -> pl.Series:
    name = column.name
    frame = column.to_frame()
    for zone in (True, False):
        try:
            if zone:
                parsed = frame.select(
                    pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC", strict=True)
                )
            else:
                parsed = frame.select(pl.col(name).str.to_datetime(time_unit="us", strict=True))
                parsed = parsed.select(pl.col(name).dt.replace_time_zone("UTC"))
            return parsed[name]
        except pl.exceptions.PolarsError:
            continue
    raise SchemaError(
        f"column {name!r} is text that does not read as time, such as "
        f"{column.drop_nulls().head(1).to_list()}",
        where=where,
        mend="write it as a timestamp, or as ISO 8601 text in one form throughout",
    )


def unit_of(*columns: pl.Series) -> str:
    """The finest unit that a comparison of these columns needs: `us` or `ns`."""
    units = {c.dtype.time_unit for c in columns if isinstance(c.dtype, pl.Datetime)}
    return "ns" if "ns" in units else "us"


def integers(column: pl.Series, unit: str) -> NDArray[np.int64]:
    """Time since 1970 in `unit` (us or ns); nulls become 0, ask `column.is_null()` for them.

    Moments that nanoseconds cannot hold (before 1678, after 2261) move to the nearest they can.
    """
    kind = column.dtype
    assert isinstance(kind, pl.Datetime)
    values = column.to_physical()
    if values.null_count():
        values = values.fill_null(0)
    if kind.time_unit == unit:
        return values.to_numpy()
    factor = _PER_SECOND[unit] // _PER_SECOND[kind.time_unit]
    limit = (2**63 - 1) // factor
    return values.clip(-limit, limit).to_numpy() * factor


def ticks(span: timedelta, unit: str) -> int:
    """A duration in `unit`, exactly."""
    microseconds = (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds
    return microseconds * (1_000 if unit == "ns" else 1)


def aware(moment: datetime) -> datetime:
    """A moment in UTC; naive ones are UTC already."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=dt.UTC)
    return moment.astimezone(dt.UTC)


def literal(moment: datetime, like: pl.DataType) -> pl.Expr:
    """`moment` in the type of a time column, so that a filter reaches a file's statistics.

    Coarser units round down: good for a lower bound, and for an upper one, too, since the column
    cannot hold what lies between.
    """
    assert isinstance(like, pl.Datetime)
    text = pl.lit(aware(moment)).dt.convert_time_zone("UTC").dt.cast_time_unit(like.time_unit)
    if like.time_zone is None:
        return text.dt.replace_time_zone(None)
    return text.dt.convert_time_zone(like.time_zone)
