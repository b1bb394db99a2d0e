"""Read features online: one round trip for a whole batch, decoded straight into typed columns.

    reader = OnlineReader(connect("localhost:6379"), plan)
    rows = reader.read({"driver_id": [1001, 1002]})
    rows.columns()          # what the training join would have given: stale counts as missing

Values are never turned into protobuf messages: cells of one kind stand together in the reply, so
that a kind is one `bytes.join` and a few numpy operations for the whole batch. Imports neither
feast nor pandas: it runs inside the model server.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import redis
from numpy.typing import NDArray
from redis.cluster import RedisCluster

from zeroskew.errors import ConfigError, FeatureStoreError, SchemaError
from zeroskew.features.online_decode import (
    NO_TIME,
    Block,
    BlockSpec,
    decode_block,
    decode_event_times,
    many_status,
)
from zeroskew.features.online_decode_few import FEW_ENTITIES, FewBlock, decode_few, few_status
from zeroskew.features.read_plan import PlanGroup, PlanKey, ReadPlan
from zeroskew.features.redis_connection import (
    READ_SECONDS,
    STORE_ERRORS,
    Wire,
    address_of,
    bulk,
    connect,
    raise_server_error,
    unavailable,
)
from zeroskew.features.redis_layout import decode_event_time, key_value

__all__ = ["MISSING", "NO_TIME", "PRESENT", "STALE", "OnlineReader", "OnlineRows", "connect"]

PRESENT, MISSING, STALE = 0, 1, 2
"""Status of a value: there; no such entity, feature or a null; older than its view's TTL."""

Now = int | NDArray[np.int64]
"""Microseconds since the epoch: of the whole read, or of every row `[n]`."""

BATCH = 1024
"""Entities per round trip; larger batches go in several, so that replies never pile up."""


FewRows = tuple[list[list[Any]], list[list[int]], list[list[int]]]


class ServedRows(NamedTuple):
    """n rows as a server uses them."""

    columns: dict[str, list[Any]]
    """Python values by feature, `None` unless PRESENT; timestamps are aware datetimes."""
    status: NDArray[np.uint8]
    """`[features, n]`, in the order of `plan.stored_names`."""
    event_times: NDArray[np.int64]
    """Microseconds since the epoch or NO_TIME, `[views, n]`, in the order of `plan.view_names`."""


