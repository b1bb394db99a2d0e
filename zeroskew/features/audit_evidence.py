"""What the sources say of rows that differ: the row the join takes, the row that was served.

Only rows with a difference are looked up again, view by view, with their times instead of their
values. A warehouse's history is not read here; its differences stay unexplained.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zeroskew.features import moments
from zeroskew.features.audit_causes import (
    NO_TIME,
    SECOND,
    ViewEvidence,
    same_time,
)
from zeroskew.features.audit_compare import MATCH, outcomes
from zeroskew.features.audit_log import age_column, own
from zeroskew.features.join import JoinView, point_in_time_join, source_schema
from zeroskew.features.repository import Repository
from zeroskew.features.retrieval import join_views
from zeroskew.features.sources import collect, place_of

_AT, _TIME, _CREATED = own("at"), own("source_time"), own("source_created")
_TELLING = 0.9
"""Share of a source's rows that must be alone with their values before a match under another key
says anything: of two airports with the same weather, neither was taken for the other."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class EvidenceView:
    """One stored view of a service, and what is known of it apart from its rows."""

    join: JoinView
    features: tuple[str, ...]
    """Stored features that the service or one of its request-time functions takes."""
    created_counts: bool
    changed_at: int
    materialised_until: int
    _values: JoinView = field(repr=False)

    @classmethod
    def of(cls, repository: Repository, view: Any, features: Sequence[str]) -> EvidenceView:
        """From a Feast view with its projection. Raises `DataError` if its source is not there."""
        from zeroskew.features import offline_store

        refs = [f"{view.projection.name_to_use()}:{feature}" for feature in features]
        made = join_views([view], refs, repository.folder)[0]
        columns = [pl.col(made.timestamp).alias(_TIME)]
        if made.created_timestamp:
            columns.append(pl.col(made.created_timestamp).alias(_CREATED))
        timed = replace(
            made,
            frame=made.frame.with_columns(columns),
            features={column.meta.output_name(): column.meta.output_name() for column in columns},
            types={},
        )
        last = view.most_recent_end_time
        return cls(
            timed,
            tuple(features),
            offline_store.filters_by_created(repository.config),
            _changed_at(place_of(view.batch_source, repository.folder)),
            NO_TIME if last is None else round(moments.aware(last).timestamp() * 1e6),
            made,
        )

    def joined_inputs(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Values of the view's features as the join gives them to `rows`."""
        questions = rows.select(*self.join.keys, own("event_time"))
        return point_in_time_join(
            questions,
            [self._values],
            event_timestamp=own("event_time"),
            filter_by_created=self.created_counts,
        ).select(self.features)

    def gather(
        self,
        rows: pl.DataFrame,
        kinds: Mapping[str, str],
        missing: Bools,
        other_definition: Bools,
    ) -> ViewEvidence:
        """Evidence of `rows`, a chunk of the log cut down to what differs in this view.

        `missing`: rows of which nothing was served. `kinds`: declared types of the features that
        the log holds.
        """
        event, answered = micros(rows, own("event_time")), micros(rows, own("answered_at"))
        name = age_column(self.join.name)
        age = pl.Series([None] * rows.height) if name not in rows.columns else rows.get_column(name)
        age_ms = age.cast(pl.Int64).fill_null(NO_TIME).to_numpy()
        joined = self._times(rows, event, self.join.ttl, self.created_counts)
        served = self._served(rows, event, age_ms)
        made = ViewEvidence(
            event=event,
            answered=answered,
            age_ms=age_ms,
            degraded=rows.get_column(own("degraded")).fill_null(False).to_numpy(),
            joined_time=joined[0],
            joined_created=joined[1],
            served_time=served[0],
            served_created=served[1],
            other_definition=other_definition,
            elsewhere=np.zeros(rows.height, np.bool_),
            ttl=moments.ticks(self.join.ttl, "us") if self.join.ttl else 0,
            created_counts=self.created_counts,
            records_creation=self.join.created_timestamp is not None,
            changed_at=self.changed_at,
            materialised_until=self.materialised_until,
        )
        doubtful = made.seen & ~missing & (made.same_row | (made.served_time == NO_TIME))
        doubtful &= age_ms >= 0
        if not doubtful.any() or not self.join.keys:
            return made
        which = np.flatnonzero(doubtful)
        elsewhere = made.elsewhere.copy()
        elsewhere[which] = self._elsewhere(rows[which], kinds, (event - age_ms * 1000)[which])
        return replace(made, elsewhere=elsewhere)

    def altered(
        self,
        rows: pl.DataFrame,
        evidence: ViewEvidence,
        kinds: Mapping[str, str],
        tolerances: Mapping[str, float],
    ) -> dict[str, Bools]:
        """By feature, where the source's row of the served time has another value than was served.

        Told of rows for which the join takes a newer one: of others the join itself says it.
        """
        found = {name: np.zeros(rows.height, np.bool_) for name in kinds}
        behind = evidence.newer_joined & (evidence.served_time != NO_TIME) & ~evidence.degraded
        which = np.flatnonzero(behind)
        if not len(which):
            return found
        part = rows[which]
        questions = part.select(
            *self.join.keys, pl.Series(_AT, evidence.served_time[which]).cast(moments.UTC)
        )
        values = point_in_time_join(
            questions,
            [replace(self._values, ttl=None)],
            event_timestamp=_AT,
            filter_by_created=False,
        )
        for name, kind in kinds.items():
            outcome = outcomes(
                part.get_column(name),
                values.get_column(name),
                kind,
                tolerance=tolerances.get(kind, 0.0),
            )
            found[name][which] = outcome != MATCH
        return found

    def _served(self, rows: pl.DataFrame, event: Ints, age_ms: Ints) -> tuple[Ints, Ints]:
        """Time and creation of the source's row that has the age of the served value."""
        seen = age_ms != NO_TIME
        upper = event - np.where(seen, age_ms, 0) * 1000
        time, created = self._times(rows, upper, None, False)
        found = same_time(event, time, age_ms)
        again = np.flatnonzero(seen & ~found)
        if len(again):
            # What Feast wrote has lost the fraction of its second.
            whole = upper[again] - upper[again] % SECOND + SECOND - 1
            time[again], created[again] = self._times(rows[again], whole, None, False)
            found[again] = same_time(event[again], time[again], age_ms[again])
        return np.where(found, time, NO_TIME), np.where(found, created, NO_TIME)

    def _times(
        self, rows: pl.DataFrame, at: Ints, ttl: timedelta | None, created_counts: bool
    ) -> tuple[Ints, Ints]:
        """Time and creation of the newest row at each moment, NO_TIME where there is none."""
        questions = rows.select(*self.join.keys).with_columns(
            pl.Series(_AT, at).cast(moments.UTC)
        ) if self.join.keys else pl.DataFrame({_AT: pl.Series(at).cast(moments.UTC)})  # fmt: skip
        found = point_in_time_join(
            questions,
            [replace(self.join, ttl=ttl)],
            event_timestamp=_AT,
            filter_by_created=created_counts,
        )
        none = np.full(rows.height, NO_TIME, np.int64)
        return micros(found, _TIME), micros(found, _CREATED) if _CREATED in found.columns else none

    def _elsewhere(self, rows: pl.DataFrame, kinds: Mapping[str, str], seen: Ints) -> Bools:
        """Whether exactly one other key has the served values of all features at that time."""
        nobody = np.zeros(rows.height, np.bool_)
        made = self._values
        features = {
            theirs: mine
            for theirs, mine in made.features.items()
            if mine in kinds and mine in rows.columns and not kinds[mine].endswith("_list")
        }
        if not features:
            return nobody
        kind = source_schema(made)[made.timestamp]
        frame = made.frame
        if isinstance(kind, pl.Datetime):
            low, high = (_moment(int(bound)) for bound in (seen.min(), seen.max()))
            frame = frame.filter(
                pl.col(made.timestamp) >= moments.literal(low - timedelta(seconds=1), kind),
                pl.col(made.timestamp) <= moments.literal(high, kind),
            )
        names = [f"f{i}" for i in range(len(features))]
        keys = [pl.col(theirs).cast(pl.String) for theirs in made.keys.values()]
        source = collect(
            frame.select(
                pl.col(made.timestamp).alias(_TIME),
                pl.concat_str(keys, separator="\0").alias("key"),
                *(
                    _bare(pl.col(theirs), kinds[mine]).alias(name)
                    for (theirs, mine), name in zip(features.items(), names, strict=True)
                ),
            ),
            made.place,
        )
        seconds = micros(source, _TIME) // SECOND
        alone = (
            source.with_columns(pl.Series("second", seconds))
            .group_by("second", *names)
            .agg(
                pl.col("key").n_unique().alias("keys"),
                pl.col("key").first(),
                pl.len().alias("size"),
            )
        )
        total = source.height
        single = alone.filter(pl.col("keys") == 1)
        if not total or int(single.get_column("size").sum()) < _TELLING * total:
            return nobody
        mine = [pl.col(key).cast(pl.String) for key in made.keys]
        asked = rows.select(
            pl.Series("second", seen // SECOND),
            pl.concat_str(mine, separator="\0").alias("own_key"),
            *(
                _bare(pl.col(feature), kinds[feature]).alias(name)
                for feature, name in zip(features.values(), names, strict=True)
            ),
        )
        try:
            found = asked.join(
                single, on=["second", *names], how="left", nulls_equal=True, maintain_order="left"
            )
        except pl.exceptions.PolarsError:
            return nobody  # served and stored values have no common type
        hit = (pl.col("key").is_not_null() & (pl.col("key") != pl.col("own_key"))).fill_null(False)
        # Nothing but nulls is everybody's.
        some = pl.any_horizontal(pl.col(name).is_not_null() for name in names)
        return np.asarray(found.select(hit & some).to_series().to_numpy())


def micros(frame: pl.DataFrame, name: str) -> Ints:
    """A time column in microseconds since the epoch, NO_TIME for null."""
    column = moments.as_utc(frame.get_column(name), where=name)
    return column.dt.cast_time_unit("us").to_physical().fill_null(NO_TIME).to_numpy().copy()


def _bare(column: pl.Expr, kind: str) -> pl.Expr:
    """A feature in one type on both sides, NaN as null."""
    if kind in ("float64", "float32"):
        wanted = pl.Float32 if kind == "float32" else pl.Float64
        return column.cast(wanted, strict=False).fill_nan(None)
    if kind in ("int64", "int32"):
        return column.cast(pl.Int64, strict=False)
    if kind == "timestamp":
        return column.dt.epoch("s")
    return column if kind in ("bool", "bytes") else column.cast(pl.String, strict=False)


def _moment(at: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=moments.dt.UTC) + timedelta(microseconds=at)


def _changed_at(place: str) -> int:
    """When the newest file of a local source was written, microseconds; NO_TIME of any other."""
    if "://" in place:
        return NO_TIME
    files = [place]
    if os.path.isdir(place):
        files = glob.glob(f"{place}/**/*.parquet", recursive=True)
    elif "*" in place:
        files = glob.glob(place, recursive=True)
    times = [os.stat(file).st_mtime for file in files if os.path.exists(file)]
    return round(max(times) * 1e6) if times else NO_TIME
