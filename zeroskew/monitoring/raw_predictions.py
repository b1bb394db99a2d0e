"""The profile of a window of predictions, counted anew from the rows of the prediction log.

For windows that do not end with the hour, for a log without profiles, and as the slow proof of
`served_profiles`. Cost goes with the traffic; memory does not, as rows pass in batches.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from zeroskew.errors import DataError, ServingError
from zeroskew.monitoring.profile_vectors import emptied, packed, unpacked
from zeroskew.monitoring.served_profiles import ServedProfiles, ServedWindow, ViewAge
from zeroskew.profiles import Profile
from zeroskew.serving.log_schema import parquet_name
from zeroskew.serving.log_sink import check_sink, sink_filesystem
from zeroskew.serving.log_spool import quoted

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 32_768
TRIES = 3
"""A log that is tidied up meanwhile loses files between listing and reading."""


class RawPredictions:
    """Reads one log; any number of models."""

    def __init__(self, log: str) -> None:
        """`log`: folder or s3:// prefix. Raises `ConfigError` for an address that is none."""
        self._log = log
        self._system, self._root = sink_filesystem(check_sink(log))
        self._profiles = ServedProfiles(log, cache_bytes=0)

    def window(
        self,
        model: str,
        version: str,
        since: datetime,
        until: datetime,
        roles: Sequence[str] = ("champion", "canary"),
        reference: Profile | None = None,
    ) -> ServedWindow:
        """Predictions of these roles about moments in [since, until), to the microsecond.

        `reference`: gives the bins; unset, those that the version's servers count with. Columns
        that those servers do not count (redacted ones) are left out, and so are those whose type
        does not fit. A log without profiles does not say what was redacted: leave such features
        out of `reference`.

        Raises `ServingError` if the log cannot be read, and `DataError` for a damaged file or if
        nothing says which bins.
        """
        since, until = since.astimezone(UTC), until.astimezone(UTC)
        bins = self._bins(model, version, reference)
        for attempt in range(TRIES):
            try:
                return self._window(model, version, since, until, roles, bins)
            except FileNotFoundError as error:
                if attempt == TRIES - 1:
                    raise ServingError(
                        f"the log changes while it is read: {error}", where=self._log
                    ) from None
        raise AssertionError("the last attempt returns or raises")

    def _bins(self, model: str, version: str, reference: Profile | None) -> Profile:
        counted = self._profiles.reference(model, version)
        if reference is None:
            if counted is None:
                raise DataError(
                    f"nothing says which bins version {version} of {model} is counted with",
                    where=self._log,
                    mend="give the profile of its training set",
                )
            return counted
        return reference if counted is None else reference.select(counted.columns)

    def _window(
        self,
        model: str,
        version: str,
        since: datetime,
        until: datetime,
        roles: Sequence[str],
        bins: Profile,
    ) -> ServedWindow:
        files = self._files(model, version, since, until)
        total, read = _Total(bins), Counter[str]()
        for path, batch in self._batches(list(files), since, until, roles, bins):
            total.add(batch)
            read[path] += batch.num_rows
        profile = total.finish()
        digest = hashlib.sha256()
        for path in sorted(read):
            if read[path]:
                digest.update(f"{path} {files[path]} {read[path]}\n".encode())
        return ServedWindow(
            model, version, since, max(since, until), total.rows, profile,
            dict(total.missing), dict(total.stale), total.ages, digest.hexdigest(),
        )  # fmt: skip

    def _files(
        self, model: str, version: str, since: datetime, until: datetime
    ) -> dict[str, tuple[int, int]]:
        """Parquet files of the hours that a window touches, with size and time of change."""
        from pyarrow import fs

        folder = f"{self._root}/model={quoted(model)}/version={quoted(version)}"
        first, last = f"{since:%Y-%m-%dT%H}", f"{until:%Y-%m-%dT%H}"
        found = {}
        with self._readable():
            for day in self._system.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
                date = day.base_name.removeprefix("date=")
                if date == day.base_name or not first[:10] <= date <= last[:10]:
                    continue
                selector = fs.FileSelector(day.path, allow_not_found=True, recursive=True)
                for info in self._system.get_file_info(selector):
                    hour, _, name = info.path.rpartition("/hour=")[2].partition("/")
                    if (
                        name.endswith(".parquet")
                        and not name.startswith((".", "_"))
                        and first <= f"{date}T{hour}" <= last
                    ):
                        found[info.path] = info.size, info.mtime_ns or 0
        return found

    def _batches(
        self,
        paths: Sequence[str],
        since: datetime,
        until: datetime,
        roles: Sequence[str],
        bins: Profile,
    ) -> Iterator[tuple[str, pa.Table]]:
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import dataset

        if not paths:
            return
        form = dataset.ParquetFileFormat()
        moment = pc.field("event_time")
        with self._readable():
            fragments = [form.make_fragment(path, self._system) for path in sorted(paths)]
            schema = fragments[0].physical_schema
            scanned = dataset.FileSystemDataset(fragments, schema, form, self._system).scanner(
                columns=_columns(schema, bins),
                filter=(moment >= pc.scalar(since))
                & (moment < pc.scalar(until))
                & pc.field("role").isin(list(roles)),
                batch_size=BATCH_ROWS,
                batch_readahead=2,
                fragment_readahead=4,
            )
            for tagged in scanned.scan_batches():
                yield tagged.fragment.path, pa.Table.from_batches([tagged.record_batch])

    @contextmanager
    def _readable(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ServingError(f"the log cannot be read: {error}", where=self._log) from None
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"a file of the log is damaged or not like the others: {error}", where=self._log
            ) from None


class _Total:
    """What has been counted so far."""

    def __init__(self, bins: Profile) -> None:
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
        # A profile costs about the same for one row as for a thousand: small files are gathered.
        if rows.num_rows:
            self._pending.append(rows)
            self._waiting += rows.num_rows
        if self._waiting >= BATCH_ROWS:
            self._count()

    def finish(self) -> Profile:
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
        bins = self._bins.select(n for n in self._bins.columns if _column(n) in names)
        measured = bins.measure({name: rows[_column(name)] for name in bins.columns})
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


def _column(feature: str) -> str:
    return "score" if feature == "score" else parquet_name(feature)


def _columns(schema: pa.Schema, bins: Profile) -> list[str]:
    """Those to read: what is counted, then `missing`, `stale` and the ages of views."""
    if lacking := [name for name in ("missing", "stale") if name not in schema.names]:
        raise DataError(f"is no prediction log: no column {', '.join(lacking)}")
    ages = schema.names[schema.names.index("stale") + 1 :]
    counted = [
        _column(name)
        for name, column in bins.columns.items()
        if _column(name) in schema.names and _fits(column.kind, schema.field(_column(name)).type)
    ]
    return [*counted, "missing", "stale", *ages]


def _fits(kind: str, type_: pa.DataType) -> bool:
    import pyarrow.types as at

    if kind == "categorical":
        return not at.is_nested(type_)
    return any(
        known(type_) for known in (at.is_integer, at.is_floating, at.is_boolean, at.is_timestamp)
    )


def _count_names(total: Counter[str], lists: pa.ChunkedArray) -> None:
    import pyarrow.compute as pc

    for entry in pc.value_counts(pc.list_flatten(lists)).to_pylist():
        total[entry["values"]] += entry["counts"]
