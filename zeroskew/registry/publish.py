"""Runs behind versions: one per version with metrics and artifacts, one per model with the log."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroskew.record import VersionRecord
from zeroskew.registry import files as version_files
from zeroskew.registry.versions import IDENTITY, KIND

if TYPE_CHECKING:
    from zeroskew.registry.backend import Backend

MAX_PARAM = 6_000


def publish(
    backend: Backend,
    record: VersionRecord,
    identity: str,
    listed: version_files.FileList,
    sources: Mapping[str, Path],
    params: Mapping[str, Any],
    on_progress: version_files.Progress | None,
) -> str:
    """A finished run with the record's metrics, tags and every file; its id.

    A run of the same identity that was broken off is gone on with: its content is the same.
    """
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.utils.time import get_current_time_millis

    client = backend.client
    experiment = backend.experiment(record.model)
    begun = client.search_runs(
        [experiment], f"tags.`{IDENTITY}` = '{identity}'", max_results=1, order_by=["start_time"]
    )
    known: Mapping[str, str] = {}
    if begun:
        run_id, known = begun[0].info.run_id, begun[0].data.params
    else:
        tags = {KIND: "version", IDENTITY: identity}
        run_id = client.create_run(experiment, tags=tags, run_name=_run_name(record)).info.run_id
    try:
        if not begun or begun[0].info.status != "FINISHED":
            now = get_current_time_millis()
            measured = [
                Metric(name + ending, number, now, 0)
                for name, measure in record.metrics.items()
                for ending, number in zip(
                    ("", "_low", "_high"), (measure.value, measure.low, measure.high), strict=True
                )
                if number is not None
            ]
            tags = record.to_tags()
            client.log_batch(
                run_id,
                metrics=measured,
                params=[
                    Param(key, str(value)[:MAX_PARAM])
                    for key, value in params.items()
                    if key not in known
                ],
                tags=[RunTag(key, value) for key, value in tags.items()],
            )
        version_files.upload(client, run_id, sources, listed, on_progress)
    except BaseException:
        _end(backend, run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return str(run_id)


def log_run(backend: Backend, name: str) -> str:
    """A new, empty run for the promotion log of a model."""
    client = backend.client
    run = client.create_run(
        backend.experiment(name), tags={KIND: "promotions"}, run_name="promotions"
    )
    client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)


def _end(backend: Backend, run_id: str, status: str) -> None:
    """Mark a run that broke off; the reason it broke off is the error that matters."""
    with contextlib.suppress(Exception):
        backend.client.set_terminated(run_id, status)


def _run_name(record: VersionRecord) -> str:
    return f"{record.code_sha[:10]}-{record.data_hash[:10]}"
