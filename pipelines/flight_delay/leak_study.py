"""What leaking joins claim for this model, and what they would deliver.

    python -m pipelines.flight_delay.leak_study

Trains the same quick model three times, on features joined three ways, and asks each twice for the
late flights of the following months: on its own kind of rows, which is what its builder reads in
the notebook, and on honestly joined rows, which is all that a server can have at departure.

*By the timetable*: departures and landings are dated by the moment they were due, the only time
stamp that a table of flights offers without work. *By the day*: rolling values are replaced by the
averages of the whole calendar day, as `groupby(["origin", "date"]).mean()` makes them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.flight_delay import sources, transforms
from pipelines.flight_delay.raw import ORIGIN_ZONE, Raw, read_raw, timetable
from pipelines.flight_delay.rolling import KNOWN
from zeroskew.errors import ZeroskewError
from zeroskew.features.definitions import load_definitions
from zeroskew.features.join import JoinView, point_in_time_join

CUT = datetime(2013, 9, 1, tzinfo=UTC)
"""Flights before train, flights from then on judge."""

Tables = dict[str, pl.DataFrame]
Progress = Callable[[str, int, int], None]

ANSWERS = ("late", "label_timestamp")
NOT_INPUTS = (
    *ANSWERS,
    "event_timestamp",
    "origin",
    "carrier",
    "dest",
    "route",
    "tailnum",
    "flight",
    "scheduled_departure",
    "scheduled_weekday",
    "aircraft_last_landed",
)
TRANSFORMED = (
    "scheduled_departure",
    "scheduled_minute",
    "scheduled_weekday",
    "scheduled_block",
    "distance",
    "aircraft_last_landed",
    "aircraft_last_block",
)
"""Columns that the functions of transforms.py read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the study. AUC: higher is better; log loss: lower is better.

    `offline` is measured on rows joined like the training rows, `online` on honest ones.
    """

    name: str
    offline_auc: float
    offline_log_loss: float
    online_auc: float
    online_log_loss: float


def by_the_timetable(raw: Raw) -> Tables:
    """The leaking tables whose facts are dated by when they were due."""
    flights = timetable(raw.flights, raw.airports)
    departures = sources.known_departures(flights).with_columns(pl.col("scheduled").alias(KNOWN))
    landings = sources.known_landings(flights).with_columns(pl.col("due").alias(KNOWN))
    return {
        "airport_delays": sources.airport_delays(flights, departures),
        "carrier_delays": sources.carrier_delays(landings),
        "carrier_origin_delays": sources.carrier_origin_delays(flights, departures),
        "route_delays": sources.route_delays(landings),
        "aircraft_delays": sources.aircraft_delays(landings),
    }


def by_the_day(raw: Raw, honest: Tables) -> Tables:
    """The leaking tables whose values are averages of the whole day, its evening included."""
    flights = timetable(raw.flights, raw.airports).with_columns(
        route=pl.col("origin") + "-" + pl.col("dest"),
        day=pl.col("scheduled").dt.convert_time_zone(ORIGIN_ZONE).dt.date(),
    )
    return {
        name: _whole_days(honest[name], flights, keys, f"{of}_delay")
        for name, keys, of in (
            ("airport_delays", ["origin"], "dep"),
            ("carrier_delays", ["carrier"], "arr"),
            ("carrier_origin_delays", ["carrier", "origin"], "dep"),
            ("route_delays", ["route"], "arr"),
        )
    }


def _whole_days(
    honest: pl.DataFrame, flights: pl.DataFrame, keys: list[str], delay: str
) -> pl.DataFrame:
    days = flights.group_by(*keys, "day").agg(
        _delay=pl.col(delay).mean(),
        _late=(pl.col(delay) > sources.LATE).mean(),
        _n=pl.col(delay).count().cast(pl.Int64),
    )
    kinds = {"_delay_": "_delay", "_late_share_": "_late", "_departures_": "_n", "_arrivals_": "_n"}
    replaced = {
        column: pl.col(value)
        for column in honest.columns
        for part, value in kinds.items()
        if part in column
    }
    return (
        honest.with_columns(
            day=pl.col("event_timestamp").dt.convert_time_zone(ORIGIN_ZONE).dt.date()
        )
        .join(days, on=[*keys, "day"], how="left", maintain_order="left")
        .with_columns(**replaced)
        .select(honest.columns)
    )


def join(rows: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """The rows with all features of features.py, joined point in time from `tables`."""
    views = []
    for view in _feature_views():
        source = view.batch_source
        views.append(
            JoinView(
                name=view.name,
                frame=tables[source.name].lazy(),
                keys={key: key for key in view.entities},
                features={feature.name: feature.name for feature in view.features},
                timestamp=source.timestamp_field,
                created_timestamp=source.created_timestamp_column or None,
                ttl=view.ttl or None,
            )
        )
    joined = point_in_time_join(rows, views)
    inputs = joined.select(TRANSFORMED).to_dict(as_series=False)
    computed: dict[str, Any] = {}
    for function in (
        transforms.scheduled_time,
        transforms.planned_flight,
        transforms.aircraft_readiness,
    ):
        computed |= function(inputs)
    return joined.with_columns(pl.Series(name, values) for name, values in computed.items())


def _feature_views() -> list[Any]:
    # features.py wants the variable that its sources' paths begin with; no path is read here.
    unset = "ZEROSKEW_DATA" not in os.environ
    if unset:
        os.environ["ZEROSKEW_DATA"] = "unused"
    try:
        return list(load_definitions(Path(__file__).parent).feature_views.values())
    finally:
        if unset:
            del os.environ["ZEROSKEW_DATA"]


def study(
    raw: Raw, on_progress: Progress | None = None, *, iterations: int = 150, cut: datetime = CUT
) -> list[Outcome]:
    """Train on flights before `cut` whose answer was known by then, judge on the later ones."""
    tell = on_progress or (lambda what, done, total: None)
    tell("compute the features, honest and leaking", 0, 6)
    honest = sources.build(raw)
    rows = honest["entity_rows"]
    ways = {
        "point in time": honest,
        "by the timetable": honest | by_the_timetable(raw),
        "by the day": honest | by_the_day(raw, honest),
    }
    tell("join", 1, 6)
    joined = {way: join(rows, tables) for way, tables in ways.items()}
    label = rows["late"].to_numpy()
    asked, known = rows["event_timestamp"], rows["label_timestamp"]
    learn = ((asked < cut) & (known < cut)).to_numpy()
    judge = (asked >= cut).to_numpy()
    if not (learn.any() and judge.any()):
        raise ValueError(f"the study needs flights on both sides of {cut:%Y-%m-%d}")

    tell("baselines", 2, 6)
    base = np.full(judge.sum(), label[learn].mean())
    outcomes = [_outcome("base rate", label[judge], base, base)]
    recent = joined["point in time"].select(
        "airport_dep_delay_1h",
        "airport_late_share_1h",
        "airport_overdue",
        "hour_sine",
        "hour_cosine",
    )
    score = _logistic(recent, learn, label)(recent.filter(judge))
    outcomes.append(_outcome("airport's last hour, logistic", label[judge], score, score))

    encode = _Encoder(joined["point in time"])
    truth = encode(joined["point in time"].filter(judge))
    for done, (way, frame) in enumerate(joined.items()):
        tell(f"train on features joined {way}", 3 + done, 6)
        model = _boosted(encode(frame.filter(learn)), label[learn], encode.categorical, iterations)
        believed = model(encode(frame.filter(judge)))
        outcomes.append(_outcome(f"joined {way}", label[judge], believed, model(truth)))
    tell("done", 6, 6)
    return outcomes


def _outcome(
    name: str, label: NDArray[Any], offline: NDArray[Any], online: NDArray[Any]
) -> Outcome:
    from sklearn.metrics import log_loss, roc_auc_score

    return Outcome(
        name,
        float(roc_auc_score(label, offline)),
        float(log_loss(label, offline)),
        float(roc_auc_score(label, online)),
        float(log_loss(label, online)),
    )


class _Encoder:
    """Columns to one float matrix; a category becomes its place among the honest values."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._names = [name for name in frame.columns if name not in NOT_INPUTS]
        self._enums = {
            name: pl.Enum(frame[name].drop_nulls().unique().sort())
            for name in self._names
            if frame[name].dtype == pl.String
        }
        self.categorical = [name in self._enums for name in self._names]

    def __call__(self, frame: pl.DataFrame) -> NDArray[np.float32]:
        columns = [
            pl.col(name).cast(self._enums[name]).to_physical() if name in self._enums else name
            for name in self._names
        ]
        return frame.select(columns).cast(pl.Float32).to_numpy()


