"""The same decoding for a handful of entities, without numpy until a column is asked for.

At one entity a numpy call costs more than the five values it works on, above all when other code
has run in between and nothing is warm. `FewBlock` answers as `online_decode.Block` does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroskew.features.online_decode import (
    DTYPES,
    BlockSpec,
    Rows,
    checked_value,
    moment,
)
from zeroskew.features.redis_layout import KINDS, NULL_TIMESTAMP

FEW_ENTITIES = 16

_FILL = {"float64": np.nan, "float32": np.nan, "timestamp": NULL_TIMESTAMP, "bool": False}
_WIDTH = {"float64": "d", "float32": "f"}


class FewBlock:
    """All features of one kind in one group, for up to `FEW_ENTITIES` entities.

    `cells[e][f]` is a Python value (seconds for timestamps) or `None`.
    """

    __slots__ = ("cells", "spec")

    def __init__(self, spec: BlockSpec, cells: list[Any]) -> None:
        self.spec, self.cells = spec, cells

    def values(self, entity: int) -> list[Any]:
        """Python values of one entity, timestamps as aware datetimes."""
        cells = self.cells[entity]
        if self.spec.kind == "timestamp":
            return [None if s is None else moment(s) for s in cells]
        return cells

    def columns(self, inverse: NDArray[np.intp] | None) -> Iterator[Any]:
        """As `Block.columns`."""
        kind = self.spec.kind
        dtype = DTYPES.get(kind)
        rows = self.cells if inverse is None else [self.cells[i] for i in inverse.tolist()]
        if dtype is None:
            yield from ([*column] for column in zip(*rows, strict=True))
            return
        fill = _FILL.get(kind, 0)
        flat = [fill if v is None else v for row in rows for v in row]
        matrix = np.array(flat, dtype).reshape(len(rows), -1).T
        yield from matrix.view("datetime64[s]") if kind == "timestamp" else matrix

    def python(
        self, stale: NDArray[np.uint8] | None, inverse: NDArray[np.intp] | None
    ) -> Iterator[tuple[str, list[Any]]]:
        """As `Block.python`."""
        columns = [list(column) for column in zip(*self.cells, strict=True)]
        if self.spec.kind == "timestamp":
            columns = [[None if s is None else moment(s) for s in column] for column in columns]
        if stale is not None:
            for f, e in np.argwhere(stale[self.spec.views]).tolist():
                columns[f][e] = None
        if inverse is not None:
            order = inverse.tolist()
            columns = [[column[i] for i in order] for column in columns]
        return zip(self.spec.names, columns, strict=True)


def few_status(
    blocks: Sequence[FewBlock], stale: NDArray[np.uint8] | None, size: int
) -> NDArray[np.uint8]:
    """As `online_decode.many_status`."""
    flat: list[int] = []
    old = None if stale is None else stale.T.tolist()
    for entity in range(size):
        for block in blocks:
            cells = block.cells[entity]
            if old is None:
                flat += [1 if v is None else 0 for v in cells]
            else:
                late, views = old[entity], block.spec.view_list
                flat += [
                    1 if v is None else late[view] for v, view in zip(cells, views, strict=True)
                ]
    return np.array(flat, np.uint8).reshape(size, -1).T


def decode_few(spec: BlockSpec, rows: Rows) -> FewBlock:
    """Decode the block's cells of every row. Raises `ValueError` as `decode_block` does."""
    kind = spec.kind
    if kind in _WIDTH:
        cells = [_floats(spec, row[spec.start : spec.end]) for row in rows]
    elif kind in ("int64", "int32", "timestamp"):
        cells = [_integers(spec, row[spec.start : spec.end]) for row in rows]
    elif kind == "string":
        cells = [_strings(spec, row[spec.start : spec.end]) for row in rows]
    else:
        cells = [_each(spec, row[spec.start : spec.end]) for row in rows]
    return FewBlock(spec, cells)


def _floats(spec: BlockSpec, row: Any) -> Any:
    """One struct for the whole row, gaps included, if every cell is of this kind."""
    known = _FLOAT_ROWS.get((spec.kind, len(row))) or _float_row(spec.kind, len(row))
    unpack, size, tags, tag, nothing = known
    if None not in row and b"" not in row:
        data = b"".join(row)
        if len(data) == size * len(row) and data[::size] == tags:
            return unpack(data)
    else:
        data = b"".join([cell or nothing for cell in row])
        found = data[::size]
        if len(data) == size * len(row) and found.count(tag) + found.count(0) == len(row):
            values = unpack(data)
            return [v if cell else None for v, cell in zip(values, row, strict=True)]
    return _each(spec, row)


_FLOAT_ROWS: dict[tuple[str, int], tuple[Any, int, bytes, int, bytes]] = {}
"""By kind and number of cells: what unpacks the row, bytes a cell, the row's tags, tag, a gap."""


def _float_row(kind: str, count: int) -> tuple[Any, int, bytes, int, bytes]:
    code, tag = _WIDTH[kind], KINDS[kind].tag
    size = 1 + struct.calcsize("<" + code)
    row = struct.Struct("<" + f"x{code}" * count).unpack
    known = (row, size, tag * count, tag[0], bytes(size))
    _FLOAT_ROWS[(kind, count)] = known
    return known


def _integers(spec: BlockSpec, row: Any) -> list[int | None]:
    head = KINDS[spec.kind].number << 3
    values: list[int | None] = []
    for position, cell in enumerate(row):
        if not cell:
            values.append(None)
            continue
        size = len(cell)
        if cell[0] != head or size < 2 or size > 9 or cell[-1] >= 0x80:
            # Negative, of another kind, or broken.
            values.append(checked_value(cell, spec.kind, spec.names[position]))
        elif size == 2:
            values.append(cell[1])
        elif size == 3:
            values.append(cell[1] & 0x7F | cell[2] << 7)
        elif size == 4:
            values.append(cell[1] & 0x7F | (cell[2] & 0x7F) << 7 | cell[3] << 14)
        else:
            value = shift = 0
            for byte in cell[1:]:
                value |= (byte & 0x7F) << shift
                shift += 7
            values.append(value)
    return values


def _strings(spec: BlockSpec, row: Any) -> list[str | None]:
    return [
        (
            cell[2:].decode()
            if cell[0] == 0x12 and len(cell) < 130 and cell[1] == len(cell) - 2
            else checked_value(cell, "string", name)
        )
        if cell
        else None
        for cell, name in zip(row, spec.names, strict=True)
    ]


def _each(spec: BlockSpec, row: Any) -> list[Any]:
    return [
        checked_value(cell, spec.kind, name) for cell, name in zip(row, spec.names, strict=True)
    ]