class OnlineRows:
    """The answer of one read: n rows in the order they were asked for."""

    def __init__(self, plan: ReadPlan, length: int, now: Now, parts: list[_Part]) -> None:
        self._plan, self._length, self._now, self._parts = plan, length, now, parts

    def __len__(self) -> int:
        return self._length

    @cached_property
    def values(self) -> dict[str, Any]:
        """Every stored feature as the store holds it, stale ones too.

        Numbers, booleans and timestamps (`datetime64[s]`, UTC) are numpy arrays of their own type
        with 0, NaN, False or NaT where nothing is; strings, bytes and lists are Python lists with
        `None` there.
        """
        found: dict[str, Any] = {}
        for part in self._parts:
            for block in part.blocks:
                found.update(zip(block.spec.names, block.columns(part.inverse), strict=True))
        return found

    @cached_property
    def status(self) -> dict[str, NDArray[np.uint8]]:
        """PRESENT, MISSING or STALE of every value, uint8 `[n]`."""
        found: dict[str, NDArray[np.uint8]] = {}
        for part in self._parts:
            found.update(zip(part.names, part.codes(self._now), strict=True))
        return found

    @cached_property
    def event_times(self) -> dict[str, NDArray[np.int64]]:
        """Per view: when its values were true, microseconds since the epoch, int64 `[n]`.

        `NO_TIME` where the entity has no values of that view.
        """
        found: dict[str, NDArray[np.int64]] = {}
        for part in self._parts:
            found.update(zip([v.name for v in part.group.views], part.row_times, strict=True))
        return found

    @cached_property
    def missing(self) -> dict[str, NDArray[np.bool_]]:
        """True where a model must see no value: the status is not PRESENT."""
        found: dict[str, NDArray[np.bool_]] = {}
        for part in self._parts:
            found.update(zip(part.names, part.codes(self._now) != PRESENT, strict=True))
        return found

    def columns(self) -> dict[str, Any]:
        """Columns as the point-in-time join would give them: `values`, with stale ones missing.

        Floats hold NaN and timestamps NaT where nothing is; integer and boolean columns with gaps
        become lists with `None`, so that a gap never looks like a 0.
        """
        found = dict(self.values)
        for part in self._parts:
            codes = part.codes(self._now)
            for at in np.flatnonzero(codes.any(axis=1)).tolist():
                name, absent = part.names[at], codes[at] != PRESENT
                found[name] = _blanked(found[name], absent)
        return found

    def served(self) -> ServedRows:
        """Everything that answering a request needs, in one pass and in Python values."""
        few = [part.few_rows(self._now) for part in self._parts]
        if None in few or not few:
            return self._served_by_column()
        columns: dict[str, list[Any]] = {}
        # Row by row across the parts, so that there is one array in the end and not one per part.
        codes: list[list[int]] = [[] for _ in range(self._length)]
        times: list[list[int]] = [[] for _ in range(self._length)]
        for part, (values, status, moments) in zip(self._parts, few, strict=True):  # type: ignore[misc]
            if len(values) == 1:
                columns.update(zip(part.names, [[v] for v in values[0]], strict=True))
            else:
                columns.update(zip(part.names, map(list, zip(*values, strict=True)), strict=True))
            for row, here, then in zip(range(self._length), status, moments, strict=True):
                codes[row] += here
                times[row] += then
        return ServedRows(
            columns,
            np.ascontiguousarray(np.array(codes, np.uint8).T),
            np.ascontiguousarray(np.array(times, np.int64).T),
        )

    def _served_by_column(self) -> ServedRows:
        columns: dict[str, list[Any]] = {}
        codes = [np.empty((0, self._length), np.uint8)]
        times = [np.empty((0, self._length), np.int64)]
        for part in self._parts:
            old = part.stale(self._now)
            for block in part.blocks:
                columns.update(block.python(old, part.inverse))
            codes.append(part.codes(self._now))
            times.append(part.row_times)
        return ServedRows(columns, np.concatenate(codes), np.concatenate(times))

    def to_dict(self, *, stale: bool = True) -> dict[str, list[Any]]:
        """Feast's `to_dict()` shape: Python values, `None` where nothing is.

        `stale=False` leaves stale values out, as `columns` does. Timestamps are aware datetimes.
        """
        found: dict[str, list[Any]] = {}
        for part in self._parts:
            old = None if stale else part.stale(self._now)
            for block in part.blocks:
                found.update(block.python(old, part.inverse))
        return found


def _blanked(column: Any, absent: NDArray[np.bool_]) -> Any:
    if not isinstance(column, list) and column.dtype.kind in "fM":
        empty = np.nan if column.dtype.kind == "f" else np.datetime64("NaT")
        return np.where(absent, np.array(empty, column.dtype), column)
    listed = column if isinstance(column, list) else column.tolist()
    return [None if gone else v for v, gone in zip(listed, absent.tolist(), strict=True)]


