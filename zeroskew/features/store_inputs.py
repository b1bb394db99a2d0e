"""What people hand to `FeatureStore`, in whatever shape they have it, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zeroskew.errors import SchemaError
from zeroskew.features.read_plan import ReadPlan

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

EVENT_TIMESTAMP = "event_timestamp"


def entities_of(entity_id: Any, plan: ReadPlan) -> tuple[dict[str, list[Any]], bool]:
    """Entity columns, and whether many were asked for."""
    wanted = list(plan.entity_columns)
    if isinstance(entity_id, Mapping):
        many = any(isinstance(v, list | tuple) for v in entity_id.values())
        return {k: list(v) if many else [v] for k, v in entity_id.items()}, many
    many = isinstance(entity_id, list | tuple)
    listed = list(entity_id) if many else [entity_id]
    if listed and all(isinstance(one, Mapping) for one in listed):
        return {name: [one.get(name) for one in listed] for name in wanted}, True
    if len(wanted) != 1:
        raise SchemaError(
            f"{plan.service} needs {len(wanted)} keys: {', '.join(wanted)}",
            mend=f"give {{{', '.join(f'{n!r}: …' for n in wanted)}}}",
        )
    return {wanted[0]: listed}, many


def entity_frame(entity_ids: Any, plan: ReadPlan) -> pl.DataFrame:
    """Key columns in the types of the definitions; other columns stay. Raises `SchemaError`."""
    import polars as pl

    wanted = plan.entity_columns
    if isinstance(entity_ids, pl.DataFrame):
        frame = entity_ids
    elif isinstance(entity_ids, Mapping):
        frame = pl.DataFrame(dict(entity_ids))
    elif hasattr(entity_ids, "columns"):
        frame = pl.from_pandas(entity_ids)
    else:
        frame = pl.DataFrame(entities_of(list(entity_ids), plan)[0])
    absent = [name for name in wanted if name not in frame.columns]
    if absent:
        raise SchemaError(
            f"key column {', '.join(absent)} is missing",
            where=plan.service,
            mend=f"it needs {', '.join(f'{n} ({k})' for n, k in wanted.items())}",
        )
    kinds = {"int64": pl.Int64, "int32": pl.Int32, "string": pl.String, "bytes": pl.Binary}
    try:
        return frame.with_columns(
            [pl.col(n).cast(kinds[k]) for n, k in wanted.items() if k in kinds]
        )
    except pl.exceptions.PolarsError as error:
        raise SchemaError(f"key values of another type: {error}", where=plan.service) from None


def in_utc(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its event timestamps in UTC. Raises `SchemaError` if they are none."""
    return frame.with_columns(moments_of(frame, EVENT_TIMESTAMP))


def moments_of(frame: pl.DataFrame, name: str) -> pl.Expr:
    """The column in UTC; without a zone it already is."""
    import polars as pl

    dtype = frame.schema[name]
    if not isinstance(dtype, pl.Datetime):
        raise SchemaError(f"column {name} is {dtype}, not a timestamp")
    column = pl.col(name).cast(pl.Datetime("us", dtype.time_zone))
    if dtype.time_zone is None:
        return column.dt.replace_time_zone("UTC")
    return column.dt.convert_time_zone("UTC")


def arrow_table(frame: Any) -> pa.Table:
    """A polars, pandas or Arrow table, or a mapping of columns."""
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        return frame
    if hasattr(frame, "to_arrow"):
        return frame.to_arrow()
    if hasattr(frame, "columns"):
        return pa.Table.from_pandas(frame, preserve_index=False)
    return pa.table(frame)
