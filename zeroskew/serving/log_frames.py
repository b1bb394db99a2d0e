"""One batch of predictions as bytes, and batches read back from bytes that a crash cut short.

    frame   magic (4) | u32le length of the body | u32le rows | u32le CRC-32 | body
    body    msgpack: what `Batch` holds, column by column; all float columns as one array

The CRC covers length, rows and body. A reader that meets bytes which are no frame looks for the
next magic, so that one torn or flipped frame costs its own rows only.
"""

from __future__ import annotations

import datetime as dt
import struct
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any
from zlib import crc32

import msgpack
import numpy as np
from numpy.typing import NDArray

from zeroskew.serving.log_redaction import Redact

MAGIC = b"\xf1zs\x01"
_HEAD = struct.Struct("<4sIII")
_COUNTS = struct.Struct("<II")
_ARRAY = 1
_FEW = 32
"""Up to so many numbers a list is written faster than an array."""


@dataclass(slots=True)
class PredictionBatch:
    """n rows that were answered together."""

    request_ids: list[str]
    rows: list[int]
    """Position of each row in its request."""
    event_times: list[int]
    """Microseconds since the epoch: when each row was asked."""
    columns: Mapping[str, Any]
    """All of `LogSchema.columns`, as lists or one-dimensional arrays; None, NaN, NaT: missing."""
    status: NDArray[np.uint8]
    """`[features, n]`: 0 present, 1 missing, 2 stale."""
    view_times: NDArray[np.int64]
    """`[views, n]`, microseconds since the epoch; the smallest int64 where there are no values."""
    scores: NDArray[np.float32]
    roles: list[str]
    """champion, canary or shadow."""
    trace_ids: list[str | None]
    latency_microseconds: int
    degraded: bool
    answered_at: int = 0
    """Microseconds since the epoch, by the server's clock."""


class FrameWriter:
    """Makes frames of one schema's columns; not for several threads at a time."""

    def __init__(self, kinds: Mapping[str, str], redactions: Mapping[str, Redact]) -> None:
        """`kinds`: of the columns as they are written, in that order."""
        self._redactions = dict(redactions)
        floats, others = split_columns(kinds)
        self._all, self._floats, self._others = (
            _picker(list(kinds)),
            _picker(floats),
            _picker(others),
        )
        self._packer = msgpack.Packer(default=_plain, datetime=True)
        self._tolerant = msgpack.Packer(
            default=_plain, datetime=True, unicode_errors="surrogatepass"
        )

    def frame(self, batch: PredictionBatch) -> bytes:
        """The batch as it goes to the disk; raises on a batch that is not one."""
        columns = batch.columns
        if self._redactions:
            columns = dict(columns)
            for name, redact in self._redactions.items():
                columns[name] = redact(columns[name])
        scores = batch.scores
        rows = len(scores)
        floats = _packed(self._floats(columns), rows)
        content = (
            batch.request_ids, batch.rows, batch.event_times, batch.roles, batch.trace_ids,
            batch.latency_microseconds, batch.degraded, batch.answered_at,
            scores.astype("<f4", copy=False).tobytes(),
            batch.status.tobytes(),
            batch.view_times.tobytes(),
            floats,
            self._all(columns) if floats is None else self._others(columns),
        )  # fmt: skip
        try:
            body = self._packer.pack(content)
        except UnicodeEncodeError:  # lone surrogates, which JSON can bring
            body = self._tolerant.pack(content)
        counts = _COUNTS.pack(len(body), rows)
        return b"".join((MAGIC, counts, crc32(body, crc32(counts)).to_bytes(4, "little"), body))


