"""Evidently's report of a window, for people who want to see distributions side by side.

    path = write_evidently_report(log, "fraud", "7", since, until, "drift.html")

It is never what triggers anything: Evidently lays bins of equal width over both samples together,
so that one large value hides what moved, and it needs the rows of both sides. Here it gets samples
of bounded size. The page is one file that loads nothing; it runs Evidently's script.
"""

from __future__ import annotations

import html
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zeroskew.errors import ConfigError, DataError
from zeroskew.monitoring.raw_predictions import RawPredictions
from zeroskew.monitoring.row_sample import RowSample
from zeroskew.monitoring.served_profiles import ServedProfiles
from zeroskew.profiles import NumericProfile, Profile

if TYPE_CHECKING:
    import polars as pl

ROWS = 20_000
"""Of each side: more does not change a picture, and a report of a hundred features takes long."""
Kind = Literal["numeric", "categorical"]


def write_evidently_report(
    log: str,
    model: str,
    version: str,
    since: datetime,
    until: datetime,
    out: str | Path,
    *,
    training_set: str | Path | None = None,
    roles: Sequence[str] = ("champion", "canary"),
    rows: int = ROWS,
    notes: Sequence[str] = (),
) -> Path:
    """Compare a window of predictions with the version's training set; returns `out`.

    `log`: folder or s3:// prefix. `training_set`: its Parquet file, or a folder of them; None: rows
    are drawn from the profile that the version's servers know it by, which the page says. `rows`:
    of each side at most. `notes`: lines on top of the page, such as what the monitor has said.

    Raises `ConfigError` where Evidently is not installed, `DataError` if there is nothing to
    compare or the training set cannot be read, `ServingError` if the log cannot be read.
    """
    _evidently()
    known = ServedProfiles(log, cache_bytes=0).reference(model, version)
    if known is None:
        raise DataError(f"version {version} of {model} has served nothing yet", where=log)
    current, seen = RawPredictions(log).sample(model, version, since, until, roles, rows=rows)
    if not current.height:
        raise DataError(
            f"version {version} of {model} has served nothing as {' or '.join(roles)} from "
            f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}",
            where=log,
        )
    kinds: dict[str, Kind] = {name: column.kind for name, column in known.columns.items()}  # type: ignore[misc]
    if training_set is None:
        before, beside = _drawn_from(known, rows), "rows drawn from the training set's profile"
    else:
        before, beside = _sample_of(training_set, kinds, rows), "the training set"
    page = evidently_html(
        before,
        current,
        kinds,
        title=f"{model} version {version}: {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}",
        notes=[*notes, f"{current.height:,} of {seen:,} predictions, beside {beside}"],
    )
    target = Path(out)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(target)) from None
    finally:
        with suppress(OSError):
            partial.unlink()
    return target


def evidently_html(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    kinds: Mapping[str, Kind],
    *,
    title: str,
    notes: Sequence[str] = (),
) -> str:
    """One page about the columns of `kinds` that both frames have values in.

    Raises `ConfigError` where Evidently is not installed, and `DataError` if no column is left.
    """
    evidently, presets = _evidently()
    names = [
        name
        for name in kinds
        if all(
            name in frame.columns and frame[name].null_count() < frame.height
            for frame in (reference, current)
        )
    ]
    frames = [_plain(frame, names, kinds) for frame in (reference, current)]
    names = [name for name in names if all(frame[name].notna().any() for frame in frames)]
    if not names:
        raise DataError("the window and the training set have no column with values in common")
    definition = evidently.DataDefinition(
        numerical_columns=[name for name in names if kinds[name] == "numeric"],
        categorical_columns=[name for name in names if kinds[name] == "categorical"],
    )
    before, now = (
        evidently.Dataset.from_pandas(frame[names], data_definition=definition) for frame in frames
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = evidently.Report([presets.DataDriftPreset(columns=names)]).run(now, before)
        page = str(made.get_html_str(as_iframe=False))
    said = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    head = f'<header style="font: 14px sans-serif; margin: 24px"><h1>{html.escape(title)}</h1>'
    return page.replace("<body>", f"<body>{head}{said}</header>", 1)


def _evidently() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import evidently
            from evidently import presets
    except ImportError as error:
        raise ConfigError(
            f"a report for people needs Evidently: {error}",
            mend="pip install 'zeroskew[reports]' (it does not work with pandas 3)",
        ) from None
    return evidently, presets


def _plain(frame: pl.DataFrame, names: Sequence[str], kinds: Mapping[str, Kind]) -> Any:
    """A pandas frame of floats and texts, which is all that Evidently knows to draw."""
    import polars as pl

    columns = []
    for name in names:
        column = frame[name]
        if kinds[name] == "numeric":
            if column.dtype.is_temporal():
                column = column.dt.epoch("s")
            column = column.cast(pl.Float64, strict=False)
            columns.append(column.set(column.is_infinite().fill_null(value=False), None))
        else:
            # The values of requests become part of a script on the page.
            text = column.cast(pl.String, strict=False)
            columns.append(text.str.replace_all("<", "‹", literal=True))
    return pl.DataFrame(columns).to_pandas()


def _drawn_from(profile: Profile, rows: int) -> pl.DataFrame:
    """Rows whose columns are distributed as the profile says, each for itself.

    Within a bin every value is as likely; the outermost bins end with the training set's smallest
    and largest value.
    """
    import numpy as np
    import polars as pl

    random = np.random.default_rng(0)
    columns = []
    for name, column in profile.columns.items():
        kind = pl.Float64 if isinstance(column, NumericProfile) else pl.String
        unseen = () if isinstance(column, NumericProfile) else (column.unseen,)
        shares = np.array([*column.counts, *unseen, column.nulls], float)
        if not column.total or (kind == pl.Float64 and column.low is None):  # type: ignore[union-attr]
            columns.append(pl.Series(name, [None] * rows, dtype=kind))
            continue
        bins = random.choice(len(shares), rows, p=shares / shares.sum())
        if isinstance(column, NumericProfile):
            ends = np.array([column.low, *column.edges, column.high], float)
            here = np.minimum(bins, len(ends) - 2)
            drawn = pl.Series(name, random.uniform(ends[here], ends[here + 1]))
            columns.append(drawn.set(pl.Series(bins == len(shares) - 1), None))
        else:
            texts = [*column.values, "(others)", None]
            columns.append(pl.Series(name, [texts[each] for each in bins], dtype=kind))
    return pl.DataFrame(columns)


def _sample_of(training_set: str | Path, kinds: Mapping[str, Kind], rows: int) -> pl.DataFrame:
    import polars as pl
    import pyarrow as pa
    from pyarrow import dataset

    where = str(training_set)
    sample = RowSample(rows)
    try:
        data = dataset.dataset(where, format="parquet")
        names = [name for name in data.schema.names if name in kinds]
        for batch in data.to_batches(columns=names):
            sample.add(pa.Table.from_batches([batch]))
    except FileNotFoundError:
        raise DataError("there is no such training set", where=where) from None
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"the training set cannot be read: {error}", where=where) from None
    table = sample.table()
    return pl.DataFrame() if table is None else pl.DataFrame(pl.from_arrow(table))
