"""The feature store for people who do not know Feast: four verbs on a model's folder.

    >>> store = FeatureStore("pipelines/flight_delay")
    >>> store.materialise(end=datetime(2013, 7, 1, tzinfo=UTC))
    >>> store.get_online_features("EWR", ["wind_speed", "visibility"])
    {'wind_speed': 12.7, 'visibility': 10.0}
    >>> store.get_training_data(["EWR", "JFK"], ["wind_speed"], start, end)
    shape: (17_376, 3) …

`get_training_data` and `get_online_features` follow the same definitions, and the same rules of
what counts as missing, so that a model sees in serving what it saw in training.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zeroskew.errors import ConfigError, FeatureStoreError, SchemaError, ZeroskewError
from zeroskew.features.materialise import (
    MaterialiseReport,
    Progress,
    aware,
    materialise,
    online_client,
    view_layout,
)
from zeroskew.features.online_reader import OnlineReader, OnlineRows
from zeroskew.features.online_writer import OnlineWriter, WriteCount
from zeroskew.features.read_plan import ReadPlan
from zeroskew.features.read_plan_compiler import compile_read_plan
from zeroskew.features.repository import Repository, open_repository
from zeroskew.features.store_inputs import (
    EVENT_TIMESTAMP,
    arrow_table,
    entities_of,
    entity_frame,
    in_utc,
    moments_of,
)

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Names = str | Sequence[str]


class FeatureStore:
    """A model's folder with its offline and online store."""

    def __init__(self, folder: str | Path, *, client: Any = None) -> None:
        """`client`: a redis client to use instead of the one feature_store.yaml names."""
        self.repository: Repository = open_repository(folder)
        self._client = client
        self._readers: dict[tuple[str, ...], OnlineReader] = {}

    @classmethod
    def of(cls, repository: Repository, *, client: Any = None) -> FeatureStore:
        """Over a repository that is already open."""
        store = cls.__new__(cls)
        store.repository, store._client, store._readers = repository, client, {}
        return store

    @property
    def client(self) -> Any:
        """The online store's Redis client, made when first needed."""
        if self._client is None:
            self._client = online_client(self.repository)
        return self._client

    def get_online_features(
        self,
        entity_id: Any,
        feature_names: Names,
        *,
        request: Mapping[str, Any] | None = None,
        now: datetime | None = None,
    ) -> dict[str, Any]:
        """What a model would be served: feature name → value, `None` where there is none.

        `entity_id`: one value (`"EWR"`), a mapping when the features need several keys
        (`{"origin": "EWR", "carrier": "UA"}`), or a list of either, which gives lists.
        `feature_names`: `feature` or `view:feature` each, or the name of a feature service.
        `request`: what a live request brings for request-time features.

        A value older than its view's TTL is `None`, as in training; `read_online` shows it.
        Raises `ConfigError` on unknown names (and says which come close), `SchemaError` on
        entities of another type, `OnlineStoreUnavailable`.
        """
        plan = self._reader(feature_names).plan
        columns, many = entities_of(entity_id, plan)
        rows = self.read_online(columns, feature_names, now=now)
        answer: dict[str, Any] = rows.to_dict(stale=False)
        if plan.transforms:
            answer = self._transformed(plan, answer, columns, dict(request or {}), len(rows), many)
        answer = {name: answer[name] for name in plan.names}
        return answer if many else {name: values[0] for name, values in answer.items()}

    def read_online(
        self,
        entity_columns: Mapping[str, Sequence[Any]],
        feature_names: Names,
        *,
        now: datetime | None = None,
    ) -> OnlineRows:
        """Typed columns with status and event times: see `OnlineRows`. Stored features only."""
        return self._reader(feature_names).read(entity_columns, now=now)

    def get_training_data(
        self,
        entity_ids: Any,
        feature_names: Names,
        start_time: datetime,
        end_time: datetime,
    ) -> pl.DataFrame:
        """Features of entities as they were known, point-in-time correct.

        `entity_ids`: values of the one key, or a mapping or polars frame of key columns. With a
        column `event_timestamp` the rows are answered as of those moments (the ones in
        `[start_time, end_time)`), in order. Without, there is one row per entity and moment of
        that range at which a new value became known, sorted by moment.

        Raises `ConfigError` on unknown names, `SchemaError` on missing keys, `DataError` on
        sources that cannot be read.
        """
        import polars as pl

        start, end = aware(start_time), aware(end_time)
        if not start < end:
            raise ConfigError(
                f"start_time ({start.isoformat()}) is not before end_time ({end.isoformat()})"
            )
        refs = self.references(feature_names)
        plan = self.plan(feature_names)
        entities = entity_frame(entity_ids, plan)
        if EVENT_TIMESTAMP in entities.columns:
            moments = in_utc(entities).filter(
                (pl.col(EVENT_TIMESTAMP) >= start) & (pl.col(EVENT_TIMESTAMP) < end)
            )
        else:
            moments = self._moments(entities, refs, start, end)
        if moments.is_empty():
            raise FeatureStoreError(
                "no row falls into the time range",
                where=f"{start.isoformat()} to {end.isoformat()}",
                mend="widen the range, or look whether the entities are in the feature sources",
            )
        found = self.join(moments, feature_names)
        return found.select([*moments.columns, *[n for n in plan.names if n in found.columns]])

    def join(
        self, entity_rows: pl.DataFrame, feature_names: Names, *, full_feature_names: bool = False
    ) -> pl.DataFrame:
        """Entity rows (keys and `event_timestamp`) with features as of each row's moment.

        By the offline store of feature_store.yaml. Raises as `get_training_data`.
        """
        import polars as pl

        refs = self.references(feature_names)
        if EVENT_TIMESTAMP not in entity_rows.columns:
            raise SchemaError(
                f"column {EVENT_TIMESTAMP} is missing",
                where="entity rows",
                mend=f"they have {', '.join(entity_rows.columns)}",
            )
        entity_rows = in_utc(entity_rows)
        wanted = self._service_or(refs, feature_names)
        try:
            job = self.repository.store.get_historical_features(
                entity_df=entity_rows.to_pandas(),
                features=wanted,
                full_feature_names=full_feature_names,
            )
            return pl.DataFrame(pl.from_arrow(job.to_arrow()))
        except ZeroskewError:
            raise
        except Exception as error:  # Feast's, or whatever the warehouse's own client raises
            raise FeatureStoreError(
                f"the features cannot be joined: {type(error).__name__}: {error}",
                where=self.repository.project,
            ) from error

    def push(
        self,
        source_name: str,
        frame: Any,
        *,
        to: Literal["online", "offline", "both"] = "online",
    ) -> dict[str, WriteCount]:
        """Feed rows to every view of a push source, as Feast's `push` does.

        `frame` (polars, pandas or Arrow) has the source's columns, event time included. Online,
        newest wins; offline, the rows are appended to the source. Returns what happened per view.
        Raises `ConfigError` on an unknown push source, `SchemaError` on wrong columns.
        """
        views = self._pushed_views(source_name)
        table = arrow_table(frame)
        counts: dict[str, WriteCount] = {}
        for view in views:
            mapping = view.batch_source.field_mapping or {}
            columns = [mapping.get(name, name) for name in table.column_names]
            renamed = table.rename_columns(columns)
            if to in ("online", "both"):
                counts[view.name] = OnlineWriter(self.client).write(
                    view_layout(self.repository, view),
                    renamed,
                    event_time=view.batch_source.timestamp_field,
                )
            if to in ("offline", "both"):
                self._append(view, table)
        return counts

    def materialise(
        self,
        *,
        end: datetime | None = None,
        start: datetime | None = None,
        views: Sequence[str] | None = None,
        on_progress: Progress | None = None,
    ) -> MaterialiseReport:
        """Bring the newest values up to `end` (default: the clock) online; incremental.

        See `materialise.materialise`.
        """
        return materialise(
            self.repository,
            views=views,
            start=start,
            end=end or datetime.now(UTC),
            client=self.client,
            on_progress=on_progress,
        )

    def references(self, names: Names) -> list[str]:
        """`view:feature` of every name; a string is a feature service, else one feature.

        Raises `ConfigError` on a name that is unknown or in several views.
        """
        if isinstance(names, str):
            if names in self.repository.definitions.services:
                service = self.repository.service(names)
                return [
                    f"{p.name_to_use()}:{f.name}"
                    for p in service.feature_view_projections
                    for f in p.features
                ]
            names = [names]
        if not names:
            raise ConfigError("no feature is asked for", mend="name features, or a feature service")
        index = self._features()
        found = []
        for name in names:
            if ":" in name:
                view, _, feature = name.partition(":")
                if view not in index.get(feature, ()):
                    raise self._unknown(name, [f"{v}:{f}" for f, vs in index.items() for v in vs])
                found.append(name)
                continue
            views = index.get(name, [])
            if len(views) > 1:
                raise ConfigError(
                    f"feature {name} is in {' and '.join(views)}",
                    mend=f"write {views[0]}:{name}",
                )
            if not views:
                raise self._unknown(name, [*index, *self.repository.definitions.services])
            found.append(f"{views[0]}:{name}")
        return list(dict.fromkeys(found))

    def _unknown(self, name: str, known: Sequence[str]) -> ConfigError:
        close = difflib.get_close_matches(name, known, n=3)
        mend = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
        return ConfigError(
            f"there is no feature {name!r}",
            where=str(self.repository.folder / "features.py"),
            mend=mend,
        )

    def _features(self) -> dict[str, list[str]]:
        """Feature → views that have it."""
        index: dict[str, list[str]] = {}
        defined = self.repository.definitions
        for view in [
            *map(self.repository.view, defined.feature_views),
            *defined.on_demand.values(),
        ]:
            for field in view.features:
                index.setdefault(field.name, []).append(view.name)
        return index

    def _service_or(self, refs: list[str], names: Names) -> Any:
        if isinstance(names, str) and names in self.repository.definitions.services:
            return self.repository.service(names)
        return refs

    def plan(self, names: Names) -> ReadPlan:
        """The read plan of a service or of features."""
        refs = self.references(names)
        service = isinstance(names, str) and names in self.repository.definitions.services
        return compile_read_plan(self.repository, names if service else refs)

    def _reader(self, names: Names) -> OnlineReader:
        key = (names,) if isinstance(names, str) else ("", *names)
        reader = self._readers.get(key)
        if reader is None:
            reader = self._readers[key] = OnlineReader(self.client, self.plan(names))
        return reader

    def _transformed(
        self,
        plan: ReadPlan,
        answer: dict[str, Any],
        columns: Mapping[str, Sequence[Any]],
        request: dict[str, Any],
        length: int,
        many: bool,
    ) -> dict[str, Any]:
        """Request-time features, computed by the model's own functions."""
        import pyarrow as pa

        absent = [name for name in plan.request_columns if name not in request]
        if absent:
            raise SchemaError(
                f"request column {', '.join(absent)} is not given",
                where=plan.service,
                mend=f"pass request={{{', '.join(f'{n!r}: …' for n in absent)}}}",
            )
        given = {n: list(request[n]) if many else [request[n]] for n in plan.request_columns}
        for name, values in given.items():
            if len(values) != length:
                raise SchemaError(f"request column {name} has {len(values)} values for {length}")
        table = pa.table({**columns, **answer, **given})
        for transform in plan.transforms:
            view = self.repository.definitions.on_demand.get(transform.name)
            if view is None:
                raise ConfigError(
                    f"request-time view {transform.name} goes by another name in features.py",
                    mend="do not rename on-demand views in a service",
                )
            try:
                made = view.transform_arrow(table)
            except ZeroskewError:
                raise
            except Exception as error:  # the user's own function
                raise FeatureStoreError(
                    f"{type(error).__name__}: {error}",
                    where=f"request-time transform {transform.name} ({transform.function})",
                    mend="a transform must bear nulls: features may be missing",
                ) from error
            answer.update({name: made.column(name).to_pylist() for name in transform.outputs})
        return answer

    def _moments(
        self, entities: pl.DataFrame, refs: Sequence[str], start: datetime, end: datetime
    ) -> pl.DataFrame:
        """Every moment in the range at which a new value of one of the entities was known."""
        import polars as pl

        from zeroskew.features.materialise import source_columns

        views = dict.fromkeys(ref.partition(":")[0] for ref in refs)
        provider = self.repository.store._get_provider()
        found = []
        for name in views:
            if name not in self.repository.definitions.feature_views:
                continue
            view = self.repository.view(name)
            keys, _, timestamp, created = source_columns(self.repository, view)
            job = provider.offline_store.pull_all_from_table_or_query(
                config=self.repository.config,
                data_source=view.batch_source,
                join_key_columns=keys,
                feature_name_columns=[],
                timestamp_field=timestamp,
                created_timestamp_column=created,
                start_date=start,
                end_date=end,
            )
            mapping = view.batch_source.field_mapping or {}
            times = pl.DataFrame(pl.from_arrow(job.to_arrow()))
            times = times.rename({k: v for k, v in mapping.items() if k in times.columns})
            happened = moments_of(times, mapping.get(timestamp, timestamp))
            if created:  # a value that was recorded later was not known before
                recorded = moments_of(times, mapping.get(created, created))
                happened = pl.max_horizontal(happened, recorded)
            times = times.with_columns(happened.alias(EVENT_TIMESTAMP))
            joins = [k for k in entities.columns if k in times.columns]
            found.append(
                entities.join(times.select([*joins, EVENT_TIMESTAMP]), on=joins)
                if joins
                else entities.join(times.select(EVENT_TIMESTAMP), how="cross")
            )
        moments = pl.concat(found) if found else entities.clear()
        return (
            moments.filter((pl.col(EVENT_TIMESTAMP) >= start) & (pl.col(EVENT_TIMESTAMP) < end))
            .unique(maintain_order=False)
            .sort([EVENT_TIMESTAMP, *entities.columns])
        )

    def _pushed_views(self, source_name: str) -> list[Any]:
        from feast.data_source import PushSource

        sources: dict[str, list[Any]] = {}
        for name in self.repository.definitions.feature_views:
            view = self.repository.view(name)
            if isinstance(view.stream_source, PushSource):
                sources.setdefault(view.stream_source.name, []).append(view)
        if source_name not in sources:
            raise ConfigError(
                f"there is no push source {source_name!r}",
                where=str(self.repository.folder / "features.py"),
                mend=f"it defines: {', '.join(sources) or 'none'}",
            )
        return sources[source_name]

    def _append(self, view: Any, table: pa.Table) -> None:
        provider = self.repository.store._get_provider()
        try:
            known = provider.get_table_column_names_and_types_from_data_source(
                self.repository.config, view.batch_source
            )
            names = [name for name, _ in known]
            if set(names) != set(table.column_names):
                raise SchemaError(
                    "the columns are not those of the source: "
                    f"missing {sorted(set(names) - set(table.column_names))}, "
                    f"unknown {sorted(set(table.column_names) - set(names))}",
                    where=f"push to {view.name}",
                )
            provider.ingest_df_to_offline_store(view, table.select(names))
        except ZeroskewError:
            raise
        except Exception as error:  # whatever the warehouse's own client raises
            raise FeatureStoreError(
                f"the rows cannot be appended: {type(error).__name__}: {error}",
                where=f"source of {view.name}",
            ) from error
