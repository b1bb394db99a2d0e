"""What two versions answered in a window of time, and the answers to the same request side by side.

A mirrored request reaches both versions with the same id, so that (request id, row) pairs what they
logged. Which files are opened is decided by when they were written: a row is in a file that is no
older than its answer. The log arrives late (a flush and an upload); nothing is said about rows
answered after the moment up to which both logs are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from zeroskew.errors import DataError, ServingError
from zeroskew.serving.log_sink import check_sink, sink_filesystem
from zeroskew.serving.log_spool import quoted

if TYPE_CHECKING:
    import polars as pl

KEY = ("request_id", "row")
ALWAYS = ("request_id", "row", "role", "score", "degraded", "latency_us", "answered_at")
SLACK = timedelta(seconds=60)
"""A copy may be answered that much before or after its original."""


@dataclass(frozen=True)
class Pairs:
    """Rows that both versions answered: every column twice, as `champion_…` and `challenger_…`."""

    frame: pl.DataFrame
    unanswered: int
    """Rows of the champion without one of the challenger, where both logs are there."""
    ambiguous: int
    """Request ids left out because a client used them more than once."""


def read_predictions(
    log: str,
    model: str,
    version: str,
    *,
    since: datetime,
    until: datetime,
    roles: Sequence[str],
    columns: Sequence[str] | None = (),
) -> pl.DataFrame:
    """Rows answered in [since, until) in one of `roles`: `ALWAYS`, and `columns` (None: all).

    `log`: folder or s3:// prefix, as ZEROSKEW_PREDICTION_LOG. Raises `ServingError` if it cannot be
    read and `DataError` if it lacks a column.
    """
    import polars as pl
    import pyarrow.compute as pc
    from pyarrow import dataset, fs

    system, root = sink_filesystem(check_sink(log))
    folder = f"{root}/model={quoted(model)}/version={quoted(version)}"
    try:
        listed = system.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True))
        paths = [
            each.path
            for each in listed
            if each.type == fs.FileType.File
            and each.base_name.endswith(".parquet")
            and not each.base_name.startswith((".", "_"))
            # Clocks of a store and of a server may differ a little.
            and (each.mtime is None or each.mtime >= since - SLACK)
        ]
        if not paths:
            return pl.DataFrame(schema=dict.fromkeys((*ALWAYS, *(columns or ())), pl.Null))
        found = dataset.dataset(paths, filesystem=system, format="parquet")
        wanted = found.schema.names if columns is None else [*dict.fromkeys((*ALWAYS, *columns))]
        if lacking := [name for name in wanted if name not in found.schema.names]:
            raise DataError(
                f"the prediction log has no column {', '.join(lacking)}",
                where=f"{log} model {model} version {version}",
                mend="name columns of the model: entities, request columns, features",
            )
        moment = pc.field("answered_at")
        table = found.to_table(
            columns=wanted,
            filter=(moment >= pc.scalar(since.astimezone(UTC)))
            & (moment < pc.scalar(until.astimezone(UTC)))
            & pc.field("role").isin(list(roles)),
        )
    except OSError as error:
        raise ServingError(f"the prediction log cannot be read: {error}", where=log) from None
    return pl.DataFrame(pl.from_arrow(table))


def pair(champion: pl.DataFrame, challenger: pl.DataFrame) -> Pairs:
    """Both versions' rows with the same request id and row; see `Pairs`."""
    import polars as pl

    if not champion.height or not challenger.height:
        empty = [
            pl.Series(f"{who}_{name}", [], dtype)
            for who, frame in (("champion", champion), ("challenger", challenger))
            for name, dtype in frame.schema.items()
        ]
        return Pairs(pl.DataFrame(empty), unanswered=0, ambiguous=0)
    twice = pl.concat(
        [
            frame.group_by(KEY).len().filter(pl.col("len") > 1).select("request_id").unique()
            for frame in (champion, challenger)
        ]
    ).unique()
    one, other = (
        frame.join(twice, on="request_id", how="anti") for frame in (champion, challenger)
    )
    both = one.rename({name: f"champion_{name}" for name in one.columns}).join(
        other.rename({name: f"challenger_{name}" for name in other.columns}),
        left_on=[f"champion_{name}" for name in KEY],
        right_on=[f"challenger_{name}" for name in KEY],
        how="left",
        coalesce=False,
    )
    last: datetime = challenger["answered_at"].max()  # type: ignore[assignment]
    lonely = pl.col("challenger_request_id").is_null()
    unanswered = both.filter(lonely & (pl.col("champion_answered_at") < last)).height
    return Pairs(both.filter(~lonely), unanswered=unanswered, ambiguous=twice.height)
