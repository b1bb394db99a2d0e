"""The point-in-time join: for every entity row, what was known at its moment and nothing later.

Contract, per entity row and view: the value with the largest `timestamp <= event time`, not older
than the view's TTL (exactly TTL old still counts), ties broken by the largest created timestamp,
then by the later row of the source; where the source records creation, only values created by the
event time (`filter_by_created`). A latest value that is null is null: nobody looks further back.
Every entity row comes back once, in order, with nulls where nothing matches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PanicException

from zeroskew.errors import SchemaError, ZeroskewError
from zeroskew.features import asof, moments
from zeroskew.features.sources import collect, unreadable

Progress = Callable[[str, int, int], None]

ENTITY_ROWS = "entity rows"
_FEW_KEYS = 1_000
"""Up to so many keys, the source is filtered by them while it is read."""
_INTEGERS = (
    pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64,
)  # fmt: skip


@dataclass(frozen=True)
class JoinView:
    """One feature view as the join sees it.

    `keys` maps columns of the entity rows to columns of `frame` (none: the view has one row of
    values for all), `features` columns of `frame` to columns of the result. `ttl` None or zero: a
    value never expires. `where` names the table in messages. `types` are what the result's columns
    are declared to be: numbers are brought to them, other differences are a `SchemaError`.
    """

    name: str
    frame: pl.LazyFrame
    keys: Mapping[str, str]
    features: Mapping[str, str]
    timestamp: str
    created_timestamp: str | None = None
    ttl: timedelta | None = None
    where: str = ""
    types: Mapping[str, pl.DataType] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.name} ({self.where})" if self.where else self.name


def point_in_time_join(
    entity_rows: pl.DataFrame,
    views: Sequence[JoinView],
    *,
    event_timestamp: str = "event_timestamp",
    filter_by_created: bool = True,
    on_progress: Progress | None = None,
) -> pl.DataFrame:
    """`entity_rows`, in order, plus the feature columns of every view.

    Nothing has to be sorted. Timestamps may have any unit or zone; without a zone they are UTC. A
    row with a null key or a null event time gets nulls. Integer keys of any width match each other;
    a key that is text on one side and a number on the other is a `SchemaError`, as are missing
    columns and two columns of one name. Raises `DataError` for a source that cannot be read.
    """
    _require(entity_rows.schema, [event_timestamp], ENTITY_ROWS)
    _refuse_collisions(entity_rows, views)
    asked = moments.as_utc(entity_rows.get_column(event_timestamp), where=ENTITY_ROWS)
    keys = _KeyCodes(entity_rows)
    parts: list[pl.Series] = []
    for number, view in enumerate(views):
        if on_progress:
            on_progress(f"joining {view.name}", number, len(views))
        parts.extend(_join_view(view, keys, asked, filter_by_created))
    if on_progress and views:
        on_progress("joining", len(views), len(views))
    return entity_rows.hstack(parts) if parts else entity_rows


def _join_view(
    view: JoinView, keys: _KeyCodes, asked: pl.Series, filter_by_created: bool
) -> list[pl.Series]:
    schema = source_schema(view)
    created_name = view.created_timestamp or None
    times = [view.timestamp] + ([created_name] if created_name else [])
    _require(schema, [*view.keys.values(), *times, *view.features], view.place)
    wanted = list(dict.fromkeys([*view.keys.values(), *times, *view.features]))

    asked_code, lookup = keys.of(view, schema)
    frame = _pruned(view, schema, lookup, asked).select(wanted)
    source = collect(frame, view.place)

    event_column = moments.as_utc(source.get_column(view.timestamp), where=view.place)
    created_column: pl.Series | None = None
    if created_name:
        created_column = moments.as_utc(source.get_column(created_name), where=view.place)
    times_read = [asked, event_column] + ([] if created_column is None else [created_column])
    unit = moments.unit_of(*times_read)

    code = _codes(source, view, lookup)
    code = _without(code, event_column)
    event = moments.integers(event_column, unit)
    created = None
    if created_column is not None:
        if filter_by_created:
            # Nobody can say that such a value was there in time.
            code = _without(code, created_column)
        created = moments.integers(created_column, unit)
        if not filter_by_created and created_column.null_count():
            created = np.where(created_column.is_null().to_numpy(), np.iinfo(np.int64).min, created)
    rows = asof.latest_rows(
        code,
        event,
        created,
        _without(asked_code, asked),
        moments.integers(asked, unit),
        ttl=moments.ticks(view.ttl, unit) if view.ttl else None,
        visible_when_created=filter_by_created,
    )
    del code, event, created, event_column, created_column
    return _gather(source, view, rows)


def _gather(source: pl.DataFrame, view: JoinView, rows: NDArray[np.int64]) -> list[pl.Series]:
    found = pl.Series(rows)
    if len(rows) and rows.min() < 0:
        found = found.set(found < 0, None)
    columns = source.select(pl.col(name).gather(found) for name in view.features)
    result = []
    for name, called in view.features.items():
        column = columns.get_column(name).alias(called)
        wanted = view.types.get(called)
        result.append(column if wanted is None else conform(column, wanted, view.place))
    return result


def conform(column: pl.Series, wanted: pl.DataType, where: str) -> pl.Series:
    """A feature in its declared type. Raises `SchemaError` where that would change a value."""
    if column.dtype == wanted:
        return column
    if column.dtype == pl.Null or _plain_text(column.dtype) == wanted:
        return column.cast(wanted)
    numbers = (column.dtype.is_numeric() or column.dtype == pl.Boolean) and wanted.is_numeric()
    if numbers:
        if column.dtype.is_float() and wanted.is_integer():
            # NaN is how pandas writes a missing integer.
            column = column.fill_nan(None)
        cast = column.cast(wanted, strict=False)
        whole = wanted.is_float() or not column.dtype.is_float() or _whole(column)
        if whole and cast.null_count() == column.null_count():
            return cast
    raise SchemaError(
        f"feature {column.name!r} is declared {wanted}, but the table holds {column.dtype}"
        + (" with values that do not fit" if numbers else ""),
        where=where,
        mend="correct the type in the feature view's schema, or the table",
    )


def source_schema(view: JoinView) -> pl.Schema:
    """Column types of a view's table. Raises `DataError` if it cannot be opened."""
    try:
        return view.frame.collect_schema()
    except ZeroskewError:
        raise
    except (Exception, PanicException) as error:
        raise unreadable(view.place, error) from None


