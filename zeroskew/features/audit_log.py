"""Logged rows for an audit, in chunks of bounded size: which files, which rows, which sample.

The log is Parquet below `date=…/hour=…` folders of event time, one folder per version. The audit
knows it by its columns alone: who opens it says where the folders are and what its columns are
called, so that this package needs to know no server.

    log own     zeroskew_request_id, zeroskew_row, zeroskew_event_time, zeroskew_answered_at, …
    ages        zeroskew_age:<view>, milliseconds
    everything else under the name it has in the feature definitions
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import mmh3
import numpy as np
import polars as pl

from zeroskew.errors import ConfigError, DataError, SchemaError

OWN = "zeroskew_"
"""Prefix of the log's own columns: a feature may well be called `row` or `score`."""
OWN_COLUMNS = (
    "request_id", "row", "event_time", "answered_at", "model_version", "role", "degraded", "stale",
)  # fmt: skip
By = Literal["answered_at", "event_time"]

CHUNK_ROWS = 131_072
READERS = 8
CLOCKS = timedelta(seconds=60)
"""How far the clocks of a server and of the log's store may be apart."""
_FIRST = datetime.min.replace(tzinfo=UTC)
_PARTITION = re.compile(r"/date=(\d{4}-\d{2}-\d{2})/hour=(\d{2})/")


def own(name: str) -> str:
    """What a column of the log's own is called in a chunk."""
    return OWN + name


def age_column(view: str) -> str:
    """The column of a chunk that holds how old a view's values were, milliseconds."""
    return f"{OWN}age:{view}"


@dataclass(frozen=True)
class AuditLog:
    """Where logged rows lie and how their columns are called."""

    filesystem: Any
    """Of pyarrow."""
    folders: Mapping[str, str]
    """Model version to its folder in the file system."""
    column: Callable[[str], str] = str
    """Name of a feature, entity or request column in the files."""
    age: Callable[[str], str] = "age_{}".format
    """Name of the column with a view's age."""


