"""The bound of the spool, and disks that fail: rows are dropped and counted, frames stay whole."""

from __future__ import annotations

import errno
import os
import time

import pytest

from zeroskew.serving.log_schema import LogSettings
from zeroskew.serving.log_segments import SegmentWriter
from zeroskew.serving.log_spool import OPEN, READY, segment_path, segments


def frames(count: int, size: int = 100, first: int = 0) -> list[tuple[bytes, int]]:
    return [(f"{first + i:05d}".encode() * (size // 5), 1) for i in range(count)]


def content(folder) -> list[str]:
    """Numbers of the frames on disk, in order."""
    data = b"".join(
        segment_path(folder, n, suffix).read_bytes()
        for suffix in (READY, OPEN)
        for n in segments(folder, suffix)
    )
    assert len(data) % 100 == 0
    pieces = [data[i : i + 100] for i in range(0, len(data), 100)]
    assert all(piece == piece[:5] * 20 for piece in pieces)
    return [int(piece[:5]) for piece in pieces]


def writer(folder, *, segment=1000, spool=10_000, flush=60.0) -> SegmentWriter:
    return SegmentWriter(folder, LogSettings(True, flush, segment, spool))


def test_segments_fill_in_order_and_are_never_empty(tmp_path):
    log = writer(tmp_path)
    assert log.write(frames(25)) == 0
    assert (segments(tmp_path, READY), segments(tmp_path, OPEN)) == ([1, 2], [3])
    assert log.close()
    assert not log.close()
    assert segments(tmp_path, READY) == [1, 2, 3]
    assert content(tmp_path) == list(range(25))
    assert log.write([]) == 0
    assert segments(tmp_path, OPEN) == []


def test_a_segment_is_closed_by_its_age(tmp_path):
    log = writer(tmp_path, flush=0.05)
    log.write(frames(1))
    assert not log.rotate()
    assert 0 < log.seconds_left() <= 0.05
    time.sleep(0.06)
    assert log.rotate()
    assert log.seconds_left() is None
    assert segments(tmp_path, READY) == [1]


def test_beyond_the_bound_rows_are_dropped_until_something_is_shipped(tmp_path):
    log = writer(tmp_path, spool=3000)
    assert log.write(frames(45)) == 15
    assert log.bytes == 3000
    assert "spool_mib" in log.error
    assert content(tmp_path) == list(range(30))
    segment_path(tmp_path, 1, READY).unlink()
    time.sleep(0.25)
    assert log.write(frames(20, first=100)) == 10
    assert content(tmp_path) == [*range(10, 30), *range(100, 110)]
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) == 3000


def test_a_full_disk_keeps_whole_frames(tmp_path, monkeypatch):
    log = writer(tmp_path)
    log.write(frames(2))
    real, room = os.write, 250

    def short(fd, data):
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = real(fd, data[:room])
        room -= taken
        return taken

    monkeypatch.setattr(os, "write", short)
    assert log.write(frames(5, first=2)) == 3
    assert "No space" in log.error
    assert content(tmp_path) == [0, 1, 2, 3]
    assert log.bytes == 400
    room = 10**6
    assert log.write(frames(1, first=9)) == 0
    assert log.error is None
    assert content(tmp_path) == [0, 1, 2, 3, 9]


def test_a_disk_that_takes_no_file_is_left_alone_for_a_while(tmp_path, monkeypatch):
    import zeroskew.serving.log_segments as module

    folder = tmp_path / "gone"
    log = writer(folder)
    assert log.write(frames(3)) == 3
    assert "No such file" in log.error
    folder.mkdir()
    assert log.write(frames(3)) == 3
    monkeypatch.setattr(module.time, "monotonic", lambda real=time.monotonic: real() + 2)
    assert log.write(frames(3)) == 0
    assert content(folder) == [0, 1, 2]


def test_a_cut_that_fails_ends_the_segment(tmp_path, monkeypatch):
    log = writer(tmp_path)
    log.write(frames(1))

    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", refuse)
    monkeypatch.setattr(os, "ftruncate", refuse)
    assert log.write(frames(2, first=1)) == 2
    assert segments(tmp_path, READY) == [1]
    monkeypatch.undo()
    assert log.write(frames(1, first=5)) == 0
    assert segments(tmp_path, OPEN) == [2]


@pytest.mark.parametrize("size", [5000, 20_000])
def test_a_frame_larger_than_a_segment_or_the_spool(tmp_path, size):
    log = writer(tmp_path)
    dropped = log.write([*frames(1), *frames(1, size), *frames(1)])
    assert dropped == (1 if size > 10_000 else 0)
    assert log.bytes == 200 + (0 if dropped else size)