# --- keys ----------------------------------------------------------------------------------------


class _KeyCodes:
    """Dense numbers for the keys that the entity rows ask about, made once per set of columns."""

    def __init__(self, entity_rows: pl.DataFrame) -> None:
        self._rows = entity_rows
        self._known: dict[Any, tuple[NDArray[np.int64], pl.DataFrame]] = {}

    def of(self, view: JoinView, schema: pl.Schema) -> tuple[NDArray[np.int64], pl.DataFrame]:
        """Code of every entity row (negative: a key is null), and the keys with their codes."""
        _require(self._rows.schema, list(view.keys), ENTITY_ROWS, wanted_by=view.name)
        kinds = tuple(
            _common_kind(self._rows.get_column(mine), schema[theirs], view, theirs)
            for mine, theirs in view.keys.items()
        )
        if not view.keys:
            return np.zeros(self._rows.height, np.int64), pl.DataFrame()
        known = self._known.get((tuple(view.keys), kinds))
        if known is None:
            known = self._number(tuple(view.keys), kinds)
            self._known[(tuple(view.keys), kinds)] = known
        return known

    def _number(
        self, columns: tuple[str, ...], kinds: tuple[pl.DataType, ...]
    ) -> tuple[NDArray[np.int64], pl.DataFrame]:
        names = [f"key{i}" for i in range(len(columns))]
        mine = self._rows.select(
            _cast_key(pl.col(column), self._rows.schema[column], kind).alias(name)
            for column, kind, name in zip(columns, kinds, names, strict=True)
        )
        lookup = mine.unique().drop_nulls().with_row_index("code")
        return _match(mine, lookup, names), lookup


def _match(rows: pl.DataFrame, lookup: pl.DataFrame, names: list[str]) -> NDArray[np.int64]:
    codes = rows.join(lookup, on=names, how="left", maintain_order="left").get_column("code")
    return codes.cast(pl.Int64).fill_null(-1).to_numpy()


def _codes(source: pl.DataFrame, view: JoinView, lookup: pl.DataFrame) -> NDArray[np.int64]:
    if not view.keys:
        return np.zeros(source.height, np.int64)
    names = [name for name in lookup.columns if name != "code"]
    theirs = source.select(
        _cast_key(pl.col(column), source.schema[column], lookup.schema[name]).alias(name)
        for column, name in zip(view.keys.values(), names, strict=True)
    )
    return _match(theirs, lookup, names)


