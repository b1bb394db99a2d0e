"""Which training rows calibrate INT8, and the hash that names them.

The choice depends on the training set's content hash and nothing else: no random generator whose
stream could change between versions, no order of files. The hash covers the encoded values, so two
exports with the same hash were calibrated by the same numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zeroskew.errors import ExportError

if TYPE_CHECKING:
    from zeroskew.features.training_set import TrainingSet

FEWEST = 100
"""Below this, a range learnt from the sample says little about the next row."""


@dataclass(frozen=True, slots=True)
class CalibrationRows:
    """Encoded rows in the order of the training set, and the SHA-256 that names them."""

    numeric: NDArray[np.float32]
    categorical: NDArray[np.int32]
    hash: str

    def __len__(self) -> int:
        return len(self.numeric)


def open_training_set(folder: str | Path) -> TrainingSet:
    """The training set in `folder`. Raises `DataError`."""
    from zeroskew.features.training_set import TrainingSet

    return TrainingSet.open(Path(folder))


def calibration_rows(training_set: TrainingSet, limit: int) -> CalibrationRows:
    """At most `limit` rows of the training split, spread over all of its time range.

    Raises `ExportError` if the split has fewer than `FEWEST` rows.
    """
    row = training_set.row
    frame = training_set.read("train", columns=list(row.names))
    content_hash = str(training_set.manifest.content_hash)
    chosen = spread(frame.height, limit, seed=content_hash)
    frame = frame[chosen]
    numeric, categorical = row.encode({name: frame[name] for name in row.names})
    return named_rows(numeric, categorical, row_hash=row.schema_hash)


def named_rows(
    numeric: NDArray[np.float32], categorical: NDArray[np.int32], *, row_hash: str
) -> CalibrationRows:
    """Encoded rows with their hash: over the columns' schema, the shape and every value."""
    if len(numeric) < FEWEST:
        raise ExportError(
            f"{len(numeric)} training rows are too few to calibrate INT8",
            mend=f"at least {FEWEST} are needed; or set `export.precision: fp32`",
        )
    digest = hashlib.sha256(f"{row_hash} {numeric.shape} {categorical.shape}".encode())
    # One bit pattern for NaN: which one a library produced must not change the hash.
    canonical = np.where(np.isnan(numeric), np.float32(np.nan), numeric)
    digest.update(np.ascontiguousarray(canonical, "<f4").tobytes())
    digest.update(np.ascontiguousarray(categorical, "<i4").tobytes())
    return CalibrationRows(numeric, categorical, digest.hexdigest())


def spread(rows: int, limit: int, *, seed: str) -> NDArray[np.intp]:
    """Ascending indices of `limit` of `rows` rows, chosen by a hash of index and seed."""
    start = np.uint64(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little"))
    with np.errstate(over="ignore"):
        order = mix(np.arange(rows, dtype=np.uint64) + start)
    if rows <= limit:
        return np.arange(rows)
    return np.sort(np.argpartition(order, limit)[:limit])


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea, Flood 2014): consecutive integers to well-spread 64-bit numbers."""
    with np.errstate(over="ignore"):
        z = values * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
