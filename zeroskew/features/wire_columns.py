"""Columns into `feast.types.Value` bytes and Redis keys, a whole column at a time.

The write-side twin of `online_decode`: Arrow in, an Arrow binary array of cells out, with no Python
object per value for numbers, strings, booleans and timestamps. Varints are written into a table of
ten bytes per row and cut to their lengths by one mask.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zeroskew.errors import SchemaError
from zeroskew.features.redis_layout import KINDS, NULL_TIMESTAMP, encode_value, key_head, key_value

_ARROW: dict[str, Any] = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "bytes": pa.binary(),
    "json": pa.string(),
    "uuid": pa.string(),
    "time_uuid": pa.string(),
    "decimal": pa.string(),
}


def encode_column(column: pa.Array, kind: str, name: str) -> pa.Array:
    """Cells of one feature: Arrow binary `[n]`, empty for null (and NaN, as Feast has it).

    Raises `SchemaError` that names the column if its values are not of `kind` without loss.
    """
    spec = KINDS[kind]
    if len(column) == 0:
        return pa.array([], pa.binary())
    if spec.repeated:
        return _one_by_one(column, kind, name)
    if kind == "timestamp":
        return _varint_cells(_seconds(column, name), spec.tag, None)
    column = _cast(column, kind, name)
    if spec.form in ("f64", "f32"):
        return _float_cells(column, spec.tag)
    there = None if column.null_count == 0 else column.is_valid().to_numpy(zero_copy_only=False)
    if spec.form == "varint":
        numbers = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
        return _varint_cells(numbers, spec.tag, there)
    if spec.form == "bool":
        truth = column.fill_null(False).to_numpy(zero_copy_only=False).astype(np.uint8)
        table = np.empty((len(column), 2), np.uint8)
        table[:, 0] = spec.tag[0]
        table[:, 1] = truth
        return ragged(table, None if there is None else there * np.int64(2))
    cells = _joined(
        [spec.tag, _length_varints(pc.binary_length(column).fill_null(0)), column.cast(pa.binary())]
    )
    return cells.fill_null(b"") if there is not None else cells


def encode_event_times(micros: NDArray[np.int64]) -> pa.Array:
    """`google.protobuf.Timestamp` of microseconds, Arrow binary `[n]`."""
    seconds, rest = np.divmod(micros, 1_000_000)
    first, first_length = _varints(seconds.astype(np.int64))
    second, second_length = _varints(rest.astype(np.int64) * 1000)
    table = np.zeros((len(micros), 22), np.uint8)
    table[:, 0] = 0x08
    table[:, 1:11] = first
    table[:, 11] = 0x10
    table[:, 12:] = second
    keep = np.zeros(table.shape, np.bool_)
    keep[:, :11] = np.arange(11) <= first_length[:, None]
    keep[:, 11:] = np.arange(11) <= second_length[:, None]
    keep[:, :11] &= (seconds != 0)[:, None]
    keep[:, 11:] &= (rest != 0)[:, None]
    return _binary(table[keep], keep.sum(axis=1, dtype=np.int64))


def encode_keys(columns: Sequence[tuple[str, str, pa.Array]], project: str) -> pa.Array:
    """Redis keys of entities: columns are (join key, kind, values), values without nulls.

    Raises `SchemaError` that names a column of another type.
    """
    ordered = sorted(columns, key=lambda column: column[0])
    pieces: list[Any] = [key_head([name for name, _, _ in ordered])]
    for name, kind, column in ordered:
        opening = key_value(b"" if kind == "bytes" else "" if kind == "string" else 0, kind)
        if kind in ("string", "bytes"):
            text = _cast(column, kind, name).cast(pa.binary())
            lengths = pc.binary_length(text).to_numpy(zero_copy_only=False).astype("<u4")
            pieces += [opening[:4], _fixed(lengths.view(np.uint8).reshape(-1, 4)), text]
        else:
            if kind == "timestamp":
                numbers = _seconds(column, name)
            else:
                numbers = _cast(column, kind, name).to_numpy(zero_copy_only=False)
            packed = np.ascontiguousarray(numbers, "<i4" if kind == "int32" else "<i8")
            pieces += [opening[:8], _fixed(packed.view(np.uint8).reshape(-1, packed.itemsize))]
    pieces.append(project.encode("utf-8"))
    return _joined(pieces)


def bulk_strings(columns: Sequence[pa.Array], before: Sequence[bytes] | None = None) -> pa.Array:
    """Each row's cells as RESP bulk strings, one after another: Arrow binary `[n]`.

    `before`: constant bytes in front of each column's string, such as the name of its field.
    """
    pieces: list[Any] = []
    for column, name in zip(columns, before or [b""] * len(columns), strict=True):
        lengths = pc.binary_length(column)
        shortest, longest = (int(v.as_py()) for v in pc.min_max(lengths).values())
        if shortest == longest:
            header: Any = b"%b$%d\r\n" % (name, longest)
        elif longest < 4096:
            headers = [b"%b$%d\r\n" % (name, n) for n in range(longest + 1)]
            header = pa.array(headers, pa.binary()).take(lengths)
        else:
            header = _joined([name + b"$", lengths.cast(pa.string()).cast(pa.binary()), b"\r\n"])
        pieces += [header, column, b"\r\n"]
    return _joined(pieces)


def ragged(table: NDArray[np.uint8], lengths: NDArray[np.int64] | None) -> pa.Array:
    """Arrow binary of the first `lengths[i]` bytes of each row; all of it if None."""
    if lengths is None:
        return _fixed(table)
    return _binary(table[np.arange(table.shape[1]) < lengths[:, None]], lengths)


def _joined(pieces: Sequence[Any]) -> pa.Array:
    scalars = [pa.scalar(p, pa.binary()) if isinstance(p, bytes) else p for p in pieces]
    return pc.binary_join_element_wise(*scalars, pa.scalar(b"", pa.binary()))


def _fixed(table: NDArray[np.uint8]) -> pa.Array:
    rows, width = table.shape
    return _binary(np.ascontiguousarray(table), np.full(rows, width, np.int64))


def _binary(data: NDArray[np.uint8], lengths: NDArray[np.int64]) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return pa.Array.from_buffers(
        pa.binary(),
        len(lengths),
        [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data.reshape(-1))],
    )


def _varints(numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Base-128 bytes `[n, 10]` and how many of them count."""
    rest = numbers.view(np.uint64).copy()
    table = np.zeros((len(rest), 10), np.uint8)
    lengths = np.ones(len(rest), np.int64)
    for position in range(10):
        table[:, position] = rest & np.uint64(0x7F)
        rest >>= np.uint64(7)
        more = rest != 0
        if not more.any():
            break
        table[more, position] |= 0x80
        lengths += more
    return table, lengths


