"""What the network learns by counting, not by gradient: medians, scales, which codes are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zeroskew.features.row import MISSING


@dataclass(frozen=True, slots=True)
class Statistics:
    """Numbers of the training rows that become buffers of the module."""

    median: NDArray[np.float32]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    """1 / standard deviation of the imputed values; 0 for a column that never varies."""
    vocabularies: tuple[NDArray[np.int32], ...]


def learn_statistics(
    numeric: NDArray[np.float32], categorical: NDArray[np.int32], max_categories: int
) -> Statistics:
    """Learn from training rows; columns without any value get median 0 and scale 0."""
    count = numeric.shape[1]
    median, mean, scale = (np.zeros(count, np.float32) for _ in range(3))
    for column in range(count):
        values = numeric[:, column].astype(np.float64)
        present = values[~np.isnan(values)]
        if present.size == 0:
            continue
        middle = float(np.median(present))
        # Tails beyond the outer percentiles would stretch the scale of everything else.
        low, high = np.quantile(present, [0.005, 0.995])
        bulk = np.clip(np.where(np.isnan(values), middle, values), low, high)
        spread = float(bulk.std())
        median[column], mean[column] = middle, bulk.mean()
        usable = spread > 1e-9 * max(1.0, abs(middle))
        scale[column] = 1.0 / spread if usable else 0.0
    vocabularies = tuple(
        _most_frequent(categorical[:, column], max_categories)
        for column in range(categorical.shape[1])
    )
    return Statistics(median, mean, scale, vocabularies)


def _most_frequent(codes: NDArray[np.int32], limit: int) -> NDArray[np.int32]:
    """The most frequent codes, ties by code, in ascending order."""
    values, counts = np.unique(codes[codes != MISSING], return_counts=True)
    order = np.lexsort((values, -counts))[:limit]
    return np.sort(values[order]).astype(np.int32)
