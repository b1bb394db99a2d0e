"""A sample of rows that pass in batches: every row is as likely as any other, memory is bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


class RowSample:
    """Each row draws a number; those with the smallest stay."""

    def __init__(self, rows: int, seed: int = 0) -> None:
        """`rows`: at most so many stay. `seed`: the sample of the same rows is the same."""
        self._most, self._random = rows, np.random.default_rng(seed)
        self._tables: list[pa.Table] = []
        self._drawn: list[NDArray[np.float64]] = []
        self._bar = 1.0
        self.seen = 0
        """Rows that passed."""

    def add(self, rows: pa.Table) -> None:
        """All batches have the same columns."""
        drawn = self._random.random(rows.num_rows)
        self.seen += rows.num_rows
        stay = np.flatnonzero(drawn < self._bar)
        if len(stay) < len(drawn):
            rows, drawn = rows.take(stay), drawn[stay]
        self._tables.append(rows)
        self._drawn.append(drawn)
        if sum(map(len, self._drawn)) > 2 * self._most:
            self._thin()

    def table(self) -> pa.Table | None:
        """The sample, in the order in which rows came; None if no batch came."""
        if not self._tables:
            return None
        self._thin()
        return self._tables[0]

    def _thin(self) -> None:
        import pyarrow as pa

        rows, drawn = pa.concat_tables(self._tables), np.concatenate(self._drawn)
        if len(drawn) > self._most:
            stay = np.sort(np.argpartition(drawn, self._most - 1)[: self._most])
            rows, drawn = rows.take(stay), drawn[stay]
            self._bar = float(drawn.max())
        self._tables, self._drawn = [rows], [drawn]
