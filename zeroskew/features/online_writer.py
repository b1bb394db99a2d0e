"""Write features online: whole columns at once; row by row, atomically, the newest value wins.

The decision "is what is there older?" runs inside the server, in one script for some hundred rows:
compare the event time of the view, then one HSET of the whole row with its event time. Nobody can
get between the two, and no reader sees half a row, however many writers there are and wherever one
of them is interrupted. (Feast's own writer reads the times first and writes later: two of them can
leave the older value.)

Entities that the store does not know yet need no decision. Where the server has HSETEX (Valkey 9,
Redis 8), `HSETEX key FNX` writes them, "if none of these fields exists", just as atomically and
for less than half of the script's cost; whoever it refuses goes to the script.

    later       → written
    same time   → kept, as in Feast; but a row that lacks a field is written whole, so that a new
                  feature of a view, or a row that another writer left unfinished, is filled in
    earlier     → kept
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import hiredis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from redis.cluster import RedisCluster

from zeroskew.errors import SchemaError
from zeroskew.features.redis_connection import (
    STORE_ERRORS,
    Wire,
    address_of,
    bulk,
    raise_server_error,
    unavailable,
)
from zeroskew.features.redis_layout import event_time_field, feature_field
from zeroskew.features.wire_columns import (
    bulk_strings,
    encode_column,
    encode_event_times,
    encode_keys,
)

ROWS_PER_SCRIPT = 100
"""A script of so many rows holds the server for about a millisecond."""
ROWS_PER_CHUNK = 16_384
PROBE_ROWS = 128
"""Rows of a chunk that are tried as new; if most are, so is the rest."""
WRITE_SECONDS = 30.0
"""How long a chunk may take before the store counts as gone."""

SCRIPT = """
local view, seconds, replace, count = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4])
local row, fields = {'HSET', '', view, ''}, {}
for i = 1, count do row[3 + 2 * i] = ARGV[4 + i]; fields[i] = ARGV[4 + i] end

-- google.protobuf.Timestamp: seconds and nanoseconds, both varints, absent when zero
local function moment(wire)
  local parts, at, size = {[8] = 0, [16] = 0}, 1, #wire
  while at <= size do
    local tag = wire:byte(at)
    at = at + 1
    local first, value, scale = at, 0, 1
    while true do
      local b = wire:byte(at)
      at = at + 1
      if at - first == 10 then  -- the sign bit: two's complement of 64 bits
        value, scale = 0, 1
        for i = first, at - 2 do
          value, scale = value + (127 - wire:byte(i) % 128) * scale, scale * 128
        end
        value = -1 - value
        break
      end
      value = value + b % 128 * scale
      if b < 128 then break end
      scale = scale * 128
    end
    parts[tag] = value
  end
  return parts[8], parts[16]
end

local function lacks_a_field(key)
  for _, value in ipairs({redis.call('HMGET', key, unpack(fields))}) do
    for i = 1, count do if not value[i] then return true end end
  end
  return false
end

local at, written = 4 + count, 0
for k = 1, #KEYS do
  local key, new = KEYS[k], ARGV[at + 1]
  local old = redis.call('HGET', key, view)
  local write = true
  if old == new then
    write = replace or lacks_a_field(key)
  elseif old then
    local s, n = moment(old)
    local t, m = moment(new)
    write = t > s or (t == s and m > n)
  end
  if write then
    row[2], row[4] = key, new
    for i = 1, count do row[4 + 2 * i] = ARGV[at + 1 + i] end
    redis.call(unpack(row))
    if seconds ~= '0' then redis.call('EXPIRE', key, seconds) end
    written = written + 1
  end
  at = at + 1 + count
end
return written
"""
_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest().encode()


@dataclass(frozen=True, slots=True)
class ViewLayout:
    """Where the rows of one feature view go."""

    project: str
    name: str
    """As it stands in the store: with its version where views are versioned."""
    keys: Mapping[str, str]
    """Join key → kind."""
    features: Mapping[str, str]
    """Feature → kind."""
    key_ttl_seconds: int = 0
    """EXPIRE of the entity's whole hash with every accepted write; 0: never. As in Feast."""


@dataclass(frozen=True, slots=True)
class WriteCount:
    """What became of rows."""

    written: int = 0
    kept: int = 0
    """Rows that met a value as new or newer."""
    dropped: int = 0
    """Rows with a null in the key or no event time: they belong to nobody and to no moment."""

    def __add__(self, other: WriteCount) -> WriteCount:
        return WriteCount(
            self.written + other.written, self.kept + other.kept, self.dropped + other.dropped
        )


