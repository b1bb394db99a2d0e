"""Rows of a prediction log, counted into one profile as they pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zeroskew.monitoring.profile_vectors import emptied, packed, unpacked
from zeroskew.monitoring.served_profiles import ViewAge
from zeroskew.profiles import Profile
from zeroskew.serving.log_schema import parquet_name

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 32_768
"""Counted together: a profile costs about the same for one row as for a thousand."""


class CountedRows:
    """What has been counted so far; complete after `finish`."""

    def __init__(self, bins: Profile) -> None:
        """`bins`: of the columns that are counted, as far as the rows have them."""
        self._bins = bins
        self._pending: list[pa.Table] = []
        self._waiting = 0
        self._layout: Any = None
        self._counts: Any = None
        self.rows = 0
        self.missing: Counter[str] = Counter()
        self.stale: Counter[str] = Counter()
        self._ages: dict[str, tuple[int, int, int]] = {}

    def add(self, rows: pa.Table) -> None:
        """Columns that are counted, then `missing`, `stale` and the ages of views."""
        if rows.num_rows:
            self._pending.append(rows)
            self._waiting += rows.num_rows
        if self._waiting >= BATCH_ROWS:
            self._count()

    def finish(self) -> Profile:
        """Count what still waits."""
        self._count()
        if self._counts is None:
            return emptied(self._bins)
        return unpacked(self._layout, self._counts, self.rows)

    @property
    def ages(self) -> Mapping[str, ViewAge]:
        return {
            view: ViewAge(count, total / count / 1000, longest / 1000)
            for view, (count, total, longest) in self._ages.items()
        }

    def _count(self) -> None:
        import pyarrow as pa

        if not self._pending:
            return
        rows = pa.concat_tables(self._pending)
        self._pending, self._waiting = [], 0
        names = set(rows.column_names)
        bins = self._bins.select(n for n in self._bins.columns if logged_as(n) in names)
        measured = bins.measure({name: rows[logged_as(name)] for name in bins.columns})
        self._layout, counts = packed(measured.to_json())
        self._counts = counts if self._counts is None else self._counts + counts
        self.rows += rows.num_rows
        _count_names(self.missing, rows["missing"])
        _count_names(self.stale, rows["stale"])
        for name in rows.column_names[rows.column_names.index("stale") + 1 :]:
            self._count_ages(name.removeprefix("age_"), rows[name])

    def _count_ages(self, view: str, milliseconds: pa.ChunkedArray) -> None:
        import pyarrow.compute as pc

        if not (count := len(milliseconds) - milliseconds.null_count):
            return
        total, longest = pc.sum(milliseconds).as_py(), pc.max(milliseconds).as_py()
        if known := self._ages.get(view):
            count, total, longest = known[0] + count, known[1] + total, max(known[2], longest)
        self._ages[view] = count, total, longest


def logged_as(feature: str) -> str:
    """The column of a profile's column; `score` is the model's own."""
    return "score" if feature == "score" else parquet_name(feature)


def _count_names(total: Counter[str], lists: pa.ChunkedArray) -> None:
    import pyarrow.compute as pc

    for entry in pc.value_counts(pc.list_flatten(lists)).to_pylist():
        total[entry["values"]] += entry["counts"]
