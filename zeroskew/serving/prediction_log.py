"""The prediction log of one front: what was asked, served and answered, row by row, as Parquet.

    log = PredictionLog(schema, settings, spool=Path("/spool"), sink="s3://lake/predictions")
    log.append(batch)        # microseconds: a frame in memory, written by a thread of its own
    log.close(20.0)

    append ─► queue ─► segment files ─► shipper process ─► <sink>/model=…/version=…/date=…/hour=…/
              (drops)   (survive a kill,   (a child; sends until the sink takes it)
                         bounded: drops)

No call waits for disk or network, and none raises into a request: what there is no room for is
dropped and counted in rows. A batch is safe from the end of this process once its thread has
written it, 20 ms after `append`, and on the sink at most `flush_seconds` and an upload later.
Nothing is there twice.

The files are hive-partitioned by event time (UTC), so that readers skip what they need not read:

    pl.scan_parquet("predictions/**/*.parquet", hive_partitioning=True).filter(
        pl.col("model") == "fraud", pl.col("date") == "2026-03-01"
    )
    duckdb.sql("from read_parquet('predictions/**/*.parquet', hive_partitioning = true)")

A column whose name the log or its partitions use themselves is called `served_<name>` there.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue

from zeroskew.errors import ServingError
from zeroskew.profiles import Profile
from zeroskew.serving.log_child import ShipperProcess
from zeroskew.serving.log_frames import FrameWriter, PredictionBatch
from zeroskew.serving.log_redaction import redacted_kinds, redactions
from zeroskew.serving.log_schema import LogSchema, LogSettings
from zeroskew.serving.log_segments import Frame, SegmentWriter
from zeroskew.serving.log_sink import check_sink
from zeroskew.serving.log_spool import (
    BROKEN,
    READY,
    STATUS,
    create_folder,
    remove_folder,
    segments,
)
from zeroskew.serving.log_status import ServedProfiles, ShippingStatus

__all__ = ["LogCounters", "LogSchema", "LogSettings", "PredictionBatch", "PredictionLog"]

QUEUE_BYTES = 32 << 20
"""Frames in memory, while the disk takes its time; beyond it they are dropped, and counted."""
WRITE_BYTES = 1 << 20
TICK_SECONDS = 0.5
GATHER_SECONDS = 0.02
"""How long frames gather in memory, so that no request wakes the thread that writes them."""


@dataclass(frozen=True, slots=True)
class LogCounters:
    """Rows since the log was opened; those appended are `written + spooled + dropped + corrupt`."""

    written: int
    """On the sink."""
    spooled: int
    """In memory or on disk, on their way."""
    dropped: int
    """For want of room, or because the batch was not one."""
    corrupt: int
    """Damaged on the disk."""
    queued_bytes: int
    spool_bytes: int
    """Of this writer's segments."""
    sink_failures: int
    """Attempts that the sink refused."""
    values_unfit: int
    """Values that did not fit the kind of their column, logged as null."""
    segments: int
    """On the sink."""
    last_success: float | None
    """When the sink took something last, seconds since the epoch."""
    last_error: str | None
    """What goes wrong at the moment, if anything does."""


