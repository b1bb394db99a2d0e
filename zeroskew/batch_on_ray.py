"""Chunks of a batch prediction as tasks of a Ray cluster.

The driver reads the entity rows and writes the file; a task gets its rows and the graph from Ray's
object store and gives scores back. What every node must have:

* zeroskew, in the driver's release (the platform image);
* the model's folder at the driver's path, with the same definitions: a worker whose definitions
  differ refuses;
* the feature sources below the driver's `ZEROSKEW_DATA` (an object store, or one file system).
  The address travels with the tasks; credentials do not, they are the nodes' own.

A worker that dies is replaced by Ray, and its chunk is scored again.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zeroskew.errors import DataError, PipelineError, ZeroskewError

if TYPE_CHECKING:
    from zeroskew.batch_chunk import ChunkScorer
    from zeroskew.features.repository import Repository

RETRIES = 3
"""Deaths of a chunk's worker that are borne."""
AHEAD = 2
"""Chunks per CPU that are under way, or wait for their turn to be written."""
MOST_AHEAD = 256
_SHARED = ("ZEROSKEW_HOME", "ZEROSKEW_DATA")
"""Not the online store's: a join needs none, and its address may hold a password."""


def score_on_ray(
    address: str,
    repository: Repository,
    service: str,
    graph: Path,
    chunks: Iterator[pl.DataFrame],
    *,
    event_timestamp: str,
) -> Generator[tuple[pl.DataFrame, NDArray[np.float32]], None, None]:
    """Every chunk with its scores, in order. Close it to call off what is under way.

    Raises `TrainingError` if the cluster does not answer, `PipelineError` if its workers cannot
    start or keep dying, and what a chunk raises here, too (`ConfigError`, `SchemaError`,
    `DataError`), with the node it happened on.
    """
    from zeroskew.training.ray_session import ray_session

    with ray_session(address):
        import ray

        content = graph.read_bytes()
        job: dict[str, Any] = {
            "folder": str(repository.folder.absolute()),
            "service": service,
            "event_timestamp": event_timestamp,
            "definitions": repository.schema_version(service),
            "graph": hashlib.sha256(content).hexdigest(),
        }
        # One CPU is what a task asks for, so one is what its libraries may use.
        environment = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
        environment |= {name: os.environ[name] for name in _SHARED if os.environ.get(name)}
        task = ray.remote(num_cpus=1, max_retries=RETRIES, runtime_env={"env_vars": environment})(
            _score
        )
        shared = ray.put(content)
        wide = int(ray.cluster_resources().get("CPU", 1)) * AHEAD
        under_way: deque[tuple[pl.DataFrame, Any]] = deque()
        try:
            for chunk in chunks:
                under_way.append((chunk, task.remote(job, shared, chunk)))
                if len(under_way) >= min(max(wide, 2), MOST_AHEAD):
                    yield _answer(*under_way.popleft())
            while under_way:
                yield _answer(*under_way.popleft())
        finally:
            for _, reference in under_way:
                ray.cancel(reference, force=True)


def _answer(chunk: pl.DataFrame, reference: Any) -> tuple[pl.DataFrame, NDArray[np.float32]]:
    import ray

    try:
        # A copy: what lies in Ray's store cannot be written to, and stays there while it is used.
        return chunk, np.array(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ZeroskewError):
            raise error.cause from None
        lines = str(error).strip().splitlines()
        raise PipelineError(
            f"a chunk failed: {lines[-1] if lines else type(error).__name__}",
            where="Ray worker",
            mend="every node needs this release of zeroskew and its dependencies",
        ) from None
    except ray.exceptions.RayError as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PipelineError(
            f"a chunk was given up after {RETRIES + 1} attempts: {first}",
            where="Ray cluster",
            mend="a worker that dies mostly lacks memory: give smaller chunks, or more of it",
        ) from None


_OPEN: dict[tuple[str, ...], ChunkScorer] = {}
"""A worker's scorer: opening one takes as long as scoring many rows."""


def _score(job: dict[str, str], graph: bytes, chunk: pl.DataFrame) -> NDArray[np.float32]:
    try:
        scorer = _scorer(job, graph)
        return scorer.score(scorer.join(chunk))
    except ZeroskewError as error:
        # On its way to the driver the error's text is made anew of its parts.
        error.where = f"Ray worker on {socket.gethostname()}, {error.where or 'entity rows'}"
        raise


def _scorer(job: dict[str, str], graph: bytes) -> ChunkScorer:
    from zeroskew.batch_chunk import ChunkScorer
    from zeroskew.features.repository import open_repository

    key = tuple(job.values())
    if key not in _OPEN:
        folder = Path(job["folder"])
        if not folder.is_dir():
            raise DataError(
                "the model's folder is not there",
                where=str(folder),
                mend="batch prediction on Ray needs it on every node, at the same path: use one "
                "image for driver and workers, or a shared file system",
            )
        # A registry of its own: opening a folder brings the registry up to date with it, and a
        # worker with other definitions must not do that to everybody's.
        private = Path(tempfile.mkdtemp(prefix="zeroskew-registry-"))
        os.environ["ZEROSKEW_REGISTRY"] = str(private / "registry.db")
        _OPEN.clear()
        _OPEN[key] = ChunkScorer(
            open_repository(folder),
            job["service"],
            graph,
            event_timestamp=job["event_timestamp"],
            schema_version=job["definitions"],
        )
    return _OPEN[key]
