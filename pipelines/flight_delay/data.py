"""Write the example's feature sources and entity rows from the raw flights, once.

    python -m pipelines.flight_delay.data .zeroskew/data
    python -m pipelines.flight_delay.data s3://features      # for the pods of a cluster

The second command is for a cluster, whose pods do not have the raw flights: they take what it put
into the bucket.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.flight_delay import raw as raw_module
from pipelines.flight_delay import rolling, sources
from pipelines.flight_delay.raw import PACKAGE, is_installed, raw_digest, read_raw
from zeroskew.errors import DataError, ZeroskewError

Progress = Callable[[str, int, int], None]

FOLDER = "flight_delay"
MARKER = "prepared.json"
_TEMPORARY = f".{FOLDER}-"
_ROW_GROUP = 50_000
"""Rows are in time order, so a reader of one month skips most row groups of this size."""


def prepare(data_root: str, on_progress: Progress | None = None) -> None:
    """Write `<data_root>/flight_delay/*.parquet`; do nothing if they are there and current.

    `data_root` is a folder or an address such as `s3://bucket/prefix`. Files are current when the
    marker beside them names the same raw data and the same code, and every file has the size it
    had when it was written. Where the raw data is not installed, as in a pod, the same code and
    sizes are enough. The files are made in a temporary folder and moved into place; the marker goes
    first and comes back last, so an interrupted run is repeated and never half believed.

    Raises `DataError` when the raw data is damaged, when it is not installed and the files are not
    there either, or when nothing can be written.
    """
    wanted = Wanted.here()
    try:
        if "://" in data_root:
            _prepare_remote(data_root.rstrip("/"), wanted, on_progress)
        else:
            _prepare_local(Path(data_root), wanted, on_progress)
    except OSError as error:
        raise DataError(
            f"cannot be written: {error.strerror or error}",
            where=f"{data_root}/{FOLDER}",
            mend="free some space (60 MB are enough) or choose another place in ZEROSKEW_DATA",
        ) from None
    if on_progress:
        on_progress("flights are prepared", 1, 1)


def _prepare_local(root: Path, wanted: Wanted, on_progress: Progress | None) -> None:
    folder = root / FOLDER

    def current() -> bool:
        return _is_current(
            wanted, lambda name: (folder / name).read_bytes(), lambda n: (folder / n).stat().st_size
        )

    if current():
        return
    if wanted.raw is None:
        raise _cannot_be_made(str(folder))
    root.mkdir(parents=True, exist_ok=True)
    with _only_one(root):
        if not current():
            _write(root, wanted, on_progress)


def _prepare_remote(root: str, wanted: Wanted, on_progress: Progress | None) -> None:
    """As `_prepare_local`, by way of a local folder that is then uploaded."""
    import fsspec
    from botocore.exceptions import BotoCoreError

    try:
        store, folder = fsspec.url_to_fs(f"{root}/{FOLDER}")
        store.invalidate_cache()
        if _is_current(
            wanted,
            lambda name: store.cat_file(f"{folder}/{name}"),
            lambda name: store.info(f"{folder}/{name}")["size"],
        ):
            return
        if wanted.raw is None:
            raise _cannot_be_made(f"{root}/{FOLDER}")
        with tempfile.TemporaryDirectory() as temporary:
            _write(Path(temporary), wanted, on_progress)
            made = Path(temporary) / FOLDER
            if store.exists(f"{folder}/{MARKER}"):
                store.rm_file(f"{folder}/{MARKER}")
            names = [file.name for file in made.iterdir() if file.name != MARKER]
            for done, name in enumerate([*sorted(names), MARKER]):
                if on_progress:
                    on_progress(f"upload {name}", done, len(names) + 1)
                store.put_file(str(made / name), f"{folder}/{name}")
    except (BotoCoreError, ImportError, ValueError) as error:  # no such host, scheme, credentials
        raise OSError(str(error)) from None


def _write(root: Path, wanted: Wanted, on_progress: Progress | None) -> None:
    for leftover in root.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if on_progress:
        on_progress("read the raw flights", 0, 1)
    tables = sources.build(read_raw(), on_progress)
    temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=root))
    try:
        for done, (name, table) in enumerate(tables.items()):
            if on_progress:
                on_progress(f"write {name}", done, len(tables))
            table.write_parquet(
                temporary / f"{name}.parquet", row_group_size=_ROW_GROUP, compression="zstd"
            )
        sizes = {file.name: file.stat().st_size for file in sorted(temporary.iterdir())}
        rows = {name: table.height for name, table in tables.items()}
        marker = {"code": wanted.code, "raw": wanted.raw, "files": sizes, "rows": rows}
        (temporary / MARKER).write_text(json.dumps(marker, indent=2), encoding="utf-8")

        target = root / FOLDER
        target.mkdir(exist_ok=True)
        (target / MARKER).unlink(missing_ok=True)
        for name in [*sizes, MARKER]:
            os.replace(temporary / name, target / name)
    except pl.exceptions.PolarsError as error:
        raise OSError(str(error)) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What current files are made by and made of."""

    code: str
    """SHA-256 over the code that turns raw data into tables."""
    raw: str | None
    """SHA-256 over the raw data; None where it is not installed, so that any will do."""

    @classmethod
    def here(cls) -> Wanted:
        digest = hashlib.sha256()
        for module in (raw_module, rolling, sources, sys.modules[__name__]):
            digest.update(Path(str(module.__file__)).read_bytes())
        return cls(digest.hexdigest(), raw_digest() if is_installed() else None)


def _is_current(
    wanted: Wanted, read: Callable[[str], bytes], size_of: Callable[[str], int]
) -> bool:
    try:
        marker: Any = json.loads(read(MARKER))
        return (
            marker["code"] == wanted.code
            and wanted.raw in (None, marker["raw"])
            and all(size_of(name) == size for name, size in marker["files"].items())
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _cannot_be_made(where: str) -> DataError:
    return DataError(
        f"holds no flights prepared by this code, and the package {PACKAGE}, from which they are "
        "made, is not installed here",
        where=where,
        mend=f"run `python -m pipelines.flight_delay.data {where.rpartition('/')[0]}` once, from a "
        f"checkout of this code where {PACKAGE} is installed (`make install`, or `pip install "
        f"{PACKAGE}==0.0.3`)",
    )


@contextmanager
def _only_one(root: Path) -> Iterator[None]:
    """Hold the folder's lock: two runs at once would take each other's files for leftovers."""
    with open(root / f".{FOLDER}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        prepare(
            sys.argv[1] if len(sys.argv) > 1 else ".zeroskew/data",
            lambda what, done, total: print(f"{done}/{total} {what}"),
        )
    except ZeroskewError as error:
        sys.exit(str(error))
