"""Frames in and out of the command line: files read with one message when they are wrong, written
to a sibling and renamed, or drawn on the terminal.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from zeroskew.errors import ConfigError, DataError

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".parquet", ".csv", ".json", ".ndjson")


def moment(text: str | None, option: str) -> datetime | None:
    """ISO 8601 as a moment in UTC; without a zone it is UTC. Raises `ConfigError`."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"`{text}` is no moment in ISO 8601",
            where=option,
            mend="write 2013-07-01, 2013-07-01T12:30 or 2013-07-01T12:30:00Z",
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def read_frame(path: Path, option: str) -> pl.DataFrame:
    """Rows of a Parquet, CSV or JSON file. Raises `DataError` naming the file and what is wrong."""
    import polars as pl

    readers: dict[str, Callable[..., pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".csv": lambda p: pl.read_csv(p, try_parse_dates=True),
        ".json": pl.read_json,
        ".ndjson": pl.read_ndjson,
    }
    reader = readers.get(path.suffix.lower()) or (pl.read_parquet if path.is_dir() else None)
    if reader is None:
        raise ConfigError(
            f"{path} is none of {', '.join(SUFFIXES)}", where=option, mend="convert it to Parquet"
        )
    try:
        frame = reader(path)
    except FileNotFoundError:
        raise DataError(
            "there is no such file", where=str(path), mend=f"correct {option}"
        ) from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"cannot be read: {error}",
            where=str(path),
            mend="it may be cut short or another format than its name says",
        ) from None
    if frame.is_empty():
        raise DataError("holds no rows", where=str(path))
    return frame


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """Write by suffix; the file is there whole or not at all.

    Raises `ConfigError` on an unknown suffix, `DataError` when the disk refuses.
    """
    import polars as pl

    writers: dict[str, Callable[[pl.DataFrame, Any], Any]] = {
        ".parquet": lambda f, p: f.write_parquet(p),
        ".csv": lambda f, p: f.write_csv(p),
        ".json": lambda f, p: f.write_json(p),
        ".ndjson": lambda f, p: f.write_ndjson(p),
    }
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise ConfigError(f"{path} is none of {', '.join(SUFFIXES)}", where="--out")
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            writer(frame, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"cannot be written: {error}",
            where=str(path),
            mend="free the disk or name another place with --out; nothing was left there",
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on stderr; yields what library functions take as `on_progress`."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total or None)
            progress.update(tasks[what], completed=done, total=total or None)

        yield tell
        for task in tasks.values():
            if progress.tasks[task].total is None:
                progress.update(task, total=1, completed=1)
