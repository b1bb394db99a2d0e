"""One chunk of entity rows: joined, encoded, scored. What a laptop and a Ray worker both run.

The join is the training set's, the encoder and the graph are the server's. Blocks of rows are
encoded and scored while they are in the processor's cache, on as many threads as are given; how
many makes no difference to any score.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zeroskew.errors import ConfigError
from zeroskew.export.scoring import CHUNK, Scorer
from zeroskew.features.row import MISSING, FeatureRow
from zeroskew.features.service_join import join_service

if TYPE_CHECKING:
    from zeroskew.features.repository import Repository


class ChunkScorer:
    """A graph beside the definitions that feed it; both may be used from several threads."""

    def __init__(
        self,
        repository: Repository,
        service: str,
        graph: str | Path | bytes,
        *,
        event_timestamp: str,
        schema_version: str | None = None,
        threads: int = 1,
    ) -> None:
        """`schema_version`: that of the definitions the graph was trained with, if known.

        Raises `ConfigError` if the definitions differ from those or lack a feature of the graph.
        """
        self._repository, self._service = repository, service
        self._event_timestamp, self._threads = event_timestamp, threads
        self._scorer = Scorer(graph)
        self._row = FeatureRow.from_json(json.loads(self._scorer.metadata["zeroskew.row"]))
        self._numbers = FeatureRow(self._row.numeric, ())
        # Feast's registry reads through a cache that is not made for several threads.
        self._one_join = threading.Lock()
        _check_definitions(repository, service, self._row, schema_version)

    def join(self, chunk: pl.DataFrame) -> pl.DataFrame:
        """The features of the graph, as of each row's own time. Raises what `join_service` does."""
        with self._one_join:
            joined = join_service(
                self._repository, self._service, chunk, event_timestamp=self._event_timestamp
            )
        return joined.select(self._row.names)

    def score(self, joined: pl.DataFrame) -> NDArray[np.float32]:
        """One score per row of what `join` gave."""
        codes = {name: _codes(joined[name]) for name in self._row.categorical}
        starts = range(0, joined.height, CHUNK)

        def block(start: int) -> NDArray[np.float32]:
            rows = joined.slice(start, CHUNK)
            categorical = np.empty((rows.height, len(codes)), np.int32)
            for position, values in enumerate(codes.values()):
                categorical[:, position] = values[start : start + CHUNK]
            return self._scorer.score(self._numeric(rows), categorical)

        if not len(starts):
            return np.empty(0, np.float32)
        if self._threads == 1:
            return np.concatenate([block(start) for start in starts])
        with ThreadPoolExecutor(self._threads) as pool:
            return np.concatenate(list(pool.map(block, starts)))

    def _numeric(self, rows: pl.DataFrame) -> NDArray[np.float32]:
        if not self._row.numeric:
            return np.empty((rows.height, 0), np.float32)
        columns: Mapping[str, pl.Series] = {name: rows[name] for name in self._row.numeric}
        return self._numbers.encode(columns)[0]


def _codes(column: pl.Series) -> NDArray[np.int32]:
    """What `FeatureRow.encode` makes of a column, by way of its distinct values.

    Strings only: the spelling of a number depends on whether its column has gaps.
    """
    if column.dtype != pl.String:
        return FeatureRow((), ("one",)).encode({"one": column})[1][:, 0]
    coded = column.to_arrow().dictionary_encode()
    known = FeatureRow((), ("one",)).encode({"one": coded.dictionary})[1][:, 0]
    known = np.append(known, np.int32(MISSING))
    return known[coded.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)]


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
