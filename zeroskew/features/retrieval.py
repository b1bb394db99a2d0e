"""From Feast's views to the join's, for the offline store and the training set alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from zeroskew.errors import ConfigError, FeatureStoreError
from zeroskew.features import moments
from zeroskew.features.join import JoinView, source_schema
from zeroskew.features.sources import collect, place_of, scan_source

POLARS_OF_FEAST: Mapping[str, pl.DataType] = {
    "STRING": pl.String(),
    "INT32": pl.Int32(),
    "INT64": pl.Int64(),
    "DOUBLE": pl.Float64(),
    "FLOAT": pl.Float32(),
    "BOOL": pl.Boolean(),
}
"""Types that a declared feature is brought to; others keep the type of their source."""


def join_views(
    feature_views: Sequence[Any],
    feature_refs: Sequence[str],
    repo_path: Any,
    *,
    full_feature_names: bool = False,
) -> list[JoinView]:
    """What `feature_refs` (`view:feature`) ask of `feature_views`, ready to be joined.

    Field mappings, aliases of views and of join keys, and entity-less views are resolved here.
    Views of which nothing is asked are left out.
    """
    views = []
    for view in feature_views:
        if not hasattr(view, "batch_source"):
            continue
        called = view.projection.name_to_use()
        wanted = [
            feature
            for name, _, feature in (r.partition(":") for r in feature_refs)
            if name == called
        ]
        if wanted:
            views.append(
                _join_view(view, list(dict.fromkeys(wanted)), repo_path, full_feature_names)
            )
    return views


def _join_view(view: Any, wanted: list[str], repo_path: Any, full: bool) -> JoinView:
    from feast.feature_view import DUMMY_ENTITY_ID

    source = view.batch_source
    if source is None:
        raise ConfigError(
            f"feature view {view.name} has no batch source and so no history to join",
            mend="give its stream or push source a batch_source",
        )
    origin = {mapped: column for column, mapped in source.field_mapping.items()}
    keys = {
        view.projection.join_key_map.get(column.name, column.name): origin.get(
            column.name, column.name
        )
        for column in view.entity_columns
        if column.name != DUMMY_ENTITY_ID
    }
    prefix = f"{view.projection.name_alias or view.name}__" if full else ""
    declared = {field.name: field.dtype for field in [*view.projection.features, *view.features]}
    types = {}
    for feature in wanted:
        kind = declared[feature].to_value_type().name if feature in declared else ""
        if kind in POLARS_OF_FEAST:
            types[prefix + feature] = POLARS_OF_FEAST[kind]
    created = source.created_timestamp_column
    return JoinView(
        name=view.projection.name_to_use(),
        frame=scan_source(source, repo_path),
        keys=keys,
        features={origin.get(f, f): prefix + f for f in wanted},
        timestamp=origin.get(source.timestamp_field, source.timestamp_field),
        created_timestamp=origin.get(created, created) if created else None,
        ttl=view.ttl or None,
        where=place_of(source, repo_path),
        types=types,
    )


def questions_of(
    views: Sequence[JoinView], start: datetime, end: datetime, event_timestamp: str
) -> pl.DataFrame:
    """Entity rows for a range of time: each key at each moment at which one of its values changed.

    Distinct (keys, event time) over all views with `start <= event time <= end`, sorted. Raises
    `FeatureStoreError` if the views have different keys: nothing says which belong together.
    """
    keyed = [view for view in views if view.keys] or list(views)
    keys = sorted(keyed[0].keys)
    for view in keyed:
        if sorted(view.keys) != keys:
            raise FeatureStoreError(
                f"{keyed[0].name} is keyed by {keys}, {view.name} by {sorted(view.keys)}: without "
                "entity rows nothing says which of their keys belong together",
                mend="give entity rows, or ask for one of them at a time",
            )
    first, last = moments.aware(start), moments.aware(end)
    parts = []
    for view in keyed:
        kind = source_schema(view)[view.timestamp]
        moment = pl.col(view.timestamp)
        within = view.frame
        if isinstance(kind, pl.Datetime):
            within = within.filter(
                moment >= moments.literal(first, kind), moment <= moments.literal(last, kind)
            )
        wanted = within.select(
            *(pl.col(theirs).alias(mine) for mine, theirs in sorted(view.keys.items())),
            moment.alias(event_timestamp),
        )
        rows = collect(wanted, view.place)
        times = moments.as_utc(rows.get_column(event_timestamp), where=view.place)
        parts.append(rows.with_columns(times.dt.cast_time_unit("us")))
    rows = pl.concat(parts, how="vertical_relaxed")
    inside = pl.col(event_timestamp).is_between(first, last)
    present = [pl.col(key).is_not_null() for key in keys]
    return rows.filter(inside, *present).unique().sort([event_timestamp, *keys])
