"""All features of a service for entity rows, as of their moments: what training and batch scoring read.

With Zeroskew's offline store the join runs straight on Polars frames, and request-time functions
see only the columns they declare. With a warehouse's store everything goes through Feast. Both give
the same columns, types and order.
"""  # noqa: E501

from __future__ import annotations

from typing import Any

import polars as pl

from zeroskew.errors import DataError, FeatureStoreError, SchemaError, ZeroskewError
from zeroskew.features import moments
from zeroskew.features.join import Progress, conform, point_in_time_join
from zeroskew.features.repository import Repository
from zeroskew.features.retrieval import POLARS_OF_FEAST, join_views

_ROW = "zeroskew_row"
_EVENT = "event_timestamp"


def join_service(
    repository: Repository,
    service: str,
    entity_rows: pl.DataFrame,
    *,
    event_timestamp: str = _EVENT,
    on_progress: Progress | None = None,
) -> pl.DataFrame:
    """`entity_rows`, in order, plus the service's features in service order and declared types.

    A missing value is null, never NaN. Raises `SchemaError` if a key, request column or feature is
    missing or of the wrong type, or if the entity rows have a column named like a feature, and
    `DataError` if a source cannot be read or the offline store loses rows.
    """
    types = repository.feature_types(service)
    for name in types:
        if name in entity_rows.columns:
            raise SchemaError(
                f"column {name!r} is named like a feature of {service}",
                where="entity rows",
                mend="rename or drop the column",
            )
    if event_timestamp not in entity_rows.columns:
        raise SchemaError(
            f"lacks column {event_timestamp!r}",
            where="entity rows",
            mend=f"it has: {', '.join(entity_rows.columns)}",
        )
    features = _straight(repository, service, entity_rows, event_timestamp, on_progress)
    if features is None:
        features = _through_feast(repository, service, entity_rows, event_timestamp, on_progress)
    declared = _declared_types(repository, service)
    columns = []
    for name in types:
        column = features.get_column(name)
        if name in declared:
            column = conform(column, declared[name], f"feature service {service}")
        if column.dtype.is_float():
            column = column.fill_nan(None)
        columns.append(column)
    return entity_rows.hstack(columns)


def filters_by_created(repository: Repository) -> bool:
    """Whether values that were written after the event time are kept out of the join."""
    from zeroskew.features import offline_store

    if offline_store.is_ours(repository.config):
        return offline_store.filters_by_created(repository.config)
    return bool(_store(repository).supports_filter_by_created_timestamp)


def _declared_types(repository: Repository, service: str) -> dict[str, pl.DataType]:
    kinds = {
        field.name: field.dtype.to_value_type().name
        for projection in repository.service(service).feature_view_projections
        for field in projection.features
    }
    return {n: POLARS_OF_FEAST[kind] for n, kind in kinds.items() if kind in POLARS_OF_FEAST}


# --- straight --------------------------------------------------------------------------------


def _straight(
    repository: Repository,
    service: str,
    entity_rows: pl.DataFrame,
    event_timestamp: str,
    on_progress: Progress | None,
) -> pl.DataFrame | None:
    """The join without Feast in between; None where only Feast knows how."""
    from zeroskew.features import offline_store

    if not offline_store.is_ours(repository.config):
        return None
    stored: dict[str, tuple[Any, list[str]]] = {}
    computed = []
    for projection in repository.service(service).feature_view_projections:
        if projection.name in repository.definitions.on_demand:
            view = repository.definitions.on_demand[projection.name]
            sources = view.source_feature_view_projections.values()
            if any(not p.features for p in sources) or view.mode not in ("python", "pandas"):
                return None
            computed.append((view, [f.name for f in projection.features]))
            for source in sources:
                _ask(repository, stored, source)
        elif projection.name in repository.definitions.feature_views:
            _ask(repository, stored, projection)
        else:
            return None
    refs = [f"{name}:{feature}" for name, (_, chosen) in stored.items() for feature in chosen]
    views = join_views([view for view, _ in stored.values()], refs, repository.folder)
    requests = {
        field.name: view.name
        for view, _ in computed
        for source in view.source_request_sources.values()
        for field in source.schema
    }
    for name, view_name in requests.items():
        if name not in entity_rows.columns:
            raise SchemaError(
                f"lacks column {name!r}, which {view_name} computes from",
                where="entity rows",
                mend="a live request carries it, so the entity rows must, too",
            )
    needed = dict.fromkeys([event_timestamp, *requests, *(k for v in views for k in v.keys)])
    joined = point_in_time_join(
        entity_rows.select([name for name in needed if name in entity_rows.columns]),
        views,
        event_timestamp=event_timestamp,
        filter_by_created=offline_store.filters_by_created(repository.config),
        on_progress=on_progress,
    )
    for number, (view, chosen) in enumerate(computed):
        if on_progress:
            on_progress(f"computing {view.name}", number, len(computed))
        joined = joined.with_columns(_compute(view, chosen, joined))
    return joined


