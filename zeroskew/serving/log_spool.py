"""The folder of one log writer on disk, and who may do what in it.

    <spool>/<model>/<version>/<writer>/
        schema.json      columns, references, sink: all that shipping takes
        000001.open      segment being written
        000002.ready     segment to ship; it never changes any more
        000003.broken    segment that shipping cannot make sense of, kept for a person
        status.json, profiles.json    what has been shipped
        lock             held by the process that writes
        shipper.lock     held by the process that ships

Locks are `flock`s: the kernel drops them with the process, however it ends. A folder appears under
its name only when it is locked, and is renamed before it is removed, so that nobody ever sees half
of one. Survives the end of any process, not a power cut: nothing is synced to the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

LOCK, SHIPPER_LOCK = "lock", "shipper.lock"
SCHEMA, STATUS, PROFILES = "schema.json", "status.json", "profiles.json"
OPEN, READY, BROKEN = ".open", ".ready", ".broken"
_GONE = ".gone-"
_NEW = ".new-"


class Lock:
    """A held `flock`; `release` or the end of the process frees it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> Lock | None:
        """The lock, or None while somebody else has it or its folder is gone."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have removed the folder in between.
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return cls(descriptor)
        except OSError:
            pass
        os.close(descriptor)
        return None

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def create_folder(
    spool: Path, model: str, version: str, schema: Mapping[str, Any]
) -> tuple[Path, Lock]:
    """A writer's own folder and its lock. Raises `OSError`."""
    parent = spool / quoted(model) / quoted(version)
    writer = _writer_id()
    scratch = parent / (_NEW + writer)
    scratch.mkdir(parents=True)
    try:
        write_json(scratch / SCHEMA, schema)
        lock = Lock.take(scratch / LOCK)
        if lock is None:
            raise OSError(f"no lock on {scratch / LOCK}")
        folder = parent / writer
        scratch.rename(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return folder, lock


def quoted(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def remove_folder(folder: Path) -> None:
    """Remove it, at once for everybody who looks; the caller holds its locks."""
    gone = folder.with_name(_GONE + folder.name)
    with contextlib.suppress(OSError):
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def other_folders(folder: Path) -> Iterator[Path]:
    """Folders of other writers in the same spool, oldest first; what is half removed goes."""
    spool = folder.parents[2]
    found = []
    for path in spool.glob("*/*/*"):
        if path.name.startswith(_GONE):
            shutil.rmtree(path, ignore_errors=True)
        elif not path.name.startswith(".") and path != folder:
            with contextlib.suppress(OSError):
                found.append(((path / SCHEMA).stat().st_mtime, path))
    yield from (path for _, path in sorted(found))


def segments(folder: Path, suffix: str) -> list[int]:
    """Numbers of the segments in one state, ascending; none where the folder is gone."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except FileNotFoundError:
        return []
    return sorted(int(n[: -len(suffix)]) for n in names if n.endswith(suffix) and n[0].isdigit())


def segment_path(folder: Path, number: int, suffix: str) -> Path:
    return folder / f"{number:06d}{suffix}"


def close_segments(folder: Path) -> None:
    """What a dead writer left open is ready. The caller holds the writer's lock."""
    for number in segments(folder, OPEN):
        path = segment_path(folder, number, OPEN)
        if path.stat().st_size:
            path.rename(segment_path(folder, number, READY))
        else:
            path.unlink()


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all. Raises `OSError`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where there is none that can be read."""
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _writer_id() -> str:
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:64]
    return f"{host}-{os.getpid()}-{time.time_ns() // 1_000_000:x}{secrets.token_hex(2)}"
