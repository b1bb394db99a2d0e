"""Files that appear whole or not at all: written beside their place, then renamed into it.

A disk that fills, a killed process or Ctrl-C in the middle of an export leaves what was there
before. Whatever the system refuses becomes an `ExportError` that names the path.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zeroskew.errors import ExportError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


def sha256(content: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def write_file(path: Path, content: bytes) -> str:
    """Write all of `content` or nothing; returns its SHA-256. Raises `ExportError`."""
    with _refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = _beside(path)
        try:
            with scratch.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
    return sha256(content)


def read_file(path: Path, *, what: str, mend: str | None = None) -> bytes:
    """All bytes of a file that the user named. Raises `ExportError` if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ExportError(f"there is no {what}", where=str(path), mend=mend) from None
    except OSError as error:
        raise ExportError(f"cannot be read: {error.strerror}", where=str(path)) from None


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of `path` once the block ends without an error.

    What `path` held before is removed only after the new folder stands in its place.
    """
    with _refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = _beside(path)
        try:
            fresh, old = scratch / "new", scratch / "old"
            fresh.mkdir(parents=True)
            yield fresh
            if path.exists():
                os.replace(path, old)
            try:
                os.replace(fresh, path)
            except BaseException:
                if old.exists():
                    os.replace(old, path)
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A name that nobody has, hidden from a server that polls the folder.

    Only a name: what makes the file would do so before a `try` can promise to remove it.
    """
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """A full disk or a folder that may not be written is the user's; all else is a defect."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL + _FORBIDDEN:
            raise
        raise ExportError(
            f"cannot be written: {error.strerror}",
            where=str(error.filename or path),
            mend="free some space, or choose another folder"
            if error.errno in _FULL
            else "choose a folder that you may write to",
        ) from None
