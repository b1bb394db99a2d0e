"""Feast's offline store on Polars: history joined point in time, without losing or leaking a row.

    offline_store:
      type: zeroskew.features.offline_store.PolarsOfflineStore
      filter_by_created_timestamp: true    # the default

`FeatureStore.get_historical_features`, `materialize`, saved datasets and feature logging use it.
Entity rows given as SQL are run by Polars: its tables are the project's feature views and data
sources by name, and `read_parquet('…')`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.offline_stores.offline_store import (
    OfflineStore,
    RetrievalJob,
    RetrievalMetadata,
)
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.saved_dataset import SavedDatasetStorage

from zeroskew.errors import ConfigError, SchemaError
from zeroskew.features import moments
from zeroskew.features.entity_rows import (
    EVENT_TIMESTAMP,
    entity_rows_of,
    event_timestamp_of,
)
from zeroskew.features.join import point_in_time_join
from zeroskew.features.retrieval import join_views, questions_of
from zeroskew.features.source_writing import append, overwrite, write_log
from zeroskew.features.sources import (
    collect,
    column_types,
    is_readable,
    place_of,
    scan_source,
)


class PolarsOfflineStoreConfig(FeastConfigBaseModel):
    """Section `offline_store` of feature_store.yaml."""

    type: Literal["zeroskew.features.offline_store.PolarsOfflineStore"] = (
        "zeroskew.features.offline_store.PolarsOfflineStore"
    )
    filter_by_created_timestamp: bool = True
    """Where a source has a created timestamp, a value counts from that moment on, so that a
    backfill cannot leak into the past. Feast's own stores do this only when asked per call."""


class PolarsRetrievalJob(RetrievalJob):
    """A retrieval that runs when its result is asked for, once."""

    def __init__(
        self,
        evaluate: Callable[[], pl.DataFrame],
        *,
        repo_path: Any,
        full_feature_names: bool = False,
        on_demand: Sequence[OnDemandFeatureView] = (),
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._repo_path = repo_path
        self._full_feature_names = full_feature_names
        self._on_demand = list(on_demand)
        self._metadata = metadata
        self._frame: pl.DataFrame | None = None

    def to_polars(self) -> pl.DataFrame:
        """Stored features as a Polars frame, without on-demand transforms."""
        if self._frame is None:
            self._frame = self._evaluate()
        return self._frame

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return arrow_of(self.to_polars())

    def _to_df_internal(self, timeout: int | None = None) -> Any:
        return self._to_arrow_internal(timeout).to_pandas()

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,
        timeout: int | None = None,
    ) -> None:
        """Write the result, on-demand features included, where a saved dataset lives."""
        overwrite(
            storage.to_data_source(),
            self.to_arrow(timeout=timeout),
            self._repo_path,
            allow_overwrite=allow_overwrite,
        )


class PolarsOfflineStore(OfflineStore):
    """See the module's text."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **options: Any,
    ) -> RetrievalJob:
        """Entity rows (pandas, Polars or SQL) with the features known at their event time.

        Without entity rows, `start_date` and `end_date` ask for every change in that range; values
        then count from their event time on, whenever they were written, unless
        `filter_by_created_timestamp` is passed. Naive dates are UTC.
        """
        repo_path = config.repo_path
        views = join_views(
            feature_views, feature_refs, repo_path, full_feature_names=full_feature_names
        )
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        asked_filter = bool(options.get("filter_by_created_timestamp", False))
        start: datetime | None
        end: datetime | None
        if entity_df is None:
            start, end = first, last = _range(feature_views, options)
            rows = questions_of(views, first, last, EVENT_TIMESTAMP)
            event_timestamp, filtered = EVENT_TIMESTAMP, asked_filter
        else:
            rows = entity_rows_of(entity_df, registry, project, repo_path)
            event_timestamp = event_timestamp_of(rows)
            filtered = asked_filter or filters_by_created(config)
            start, end = _bounds(rows, event_timestamp)

        def evaluate() -> pl.DataFrame:
            return point_in_time_join(
                rows, views, event_timestamp=event_timestamp, filter_by_created=filtered
            )

        return PolarsRetrievalJob(
            evaluate,
            repo_path=repo_path,
            full_feature_names=full_feature_names,
            on_demand=on_demand,
            metadata=RetrievalMetadata(
                features=list(feature_refs),
                keys=[name for name in rows.columns if name != event_timestamp],
                min_event_timestamp=start,
                max_event_timestamp=end,
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """Newest row per key with `start_date <= event time <= end_date`, ties by creation.

        Rows without an event time or with a null key are left out.
        """

        def evaluate() -> pl.DataFrame:
            frame = _pull(
                config,
                data_source,
                [*join_key_columns, *feature_name_columns],
                timestamp_field,
                created_timestamp_column,
                start_date,
                end_date,
            )
            return latest_per_key(
                frame, join_key_columns, timestamp_field, created_timestamp_column
            )

        return PolarsRetrievalJob(evaluate, repo_path=config.repo_path)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Every row with `start_date <= event time <= end_date`."""

        def evaluate() -> pl.DataFrame:
            return _with_dummy_key(
                _pull(
                    config,
                    data_source,
                    [*join_key_columns, *feature_name_columns],
                    timestamp_field,
                    created_timestamp_column,
                    start_date,
                    end_date,
                ),
                join_key_columns,
            )

        return PolarsRetrievalJob(evaluate, repo_path=config.repo_path)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows to the source of a feature view. Columns must be the source's own."""
        source = feature_view.batch_source
        if source is None:
            raise ConfigError(f"feature view {feature_view.name} has no batch source to write to")
        append(source, table, config.repo_path)
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Append a log of served features to its destination, a folder of Parquet files."""
        if isinstance(data, Path):
            import pyarrow.parquet as pq

            data = pq.read_table(data)
        write_log(logging_config.destination, data, config.repo_path)

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Raises `DataError` or `SchemaError` if the table or its time columns are not there."""
        if not hasattr(data_source, "timestamp_field") or not is_readable(data_source):
            return
        origin = {mapped: column for column, mapped in data_source.field_mapping.items()}
        where = place_of(data_source, config.repo_path)
        columns = [name for name, _ in column_types(data_source, config.repo_path)]
        for name in (data_source.timestamp_field, data_source.created_timestamp_column):
            column = origin.get(name, name)
            if column and column not in columns:
                raise SchemaError(
                    f"lacks column {column!r}",
                    where=where,
                    mend=f"it has: {', '.join(columns)}",
                )

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Column names and types, in the words of the source's own type map."""
        if not hasattr(data_source, "file_options"):
            return data_source.get_table_column_names_and_types(config)
        return column_types(data_source, config.repo_path)


