"""Writes frames into the open segment of a folder, within the bound of the spool.

No call raises: a disk that is full or gone costs the rows that were to be written, is counted, and
is tried again with the next frames.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from zeroskew.serving.log_schema import LogSettings
from zeroskew.serving.log_spool import BROKEN, OPEN, READY, segment_path, segments

Frame = tuple[bytes, int]
"""Bytes and rows."""

REOPEN_SECONDS = 1.0
"""How long a disk that took no new file is left alone."""
RECOUNT_SECONDS = 0.2
"""How often at most the folder is looked at while it is full."""


class SegmentWriter:
    """For one thread at a time."""

    def __init__(self, folder: Path, settings: LogSettings) -> None:
        self._folder, self._settings = folder, settings
        self._fd = -1
        self._number = 0
        self._size = 0
        self._opened = 0.0
        self._ready: dict[int, int] = {}
        self._retry = self._recount = 0.0
        self.closed = 0
        """Segments handed to the shipper."""
        self.error: str | None = None
        """What the disk said last, None when it has taken frames since."""

    @property
    def bytes(self) -> int:
        """On disk, as far as known: what has been shipped in the last moments may be in it."""
        return self._size + sum(self._ready.values())

    def seconds_left(self) -> float | None:
        """Until the open segment is due; None if there is none."""
        if self._fd < 0:
            return None
        return max(0.0, self._opened + self._settings.flush_seconds - time.monotonic())

    def write(self, frames: Sequence[Frame]) -> int:
        """Append the frames, starting and closing segments as they fill; rows dropped."""
        dropped = 0
        at = 0
        while at < len(frames):
            room = self._room()
            size, upto = 0, at
            while upto < len(frames) and size + len(frames[upto][0]) <= room:
                size += len(frames[upto][0])
                upto += 1
                if self._size + size >= self._settings.segment_bytes:
                    break
            if upto == at:
                dropped += frames[at][1]
                self.error = "the spool is full (serving.log.spool_mib)"
                at += 1
                continue
            dropped += self._append(frames[at:upto])
            at = upto
            if self._size >= self._settings.segment_bytes:
                self.close()
        return dropped

    def rotate(self) -> bool:
        """Close the open segment if it is old enough; whether it was."""
        if self.seconds_left() == 0.0:
            return self.close()
        return False

    def close(self) -> bool:
        """Hand the open segment, if any, to the shipper; whether there was one."""
        if self._fd < 0:
            return False
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1
        size, self._size = self._size, 0
        source = segment_path(self._folder, self._number, OPEN)
        try:
            if not size:
                source.unlink()
                return False
            source.rename(segment_path(self._folder, self._number, READY))
        except OSError as error:
            # It is shipped when the folder is adopted.
            self.error = str(error)
        self._ready[self._number] = size
        self.closed += 1
        return True

    def forget_shipped(self) -> None:
        """Look which segments are gone."""
        try:
            there = {n for suffix in (OPEN, READY, BROKEN) for n in segments(self._folder, suffix)}
        except OSError:
            return
        self._ready = {n: size for n, size in self._ready.items() if n in there}

    def _room(self) -> int:
        room = self._settings.spool_bytes - self.bytes
        now = time.monotonic()
        if room < self._settings.segment_bytes and now >= self._recount:
            self._recount = now + RECOUNT_SECONDS
            self.forget_shipped()
            room = self._settings.spool_bytes - self.bytes
        return room

    def _append(self, frames: Sequence[Frame]) -> int:
        if self._fd < 0 and not self._start():
            return sum(rows for _, rows in frames)
        data = b"".join([frame for frame, _ in frames]) if len(frames) > 1 else frames[0][0]
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, memoryview(data)[written:])
        except OSError as error:
            self.error = str(error)
            return self._keep_whole(frames, written)
        self._size += len(data)
        self.error = None
        return 0

    def _keep_whole(self, frames: Sequence[Frame], written: int) -> int:
        """Cut the segment after the last whole frame; rows of the others."""
        end, dropped = 0, 0
        for frame, rows in frames:
            if not dropped and end + len(frame) <= written:
                end += len(frame)
            else:
                dropped += rows
        self._size += end
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            # What is torn stays at the end, where the shipper passes over it.
            self.close()
        return dropped

    def _start(self) -> bool:
        now = time.monotonic()
        if now < self._retry:
            return False
        number = self._number + 1
        path = segment_path(self._folder, number, OPEN)
        try:
            self._fd = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            self.error = str(error)
            self._retry = now + REOPEN_SECONDS
            return False
        self._number, self._size, self._opened = number, 0, now
        return True
