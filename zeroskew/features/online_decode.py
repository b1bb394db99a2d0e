"""Cells of an HMGET reply into typed columns, a whole kind at a time.

A cell is a `feast.types.Value` on the wire, `b""` for a null, `None` for nothing. Fixed-width
kinds are one `bytes.join` and one `np.frombuffer`; varints are found by their last bytes, all at
once. What does not fit its kind's pattern (written by an older definition) is looked at cell by
cell: widened if no value changes, refused if it would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroskew.features.read_plan import PlanFeature
from zeroskew.features.redis_layout import (
    KINDS,
    NULL_TIMESTAMP,
    decode_event_time,
    decode_value,
)

NO_TIME = np.iinfo(np.int64).min
"""Event time of an entity without values, in microseconds."""

Rows = Sequence[Sequence[bytes | None]]
_FEW = 40
"""Cells below which a Python loop beats numpy's fixed cost per operation."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DTYPES: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "int64": np.int64,
    "int32": np.int32,
    "bool": np.bool_,
    "timestamp": np.int64,
}


class BlockSpec:
    """What is known of a block before any reply: the features of one kind in one group."""

    __slots__ = ("end", "kind", "names", "start", "view_list", "views")

    def __init__(self, kind: str, features: Sequence[PlanFeature], start: int) -> None:
        self.kind = kind
        self.names = [feature.name for feature in features]
        self.view_list = [feature.view for feature in features]
        self.views = np.array(self.view_list, np.intp)
        self.start, self.end = start, start + len(features)


class Block:
    """All features of one kind in one group.

    `matrix` is `[features, entities]` of the kind's dtype (seconds for timestamps), or for kinds
    without one a list of lists. `present` is bool of the same shape, None if everything is there.
    """

    __slots__ = ("matrix", "present", "spec")

    def __init__(self, spec: BlockSpec, matrix: Any, present: NDArray[np.bool_] | None) -> None:
        self.spec, self.matrix, self.present = spec, matrix, present

    def columns(self, inverse: NDArray[np.intp] | None) -> Iterator[Any]:
        """One column per feature, spread over the rows that asked for each entity."""
        if self.spec.kind not in DTYPES:
            for column in self.matrix:
                yield column if inverse is None else [column[i] for i in inverse.tolist()]
            return
        matrix = self.matrix if inverse is None else self.matrix[:, inverse]
        if self.spec.kind == "timestamp":
            matrix = matrix.view("datetime64[s]")
        yield from matrix

    def python(
        self, stale: NDArray[np.uint8] | None, inverse: NDArray[np.intp] | None
    ) -> Iterator[tuple[str, list[Any]]]:
        """Python values, `None` where missing (and, with `stale`, where the view is stale)."""
        numeric = self.spec.kind in DTYPES
        listed = self.matrix.tolist() if numeric else [list(column) for column in self.matrix]
        if self.spec.kind == "timestamp":
            listed = [[moment(s) for s in column] for column in listed]
        if numeric and self.present is not None:
            for f, e in np.argwhere(~self.present).tolist():
                listed[f][e] = None
        if stale is not None:
            for f, e in np.argwhere(stale[self.spec.views]).tolist():
                listed[f][e] = None
        if inverse is not None:
            order = inverse.tolist()
            listed = [[column[i] for i in order] for column in listed]
        return zip(self.spec.names, listed, strict=True)


def many_status(
    blocks: Sequence[Block], stale: NDArray[np.uint8] | None, size: int
) -> NDArray[np.uint8]:
    """1 where missing, 2 where the view is stale, else 0: uint8 `[features, entities]`.

    `stale` holds 2 or 0, `[views, entities]`; `size` is the number of entities.
    """
    codes = np.zeros((sum(len(block.spec.names) for block in blocks), size), np.uint8)
    for block in blocks:
        part = codes[block.spec.start : block.spec.end]
        if stale is not None:
            part[:] = stale[block.spec.views]
        if block.present is not None:
            part[~block.present] = 1
    return codes


def moment(seconds: int) -> datetime | None:
    """UTC seconds as an aware datetime; `None` where Python has none."""
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None


def decode_block(spec: BlockSpec, rows: Rows) -> Block:
    """Decode the block's cells of every row.

    Raises `ValueError` that names the feature whose cell is something else.
    """
    decoder = _DECODERS.get(spec.kind)
    decoded = decoder(spec.kind, rows, spec.start, spec.end) if decoder else None
    if decoded is None:
        decoded = _one_by_one(spec, rows)
    return Block(spec, *decoded)


