"""Bring the newest values of the offline source to the online store.

Incremental: each view goes on where its last materialisation ended, by Feast's own intervals in
the registry, so that `feast materialize-incremental` and this continue each other. An interval is
recorded only after all of its rows are written; whatever breaks off is simply done again, and
newer values are never overwritten (see `online_writer`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroskew.errors import ConfigError, FeatureStoreError, ZeroskewError
from zeroskew.features.online_writer import OnlineWriter, ViewLayout, WriteCount
from zeroskew.features.read_plan_compiler import kind_of
from zeroskew.features.redis_connection import connect

if TYPE_CHECKING:
    import pyarrow as pa

    from zeroskew.features.repository import Repository

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class ViewReport:
    """What was done for one view."""

    view: str
    start: datetime
    end: datetime
    written: int
    kept: int
    """Entities whose online value was as new or newer."""
    dropped: int
    """Rows with a null in the key or no event time."""
    seconds: float

    @property
    def rows(self) -> int:
        """Entities that the source had values for in the interval."""
        return self.written + self.kept + self.dropped


@dataclass(frozen=True, slots=True)
class MaterialiseReport:
    """What was done, view by view."""

    views: tuple[ViewReport, ...]

    @property
    def rows(self) -> int:
        return sum(view.rows for view in self.views)

    @property
    def written(self) -> int:
        return sum(view.written for view in self.views)

    def to_json(self) -> dict[str, Any]:
        listed = []
        for view in self.views:
            row = asdict(view)
            row["start"], row["end"] = view.start.isoformat(), view.end.isoformat()
            listed.append(row)
        return {"views": listed, "rows": self.rows, "written": self.written}


def online_client(repository: Repository) -> Any:
    """A Redis client for the repository's online store.

    Raises `ConfigError` if feature_store.yaml names another store, or a variable that is not set.
    """
    where = str(repository.folder / "feature_store.yaml")
    config = repository.config.online_store
    if getattr(config, "type", None) != "redis":
        raise ConfigError(
            f"the online store is {getattr(config, 'type', 'not set')}, not redis",
            where=where,
            mend="set `online_store: {type: redis, connection_string: ${ZEROSKEW_REDIS}}`",
        )
    text = os.path.expandvars(config.connection_string)
    if "$" in text or not text.strip():
        raise ConfigError(
            f"the online store's connection string is `{config.connection_string}`, "
            "and that variable is not set",
            where=where,
            mend="export ZEROSKEW_REDIS=host:port, or run `zeroskew up` and the `zeroskew` command",
        )
    return connect(
        text,
        redis_type=str(getattr(config.redis_type, "value", config.redis_type)),
        sentinel_master=config.sentinel_master,
    )


def view_layout(repository: Repository, view: Any) -> ViewLayout:
    """Where rows of a Feast feature view go. Raises `ConfigError` on types Redis cannot hold."""
    from feast.feature_view import DUMMY_ENTITY_ID
    from feast.infra.online_stores.helpers import compute_versioned_name

    config = repository.config
    versioned = bool(getattr(config.registry, "enable_online_feature_view_versioning", False))
    return ViewLayout(
        project=repository.project,
        name=compute_versioned_name(view, versioned),
        keys={
            column.name: kind_of(column.dtype, f"join key {column.name} of {view.name}")
            for column in view.entity_columns
            if column.name != DUMMY_ENTITY_ID
        },
        features={
            field.name: kind_of(field.dtype, f"feature {view.name}:{field.name}")
            for field in view.features
        },
        key_ttl_seconds=getattr(config.online_store, "key_ttl_seconds", None) or 0,
    )


def materialise(
    repository: Repository,
    *,
    views: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime,
    client: Any = None,
    replace_ties: bool = False,
    on_progress: Progress | None = None,
) -> MaterialiseReport:
    """Write the latest value per entity of `[start, end]` to the online store.

    `views` None: all that are online. `start` None: each view's last recorded end, or for a view
    that was never materialised `end` minus its TTL (everything, if it has none). Times without a
    zone are UTC. `replace_ties` also rewrites values of the same event time, for sources corrected
    after the fact. Safe to repeat; may be interrupted at any moment.

    Raises `ConfigError` on unknown views or a start after the end, `OnlineStoreUnavailable`, and
    `DataError` or `FeatureStoreError` when the source cannot be read.
    """
    end = aware(end)
    start = aware(start) if start is not None else None
    if start is not None and start > end:
        raise ConfigError(
            f"start ({start.isoformat()}) is after end ({end.isoformat()})", where="materialise"
        )
    chosen = _chosen(repository, views)
    writer = OnlineWriter(client if client is not None else online_client(repository))
    reports = []
    for view in chosen:
        began = time.monotonic()
        since = start if start is not None else _continue_from(view, end)
        count = WriteCount()
        if since <= end:
            count = _one_view(repository, view, since, end, writer, replace_ties, on_progress)
            _record(repository, view, since, end)
        reports.append(
            ViewReport(
                view.name,
                since,
                end,
                count.written,
                count.kept,
                count.dropped,
                time.monotonic() - began,
            )
        )
    return MaterialiseReport(tuple(reports))


def aware(moment: datetime) -> datetime:
    """The moment in UTC; without a zone it already is."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _chosen(repository: Repository, names: Sequence[str] | None) -> list[Any]:
    known = repository.definitions.feature_views
    if names is None:
        return [view for view in map(repository.view, known) if view.online]
    chosen = [repository.view(name) for name in dict.fromkeys(names)]
    for view in chosen:
        if not view.online:
            raise ConfigError(
                f"feature view {view.name} is not served online",
                where=str(repository.folder / "features.py"),
                mend="set online=True in its definition, or leave it out",
            )
    return chosen