class _Part:
    """What came back for one group: blocks over its distinct entities."""

    def __init__(
        self,
        commands: _GroupCommands,
        blocks: Sequence[Block | FewBlock],
        raw_times: list[Any],
        inverse: NDArray[np.intp] | None,
    ) -> None:
        self.group, self.names, self._limits = commands.group, commands.names, commands.limits
        self._ages, self._views = commands.ages, commands.feature_views
        self.blocks, self.inverse, self._raw_times = blocks, inverse, raw_times
        self._codes: NDArray[np.uint8] | None = None

    @cached_property
    def times(self) -> NDArray[np.int64]:
        """Event times, microseconds, int64 `[views, entities]`."""
        return decode_event_times(self._raw_times, len(self.group.views))

    def few_rows(self, now: Now) -> FewRows | None:
        """Values, status codes and event times, row by row; None unless the blocks are few."""
        if not 0 < len(self._raw_times) <= FEW_ENTITIES:
            return None
        values, codes, times = [], [], []
        blocks: Any = self.blocks
        for entity, raw in enumerate(self._raw_times):
            moments = [NO_TIME if c is None else decode_event_time(c) for c in raw]
            row = [v for block in blocks for v in block.values(entity)]
            late = self._late(moments, now if isinstance(now, int) else int(now[entity]))
            if late is None:
                code = [0 if v is not None else MISSING for v in row]
            else:
                code = [
                    late[view] if v is not None else MISSING
                    for v, view in zip(row, self._views, strict=True)
                ]
                row = [None if c else v for v, c in zip(row, code, strict=True)]
            values.append(row)
            codes.append(code)
            times.append(moments)
        if self.inverse is not None:
            order = self.inverse.tolist()
            values, codes, times = ([part[i] for i in order] for part in (values, codes, times))
        return values, codes, times

    def _late(self, moments: list[int], now: int) -> list[int] | None:
        """STALE or 0 by view; None if nothing is stale."""
        if self._ages is None:
            return None
        late = [STALE * (m < now - age) for m, age in zip(moments, self._ages, strict=True)]
        return late if STALE in late else None

    @property
    def row_times(self) -> NDArray[np.int64]:
        """`times` of every row, int64 `[views, rows]`."""
        return self.times if self.inverse is None else self.times[:, self.inverse]

    def stale(self, now: Now) -> NDArray[np.uint8] | None:
        """STALE where a distinct entity is older than a view's TTL, uint8 `[views, entities]`.

        None where nothing is.
        """
        if self._limits is None:
            return None
        # Against the subtraction, not the sum: NO_TIME is the smallest integer there is.
        old = self.times < now - self._limits
        return old * np.uint8(STALE) if old.any() else None

    def codes(self, now: Now) -> NDArray[np.uint8]:
        """Status of every value, uint8 `[features, rows]`."""
        if self._codes is None:
            stale, size = self.stale(now), len(self._raw_times)
            status: Any = few_status if 0 < size <= FEW_ENTITIES else many_status
            codes = status(self.blocks, stale, size)
            self._codes = codes if self.inverse is None else codes[:, self.inverse]
        return self._codes