@dataclass(frozen=True)
class Selection:
    """Which rows of the log: half-open range of time, roles, and how many of them."""

    since: datetime | None = None
    until: datetime | None = None
    by: By = "answered_at"
    roles: tuple[str, ...] = ()
    """None named: all."""
    limit: int | None = None
    """About so many rows, by taking that share of the requests."""
    fraction: float = 1.0
    """Share of the requests; the same ones at every call with the same seed."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ConfigError(
                f"{self.fraction} is no share of the requests",
                where="fraction",
                mend="give a number above 0, up to 1",
            )
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"{self.limit} rows are none", where="limit", mend="give 1 or more")
        if self.by not in ("answered_at", "event_time"):
            raise ConfigError(
                f"{self.by!r} is no moment of a row", where="by", mend="answered_at or event_time"
            )
        since, until = _utc(self.since), _utc(self.until)
        if since and until and since >= until:
            raise ConfigError(
                f"the range starts at {since.isoformat()} and ends at "
                f"{until.isoformat()}, so nothing is in it",
                where="since",
            )


@dataclass(frozen=True)
class _File:
    fragment: Any
    rows: int
    names: frozenset[str]


@dataclass
class LoggedRows:
    """The files of a selection, opened; `chunks` reads them once.

    Raises `DataError` for a file that cannot be read. Nothing logged is not an error: `total` is 0.
    """

    log: AuditLog
    selection: Selection = field(default_factory=Selection)
    total: int = field(init=False)
    """Rows of the files, at least as many as will come."""
    fraction: float = field(init=False)
    """Share of the requests that comes."""
    columns: frozenset[str] = field(init=False)
    """Every column that any of the files has, by its name in the files."""

    def __post_init__(self) -> None:
        chosen = self.selection
        with _readable(", ".join(self.log.folders.values())):
            # Version by version, as these may differ in columns, and in order of event time: then a
            # chunk asks for a short range of the sources.
            paths = [
                path
                for folder in self.log.folders.values()
                for path in sorted(self._listed(folder), key=_in_time)
            ]
            with ThreadPoolExecutor(READERS) as pool:
                opened = list(pool.map(self._open, paths))
        self._files = [file for file in opened if file is not None]
        self.total = sum(file.rows for file in self._files)
        self.columns = frozenset().union(*(file.names for file in self._files))
        share = chosen.fraction
        if chosen.limit is not None and self.total * share > chosen.limit:
            share = chosen.limit / self.total
        self.fraction = share

    def chunks(
        self, columns: Sequence[str], views: Sequence[str], rows: int = CHUNK_ROWS
    ) -> Iterator[tuple[pl.DataFrame, int]]:
        """Rows with `columns` (entities, request columns, features) and the ages of `views`.

        Yields frames of at most `rows` rows and how many rows of the files were read so far. All
        rows of a frame are of files with the same columns; one that they lack is not there.
        Raises `SchemaError` if the log lacks a column of its own.
        """
        wanted = {own(name): name for name in OWN_COLUMNS}
        wanted |= {age_column(view): self.log.age(view) for view in views}
        wanted |= {name: self.log.column(name) for name in columns}
        held: list[pl.DataFrame] = []
        height = read = 0
        for file in self._files:
            for frame in self._batches(file, wanted, rows):
                if held and held[0].schema != frame.schema:
                    # Of another version, whose features have other names or types.
                    yield pl.concat(held), read
                    held, height = [], 0
                held.append(frame)
                height += frame.height
                while height >= rows:
                    together = pl.concat(held)
                    yield together.head(rows), read
                    rest = together.slice(rows)
                    held, height = [rest] if rest.height else [], rest.height
            read += file.rows
        if height:
            yield pl.concat(held), read

    def _listed(self, folder: str) -> list[str]:
        from pyarrow import fs

        selector = fs.FileSelector(folder, allow_not_found=True, recursive=True)
        found = self.log.filesystem.get_file_info(selector)
        return [each.path for each in found if each.is_file and self._may_hold(each)]

    def _may_hold(self, file: Any) -> bool:
        """As far as its name and age tell: a schedule must not open the log of a year every day."""
        if not file.base_name.endswith(".parquet") or file.base_name.startswith((".", "_")):
            return False
        since, until = _utc(self.selection.since), _utc(self.selection.until)
        if self.selection.by == "answered_at":
            # A file is written after the answers in it.
            return since is None or file.mtime is None or bool(file.mtime >= since - CLOCKS)
        hour = _partition(file.path)
        if hour is None:
            return True
        within = since is None or hour + timedelta(hours=1) > since
        return within and (until is None or hour < until)

    def _open(self, path: str) -> _File | None:
        import pyarrow as pa
        from pyarrow import dataset

        fragment = dataset.ParquetFileFormat().make_fragment(path, self.log.filesystem)
        try:
            fragment.ensure_complete_metadata()
        except pa.ArrowInvalid as error:
            raise DataError(
                f"is no Parquet file: {error}", where=path, mend="remove it from the log"
            ) from None
        condition = self._condition(fragment.physical_schema.names)
        if condition is not None:
            fragment = fragment.subset(condition)
        rows = sum(group.num_rows for group in fragment.row_groups)
        if not rows:
            return None
        return _File(fragment, rows, frozenset(fragment.physical_schema.names))

    def _condition(self, names: Sequence[str]) -> Any:
        import pyarrow.compute as pc

        chosen, parts = self.selection, []
        since, until = _utc(chosen.since), _utc(chosen.until)
        if chosen.by in names:
            if since is not None:
                parts.append(pc.field(chosen.by) >= pc.scalar(since))
            if until is not None:
                parts.append(pc.field(chosen.by) < pc.scalar(until))
        if chosen.roles and "role" in names:
            parts.append(pc.field("role").isin(list(chosen.roles)))
        condition = None
        for part in parts:
            condition = part if condition is None else condition & part
        return condition

    def _batches(self, file: _File, wanted: Mapping[str, str], rows: int) -> Iterator[pl.DataFrame]:
        path = file.fragment.path
        if lacking := [name for name in OWN_COLUMNS if name not in file.names]:
            raise SchemaError(
                f"lacks column {', '.join(lacking)}",
                where=path,
                mend="audit a prediction log, as the server writes it",
            )
        held = {mine: theirs for mine, theirs in wanted.items() if theirs in file.names}
        with _readable(path):
            for batch in file.fragment.to_batches(
                columns=list(dict.fromkeys(held.values())),
                filter=self._condition(list(file.names)),
                batch_size=rows,
                batch_readahead=1,
                fragment_readahead=1,
            ):
                frame = pl.DataFrame(pl.from_arrow(batch))
                frame = frame.select(pl.col(theirs).alias(mine) for mine, theirs in held.items())
                frame = self._sampled(frame)
                if frame.height:
                    yield frame

    def _sampled(self, frame: pl.DataFrame) -> pl.DataFrame:
        """By a hash of the request id: a request is taken whole, with its shadow, or not at all."""
        if self.fraction >= 1 or not frame.height:
            return frame
        seed = self.selection.seed & 0xFFFFFFFF
        ids = frame.get_column(own("request_id")).fill_null("").to_list()
        place = np.fromiter((mmh3.hash(text, seed, signed=False) for text in ids), np.int64)
        return frame.filter(pl.Series(place < self.fraction * 2**32))


def _partition(path: str) -> datetime | None:
    """Hour of event time of the rows in a file; None in a folder that names none."""
    found = _PARTITION.search(path)
    if found is None:
        return None
    try:
        return datetime.strptime(f"{found[1]}T{found[2]}", "%Y-%m-%dT%H").replace(tzinfo=UTC)
    except ValueError:
        return None


def _in_time(path: str) -> tuple[datetime, str]:
    return _partition(path) or _FIRST, path


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"the prediction log cannot be read: {error}",
            where=where,
            mend="see that the folder or bucket and its credentials are right",
        ) from None
