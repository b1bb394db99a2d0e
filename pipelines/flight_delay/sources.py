"""What was known about weather, airports, carriers, routes and aircraft, and since when.

Every table has `event_timestamp`: the moment at which all of its row was known. The files tell
times to the minute, so a departure or landing in minute m is known at m + 1. A departure ahead of
schedule counts from its scheduled minute on: a question asked at the scheduled departure never
finds its own answer among its features.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl

from pipelines.flight_delay.raw import Raw, destinations, timetable
from pipelines.flight_delay.rolling import (
    KNOWN,
    mean,
    moments,
    running_totals,
    totals_at,
    within,
)

LATE = 15
"""Minutes; later than this is late."""
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
OVERDUE_FROM = timedelta(minutes=LATE)
OVERDUE_UNTIL = timedelta(hours=3)
"""A flight that has not left by then is taken for cancelled: when it was cancelled is not told."""
BEFORE_ALL = pl.lit(datetime(2012, 12, 31, tzinfo=UTC)).dt.cast_time_unit("us")

Progress = Callable[[str, int, int], None]


def build(raw: Raw, on_progress: Progress | None = None) -> dict[str, pl.DataFrame]:
    """All feature sources and `entity_rows`, by file name, each ascending in event time."""
    flights = timetable(raw.flights, raw.airports)
    departures = known_departures(flights)
    landings = known_landings(flights)
    steps: dict[str, Callable[[], pl.DataFrame]] = {
        "weather": lambda: weather(raw.weather),
        "airport_delays": lambda: airport_delays(flights, departures),
        "carrier_delays": lambda: carrier_delays(landings),
        "carrier_origin_delays": lambda: carrier_origin_delays(flights, departures),
        "route_delays": lambda: route_delays(landings),
        "aircraft_delays": lambda: aircraft_delays(landings),
        "planes": lambda: planes(raw.planes),
        "airlines": lambda: airlines(raw.airlines),
        "airports": lambda: airports(raw),
        "destinations": lambda: destination_facts(raw),
        "entity_rows": lambda: entity_rows(flights),
    }
    tables = {}
    for done, (name, step) in enumerate(steps.items()):
        if on_progress:
            on_progress(f"compute {name}", done, len(steps))
        tables[name] = step()
    if on_progress:
        on_progress("computed", len(steps), len(steps))
    return tables


def known_departures(flights: pl.DataFrame) -> pl.DataFrame:
    """Flights that left, with `known_at`."""
    return flights.filter(pl.col("departed").is_not_null()).with_columns(
        (pl.max_horizontal("departed", "scheduled") + MINUTE).alias(KNOWN)
    )


def known_landings(flights: pl.DataFrame) -> pl.DataFrame:
    """Flights that arrived where they were going, with `known_at` and `route`."""
    return flights.filter(pl.col("landed").is_not_null()).with_columns(
        (pl.col("landed") + MINUTE).alias(KNOWN), route=_route()
    )


def _route() -> pl.Expr:
    return pl.col("origin") + "-" + pl.col("dest")


def weather(raw: pl.DataFrame) -> pl.DataFrame:
    """Hourly observations per origin airport; the observation of an hour is known at its end."""
    known = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC") + HOUR
    direction = pl.col("wind_dir").radians()
    return raw.select(
        "origin",
        event_timestamp=known,
        # A correction of an observation would carry its event time and a later creation.
        created_timestamp=known,
        temperature=pl.col("temp").cast(pl.Float64),
        dew_point=pl.col("dewp").cast(pl.Float64),
        humidity=pl.col("humid").cast(pl.Float64),
        # Degrees jump from 360 to 0; the wind's two components do not.
        # A calm has no direction.
        wind_east=_component(direction.sin()),
        wind_north=_component(direction.cos()),
        wind_speed=pl.col("wind_speed").cast(pl.Float64),
        wind_gust=pl.col("wind_gust").cast(pl.Float64),
        precipitation=pl.col("precip").cast(pl.Float64),
        pressure=pl.col("pressure").cast(pl.Float64),
        visibility=pl.col("visib").cast(pl.Float64),
    ).sort("event_timestamp", "origin")


def _component(part: pl.Expr) -> pl.Expr:
    """Of the wind, towards where it blows; `wind_dir` is where it comes from."""
    speed = pl.col("wind_speed")
    return pl.when(speed == 0).then(pl.lit(0.0)).otherwise(-speed * part)


_DELAY = {
    "n": pl.lit(1),
    "delay": pl.col("dep_delay"),
    "late": (pl.col("dep_delay") > LATE),
}
_ARRIVAL = {
    "n": pl.lit(1),
    "delay": pl.col("arr_delay"),
    "late": (pl.col("arr_delay") > LATE),
}


def airport_delays(flights: pl.DataFrame, departures: pl.DataFrame) -> pl.DataFrame:
    """Per origin: departures of the last 1, 3 and 24 hours, and flights waiting to leave."""
    keys = ["origin"]
    left, waiting = running_totals(departures, keys, _DELAY), _waiting(flights, keys)
    at = moments(left, waiting, keys=keys)
    hour, three, day = (within(at, left, keys, w) for w in (HOUR, 3 * HOUR, DAY))
    return _finish(
        at,
        keys,
        airport_departures_1h=hour["n"],
        airport_dep_delay_1h=_mean(hour, "delay"),
        airport_late_share_1h=_mean(hour, "late"),
        airport_dep_delay_3h=_mean(three, "delay"),
        airport_late_share_3h=_mean(three, "late"),
        airport_overdue=totals_at(at, waiting, keys)["waiting"],
        airport_departures_24h=day["n"],
        airport_dep_delay_24h=_mean(day, "delay"),
        airport_late_share_24h=_mean(day, "late"),
    )


def carrier_delays(landings: pl.DataFrame) -> pl.DataFrame:
    """Per carrier: landings of the last 3 and 24 hours, anywhere."""
    keys = ["carrier"]
    arrived = running_totals(landings, keys, _ARRIVAL)
    at = moments(arrived, keys=keys)
    three, day = (within(at, arrived, keys, w) for w in (3 * HOUR, DAY))
    return _finish(
        at,
        keys,
        carrier_arrivals_3h=three["n"],
        carrier_arr_delay_3h=_mean(three, "delay"),
        carrier_late_share_3h=_mean(three, "late"),
        carrier_arr_delay_24h=_mean(day, "delay"),
        carrier_late_share_24h=_mean(day, "late"),
    )


def carrier_origin_delays(flights: pl.DataFrame, departures: pl.DataFrame) -> pl.DataFrame:
    """Per carrier at one origin: departures of the last 3 hours, and flights waiting to leave."""
    keys = ["carrier", "origin"]
    left, waiting = running_totals(departures, keys, _DELAY), _waiting(flights, keys)
    at = moments(left, waiting, keys=keys)
    three = within(at, left, keys, 3 * HOUR)
    return _finish(
        at,
        keys,
        carrier_origin_departures_3h=three["n"],
        carrier_origin_dep_delay_3h=_mean(three, "delay"),
        carrier_origin_late_share_3h=_mean(three, "late"),
        carrier_origin_overdue=totals_at(at, waiting, keys)["waiting"],
    )


def route_delays(landings: pl.DataFrame) -> pl.DataFrame:
    """Per route: landings of the last 7 and 30 days."""
    keys = ["route"]
    arrived = running_totals(landings, keys, _ARRIVAL)
    at = moments(arrived, keys=keys)
    week, month = (within(at, arrived, keys, w) for w in (7 * DAY, 30 * DAY))
    return _finish(
        at,
        keys,
        route_arrivals_7d=week["n"],
        route_arr_delay_7d=_mean(week, "delay"),
        route_late_share_7d=_mean(week, "late"),
        route_arr_delay_30d=_mean(month, "delay"),
        route_late_share_30d=_mean(month, "late"),
    )


def aircraft_delays(landings: pl.DataFrame) -> pl.DataFrame:
    """Per aircraft: its last leg out of New York, and its legs of the last day and week."""
    keys = ["tailnum"]
    arrived = running_totals(landings, keys, _ARRIVAL)
    at = moments(arrived, keys=keys)
    day, week = (within(at, arrived, keys, w) for w in (DAY, 7 * DAY))
    last = landings.drop_nulls(keys).select(
        *keys,
        KNOWN,
        arr_delay="arr_delay",
        landed=pl.col("landed").dt.epoch("s"),
        block=(pl.col("landed") - pl.col("departed")).dt.total_minutes(),
        departed="departed",
    )
    # Two landings of one aircraft in one minute is a misread tail number: the later departure wins.
    last = last.sort("departed").unique([*keys, KNOWN], keep="last", maintain_order=True)
    joined = at.join(last, on=[*keys, KNOWN], how="left", maintain_order="left")
    return _finish(
        at,
        keys,
        aircraft_last_arr_delay=joined["arr_delay"].cast(pl.Float64),
        aircraft_last_landed=joined["landed"],
        aircraft_last_block=joined["block"].cast(pl.Float64),
        aircraft_landings_24h=day["n"],
        aircraft_arr_delay_7d=_mean(week, "delay"),
    )


def planes(raw: pl.DataFrame) -> pl.DataFrame:
    """Facts of the aircraft register: unchanging, and known before the first flight."""
    return raw.select(
        "tailnum",
        event_timestamp=BEFORE_ALL,
        plane_year=pl.col("year").cast(pl.Int64),
        plane_seats=pl.col("seats").cast(pl.Int64),
        plane_engines=pl.col("engines").cast(pl.Int64),
        plane_manufacturer="manufacturer",
        plane_model="model",
        plane_engine="engine",
    ).sort("tailnum")


def airlines(raw: pl.DataFrame) -> pl.DataFrame:
    """The carrier itself, as a category the network can embed."""
    return raw.select("carrier", event_timestamp=BEFORE_ALL, airline="name").sort("carrier")


def airports(raw: Raw) -> pl.DataFrame:
    """The origin itself, as a category the network can embed."""
    return (
        raw.airports.rename({"faa": "origin"})
        .join(raw.flights.select("origin").unique(), on="origin", how="semi")
        .select("origin", event_timestamp=BEFORE_ALL, airport="name")
        .sort("origin")
    )


def destination_facts(raw: Raw) -> pl.DataFrame:
    """The destination itself, as a category, and where it lies."""
    return (
        destinations(raw.airports)
        .join(raw.flights.select("dest").unique(), on="dest", how="semi")
        .select(
            "dest",
            event_timestamp=BEFORE_ALL,
            destination=pl.col("dest"),
            dest_latitude="dest_latitude",
            dest_longitude="dest_longitude",
        )
        .sort("dest")
    )


def entity_rows(flights: pl.DataFrame) -> pl.DataFrame:
    """One row per flight that left: the question, asked at its scheduled departure, and the answer.

    Cancelled flights get no row: they neither arrive late nor in time. A diverted flight did not
    arrive where it should, so it is late; that is taken as known a day after it was due.
    """
    late = (pl.col("arr_delay") > LATE).fill_null(True)
    local = pl.col("scheduled").dt.convert_time_zone("America/New_York")
    return (
        flights.filter(pl.col("departed").is_not_null())
        .select(
            "origin",
            "carrier",
            "dest",
            route=_route(),
            tailnum="tailnum",
            flight="flight",
            event_timestamp="scheduled",
            late=late.cast(pl.Int64),
            label_timestamp=pl.coalesce(pl.col("landed") + MINUTE, pl.col("due") + DAY),
            scheduled_departure=pl.col("scheduled").dt.epoch("s"),
            scheduled_minute=local.dt.hour().cast(pl.Int64) * 60 + local.dt.minute(),
            scheduled_weekday=local.dt.weekday().cast(pl.Int64),
            scheduled_block=(pl.col("due") - pl.col("scheduled")).dt.total_minutes(),
            distance="distance",
        )
        .sort("event_timestamp", "origin", "carrier", "flight", maintain_order=True)
    )


def _waiting(flights: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Running number of flights that should have left `OVERDUE_FROM` ago and have not.

    A flight starts to wait when the quarter of an hour is over, and stops when its departure is
    known or after `OVERDUE_UNTIL`, whichever comes first.
    """
    begins = pl.col("scheduled") + OVERDUE_FROM + MINUTE
    ends = pl.min_horizontal(
        pl.col("departed") + MINUTE, pl.col("scheduled") + OVERDUE_UNTIL + MINUTE
    )
    spans = flights.select(*keys, begins=begins, ends=ends).filter(
        pl.col("ends") > pl.col("begins")
    )
    changes = pl.concat(
        [
            spans.select(*keys, pl.col("begins").alias(KNOWN), step=pl.lit(1)),
            spans.select(*keys, pl.col("ends").alias(KNOWN), step=pl.lit(-1)),
        ]
    )
    return running_totals(changes, keys, {"waiting": pl.col("step")})


def _mean(window: pl.DataFrame, total: str) -> pl.Series:
    return window.select(mean(total, "n").alias(total)).to_series()


def _finish(at: pl.DataFrame, keys: list[str], **features: pl.Series) -> pl.DataFrame:
    """Keys, event time and features; `at` is ascending in time already."""
    return at.select(*keys, event_timestamp=pl.col(KNOWN)).with_columns(
        column.alias(name) for name, column in features.items()
    )
