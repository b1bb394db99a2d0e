"""Scores for a table of entity rows: features as of each row's own time, the serving graph.

Nothing here computes a feature or encodes one: see `batch_chunk`. A version is refused where the
folder's feature definitions are no longer those it was trained on, because its scores would be
skewed without anybody noticing.

Chunks are scored here, or on a Ray cluster (`batch_on_ray`); the file is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zeroskew.errors import DataError, SchemaError

if TYPE_CHECKING:
    from zeroskew.batch_chunk import ChunkScorer
    from zeroskew.features.repository import Repository

CHUNK_ROWS = 131_072
"""Entity rows joined and scored at a time; what bounds the memory."""

SCORE, VERSION = "score", "model_version"

Progress = Callable[[str, int, int], None]
Scored = tuple[pl.DataFrame, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What was scored."""

    rows: int
    mean_score: float
    """NaN if there were no rows."""


def score_entity_rows(
    repository: Repository,
    service: str,
    graph: str | Path,
    entity_rows: pl.LazyFrame,
    out: str | Path,
    *,
    event_timestamp: str,
    version: str = "",
    schema_version: str | None = None,
    chunk_rows: int = CHUNK_ROWS,
    on_progress: Progress | None = None,
    ray_address: str = "",
) -> BatchReport:
    """Write the entity rows, in order, with `score` (float32) and `model_version` to Parquet.

    `entity_rows` needs the entity keys, the event time and the request columns of `service`, and
    may hold anything else besides. `graph` is an exported ONNX file; which features it reads, it
    says itself. `schema_version`, if given, is the one it was trained with. `ray_address`: the Ray
    cluster that scores; what its nodes must be able to read, `batch_on_ray` says.

    `out` appears whole or not at all. Raises `ConfigError` if the definitions differ or lack a
    feature of the graph, `SchemaError` if a column is missing or in the way, `DataError` if rows
    cannot be read or the file not be written, and for a cluster what `score_on_ray` raises.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from zeroskew.batch_chunk import ChunkScorer
    from zeroskew.steps.files import replacing

    scorer = ChunkScorer(
        repository,
        service,
        graph,
        event_timestamp=event_timestamp,
        schema_version=schema_version,
        threads=len(os.sched_getaffinity(0)),
    )
    _check_columns(entity_rows.collect_schema().names(), event_timestamp)
    total = entity_rows.select(pl.len()).collect().item()
    chunks = _chunks(entity_rows, total, chunk_rows)
    done, summed = 0, 0.0
    writer: pq.ParquetWriter | None = None
    with replacing(out) as temporary:
        try:
            answers: Generator[Scored, None, None]
            if ray_address:
                from zeroskew.batch_on_ray import score_on_ray

                answers = score_on_ray(
                    ray_address, repository, service, Path(graph), chunks,
                    event_timestamp=event_timestamp,
                )  # fmt: skip
            else:
                answers = _score_here(scorer, chunks)
            with closing(answers):
                for chunk, scores in answers:
                    table = chunk.with_columns(
                        pl.Series(SCORE, scores, pl.Float32),
                        pl.lit(version, pl.String).alias(VERSION),
                    ).to_arrow(compat_level=pl.CompatLevel.oldest())
                    if writer is None:
                        writer = pq.ParquetWriter(temporary, table.schema, compression="zstd")
                    writer.write_table(table)
                    done += chunk.height
                    summed += float(scores.sum(dtype=np.float64))
                    if on_progress:
                        on_progress("rows scored", done, total)
        except (pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise DataError(f"cannot be scored: {str(error).splitlines()[0]}") from None
        finally:
            if writer is not None:
                writer.close()
    return BatchReport(done, summed / done if done else float("nan"))


def _score_here(
    scorer: ChunkScorer, chunks: Iterator[pl.DataFrame]
) -> Generator[Scored, None, None]:
    """The next chunk is joined while this one is scored and written."""
    with ThreadPoolExecutor(1) as ahead:
        pending: tuple[pl.DataFrame, Future[pl.DataFrame]] | None = None
        for chunk in chunks:
            following = chunk, ahead.submit(scorer.join, chunk)
            if pending is not None:
                yield pending[0], scorer.score(pending[1].result())
            pending = following
        if pending is not None:
            yield pending[0], scorer.score(pending[1].result())


def _check_columns(names: list[str], event_timestamp: str) -> None:
    if taken := [name for name in (SCORE, VERSION) if name in names]:
        raise SchemaError(
            f"the entity rows already have a column {taken[0]!r}",
            mend="rename it: the predictions get a column of that name",
        )
    if event_timestamp not in names:
        raise SchemaError(
            f"the entity rows lack the event time, column {event_timestamp!r}",
            mend=f"they have: {', '.join(names)}",
        )


def _chunks(rows: pl.LazyFrame, total: int, size: int) -> Iterator[pl.DataFrame]:
    """Slices in order; one empty frame if there is nothing: a file is written all the same."""
    for start in range(0, max(total, 1), size):
        yield rows.slice(start, size).collect()
