"""What one version answered in a window of time, out of the prediction log, a span at a time.

Files are chosen by when they were written, which is never before the answers in them: the folders'
hours are of event time, which a request may set as it likes. Of the files that are left, only their
footers are read until rows of their minutes are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from zeroskew.errors import DataError, ServingError, ZeroskewError
from zeroskew.serving.log_profiles import FOLDER, REFERENCE
from zeroskew.serving.log_sink import check_sink, sink_filesystem
from zeroskew.serving.log_spool import quoted

if TYPE_CHECKING:
    import polars as pl

    from zeroskew.profiles import Profile

ALWAYS = ("request_id", "row", "role", "score", "degraded", "latency_us", "answered_at")
"""Columns that are there whatever the model."""
CLOCKS = timedelta(seconds=60)
"""How far the clocks of a server and of the store may be apart."""
LONGEST_DELAY = timedelta(days=1)
"""How long a spool may have held back what it was told, for a window in the past."""
READERS = 8


@dataclass(frozen=True, slots=True)
class _File:
    fragment: Any
    writer: str
    first: datetime
    last: datetime
    rows: int


class LoggedVersion:
    """The log of one version, as far as it may hold answers of [since, until).

    `log`: folder or s3:// prefix, as ZEROSKEW_PREDICTION_LOG. Nothing logged is not an error.
    Raises `ServingError` if the log cannot be read, and `DataError` for a file that is none.
    """

    def __init__(
        self,
        log: str,
        model: str,
        version: str,
        *,
        since: datetime,
        until: datetime,
        roles: Sequence[str],
    ) -> None:
        self.since, self.until = since.astimezone(UTC), until.astimezone(UTC)
        self._where = f"{log} model {model} version {version}"
        self._roles = list(roles)
        self._system, root = sink_filesystem(check_sink(log))
        self._folder = f"{root}/model={quoted(model)}/version={quoted(version)}"
        with _readable(self._where):
            listed = self._listed()
            files = [path for path, mtime in listed if self._may_hold(path, mtime)]
            self._schema, self._files = self._footers(files)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the files, in order; none without files."""
        return () if self._schema is None else tuple(self._schema.names)

    @property
    def kinds(self) -> dict[str, Any]:
        """The type of each column, as a frame has it."""
        import polars as pl

        if self._schema is None:
            return {}
        return dict(pl.DataFrame(pl.from_arrow(self._schema.empty_table())).schema)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns of the model itself: entities, request columns, features as served."""
        names = self.columns
        if "trace_id" not in names or "missing" not in names:
            return ()
        return names[names.index("trace_id") + 1 : names.index("missing")]

    @property
    def ages(self) -> tuple[str, ...]:
        """Columns that hold the age of a view's values, milliseconds."""
        names = self.columns
        return names[names.index("stale") + 1 :] if "stale" in names else ()

    @property
    def rows(self) -> int:
        """At least as many as there are in the window."""
        return sum(file.rows for file in self._files)

    @property
    def complete_until(self) -> datetime | None:
        """Answers before it are in the log, from every server that wrote to it in this window."""
        writers: dict[str, datetime] = {}
        for file in self._files:
            writers[file.writer] = max(file.last, writers.get(file.writer, file.last))
        newest = max(writers.values(), default=None)
        # A server that has been silent for long has ended, and will not add to its log.
        return min((at for at in writers.values() if newest and newest - at < CLOCKS), default=None)

    def read(self, start: datetime, end: datetime, columns: Sequence[str]) -> pl.DataFrame:
        """Rows of the window answered in [start, end), of the wanted roles.

        Raises `DataError` if the log lacks a column, and as the class does.
        """
        import polars as pl
        import pyarrow.compute as pc
        from pyarrow import dataset

        if self._schema is None:
            return pl.DataFrame(schema={name: _type(name) for name in columns})
        if lacking := [name for name in columns if name not in self.columns]:
            raise DataError(
                f"the prediction log has no column {', '.join(lacking)}",
                where=self._where,
                mend="name columns of the model: entities, request columns, features",
            )
        start, end = max(start, self.since), min(end, self.until)
        moment = pc.field("answered_at")
        chosen = [file.fragment for file in self._files if file.last >= start and file.first < end]
        with _readable(self._where):
            table = dataset.FileSystemDataset(
                chosen, self._schema, dataset.ParquetFileFormat(), self._system
            ).to_table(
                columns=list(columns),
                filter=(moment >= pc.scalar(start))
                & (moment < pc.scalar(end))
                & pc.field("role").isin(self._roles),
            )
        return pl.DataFrame(pl.from_arrow(table))

    def score_bins(self) -> Profile | None:
        """The bins of scores frozen with the version, if its server wrote profiles with them."""
        from zeroskew.profiles import Profile

        path = f"{self._folder}/{FOLDER}/{REFERENCE}"
        try:
            with _readable(self._where), self._system.open_input_stream(path) as stream:
                profile = Profile.from_json(json.loads(stream.read())["profile"])
        except (ValueError, KeyError, ZeroskewError):
            return None
        return profile.select(["score"]) if "score" in profile.columns else None

    def _listed(self) -> list[tuple[str, datetime | None]]:
        from pyarrow import fs

        selector = fs.FileSelector(self._folder, allow_not_found=True, recursive=True)
        found = self._system.get_file_info(selector)
        return [(each.path, each.mtime) for each in found if each.type == fs.FileType.File]

    def _may_hold(self, path: str, mtime: datetime | None) -> bool:
        name = path.rpartition("/")[2]
        if not name.endswith(".parquet") or name.startswith((".", "_")):
            return False
        if mtime is None:
            return True
        # Written long after the window, and about other days: unless it is a copy of a log, whose
        # files are all young, it was answered after the window.
        about = path.partition("/date=")[2][:10]
        days = [f"{at:%Y-%m-%d}" for at in (self.since - LONGEST_DELAY, self.until + LONGEST_DELAY)]
        if mtime > self.until + LONGEST_DELAY and not days[0] <= about <= days[1]:
            return False
        return bool(mtime >= self.since - CLOCKS)

    def _footers(self, paths: list[str]) -> tuple[Any, list[_File]]:
        import pyarrow as pa
        from pyarrow import dataset

        form = dataset.ParquetFileFormat()

        def footer(path: str) -> Any:
            fragment = form.make_fragment(path, self._system)
            try:
                fragment.ensure_complete_metadata()
            except pa.ArrowInvalid as error:
                raise DataError(f"is no Parquet file: {error}", where=path) from None
            return fragment

        with ThreadPoolExecutor(READERS) as pool:
            fragments = list(pool.map(footer, sorted(paths)))
        if not fragments:
            return None, []
        schema = pa.unify_schemas(
            [each.physical_schema for each in fragments], promote_options="permissive"
        )
        files = []
        for each in fragments:
            moments = [group.statistics.get("answered_at") for group in each.row_groups]
            # A file of an older writer does not say when its rows were answered: none is taken.
            known = [moment for moment in moments if moment is not None]
            if not known:
                continue
            first, last = min(m["min"] for m in known), max(m["max"] for m in known)
            if last >= self.since and first < self.until:
                writer = each.path.rpartition("/")[2].rpartition("-")[0]
                rows = sum(group.num_rows for group in each.row_groups)
                files.append(_File(each, writer, first, last, rows))
        return schema, files


def spans(versions: Sequence[LoggedVersion], rows: int) -> Iterator[tuple[datetime, datetime]]:
    """Their window in equal parts, each of about `rows` rows of a version if they come evenly."""
    start = min(version.since for version in versions)
    end = max(version.until for version in versions)
    held = [file for version in versions for file in version._files]
    if not held:
        return
    # What nobody answered needs no parts.
    first = max(start, min(file.first for file in held))
    last = min(end, max(file.last for file in held) + timedelta(microseconds=1))
    parts = max(1, -(-max(version.rows for version in versions) // rows))
    step = (last - first) / parts
    for part in range(parts):
        yield first + part * step, last if part == parts - 1 else first + (part + 1) * step


def _type(name: str) -> Any:
    import polars as pl

    moment = pl.Datetime("us", "UTC")
    types = {
        "request_id": pl.String, "row": pl.Int32, "role": pl.String, "score": pl.Float32,
        "degraded": pl.Boolean, "latency_us": pl.Int64, "answered_at": moment,
        "event_time": moment,
    }  # fmt: skip
    return types.get(name, pl.Null)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServingError(f"the prediction log cannot be read: {error}", where=where) from None