def filters_by_created(config: RepoConfig) -> bool:
    """Whether the configuration makes values count from their creation on."""
    return bool(getattr(config.offline_store, "filter_by_created_timestamp", True))


def is_ours(config: RepoConfig) -> bool:
    """Whether the project's history is joined by this store, not by a warehouse's."""
    return isinstance(config.offline_store, PolarsOfflineStoreConfig)


def arrow_of(frame: pl.DataFrame) -> pa.Table:
    """Arrow with plain strings: Feast takes `large_string` for JSON."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    fields = [
        field.with_type(pa.string()) if field.type == pa.large_string() else field
        for field in table.schema
    ]
    # A column of more than 2 GiB of text stays large.
    with contextlib.suppress(pa.ArrowInvalid):
        return table.cast(pa.schema(fields))
    return table


def _range(
    feature_views: Sequence[FeatureView], options: dict[str, Any]
) -> tuple[datetime, datetime]:
    from feast.utils import compute_non_entity_date_range

    start, end = options.get("start_date"), options.get("end_date")
    if options.get("end_date") is not None and start is None and end is not None:
        # Feast fills in its own local "now" without a zone; the future holds no values anyway.
        end = max(moments.aware(end), datetime.now(UTC)) if end.tzinfo is None else end
    first, last = compute_non_entity_date_range(list(feature_views), start_date=start, end_date=end)
    return moments.aware(first), moments.aware(last)


def _bounds(rows: pl.DataFrame, column: str) -> tuple[datetime | None, datetime | None]:
    times = moments.as_utc(rows.get_column(column), where="entity rows")
    first, last = times.min(), times.max()
    if isinstance(first, datetime) and isinstance(last, datetime):
        return first, last
    return None, None


def _pull(
    config: RepoConfig,
    source: DataSource,
    columns: list[str],
    timestamp: str,
    created: str | None,
    start: datetime | None,
    end: datetime | None,
) -> pl.DataFrame:
    where = place_of(source, config.repo_path)
    frame = scan_source(source, config.repo_path)
    wanted = list(dict.fromkeys([*columns, timestamp, *([created] if created else [])]))
    schema = frame.collect_schema()
    missing = [name for name in wanted if name not in schema]
    if missing:
        raise SchemaError(
            f"lacks column {', '.join(map(repr, missing))}",
            where=where,
            mend=f"it has: {', '.join(schema.names())}",
        )
    kind = schema[timestamp]
    moment = pl.col(timestamp)
    if isinstance(kind, pl.Datetime):
        if start is not None:
            frame = frame.filter(moment >= moments.literal(start, kind))
        if end is not None:
            frame = frame.filter(moment <= moments.literal(end, kind))
    rows = collect(frame.select(wanted), where)
    times = [moments.as_utc(rows.get_column(n), where=where) for n in (timestamp, created) if n]
    rows = rows.with_columns(times)
    # A second time, for columns that are text and for bounds that a coarser unit rounded.
    if start is not None:
        rows = rows.filter(moment >= moments.aware(start))
    if end is not None:
        rows = rows.filter(moment <= moments.aware(end))
    return rows


def latest_per_key(
    rows: pl.DataFrame, keys: Sequence[str], timestamp: str, created: str | None
) -> pl.DataFrame:
    """Newest row of every key, ties broken by creation, then by the later row."""
    times = [timestamp] + ([created] if created else [])
    narrow = rows.select([*keys, *times]).with_row_index("__row")
    narrow = narrow.filter(pl.all_horizontal(pl.col([*keys, timestamp]).is_not_null()))
    narrow = narrow.sort([*times, "__row"], nulls_last=False)
    newest = narrow.unique(list(keys), keep="last") if keys else narrow.tail(1)
    return _with_dummy_key(rows[newest.get_column("__row").sort()], keys)


def _with_dummy_key(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Feast stores entity-less views under a constant key."""
    if keys:
        return rows
    return rows.with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))
