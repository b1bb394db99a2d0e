"""Scores for a table of entity rows: features as of each row's own time, the serving graph.

Nothing here computes a feature or encodes one: the join is the training set's, the encoder and the
graph are the server's. A version is refused where the folder's feature definitions are no longer
those it was trained on, because its scores would be skewed without anybody noticing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from zeroskew.errors import ConfigError, DataError, SchemaError
from zeroskew.features.row import FeatureRow

if TYPE_CHECKING:
    from zeroskew.features.repository import Repository

CHUNK_ROWS = 500_000
"""Entity rows joined and scored at a time; what bounds the memory."""

SCORE, VERSION = "score", "model_version"

Progress = Callable[[str, int, int], None]


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
) -> BatchReport:
    """Write the entity rows, in order, with `score` (float32) and `model_version` to Parquet.

    `entity_rows` needs the entity keys, the event time and the request columns of `service`, and
    may hold anything else besides. `graph` is an exported ONNX file; which features it reads, it
    says itself. `schema_version`, if given, is the one it was trained with.

    `out` appears whole or not at all. Raises `ConfigError` if the definitions differ or lack a
    feature of the graph, `SchemaError` if a column is missing or in the way, `DataError` if rows
    cannot be read or the file not be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from zeroskew.export.scoring import Scorer
    from zeroskew.features.service_join import join_service
    from zeroskew.steps.files import replacing

    scorer = Scorer(graph, threads=0)
    row = FeatureRow.from_json(json.loads(scorer.metadata["zeroskew.row"]))
    _check_definitions(repository, service, row, schema_version)
    names = entity_rows.collect_schema().names()
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
    total = entity_rows.select(pl.len()).collect().item()
    done, summed = 0, 0.0
    writer: pq.ParquetWriter | None = None
    with replacing(out) as temporary:
        try:
            for chunk in _chunks(entity_rows, total, chunk_rows):
                joined = join_service(repository, service, chunk, event_timestamp=event_timestamp)
                scores = scorer.score(*row.encode({name: joined[name] for name in row.names}))
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


def _check_definitions(
    repository: Repository, service: str, row: FeatureRow, schema_version: str | None
) -> None:
    known = repository.feature_types(service)
    if missing := [name for name in row.names if name not in known]:
        raise ConfigError(
            f"the version reads {', '.join(missing)}, which service {service} does not have",
            where=str(repository.folder),
            mend="score with the code the version was trained with; its record names the commit",
        )
    current = repository.schema_version(service)
    if schema_version is not None and schema_version != current:
        raise ConfigError(
            f"the version was trained with feature definitions {schema_version[:12]}, the folder "
            f"holds {current[:12]}",
            where=str(repository.folder),
            mend="score with the code the version was trained with, or train a version with these",
        )


def _chunks(rows: pl.LazyFrame, total: int, size: int) -> Iterator[pl.DataFrame]:
    """Slices in order; one empty frame if there is nothing: a file is written all the same."""
    for start in range(0, max(total, 1), size):
        yield rows.slice(start, size).collect()