def _ask(repository: Repository, stored: dict[str, tuple[Any, list[str]]], projection: Any) -> None:
    called = projection.name_to_use()
    if called not in stored:
        stored[called] = (repository.view(projection.name).with_projection(projection), [])
    chosen = stored[called][1]
    chosen.extend(f.name for f in projection.features if f.name not in chosen)


def _compute(view: Any, chosen: list[str], joined: pl.DataFrame) -> list[pl.Series]:
    """Outputs of an on-demand view, by Feast's own transformation of the columns it declares."""
    from zeroskew.features.offline_store import arrow_of

    inputs = [f.name for p in view.source_feature_view_projections.values() for f in p.features]
    inputs += [f.name for s in view.source_request_sources.values() for f in s.schema]
    table = arrow_of(joined.select(list(dict.fromkeys(inputs))))
    try:
        result = view.transform_arrow(table, False)
    except ZeroskewError:
        raise
    except Exception as error:
        raise _failed(view.name, error) from error
    columns = pl.DataFrame(result.select([name for name in chosen if name in result.column_names]))
    for name in chosen:
        if name not in columns.columns or columns.height != joined.height:
            raise SchemaError(
                f"does not give {joined.height} values of {name!r}",
                where=f"on-demand feature view {view.name}",
                mend="return every feature of its schema, one value per input row",
            )
    return columns.get_columns()


def _failed(view: str, error: Exception) -> DataError:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}"
    return DataError(
        f"on-demand feature view {view} failed: {type(error).__name__}: {error}",
        where=where,
        mend="a missing value reaches it as None or NaN; answer None for what cannot be computed",
    )


# --- through Feast -------------------------------------------------------------------------------


def _through_feast(
    repository: Repository,
    service: str,
    entity_rows: pl.DataFrame,
    event_timestamp: str,
    on_progress: Progress | None,
) -> pl.DataFrame:
    """The same through Feast's API, rows put back into order."""
    from feast.errors import FeastError

    from zeroskew.features.offline_store import arrow_of

    if on_progress:
        on_progress(f"asking {type(_store(repository)).__name__}", 0, 1)
    definition = repository.service(service)
    moment = moments.as_utc(entity_rows.get_column(event_timestamp), where="entity rows")
    questions = (
        entity_rows.select([c for c in _asked_columns(repository, definition, entity_rows)])
        .with_columns(moment.dt.cast_time_unit("us").alias(_EVENT))
        .with_row_index(_ROW)
        .with_columns(pl.col(_ROW).cast(pl.Int64))
    )
    options: dict[str, Any] = (
        {"filter_by_created_timestamp": True} if filters_by_created(repository) else {}
    )
    try:
        job = repository.store.get_historical_features(
            entity_df=arrow_of(questions).to_pandas(), features=definition, **options
        )
        answer = pl.DataFrame(job.to_arrow())
    except ZeroskewError:
        raise
    except FeastError as error:
        raise FeatureStoreError(str(error), where=f"feature service {service}") from error
    answer = answer.unique(_ROW, keep="any").sort(_ROW)
    if answer.height != entity_rows.height:
        raise DataError(
            f"the offline store lost {entity_rows.height - answer.height} of "
            f"{entity_rows.height} entity rows",
            where=type(_store(repository)).__name__,
            mend="use an offline store that keeps them, such as "
            "zeroskew.features.offline_store.PolarsOfflineStore for files",
        )
    if on_progress:
        on_progress(f"asking {type(_store(repository)).__name__}", 1, 1)
    return answer


def _asked_columns(repository: Repository, service: Any, entity_rows: pl.DataFrame) -> list[str]:
    """Join keys and request columns: what else the rows hold is none of the store's business."""
    wanted: set[str] = set()

    def keys(projection: Any) -> None:
        for column in repository.view(projection.name).entity_columns:
            wanted.add(projection.join_key_map.get(column.name, column.name))

    for projection in service.feature_view_projections:
        view = repository.definitions.on_demand.get(projection.name)
        if view is None:
            keys(projection)
            continue
        for source in view.source_feature_view_projections.values():
            keys(source)
        for source in view.source_request_sources.values():
            wanted |= {field.name for field in source.schema}
    return [name for name in entity_rows.columns if name in wanted and name != _EVENT]


def _store(repository: Repository) -> Any:
    return getattr(repository.store._get_provider(), "offline_store", None)