class PredictionLog:
    """Opens a writer of its own in the spool; any number of threads may append."""

    def __init__(
        self,
        schema: LogSchema,
        settings: LogSettings,
        *,
        spool: Path,
        sink: str,
        python: str = sys.executable,
    ) -> None:
        """`sink`: a folder or `s3://bucket/prefix`; it need not be there yet.

        Raises `ConfigError` on a sink or redaction that cannot work (`hash` needs
        ZEROSKEW_LOG_KEY), `DataError` on a broken reference profile, and `ServingError` if the
        spool cannot be written to.
        """
        for reference in (schema.reference, schema.score_reference):
            if reference is not None:
                Profile.from_json(reference)
        logged = replace(schema, columns=redacted_kinds(schema.columns, settings.redact))
        self._frames = FrameWriter(logged.columns, redactions(settings.redact, schema.columns))
        description = {
            "log": logged.to_json(),
            "redacted": sorted(settings.redact),
            "sink": check_sink(sink),
        }
        try:
            self.folder, self._lock = create_folder(
                Path(spool).absolute(), schema.model, schema.version, description
            )
        except OSError as error:
            raise ServingError(
                f"the spool cannot be written: {error.strerror or error}",
                where=str(error.filename or spool),
                mend="name a folder with room in ZEROSKEW_SPOOL",
            ) from None
        self._queue: SimpleQueue[Frame | None] = SimpleQueue()
        self._appending = threading.Lock()
        self._closed = False
        self._profiles: dict[str, Profile] = {}
        # Each has one writer: the appending threads (in turn), or the thread below.
        self._rows_in = self._bytes_in = self._dropped_in = 0
        self._bytes_out = self._dropped_out = 0
        self._error_in: str | None = None
        self._segments = SegmentWriter(self.folder, settings)
        self.shipper = ShipperProcess(self.folder, python)
        self._status = _StatusFile(self.folder)
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def append(self, batch: PredictionBatch) -> None:
        """Log the batch, or drop and count it. Never raises, never waits."""
        with self._appending:
            rows = 0
            try:
                rows = len(batch.scores)
                self._rows_in += rows
                if self._closed or self._bytes_in - self._bytes_out > QUEUE_BYTES:
                    self._dropped_in += rows
                elif rows:
                    frame = self._frames.frame(batch)
                    self._bytes_in += len(frame)
                    self._queue.put((frame, rows))
            except Exception as error:
                # A defect of a batch must not cost the request its answer.
                self._dropped_in += rows
                self._error_in = f"a batch cannot be logged: {type(error).__name__}: {error}"

    def give_up(self, rows: int, error: Exception) -> None:
        """Count rows that no batch could be made of."""
        with self._appending:
            self._rows_in += rows
            self._dropped_in += rows
            self._error_in = f"a batch cannot be logged: {type(error).__name__}: {error}"

    def counters(self) -> LogCounters:
        """Where the rows are."""
        status = self._status.read()
        done = status.rows + status.rows_corrupt
        dropped = self._dropped_in + self._dropped_out
        return LogCounters(
            written=status.rows,
            spooled=max(0, self._rows_in - dropped - done),
            dropped=dropped,
            corrupt=status.rows_corrupt,
            queued_bytes=self._bytes_in - self._bytes_out,
            spool_bytes=self._segments.bytes,
            sink_failures=status.failures,
            values_unfit=status.values_unfit,
            segments=status.segments,
            last_success=status.last_success,
            last_error=(
                self._segments.error or status.last_error or self.shipper.error or self._error_in
            ),
        )

    def profiles(self) -> dict[str, Profile]:
        """By role: all rows shipped so far, measured with the reference's bins."""
        return self._profiles if self._closed else ServedProfiles.read(self.folder).roles

    def close(self, seconds: float = 20.0) -> None:
        """Write what is queued, ship what is spooled, at most for `seconds`.

        What the sink does not take in that time stays in the spool, for the next log that opens
        there. Safe to call twice.
        """
        with self._appending:
            if self._closed:
                return
            self._closed = True
        until = time.monotonic() + seconds
        self._queue.put(None)
        self._thread.join(seconds)
        self.shipper.close(max(0.0, until - time.monotonic()))
        self._segments.forget_shipped()
        self._status.read()
        self._profiles = ServedProfiles.read(self.folder).roles
        if not any(segments(self.folder, suffix) for suffix in (READY, BROKEN)):
            remove_folder(self.folder)
        self._lock.release()

    def _run(self) -> None:
        """Thread: queue to disk, segments to the shipper, a shipper that is alive."""
        look = 0.0
        ended = False
        while not ended:
            if (now := time.monotonic()) >= look:
                look = now + TICK_SECONDS
                self.shipper.tend()
                self._segments.forget_shipped()
            frames, ended = self._take()
            closed = self._segments.closed
            try:
                self._dropped_out += self._segments.write(frames)
                if ended:
                    self._segments.close()
                else:
                    self._segments.rotate()
            except Exception as error:
                # Without this thread nothing would ever be logged again.
                self._error_in = f"{type(error).__name__}: {error}"
            self._bytes_out += sum(len(frame) for frame, _ in frames)
            if self._segments.closed != closed:
                self.shipper.wake()

    def _take(self) -> tuple[list[Frame], bool]:
        """What is queued, waiting for the first; whether it was the last."""
        left = self._segments.seconds_left()
        frames: list[Frame] = []
        size = 0
        try:
            item = self._queue.get(
                timeout=TICK_SECONDS if left is None else min(left, TICK_SECONDS)
            )
            if item is not None and not self._closed:
                time.sleep(GATHER_SECONDS)
            while item is not None:
                frames.append(item)
                size += len(item[0])
                if size >= WRITE_BYTES:
                    return frames, False
                item = self._queue.get_nowait()
        except Empty:
            return frames, False
        return frames, True


class _StatusFile:
    """`status.json`, parsed again only when it has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._seen = folder, (0, 0)
        self._status = ShippingStatus()

    def read(self) -> ShippingStatus:
        try:
            stat = os.stat(self._folder / STATUS)
        except OSError:
            return self._status
        seen = (stat.st_ino, stat.st_mtime_ns)
        if seen != self._seen:
            self._status, self._seen = ShippingStatus.read(self._folder), seen
        return self._status