class OnlineWriter:
    """Writes tables of feature views. One thread at a time."""

    def __init__(self, client: Any, *, seconds: float = WRITE_SECONDS) -> None:
        """`seconds`: deadline of each chunk of `ROWS_PER_CHUNK` rows."""
        self.address = address_of(client)
        self._cluster = client if isinstance(client, RedisCluster) else None
        self._wire = None if self._cluster is not None else Wire(client)
        self._seconds = seconds
        self._knows_hsetex: bool | None = None

    def write(
        self,
        layout: ViewLayout,
        table: pa.Table,
        *,
        event_time: str,
        replace_ties: bool = False,
        on_rows: Callable[[int], None] | None = None,
    ) -> WriteCount:
        """Write every row of `table` that is newer than what the store holds.

        `table` has the join keys, the features and the column `event_time` (timestamps; without a
        zone they are UTC). `replace_ties` also takes rows as old as the stored one, for values
        corrected after the fact. Safe to repeat and to interrupt. `on_rows` is told how many rows
        are done after each chunk.

        Raises `SchemaError` on columns that are missing or of another type, before anything of
        that chunk is sent; `OnlineStoreUnavailable`; `FeatureStoreError`.
        """
        columns = [*layout.keys, *layout.features, event_time]
        absent = [name for name in columns if name not in table.column_names]
        if absent:
            raise SchemaError(
                f"column {', '.join(absent)} is missing",
                where=f"feature view {layout.name}",
                mend=f"the table has {', '.join(table.column_names)}",
            )
        count = WriteCount()
        sent: tuple[int, Future[int], int, int] | None = None
        # The next chunk is encoded while the server works on this one.
        with ThreadPoolExecutor(1, thread_name_prefix="online-writer") as sender:
            try:
                for start in range(0, table.num_rows, ROWS_PER_CHUNK):
                    chunk = table.slice(start, ROWS_PER_CHUNK).select(columns).combine_chunks()
                    rows, dropped, scripts = self._encode(layout, chunk, event_time, replace_ties)
                    if sent is not None:
                        count += _settled(sent, on_rows)
                    job = sender.submit(self._send, scripts)
                    sent = (chunk.num_rows, job, rows, dropped)
                if sent is not None:
                    count += _settled(sent, on_rows)
            finally:
                if self._wire is not None:
                    sender.submit(self._wire.close)
        return count

    def _encode(
        self, layout: ViewLayout, chunk: pa.Table, event_time: str, replace_ties: bool
    ) -> tuple[int, int, _Scripts]:
        total = chunk.num_rows
        times = _micros(chunk.column(event_time), event_time)
        valid = times.is_valid()
        for key in layout.keys:
            valid = pc.and_(valid, chunk.column(key).combine_chunks().is_valid())
        if not pc.all(valid).as_py():
            chunk, times = chunk.filter(valid), times.filter(valid)
        arrays = {name: _single(chunk.column(name)) for name in (*layout.keys, *layout.features)}
        keys = encode_keys(
            [(k, kind, arrays[k]) for k, kind in layout.keys.items()], layout.project
        )
        if not layout.keys:  # a view without entities has one stand-in key, as in Feast
            keys = encode_keys(
                [("__dummy_id", "string", pa.array([""] * chunk.num_rows))], layout.project
            )
        cells = [encode_event_times(times.to_numpy(zero_copy_only=False))]
        cells += [encode_column(arrays[f], kind, f) for f, kind in layout.features.items()]
        arguments = b"".join(
            bulk(part)
            for part in (
                event_time_field(layout.name),
                b"%d" % layout.key_ttl_seconds,
                b"1" if replace_ties else b"0",
                b"%d" % len(layout.features),
                *(feature_field(layout.name, f) for f in layout.features),
            )
        )
        fields = [event_time_field(layout.name)]
        fields += [feature_field(layout.name, f) for f in layout.features]
        # A row that expires, or replaces one of its own age, needs the script.
        fresh = not layout.key_ttl_seconds and not replace_ties
        scripts = _Scripts(keys, cells, arguments, fields if fresh else [])
        return chunk.num_rows, total - chunk.num_rows, scripts

    def _send(self, scripts: _Scripts) -> int:
        if self._cluster is not None:
            return self._send_to_cluster(self._cluster, scripts)
        assert self._wire is not None
        written = 0
        if scripts.may_be_new and self._hsetex(self._wire):
            total = len(scripts.keys)
            rest = list(range(min(PROBE_ROWS, total)))
            refused = self._write_new(self._wire, scripts, rest)
            written += len(rest) - len(refused)
            others = list(range(len(rest), total))
            if len(refused) * 2 < len(rest):
                late = self._write_new(self._wire, scripts, others)
                written += len(others) - len(late)
                others = late
            scripts = scripts.take(refused + others)
        payload, replies = scripts.packed(ROWS_PER_SCRIPT)
        return written + sum(self._run(self._wire, payload, replies)) if replies else written

    def _hsetex(self, wire: Wire) -> bool:
        if self._knows_hsetex is None:
            ask = b"*3\r\n$7\r\nCOMMAND\r\n$4\r\nINFO\r\n$6\r\nHSETEX\r\n"
            (answer,) = wire.exchange(ask, 1, seconds=self._seconds)
            self._knows_hsetex = isinstance(answer, list) and bool(answer and answer[0])
        return self._knows_hsetex

    def _write_new(self, wire: Wire, scripts: _Scripts, rows: list[int]) -> list[int]:
        """Write rows whose entity has none of the view's fields; the rows that have some."""
        if not rows:
            return []
        payload = scripts.take(rows).packed_as_new()
        answers = wire.exchange(payload, len(rows), seconds=self._seconds)
        raise_server_error(answers, wire.address)
        return [row for row, answer in zip(rows, answers, strict=True) if answer != 1]

    def _run(self, wire: Wire, payload: bytes, replies: int) -> list[int]:
        for attempt in (0, 1):
            answers = wire.exchange(payload, replies, seconds=self._seconds)
            unknown = any(
                isinstance(a, hiredis.ReplyError) and str(a).startswith("NOSCRIPT") for a in answers
            )
            if not unknown or attempt:
                break
            load = b"*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n" + bulk(SCRIPT.encode())
            raise_server_error(wire.exchange(load, 1, seconds=self._seconds), wire.address)
        raise_server_error(answers, wire.address)
        return answers

    def _send_to_cluster(self, cluster: RedisCluster, scripts: _Scripts) -> int:
        """One row per script, since a script may only touch one slot; one pipeline per node."""
        nodes: dict[str, tuple[Any, list[int]]] = {}
        keys = scripts.keys.to_pylist()
        try:
            for row, key in enumerate(keys):
                node = cluster.get_node_from_key(key)
                if node is None:
                    raise unavailable(self.address, "no node serves a slot")
                nodes.setdefault(node.name, (node, []))[1].append(row)
            written = 0
            for node, rows in nodes.values():
                wire = Wire(cluster.get_redis_connection(node))
                try:
                    payload, replies = scripts.take(rows).packed(1)
                    written += sum(self._run(wire, payload, replies))
                finally:
                    wire.close()
        except STORE_ERRORS as error:
            raise unavailable(self.address, error) from None
        return written


