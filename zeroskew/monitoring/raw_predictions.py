"""The profile of a window of predictions, counted anew from the rows of the prediction log.

For windows that do not end with the hour, for a log without profiles, and as the slow proof of
`served_profiles`. Cost goes with the traffic; memory does not, as rows pass in batches.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from zeroskew.errors import DataError, ServingError
from zeroskew.monitoring.counted_rows import BATCH_ROWS, CountedRows, logged_as
from zeroskew.monitoring.row_sample import RowSample
from zeroskew.monitoring.served_profiles import ServedProfiles, ServedWindow
from zeroskew.profiles import Profile
from zeroskew.serving.log_sink import check_sink, sink_filesystem
from zeroskew.serving.log_spool import quoted

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_T = TypeVar("_T")
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
        return self._tried(
            lambda: self._window(model, version, since, until, roles, bins),
        )

    def sample(
        self,
        model: str,
        version: str,
        since: datetime,
        until: datetime,
        roles: Sequence[str] = ("champion", "canary"),
        *,
        rows: int,
        seed: int = 0,
    ) -> tuple[pl.DataFrame, int]:
        """At most `rows` of them, each as likely as any other, and of how many.

        Columns are those that the version's servers count, by their own names. Raises as `window`.
        """
        import polars as pl

        bins = self._bins(model, version, None)
        since, until = since.astimezone(UTC), until.astimezone(UTC)

        def taken() -> RowSample:
            made = RowSample(rows, seed)
            files = list(self._files(model, version, since, until))
            for _, batch in self._batches(files, since, until, roles, bins):
                made.add(batch)
            return made

        sample = self._tried(taken)
        table = sample.table()
        if table is None:
            return pl.DataFrame(), 0
        names = {logged_as(name): name for name in bins.columns}
        kept = [name for name in table.column_names if name in names]
        frame = pl.DataFrame(pl.from_arrow(table.select(kept)))
        return frame.rename({name: names[name] for name in kept}), sample.seen

    def _tried(self, read: Callable[[], _T]) -> _T:
        for attempt in range(TRIES):
            try:
                return read()
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
        total, read = CountedRows(bins), Counter[str]()
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


def _columns(schema: pa.Schema, bins: Profile) -> list[str]:
    """Those to read: what is counted, then `missing`, `stale` and the ages of views."""
    if lacking := [name for name in ("missing", "stale") if name not in schema.names]:
        raise DataError(f"is no prediction log: no column {', '.join(lacking)}")
    ages = schema.names[schema.names.index("stale") + 1 :]
    counted = []
    for name, column in bins.columns.items():
        there = logged_as(name)
        if there in schema.names and _fits(column.kind, schema.field(there).type):
            counted.append(there)
    return [*counted, "missing", "stale", *ages]


def _fits(kind: str, type_: pa.DataType) -> bool:
    import pyarrow.types as at

    if kind == "categorical":
        return not at.is_nested(type_)
    return any(
        known(type_) for known in (at.is_integer, at.is_floating, at.is_boolean, at.is_timestamp)
    )