def _cast_key(column: pl.Expr, kind: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    """Cast to the common kind; values that do not fit become null, and so match nothing."""
    return column if kind == wanted else column.cast(wanted, strict=False)


def _common_kind(mine: pl.Series, theirs: pl.DataType, view: JoinView, column: str) -> pl.DataType:
    """The type in which an entity row's key and a source's key are compared."""
    ours = mine.dtype
    if ours == theirs:
        return _plain_text(ours)
    if _plain_text(ours) == pl.String and _plain_text(theirs) == pl.String:
        return pl.String()
    if ours == pl.Null:
        return _plain_text(theirs)
    if theirs == pl.Null:
        return _plain_text(ours)
    if ours in _INTEGERS and theirs in _INTEGERS:
        wide = pl.UInt64 in (ours, theirs)
        return pl.Int128() if wide else pl.Int64()
    if ours.is_float() and theirs in _INTEGERS and _whole(mine):
        # What pandas makes of an integer column with a missing value.
        return pl.Int64()
    if (
        isinstance(ours, pl.Datetime)
        and isinstance(theirs, pl.Datetime)
        and ours.time_zone == theirs.time_zone
    ):
        return pl.Datetime("ns", ours.time_zone)
    raise SchemaError(
        f"key {mine.name!r} is {ours} in the entity rows, but {column!r} is {theirs}",
        where=view.place,
        mend=f"cast the entity rows' column to {theirs}, or the source's to {ours}",
    )


def _plain_text(kind: pl.DataType) -> pl.DataType:
    return pl.String() if kind == pl.Categorical or isinstance(kind, pl.Enum) else kind


def _whole(column: pl.Series) -> bool:
    values = column.drop_nulls().drop_nans()
    return bool(((values == values.floor()) & (values.abs() < 2**53)).all())


def _without(code: NDArray[np.int64], column: pl.Series) -> NDArray[np.int64]:
    """Codes with -1 where the column is null."""
    if not column.null_count():
        return code
    return np.where(column.is_null().to_numpy(), -1, code)


# --- pruning -------------------------------------------------------------------------------------


def _pruned(
    view: JoinView, schema: pl.Schema, lookup: pl.DataFrame, asked: pl.Series
) -> pl.LazyFrame:
    """The view's table without rows that cannot answer, as far as file statistics can tell."""
    frame = view.frame
    first, last = asked.min(), asked.max()
    kind = schema[view.timestamp]
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return frame.filter(pl.lit(False))
    if isinstance(kind, pl.Datetime):
        # `last` comes in whole microseconds; a nanosecond more keeps what lies in its last one.
        upper = (
            last if asked.dtype != pl.Datetime("ns", "UTC") else last + timedelta(microseconds=1)
        )
        condition = pl.col(view.timestamp) <= moments.literal(upper, kind)
        if view.ttl:
            with contextlib.suppress(OverflowError):  # a TTL that reaches beyond the calendar
                condition &= pl.col(view.timestamp) >= moments.literal(first - view.ttl, kind)
        frame = frame.filter(condition)
    for name, column in zip(lookup.columns[1:], view.keys.values(), strict=True):
        asked_keys = lookup.get_column(name)
        if schema[column] not in (pl.String, *_INTEGERS) or asked_keys.n_unique() > _FEW_KEYS:
            continue
        # Keys that the source's type cannot hold are not in the source.
        values = asked_keys.unique().cast(schema[column], strict=False).drop_nulls().sort()
        if not len(values):
            return frame.filter(pl.lit(False))
        # The bounds reach the row groups' statistics, the set reaches the rows.
        frame = frame.filter(
            pl.col(column).is_between(pl.lit(values[0]), pl.lit(values[-1])),
            pl.col(column).is_in(values.implode()),
        )
    return frame


# --- columns -------------------------------------------------------------------------------------


def _require(
    schema: pl.Schema, names: Sequence[str], where: str, *, wanted_by: str | None = None
) -> None:
    missing = [name for name in dict.fromkeys(names) if name not in schema]
    if missing:
        listed = ", ".join(repr(name) for name in missing)
        by = f", which {wanted_by} is joined on" if wanted_by else ""
        raise SchemaError(
            f"lacks column {listed}{by}" if len(missing) == 1 else f"lacks columns {listed}{by}",
            where=where,
            mend=f"it has: {', '.join(schema.names()) or 'no columns'}",
        )


def _refuse_collisions(entity_rows: pl.DataFrame, views: Sequence[JoinView]) -> None:
    owner = {name: ENTITY_ROWS for name in entity_rows.columns}
    for view in views:
        for called in view.features.values():
            if called in owner:
                raise SchemaError(
                    f"column {called!r} is in {owner[called]} as well as a feature of {view.name}",
                    where=ENTITY_ROWS if owner[called] == ENTITY_ROWS else view.name,
                    mend="rename or drop the column, or ask for full feature names",
                )
            owner[called] = view.name