def split_columns(kinds: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The columns that a frame holds as one array of float64, and the others; in order."""
    floats = [name for name, kind in kinds.items() if kind in ("float64", "float32")]
    return floats, [name for name in kinds if name not in set(floats)]


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda columns: tuple(columns[name] for name in names)


def _packed(columns: Sequence[Any], rows: int) -> bytes | None:
    """Float columns `[columns, rows]`, missing as NaN; None if something in them is no number."""
    if set(map(len, columns)) != {rows}:
        return None
    try:
        if np.ndarray in set(map(type, columns)):
            return np.array(columns, "<f8").tobytes()
        numbers = array("d")
        try:
            for column in columns:
                numbers.fromlist(column)
        except TypeError:  # None
            return np.array(columns, "<f8").tobytes()
        return numbers.tobytes()
    except (TypeError, ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Batch:
    """One frame read back; columns are in the order of the schema."""

    request_ids: Sequence[str]
    rows: Sequence[int]
    event_times: Sequence[int]
    roles: Sequence[str]
    trace_ids: Sequence[str | None]
    latency_microseconds: int
    degraded: bool
    answered_at: int
    scores: NDArray[np.float32]
    status: NDArray[np.uint8]
    view_times: NDArray[np.int64]
    floats: NDArray[np.float64] | None
    """The float columns, `[columns, n]`, NaN for missing; None if they are among the others."""
    columns: Sequence[Any]
    """The others, or all."""


@dataclass(slots=True)
class Damage:
    """What could not be read."""

    rows: int = 0
    """As far as headers still tell."""
    bytes: int = 0


def read_frames(data: bytes | memoryview, damage: Damage) -> Iterator[tuple[int, Batch]]:
    """Every whole frame in order, with the bytes up to its end; the others go into `damage`."""
    view, raw = memoryview(data), bytes(data) if isinstance(data, memoryview) else data
    at = 0
    while at < len(raw):
        end = _frame_end(view, at)
        batch = _decode(view[at + _HEAD.size : end]) if end else None
        if batch is not None:
            at = end
            yield at, batch
            continue
        following = raw.find(MAGIC, at + 1)
        following = len(raw) if following < 0 else following
        damage.bytes += following - at
        damage.rows += _rows_of_torn(view, at, following)
        at = following


def _frame_end(view: memoryview, at: int) -> int:
    """Where the frame that starts at `at` ends; 0 if none does."""
    if at + _HEAD.size > len(view):
        return 0
    magic, length, _, crc = _HEAD.unpack_from(view, at)
    end = at + _HEAD.size + length
    if magic != MAGIC or end > len(view):
        return 0
    counted = crc32(view[at + 4 : at + 12])
    return end if crc32(view[at + _HEAD.size : end], counted) == crc else 0


def _rows_of_torn(view: memoryview, at: int, following: int) -> int:
    if following - at < _HEAD.size:
        return 0
    magic, length, rows, _ = _HEAD.unpack_from(view, at)
    # A row takes more than 8 bytes; other numbers are not the header that was written.
    return rows if magic == MAGIC and rows * 8 <= length else 0


def _decode(body: memoryview) -> Batch | None:
    try:
        raw = msgpack.unpackb(
            body, use_list=False, strict_map_key=False, timestamp=3, ext_hook=_array,
            unicode_errors="surrogatepass",
        )  # fmt: skip
        ids, rows, times, roles, traces, latency, degraded, answered = raw[:8]
        scores, status, views, floats, columns = raw[8:]
        n = len(ids)
        batch = Batch(
            ids, rows, times, roles, traces, latency, degraded, answered,
            np.frombuffer(scores, "<f4"),
            np.frombuffer(status, np.uint8).reshape(-1, n) if n else np.empty((0, 0), np.uint8),
            np.frombuffer(views, "<i8").reshape(-1, n) if n else np.empty((0, 0), np.int64),
            None if floats is None else np.frombuffer(floats, "<f8").reshape(-1, n),
            columns,
        )  # fmt: skip
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
    lengths = {len(part) for part in (rows, times, roles, traces, batch.scores, *columns)}
    return batch if lengths <= {n} else None


def _plain(value: Any) -> Any:
    """What msgpack does not know, as something it does."""
    if isinstance(value, np.ndarray):
        kind = value.dtype.kind
        if value.ndim != 1 or kind not in "biufM" or (len(value) <= _FEW and kind != "M"):
            return value.tolist()
        return msgpack.ExtType(_ARRAY, value.dtype.str.encode() + b"\0" + value.tobytes())
    if isinstance(value, np.datetime64):
        value = value.astype("M8[us]").item()
    elif isinstance(value, np.generic):
        return value.item()
    if value is None:
        return None
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC)
    if isinstance(value, set | frozenset):
        return list(value)
    return str(value)


def _array(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"unknown extension {code}")
    dtype, _, raw = data.partition(b"\0")
    return np.frombuffer(raw, np.dtype(dtype.decode()))