def _varint_cells(
    numbers: NDArray[np.int64], tag: bytes, there: NDArray[np.bool_] | None
) -> pa.Array:
    digits, lengths = _varints(np.ascontiguousarray(numbers))
    width = int(lengths.max(initial=1))
    table = np.empty((len(numbers), width + 1), np.uint8)
    table[:, 0] = tag[0]
    table[:, 1:] = digits[:, :width]
    lengths = lengths + 1
    return ragged(table, lengths if there is None else lengths * there)


def _float_cells(column: pa.Array, tag: bytes) -> pa.Array:
    values = column.to_numpy(zero_copy_only=False)  # nulls come as NaN, which is a null as well
    wire = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    table = np.empty((len(wire), 1 + wire.itemsize), np.uint8)
    table[:, 0] = tag[0]
    table[:, 1:] = wire.view(np.uint8).reshape(len(wire), -1)
    there = ~np.isnan(values)
    return ragged(table, None if there.all() else there * np.int64(table.shape[1]))


def _length_varints(lengths: pa.Array) -> pa.Array:
    digits, counts = _varints(lengths.to_numpy(zero_copy_only=False).astype(np.int64))
    return ragged(digits, counts)


def _seconds(column: pa.Array, name: str) -> NDArray[np.int64]:
    """Whole UTC seconds, cut towards zero as Feast does; a null is Feast's stand-in for NaT."""
    if pa.types.is_integer(column.type):
        seconds = column.cast(pa.int64())
    elif pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        micros = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        seconds = pc.divide(micros, 1_000_000)
    elif pa.types.is_null(column.type):
        return np.full(len(column), NULL_TIMESTAMP, np.int64)
    else:
        raise SchemaError(f"column {name} is {column.type}, the feature is a timestamp")
    return seconds.fill_null(NULL_TIMESTAMP).to_numpy(zero_copy_only=False)


def _cast(column: pa.Array, kind: str, name: str) -> pa.Array:
    wanted = _ARROW[kind]
    if column.type == wanted:
        return column
    found = column.type
    numbers = pa.types.is_integer(wanted) or pa.types.is_floating(wanted)
    texts = pa.types.is_large_string(found) or pa.types.is_string_view(found)
    if pa.types.is_dictionary(found):
        return _cast(column.dictionary_decode(), kind, name)
    if numbers and not (
        pa.types.is_integer(found)
        or pa.types.is_floating(found)
        or pa.types.is_null(found)
        or pa.types.is_boolean(found)
        or pa.types.is_decimal(found)
    ):
        raise SchemaError(f"column {name} is {found}, the feature is {kind}")
    if wanted == pa.string() and not (texts or pa.types.is_null(found)):
        raise SchemaError(f"column {name} is {found}, the feature is {kind}")
    if wanted == pa.bool_() and not (pa.types.is_boolean(found) or pa.types.is_null(found)):
        raise SchemaError(f"column {name} is {found}, the feature is {kind}")
    try:
        if pa.types.is_integer(wanted) and pa.types.is_floating(found):
            # An integer column that met a null in pandas: NaN is that null.
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, found), column)
        # A double that becomes a float may lose digits, as in Feast; nothing else may.
        loose = pa.types.is_floating(wanted) and pa.types.is_floating(found)
        return column.cast(wanted, safe=not loose)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaError(
            f"column {name} ({found}) does not fit the feature's type {kind}: {error}"
        ) from None


def _one_by_one(column: pa.Array, kind: str, name: str) -> pa.Array:
    spec = KINDS[kind]
    try:
        cells = [encode_value(_elements(v, kind), spec) for v in column.to_pylist()]
    except (TypeError, ValueError, OverflowError, AttributeError, struct.error) as error:
        raise SchemaError(
            f"column {name} ({column.type}) does not fit the feature's type {kind}: {error}"
        ) from None
    return pa.array(cells, pa.binary())


def _elements(values: Any, kind: str) -> Any:
    if values is None or kind != "timestamp_list":
        return values
    return [int(v.timestamp()) if hasattr(v, "timestamp") else v for v in values]