Decoded = tuple[Any, NDArray[np.bool_] | None]


def _fixed(tag: int, dtype: str) -> Callable[[str, Rows, int, int], Decoded | None]:
    cell = np.dtype([("tag", "u1"), ("value", dtype)])
    nothing = bytes(cell.itemsize)

    def decode(kind: str, rows: Rows, start: int, end: int) -> Decoded | None:
        shape = (len(rows), end - start)
        size = shape[0] * shape[1] * cell.itemsize
        try:
            data = b"".join([b"".join(row[start:end]) for row in rows])  # type: ignore[arg-type]
        except TypeError:  # a None among them
            data = b""
        if len(data) != size:
            data = b"".join([c or nothing for row in rows for c in row[start:end]])
            if len(data) != size:
                return None
        cells = np.frombuffer(data, cell).reshape(shape).T
        tags = cells["tag"]
        values = np.array(cells["value"], order="C")
        there = tags == tag
        if there.all():
            return _finish(kind, values), None
        if not ((tags == 0) | there).all():
            return None
        there = np.ascontiguousarray(there)
        values = _finish(kind, values)
        if values.dtype.kind == "f":
            values[~there] = np.nan
        return values, there

    return decode


def _finish(kind: str, values: NDArray[Any]) -> NDArray[Any]:
    return values != 0 if kind == "bool" else values


def _varints(kind: str, rows: Rows, start: int, end: int) -> Decoded | None:
    cells = [c or b"\0\0" for row in rows for c in row[start:end]]
    tag = KINDS[kind].number << 3
    shape = (len(rows), end - start)
    decoded = (_few_varints if len(cells) < _FEW else _many_varints)(cells, tag)
    if decoded is None:
        return None
    numbers, there = decoded
    values = numbers.reshape(shape).T
    present = None if there is None else np.ascontiguousarray(there.reshape(shape).T)
    if kind == "int32":
        return np.ascontiguousarray(values.astype(np.int32)), present
    values = np.ascontiguousarray(values)
    if kind == "timestamp" and (present is not None or (values == NULL_TIMESTAMP).any()):
        present = (values != NULL_TIMESTAMP) & (True if present is None else present)
        values[~present] = NULL_TIMESTAMP
    return values, present


def _few_varints(
    cells: list[bytes], tag: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None] | None:
    numbers = []
    gaps = False
    for cell in cells:
        if cell[0] != tag:
            if cell != b"\0\0":
                return None
            gaps = True
        value = shift = 0
        for byte in cell[1:]:
            value |= (byte & 0x7F) << shift
            shift += 7
        numbers.append(value if value < 1 << 63 else (value & ((1 << 64) - 1)) - (1 << 64))
    there = np.array([cell[0] == tag for cell in cells]) if gaps else None
    return np.array(numbers, np.int64), there


def _many_varints(
    cells: list[bytes], tag: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None] | None:
    data = np.frombuffer(b"".join(cells), np.uint8)
    # A tag is one byte below 0x80 and so is the last byte of a varint: they alternate.
    lasts = np.flatnonzero(data < 0x80)
    if len(lasts) != 2 * len(cells):
        return None
    tags_at, ends = lasts[0::2], lasts[1::2]
    if tags_at[0] != 0 or not np.array_equal(tags_at[1:], ends[:-1] + 1):
        return None
    tags = data[tags_at]
    there = tags == tag
    if not (there | (tags == 0)).all():
        return None
    lengths = ends - tags_at
    longest = int(lengths.max())
    if longest > 10:
        return None
    first = tags_at + 1
    numbers = (data[first] & 0x7F).astype(np.uint64)
    for position in range(1, longest):
        more = np.flatnonzero(lengths > position)
        septet = (data[first[more] + position] & 0x7F).astype(np.uint64)
        numbers[more] |= septet << np.uint64(7 * position)
    return numbers.view(np.int64), None if there.all() else there


def _strings(kind: str, rows: Rows, start: int, end: int) -> Decoded | None:
    tag = KINDS[kind].tag
    skip = len(tag) + 1
    short = skip + 128
    columns: list[list[str | None]] = []
    gaps = False
    for at in range(start, end):
        column: list[str | None] = []
        for row in rows:
            cell = row[at]
            if not cell:
                column.append(None)
                gaps = True
            elif not cell.startswith(tag):
                return None
            elif len(cell) < short:
                if cell[skip - 1] != len(cell) - skip:
                    return None
                column.append(cell[skip:].decode())
            else:
                column.append(decode_value(cell)[1])
        columns.append(column)
    present = np.array([[v is not None for v in c] for c in columns]) if gaps else None
    return columns, present


