"""How fresh the online store is: looked at itself, before what it serves is too old.

    found = measure_freshness("pipelines/flight_delay")

Entities are sampled where they lie, in the order of the store's own hash table, so that the cost is
bounded whatever the store holds. What the offline source has and was never materialised is told by
the repository's record of materialisations, which is exact.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from zeroskew.errors import OnlineStoreUnavailable
from zeroskew.features import redis_layout
from zeroskew.features.materialise import online_client, source_columns, view_layout
from zeroskew.features.moments import as_utc, aware, literal
from zeroskew.features.read_plan import PlanGroup
from zeroskew.features.read_plan_compiler import compile_read_plan
from zeroskew.features.redis_connection import address_of, unavailable
from zeroskew.features.repository import Repository, open_repository
from zeroskew.features.sources import collect, is_readable, scan_source
from zeroskew.monitoring.reports import STORE, Report

ENTITIES, SECONDS = 5_000, 10.0
"""Looked at per kind of entity, at most, and for how long."""
PAGE = 500
NEAR = 0.8
"""Of the TTL: from this age on a value is near its end."""


@dataclass(frozen=True, slots=True)
class ViewFreshness:
    """One feature view in the online store."""

    view: str
    entities: int
    """In the sample."""
    absent: int
    """Of them, those that the view has no value for."""
    age_median: float | None
    """Seconds since the event time of what is there."""
    age_p99: float | None
    ttl: float
    """Seconds; 0: none."""
    near: float
    """Share of the values that are older than `NEAR` of the TTL, and not expired."""
    expired: float
    ending: float
    """Share of the entities that the store itself forgets within a fifth of its own time limit."""
    materialised_until: str | None
    """ISO 8601; None: it never was."""
    source_newest: str | None
    """Of the source's event times up to now; None where it cannot be told."""
    lag: float | None
    """Seconds that the source is ahead of what was materialised."""
    lag_limit: float
    """What is too much: a fifth of the TTL, a day without one."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Why somebody should look; empty: all is well."""
        said = []
        if self.entities == 0:
            said.append("the store has no entity of it")
        if self.lag is not None and self.lag > self.lag_limit:
            said.append(f"{timedelta(seconds=round(self.lag))} behind its source")
        if self.near + self.expired > 0.2:
            said.append(
                f"{self.near + self.expired:.0%} of the values are near their TTL or beyond"
            )
        if self.ending > 0.2:
            said.append(f"{self.ending:.0%} of the entities are about to be forgotten")
        return tuple(said)