class OnlineReader:
    """Reads one plan. Threads may share it: each has a connection of its own."""

    def __init__(self, client: Any, plan: ReadPlan, *, seconds: float = READ_SECONDS) -> None:
        """`seconds`: how long one read may take before it raises `OnlineStoreUnavailable`."""
        self.plan = plan
        self.seconds = seconds
        self.address = address_of(client)
        self._cluster = client if isinstance(client, RedisCluster) else None
        self._wire = None if self._cluster is not None else Wire(client)
        self._groups = [_GroupCommands(plan, group) for group in plan.groups]
        self.meanwhile: Callable[[], None] | None = None
        """Called while the store looks up: work that need not hold up anybody."""

    def read(
        self,
        entity_columns: Mapping[str, Sequence[Any]],
        now: float | datetime | NDArray[np.int64] | None = None,
    ) -> OnlineRows:
        """Read every feature of the plan for n entities.

        `entity_columns` maps each name of `plan.entity_columns` to n values (lists, numpy arrays,
        polars or pandas series); a null is an entity nobody knows. `now` (epoch seconds or an
        aware datetime; default: the clock) is what staleness is judged against; an int64 array
        `[n]` of microseconds since the epoch gives every row a moment of its own.

        Raises `SchemaError` on missing columns, unequal lengths or values of another type,
        `OnlineStoreUnavailable` when the store does not answer in time, `FeatureStoreError` when
        it holds something else than the plan says.
        """
        length = self._check(entity_columns)
        payload: list[bytes] = []
        keys: list[list[bytes]] = []
        inverses: list[NDArray[np.intp] | None] = []
        # Rows of one entity at different moments may differ in what is stale.
        apart = isinstance(now, np.ndarray)
        for commands in self._groups:
            distinct, inverse = commands.distinct(entity_columns, length, apart)
            keys.append(commands.keys(distinct))
            inverses.append(inverse)
        replies = self._fetch(keys, payload)
        parts = []
        at = 0
        for commands, wanted, inverse in zip(self._groups, keys, inverses, strict=True):
            rows = replies[at : at + len(wanted)]
            at += len(wanted)
            parts.append(commands.decode(rows, inverse, self.address))
        return OnlineRows(self.plan, length, _micros(now), parts)

    def close(self) -> None:
        """Give this thread's connection back."""
        if self._wire is not None:
            self._wire.close()

    def _fetch(self, keys: list[list[bytes]], payload: list[bytes]) -> list[Any]:
        total = sum(map(len, keys))
        if total == 0:
            return []
        if self._wire is None:
            replies = self._fetch_from_cluster(keys)
        else:
            for commands, wanted in zip(self._groups, keys, strict=True):
                commands.pack(wanted, payload)
            if total <= BATCH:
                replies = self._wire.exchange(
                    b"".join(payload), total, seconds=self.seconds, meanwhile=self.meanwhile
                )
            else:
                replies = []
                for start in range(0, total, BATCH):
                    # Three pieces to a command; see `_GroupCommands.pack`.
                    piece = payload[3 * start : 3 * (start + BATCH)]
                    count = min(BATCH, total - start)
                    replies += self._wire.exchange(b"".join(piece), count, seconds=self.seconds)
        for reply in replies:
            if type(reply) is not list:
                raise_server_error([reply], self.address)
        return replies

    def _fetch_from_cluster(self, keys: list[list[bytes]]) -> list[Any]:
        assert self._cluster is not None
        try:
            pipeline = self._cluster.pipeline()
            for commands, wanted in zip(self._groups, keys, strict=True):
                for key in wanted:
                    pipeline.execute_command("HMGET", key, *commands.group.fields)
            replies = pipeline.execute(raise_on_error=False)
        except STORE_ERRORS as error:
            raise unavailable(self.address, error) from None
        for reply in replies:
            if isinstance(reply, STORE_ERRORS) and not isinstance(reply, redis.ResponseError):
                raise unavailable(self.address, reply)
        return replies

    def _check(self, columns: Mapping[str, Sequence[Any]]) -> int:
        wanted = self.plan.entity_columns
        absent = [name for name in wanted if name not in columns]
        if absent:
            raise SchemaError(
                f"entity column {', '.join(absent)} is not given",
                where=f"read of {self.plan.service}",
                mend=f"give {', '.join(f'{n} ({k})' for n, k in wanted.items())}",
            )
        given = list(wanted) or list(columns)
        lengths = {len(columns[name]) for name in given}
        if len(lengths) > 1:
            raise SchemaError(
                "entity columns of unequal length: "
                + ", ".join(f"{name} {len(columns[name])}" for name in given),
                where=f"read of {self.plan.service}",
            )
        return lengths.pop() if lengths else 1


_FOREVER = 1 << 62
"""A TTL in microseconds that no value outlives: 146,000 years."""
_FIXED = {
    "int64": struct.Struct("<q"),
    "int32": struct.Struct("<i"),
    "timestamp": struct.Struct("<q"),
}