_DECODERS: dict[str, Callable[[str, Rows, int, int], Decoded | None]] = {
    "float64": _fixed(0x29, "<f8"),
    "float32": _fixed(0x35, "<f4"),
    "bool": _fixed(0x38, "u1"),
    "int64": _varints,
    "int32": _varints,
    "timestamp": _varints,
    "string": _strings,
    "json": _strings,
    "uuid": _strings,
    "time_uuid": _strings,
    "decimal": _strings,
}
"""Fast paths; each returns None for cells it does not know."""


def _one_by_one(spec: BlockSpec, rows: Rows) -> Decoded:
    kind, count = spec.kind, len(spec.names)
    dtype = DTYPES.get(kind)
    present = np.zeros((count, len(rows)), np.bool_)
    columns: list[list[Any]] = []
    for position, name in enumerate(spec.names):
        column: list[Any] = []
        for entity, row in enumerate(rows):
            value = checked_value(row[spec.start + position], kind, name)
            present[position, entity] = value is not None
            column.append(value)
        columns.append(column)
    everywhere = None if present.all() else present
    if dtype is None:
        return columns, everywhere
    empty = {"timestamp": NULL_TIMESTAMP, "float64": np.nan, "float32": np.nan}.get(kind, 0)
    filled = [[empty if value is None else value for value in column] for column in columns]
    return np.array(filled, dtype).reshape(count, len(rows)), everywhere


def checked_value(cell: bytes | None, kind: str, name: str) -> Any:
    """The value of one cell as `kind`; `None` for a null.

    Raises `ValueError` that names the feature, if the cell is broken or of a kind that would lose.
    """
    try:
        found, value = decode_value(cell)
    except ValueError as error:
        raise ValueError(f"feature {name}: {error}") from None
    if found is not None and found.name != kind:
        return _widened(value, found.name, kind, name)
    return value


def _widened(value: Any, found: str, wanted: str, name: str) -> Any:
    numbers = ("int32", "int64", "float32", "float64", "bool")
    same = False
    if found in numbers and wanted in numbers and wanted != "bool":
        with np.errstate(over="ignore"):
            try:
                wide = np.dtype(DTYPES[wanted]).type(value)
                same = wide.item() == value and (found != "float64" or wanted != "float32")
            except (OverflowError, ValueError):
                same = False
    if not same:
        raise ValueError(f"feature {name} is {wanted}, the stored value {value!r} is {found}")
    return DTYPES[wanted](value).item()


def decode_event_times(rows: Rows, views: int) -> NDArray[np.int64]:
    """Microseconds, int64 `[views, entities]`; `NO_TIME` where there is no cell.

    Raises `ValueError` on a cell that is no Timestamp.
    """
    cells = [cell for row in rows for cell in row]
    if len(cells) < _FEW:
        times = np.array(
            [NO_TIME if c is None else decode_event_time(c) for c in cells], dtype=np.int64
        )
    else:
        times = _many_times(cells)
    return np.ascontiguousarray(times.reshape(len(rows), views).T)


def _many_times(cells: list[bytes | None]) -> NDArray[np.int64]:
    """Seconds of 1978 to 3058 are five bytes of varint; everything else goes one by one."""
    data = b"".join([b"\0" * 12 if c is None else c[:12].ljust(12, b"\0") for c in cells])
    table = np.frombuffer(data, np.uint8).reshape(-1, 12)
    usual = (table[:, 0] == 0x08) & (table[:, 1:5] >= 0x80).all(axis=1) & (table[:, 5] < 0x10)
    septets = (table & 0x7F).astype(np.int64)
    times = np.zeros(len(cells), np.int64)
    for position in range(5):
        times |= septets[:, 1 + position] << (7 * position)
    times *= 1_000_000
    nanos = np.zeros(len(cells), np.int64)
    inside = table[:, 6] == 0x10
    usual &= inside | (table[:, 6:] == 0).all(axis=1)
    for position in range(5):
        byte = table[:, 7 + position]
        nanos |= np.where(inside, septets[:, 7 + position] << (7 * position), 0)
        inside = inside & (byte >= 0x80)
    usual &= ~inside
    times += nanos // 1000
    for at in np.flatnonzero(~usual).tolist():
        cell = cells[at]
        times[at] = NO_TIME if cell is None else decode_event_time(cell)
    return times