class _Scripts:
    """Rows of one chunk, packed into commands of either kind."""

    def __init__(
        self, keys: pa.Array, cells: list[pa.Array], arguments: bytes, fields: list[bytes]
    ) -> None:
        """`fields` in the order of `cells`, event time first; empty: never as new."""
        self.keys, self._cells, self._arguments, self._fields = keys, cells, arguments, fields
        self._features = len(cells) - 1

    @property
    def may_be_new(self) -> bool:
        return bool(self._fields) and len(self.keys) > 0

    def take(self, rows: Sequence[int]) -> _Scripts:
        if len(rows) == len(self.keys):  # all of them, and every caller keeps the order
            return self
        chosen = pa.array(rows, pa.int64())
        cells = [column.take(chosen) for column in self._cells]
        return _Scripts(self.keys.take(chosen), cells, self._arguments, self._fields)

    def packed_as_new(self) -> bytes:
        """One `HSETEX key FNX FIELDS n field value …` for every row."""
        count = b"%d" % len(self._fields)
        opening = b"*%d\r\n$6\r\nHSETEX\r\n" % (5 + 2 * len(self._fields))
        between = b"".join(map(bulk, (b"FNX", b"FIELDS", count)))
        before = [opening, between + bulk(self._fields[0]), *map(bulk, self._fields[1:])]
        return b"".join(_whole(bulk_strings([self.keys, *self._cells], before)))

    def packed(self, rows_per_script: int) -> tuple[bytes, int]:
        """EVALSHA commands for all rows, and how many there are."""
        if not len(self.keys):
            return b"", 0
        keys, rows = _Slices(bulk_strings([self.keys])), _Slices(bulk_strings(self._cells))
        payload: list[Any] = []
        scripts = 0
        for start, end in _ranges(len(self.keys), rows_per_script):
            count = end - start
            parts = 3 + count + 4 + self._features + count * (1 + self._features)
            payload += (
                b"*%d\r\n$7\r\nEVALSHA\r\n%b%b" % (parts, bulk(_SHA), bulk(b"%d" % count)),
                keys.between(start, end),
                self._arguments,
                rows.between(start, end),
            )
            scripts += 1
        return b"".join(payload), scripts


class _Slices:
    """Contiguous bytes of consecutive values of an Arrow binary array, without copying."""

    def __init__(self, array: pa.Array) -> None:
        _, offsets, data = array.buffers()
        self._offsets = np.frombuffer(offsets, np.int32)[array.offset :].tolist()
        self._data = memoryview(data) if data is not None else memoryview(b"")

    def between(self, start: int, end: int) -> memoryview:
        return self._data[self._offsets[start] : self._offsets[end]]


def _whole(array: pa.Array) -> list[memoryview]:
    return [_Slices(array).between(0, len(array))]


def _ranges(total: int, step: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + step, total)) for start in range(0, total, step))


def _settled(
    sent: tuple[int, Future[int], int, int], on_rows: Callable[[int], None] | None
) -> WriteCount:
    total, job, rows, dropped = sent
    written = job.result()
    if on_rows is not None:
        on_rows(total)
    return WriteCount(written, rows - written, dropped)


def _single(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


def _micros(column: pa.ChunkedArray, name: str) -> pa.Array:
    array = _single(column)
    if not (pa.types.is_timestamp(array.type) or pa.types.is_date(array.type)):
        raise SchemaError(f"column {name} is {array.type}, event times are timestamps")
    return array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