def _continue_from(view: Any, end: datetime) -> datetime:
    last = view.most_recent_end_time
    if last is not None:
        return aware(last)
    return end - view.ttl if view.ttl else EPOCH


def _one_view(
    repository: Repository,
    view: Any,
    start: datetime,
    end: datetime,
    writer: OnlineWriter,
    replace_ties: bool,
    on_progress: Progress | None,
) -> WriteCount:
    if on_progress is not None:
        on_progress(view.name, 0, 0)
    if getattr(view, "feature_transformation", None) or getattr(view, "aggregations", None):
        return _by_feast(repository, view, start, end)
    table = _latest(repository, view, start, end)
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if on_progress is not None:
            on_progress(view.name, done, table.num_rows)

    return writer.write(
        view_layout(repository, view),
        table,
        event_time=view.batch_source.timestamp_field,
        replace_ties=replace_ties,
        on_rows=count,
    )


def _latest(repository: Repository, view: Any, start: datetime, end: datetime) -> pa.Table:
    """Newest row per entity, columns named as the view names them."""
    keys, features, timestamp, created = source_columns(repository, view)
    provider = repository.store._get_provider()
    try:
        job = provider.offline_store.pull_latest_from_table_or_query(
            config=repository.config,
            data_source=view.batch_source,
            join_key_columns=keys,
            feature_name_columns=features,
            timestamp_field=timestamp,
            created_timestamp_column=created,
            start_date=start,
            end_date=end,
        )
        table = job.to_arrow()
    except ZeroskewError:
        raise
    except Exception as error:  # whatever the warehouse's own client raises
        raise FeatureStoreError(
            f"the offline store cannot be read: {type(error).__name__}: {error}",
            where=f"feature view {view.name}",
        ) from error
    mapping = view.batch_source.field_mapping or {}
    return table.rename_columns([mapping.get(name, name) for name in table.column_names])


def source_columns(
    repository: Repository, view: Any
) -> tuple[list[str], list[str], str, str | None]:
    """Keys, features, event time and creation time by the names they have in the view's source."""
    from feast import utils

    registry = repository.store.registry
    entities = [
        registry.get_entity(name, repository.project, allow_cache=True) for name in view.entities
    ]
    return utils._get_column_names(view, entities)


def _by_feast(repository: Repository, view: Any, start: datetime, end: datetime) -> WriteCount:
    """Views that Feast's compute engine transforms on the way are left to it."""
    from tqdm import tqdm

    repository.store._get_provider().materialize_single_feature_view(
        config=repository.config,
        feature_view=view,
        start_date=start,
        end_date=end,
        registry=repository.store.registry,
        project=repository.project,
        tqdm_builder=lambda length: tqdm(total=length, disable=True),
    )
    return WriteCount()


def _record(repository: Repository, view: Any, start: datetime, end: datetime) -> None:
    from zeroskew.features.registry_file import registry_lock

    registry = repository.store.registry
    path = getattr(repository.config.registry, "path", None)
    local = isinstance(path, str) and "://" not in path
    with registry_lock(Path(path) if local and path else None):
        repository.store.refresh_registry()
        registry.apply_materialization(view, repository.project, start, end, commit=True)