def _boosted(
    rows: NDArray[Any], label: NDArray[Any], categorical: Sequence[bool], iterations: int
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=iterations, categorical_features=list(categorical), random_state=7
    ).fit(rows, label)
    return lambda asked: model.predict_proba(asked)[:, 1]


def _logistic(
    frame: pl.DataFrame, learn: NDArray[Any], label: NDArray[Any]
) -> Callable[[pl.DataFrame], NDArray[Any]]:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression())
    model.fit(frame.filter(learn).to_numpy(), label[learn])
    return lambda asked: model.predict_proba(asked.to_numpy())[:, 1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study on all flights and print its table."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--iterations", type=int, default=150, help="trees of each model")
    chosen = parser.parse_args(arguments)
    console = Console()
    try:
        outcomes = study(
            read_raw(),
            lambda what, done, total: console.print(f"[dim]{done}/{total} {what}[/dim]"),
            iterations=chosen.iterations,
        )
    except ZeroskewError as error:
        raise SystemExit(str(error)) from None
    table = Table(title=f"Late flights from {CUT:%B %Y} on, learnt from those before")
    table.add_column("features")
    for column in ("AUC claimed", "AUC delivered", "log loss claimed", "log loss delivered"):
        table.add_column(column, justify="right")
    for line in outcomes:
        numbers = (
            line.offline_auc,
            line.online_auc,
            line.offline_log_loss,
            line.online_log_loss,
        )
        table.add_row(line.name, *(f"{number:.3f}" for number in numbers))
    console.print(table)


if __name__ == "__main__":
    main()
