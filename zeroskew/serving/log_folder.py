"""Ships the segments of one writer's folder: Parquet, then profiles, then the segment goes.

Every step can be repeated. A segment's Parquet files have names and contents that follow from the
segment alone, the profiles list what they count, and the status names the segment it counted last:
whoever is killed in between leaves nothing that is missing or there twice.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zeroskew.profiles import Profile
from zeroskew.serving.log_profiles import HourProfiles, Measure, by_role
from zeroskew.serving.log_schema import LogSchema
from zeroskew.serving.log_sink import Sink
from zeroskew.serving.log_spool import (
    BROKEN,
    READY,
    SCHEMA,
    quoted,
    read_json,
    segment_path,
    segments,
)
from zeroskew.serving.log_status import ServedProfiles, ShippingStatus
from zeroskew.serving.log_tables import SegmentTables, segment_tables


class SinkFailed(Exception):
    """The sink refused; the same again may work later."""


@dataclass(frozen=True, slots=True)
class _Made:
    number: int
    tables: SegmentTables
    files: dict[int, bytes]
    """Parquet by hour."""
    measured: dict[str, Profile]
    """By role."""


class SpoolFolder:
    """One writer's folder, for the one process that ships it."""

    def __init__(self, path: Path) -> None:
        """Raises `ValueError`, `KeyError` or `DataError` on a schema that this cannot read."""
        self.path = path
        raw = read_json(path / SCHEMA)
        self.sink: str = raw["sink"]
        self.status = ShippingStatus.read(path)
        self._schema = LogSchema.from_json(raw["log"])
        self._profiles = ServedProfiles.read(path)
        self._measure = Measure(self._schema, raw["redacted"])
        self._hours = HourProfiles(self._schema, self._measure, path.name)
        self._made: _Made | None = None
        self._done: set[int] = set()
        model, version = quoted(self._schema.model), quoted(self._schema.version)
        self._prefix = f"model={model}/version={version}"

    def waiting(self) -> list[int]:
        """Segments to ship, in order."""
        return [n for n in segments(self.path, READY) if n not in self._done]

    def ship(self, number: int, sink: Sink) -> None:
        """Bring one segment to the sink and remove it. Raises `SinkFailed`."""
        path = segment_path(self.path, number, READY)
        if number != self.status.last:
            try:
                made = self._make(number, path)
            except FileNotFoundError:
                return
            except Exception as error:
                # The next segments must not wait for one that nothing can be made of.
                self._set_aside(number, error)
                return
            try:
                self._send(made, sink)
            except Exception as error:
                self.status.failures += 1
                self.status.last_error = f"{type(error).__name__}: {error}"
                self.status.write(self.path)
                raise SinkFailed(self.status.last_error) from error
            self._count(made)
        self._made = None
        self._done.add(number)
        with contextlib.suppress(OSError):
            path.unlink()

    def _make(self, number: int, path: Path) -> _Made:
        """What a segment becomes; remembered while the sink is down."""
        if self._made is None or self._made.number != number:
            tables = segment_tables(path.read_bytes(), self._schema)
            files = {hour: parquet(table) for hour, table in tables.hours.items()}
            self._made = _Made(number, tables, files, self._measured(tables))
        return self._made

    def _send(self, made: _Made, sink: Sink) -> None:
        for hour, content in made.files.items():
            name = f"{self.path.name}-{made.number:06d}.parquet"
            sink.write(f"{self._folder(hour)}/{name}", content)
        self._hours.refer(sink, self._prefix)
        for hour, table in made.tables.hours.items():
            for role, rows in by_role(table).items():
                self._hours.add(sink, self._folder(hour), made.number, role, rows)

    def _count(self, made: _Made) -> None:
        tables, status = made.tables, self.status
        if made.measured:
            self._profiles.add(made.number, made.measured)
            self._profiles.write(self.path)
        status.last = made.number
        status.segments += 1
        status.rows += tables.rows
        status.bytes += sum(map(len, made.files.values()))
        status.rows_corrupt += tables.damage.rows
        status.bytes_corrupt += tables.damage.bytes
        status.values_unfit += tables.unfit
        status.last_error = None
        status.last_success = time.time()
        status.write(self.path)

    def _measured(self, tables: SegmentTables) -> dict[str, Profile]:
        found: dict[str, Profile] = {}
        for table in tables.hours.values():
            for role, rows in by_role(table).items():
                profile = self._measure.profile(rows)
                found[role] = found[role].merge(profile) if role in found else profile
        return found

    def _set_aside(self, number: int, error: Exception) -> None:
        source = segment_path(self.path, number, READY)
        say(f"{source} cannot be read, it is kept as {BROKEN}: {type(error).__name__}: {error}")
        self._done.add(number)
        self.status.segments_broken += 1
        self.status.last_error = f"{source.name}: {type(error).__name__}: {error}"
        source.rename(segment_path(self.path, number, BROKEN))
        self.status.write(self.path)

    def _folder(self, hour: int) -> str:
        moment = np.datetime64(hour, "h")
        date, clock = str(moment).split("T")
        return f"{self._prefix}/date={date}/hour={clock}"


def parquet(table: pa.Table) -> bytes:
    """The file's bytes; the same table gives the same bytes."""
    stream = pa.BufferOutputStream()
    # A dictionary of numbers that hardly repeat costs time and saves nothing: give it up early.
    pq.write_table(
        table, stream, compression="zstd", version="2.6", dictionary_pagesize_limit=64 << 10
    )
    return stream.getvalue().to_pybytes()


def say(text: Any) -> None:
    """A line in the log of whoever runs this."""
    with contextlib.suppress(OSError, ValueError):
        print(f"zeroskew prediction log: {text}", file=sys.stderr, flush=True)
