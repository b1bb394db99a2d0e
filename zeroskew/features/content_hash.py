"""A hash of what a table says, whatever file, chunking or encoding says it."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import polars as pl


def content_hash(frame: pl.DataFrame) -> str:
    """SHA-256 over names, types and values in row and column order.

    All NaN are one value, null is another. Text is hashed as lengths and UTF-8 bytes, so that
    where one value ends and the next begins counts, too.
    """
    digest = hashlib.sha256(json.dumps([frame.height, frame.width]).encode())
    for column in frame.iter_columns():
        digest.update(json.dumps([column.name, str(column.dtype)]).encode())
        _update(digest, column)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, column: pl.Series) -> None:
    kind = column.dtype
    if column.null_count():
        digest.update(b"nulls")
        digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
    if kind == pl.Categorical or isinstance(kind, pl.Enum):
        column = column.cast(pl.String)
        kind = column.dtype
    if kind in (pl.String, pl.Binary):
        if kind == pl.String:
            column = column.cast(pl.Binary)
        array = column.fill_null(b"").rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        _, ends, data = array.buffers()
        offsets = np.frombuffer(ends, np.int64)[array.offset : array.offset + len(array) + 1]
        digest.update(np.diff(offsets).tobytes())
        if data is not None:
            digest.update(memoryview(data)[offsets[0] : offsets[-1]])
    elif kind == pl.Null:
        return
    elif kind == pl.Boolean:
        digest.update(np.packbits(column.fill_null(False).to_numpy()).tobytes())
    elif kind.is_float():
        values = column.fill_null(0.0).to_numpy()
        if np.isnan(values).any():
            values = np.where(np.isnan(values), np.array(np.nan, values.dtype), values)
        digest.update(np.ascontiguousarray(values).tobytes())
    elif kind.is_integer() or kind.is_temporal():
        values = column.to_physical().fill_null(0).to_numpy()
        digest.update(np.ascontiguousarray(values).tobytes())
    else:
        digest.update(json.dumps(column.to_list(), default=str).encode())