class _GroupCommands:
    """One group of the plan, with everything about its commands that never changes."""

    def __init__(self, plan: ReadPlan, group: PlanGroup) -> None:
        self.group = group
        self._service = plan.service
        self._head = plan.key_head(group)
        self._project = plan.project.encode("utf-8")
        fields = group.fields
        self._open = b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(fields))
        self._close = b"\r\n" + b"".join(bulk(field) for field in fields)
        self._blocks = []
        at = 0
        for kind, run in groupby(group.features, key=lambda feature: feature.kind):
            self._blocks.append(BlockSpec(kind, list(run), at))
            at = self._blocks[-1].end
        self._features = at
        ttls = [[view.ttl_micros or _FOREVER] for view in group.views]
        self.limits = np.array(ttls, np.int64) if ttls != [[_FOREVER]] * len(ttls) else None
        self.ages = None if self.limits is None else [ttl for (ttl,) in ttls]
        self.names = [feature.name for feature in group.features]
        self.feature_views = [feature.view for feature in group.features]

    def distinct(
        self, columns: Mapping[str, Sequence[Any]], length: int, apart: bool = False
    ) -> tuple[list[Any], NDArray[np.intp] | None]:
        """Distinct entities, and per row which one; None if that is the row itself.

        `apart`: every row is an entity of its own.
        """
        given = [_listed(columns[k.column]) for k in self.group.keys if k.constant is None]
        if not given:
            return ([()] * length, None) if apart else ([()], np.zeros(length, np.intp))
        values: list[Any] = given[0] if len(given) == 1 else list(zip(*given, strict=True))
        if apart or length == 1:
            return values, None
        try:
            positions = dict.fromkeys(values)
        except TypeError:
            raise self._wrong(given) from None
        if len(positions) == len(values):
            return values, None
        positions = {value: at for at, value in enumerate(positions)}
        return list(positions), np.fromiter(map(positions.__getitem__, values), np.intp, length)

    def keys(self, distinct: list[Any]) -> list[bytes]:
        """Redis keys of distinct entities. Raises `SchemaError` on values of another type."""
        keys = self.group.keys
        head, project = self._head, self._project
        try:
            if len(keys) == 1 and keys[0].kind in _FIXED and keys[0].constant is None:
                pack = _FIXED[keys[0].kind].pack
                fixed = head + key_value(0, keys[0].kind)[:8]
                try:
                    return [fixed + pack(value) + project for value in distinct]
                except struct.error:
                    pass  # a null, a float or something else: one by one
            given = [key for key in keys if key.constant is None]
            out = []
            for row in distinct:
                cells = iter(row if len(given) > 1 else (row,))
                parts = [
                    key_value(k.constant, "string")
                    if k.constant is not None
                    else _cell(next(cells), k)
                    for k in keys
                ]
                # An entity with a null in its key is nobody: a key that no writer ever makes.
                out.append(b"" if None in parts else head + b"".join(parts) + project)  # type: ignore[arg-type]
            return out
        except (TypeError, ValueError, AttributeError, struct.error, OverflowError):
            raise self._wrong([[v] for v in distinct[:1]]) from None

    def pack(self, keys: list[bytes], payload: list[bytes]) -> None:
        """Append the commands for `keys`: three pieces each."""
        opening, closing = self._open, self._close
        for key in keys:
            payload += (b"%b$%d\r\n" % (opening, len(key)), key, closing)

    def decode(
        self, rows: list[list[bytes | None]], inverse: NDArray[np.intp] | None, address: str
    ) -> _Part:
        try:
            decode: Any = decode_few if 0 < len(rows) <= FEW_ENTITIES else decode_block
            blocks = [decode(spec, rows) for spec in self._blocks]
        except ValueError as error:
            raise FeatureStoreError(
                f"the store does not hold what the definitions say: {error}",
                where=address,
                mend="materialise again after a feature changed its type: `zeroskew features "
                "materialise`",
            ) from None
        at = self._features
        return _Part(self, blocks, [row[at:] for row in rows], inverse)

    def _wrong(self, sample: list[Any]) -> SchemaError:
        shown = ", ".join(repr(c[0])[:60] for c in sample if len(c))
        wanted = ", ".join(f"{k.column} ({k.kind})" for k in self.group.keys if k.constant is None)
        return SchemaError(
            f"entity values of another type than {wanted}; the first is {shown}",
            where=f"read of {self._service}",
            mend="give the values in the type that the feature definitions declare",
        )


def _cell(value: Any, key: PlanKey) -> bytes | None:
    if key.constant is not None:
        return key_value(key.constant, key.kind)
    if value is None or value != value:
        return None
    return key_value(value, key.kind)


def _listed(column: Any) -> list[Any]:
    if type(column) is list:
        return column
    for name in ("tolist", "to_list"):
        if hasattr(column, name):
            return getattr(column, name)()
    return list(column)


def _micros(now: float | datetime | NDArray[np.int64] | None) -> Now:
    if now is None:
        return time.time_ns() // 1000
    if isinstance(now, np.ndarray):
        return now
    if isinstance(now, datetime):
        if now.tzinfo is None:
            raise ConfigError("`now` needs a time zone", mend="datetime.now(UTC)")
        return round(now.timestamp() * 1_000_000)
    return round(now * 1_000_000)