@dataclass(frozen=True, slots=True)
class Freshness:
    """All views that a model is served from."""

    model: str
    at: datetime
    views: tuple[ViewFreshness, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(f"{view.view}: {text}" for view in self.views for text in view.problems)

    def report(self) -> Report:
        """For the operator's metrics; its value is the largest share near the TTL or beyond."""
        worst = max((view.near + view.expired for view in self.views), default=0.0)
        return Report(
            "freshness", self.model, STORE, self.at, worst, worst, worst,
            max((view.entities for view in self.views), default=0), "; ".join(self.problems)[:1024],
            {"views": [asdict(view) for view in self.views]},
        )  # fmt: skip


def measure_freshness(
    folder: str | Path,
    service: str,
    model: str,
    *,
    now: datetime | None = None,
    entities: int = ENTITIES,
    seconds: float = SECONDS,
) -> Freshness:
    """Of the views behind a feature service. `now`: default, the clock.

    Raises `ConfigError` for a repository that makes no sense, `OnlineStoreUnavailable` if the store
    does not answer.
    """
    repository = open_repository(folder)
    plan = compile_read_plan(repository, service)
    client = online_client(repository)
    moment = now or datetime.now(UTC)
    found: list[ViewFreshness] = []
    try:
        for group in plan.groups:
            sample = _Sample(group, moment)
            keys = _keys(client, plan.key_head(group), plan.project.encode(), entities, seconds)
            for page in keys:
                sample.add(client, page)
            found += _views(repository, sample, moment)
    except OnlineStoreUnavailable:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "redis":
            raise
        raise unavailable(address_of(client), error) from None
    finally:
        client.close()
    return Freshness(model, moment, tuple(sorted(found, key=lambda view: view.view)))


def _keys(
    client: Any, head: bytes, project: bytes, most: int, seconds: float
) -> Iterator[list[bytes]]:
    """Pages of keys of one kind of entity."""
    until, left, page = time.monotonic() + seconds, most, []
    for key in client.scan_iter(count=PAGE):
        if key.startswith(head) and key.endswith(project):
            page.append(key)
            if len(page) == min(PAGE, left):
                yield page
                left, page = left - len(page), []
        if not left or time.monotonic() > until:
            break
    if page:
        yield page


class _Sample:
    """Event times of one kind of entity."""

    def __init__(self, group: PlanGroup, now: datetime) -> None:
        self.group, self._now = group, now.timestamp()
        self.entities = 0
        self.ages: list[list[float]] = [[] for _ in group.views]
        self.rest: list[float] = []
        """Seconds until the store forgets an entity by itself; those that it never does are not
        among them."""

    def add(self, client: Any, keys: Sequence[bytes]) -> None:
        fields = [view.event_time_field for view in self.group.views]
        with client.pipeline(transaction=False) as batch:
            for key in keys:
                batch.hmget(key, fields)
                batch.pttl(key)
            answers = batch.execute()
        for times, rest in zip(answers[::2], answers[1::2], strict=True):
            self.entities += 1
            for ages, moment in zip(self.ages, times, strict=True):
                if moment is not None:
                    ages.append(self._now - redis_layout.decode_event_time(moment) / 1e6)
            if rest >= 0:
                self.rest.append(rest / 1000)


def _views(repository: Repository, sample: _Sample, now: datetime) -> Iterator[ViewFreshness]:
    limit = getattr(repository.config.online_store, "key_ttl_seconds", None) or 0
    ending = sum(rest < limit / 5 for rest in sample.rest) / sample.entities if sample.rest else 0.0
    for plan_view, times in zip(sample.group.views, sample.ages, strict=True):
        ages, ttl = np.array(times), plan_view.ttl_micros / 1e6
        expired = float(np.mean(ages > ttl)) if ttl and len(ages) else 0.0
        near = float(np.mean(ages > NEAR * ttl)) - expired if ttl and len(ages) else 0.0
        until, newest = _written(repository, plan_view.event_time_field, now)
        lag = None
        if newest is not None:
            lag = max(0.0, (newest - until).total_seconds()) if until else None
        yield ViewFreshness(
            view=plan_view.name,
            entities=sample.entities,
            absent=sample.entities - len(ages),
            age_median=float(np.median(ages)) if len(ages) else None,
            age_p99=float(np.percentile(ages, 99)) if len(ages) else None,
            ttl=ttl,
            near=near,
            expired=expired,
            ending=ending,
            materialised_until=until.isoformat() if until else None,
            source_newest=newest.isoformat() if newest else None,
            lag=lag,
            lag_limit=max(300.0, ttl / 5) if ttl else 86_400.0,
        )


def _written(
    repository: Repository, event_time_field: bytes, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Up to when a view was materialised, and the newest event time of its source up to `now`."""
    for view in map(repository.view, repository.definitions.feature_views):
        if not view.online or event_time_field != redis_layout.event_time_field(
            view_layout(repository, view).name
        ):
            continue
        until = view.most_recent_end_time
        newest = _newest(repository, view, now) if is_readable(view.batch_source) else None
        return (aware(until) if until else None), newest
    return None, None


def _newest(repository: Repository, view: Any, now: datetime) -> datetime | None:
    """Only the column of times is read, and of a file only as much as its statistics ask for."""
    import polars as pl

    _, _, timestamp, _ = source_columns(repository, view)
    frame = scan_source(view.batch_source, repository.folder).select(timestamp)
    where = f"feature view {view.name}"
    if isinstance(kind := frame.collect_schema()[timestamp], pl.Datetime):
        frame = frame.filter(pl.col(timestamp) <= literal(now, kind)).max()
    times = as_utc(collect(frame, where).to_series(), where=where)
    newest = times.filter(times <= now).max()
    return newest if isinstance(newest, datetime) else None
