"""Served = joined: what the online store answers, beside the point-in-time join of that moment.

The proof behind the platform's name, in its smallest form: entities are asked for through the
online reader, and the same entities are joined offline as of the moment up to which the store was
filled. Every value must be equal, nulls and expired ones included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from zeroskew.endpoints import Endpoints


@dataclass(frozen=True, slots=True)
class Consistency:
    """Rows and values compared, and how many values were not the same on both sides."""

    rows: int
    values: int
    mismatches: int
    examples: tuple[str, ...] = ()


def compare_served_with_joined(
    model: str | Path, moment: datetime, limit: int = 2_000
) -> Consistency:
    """Compare the newest `limit` entity rows before `moment`, all stored features of the service.

    The store must have been materialised up to `moment` (UTC), and no further.
    """
    import polars as pl

    from zeroskew.features.online_reader import OnlineReader
    from zeroskew.features.read_plan_compiler import compile_read_plan
    from zeroskew.features.redis_connection import connect
    from zeroskew.features.repository import open_repository
    from zeroskew.model_config import load_model_config

    endpoints = Endpoints.from_environment()
    config = load_model_config(model)
    repository = open_repository(model)
    plan = compile_read_plan(repository, config.feature_service)
    keys = list(plan.entity_columns)
    path = Path(endpoints.data) / config.entity_rows.path
    rows = (
        pl.scan_parquet(path)
        .filter(pl.col(config.entity_rows.event_timestamp) < moment)
        .sort(config.entity_rows.event_timestamp, descending=True)
        .select(*keys, *config.entity_rows.request_columns)
        .unique(subset=keys, maintain_order=True)
        .head(limit)
        .with_columns(pl.lit(moment).dt.cast_time_unit("us").alias("event_timestamp"))
        .collect()
    )
    joined = repository.store.get_historical_features(
        entity_df=rows.to_pandas(), features=repository.service(config.feature_service)
    ).to_arrow()
    reader = OnlineReader(connect(endpoints.redis), plan)
    asked = {key: rows[key].to_list() for key in keys}
    served = reader.read(asked, now=moment).to_dict(stale=False)
    examples: list[str] = []
    mismatches = values = 0
    for name, offered in served.items():
        for got, want in zip(offered, joined.column(name).to_pylist(), strict=True):
            values += 1
            if not _same(got, want):
                mismatches += 1
                if len(examples) < 5:
                    examples.append(f"{name}: served {got!r}, joined {want!r}")
    return Consistency(rows.height, values, mismatches, tuple(examples))


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if left is None or right is None:
        return _absent(left) and _absent(right)
    return bool(left == right)


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
