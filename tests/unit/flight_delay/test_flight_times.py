"""Wall clocks become UTC moments: midnight, time zones and both changes of daylight saving time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from pipelines.flight_delay.raw import Raw, destinations, timetable
from zeroskew.errors import DataError

NEW_YORK = ZoneInfo("America/New_York")


def clock(minutes: int) -> int:
    return minutes // 60 * 100 + minutes % 60


def flight(
    scheduled: datetime,
    due: datetime,
    dest: str = "LAX",
    dep_delay: int | None = 0,
    arr_delay: int | None = 0,
    dep_clock: int | None = None,
    arr_clock: int | None = None,
    air_time: int | None = 60,
) -> dict:
    """A raw row; `scheduled` local at the origin, `due` local at the destination."""
    shown = lambda start, delay: clock(  # noqa: E731
        (start.hour * 60 + start.minute + delay) % 1440
    )
    hour = scheduled.replace(minute=0, tzinfo=NEW_YORK).astimezone(UTC)
    return {
        "year": scheduled.year,
        "month": scheduled.month,
        "day": scheduled.day,
        "dep_time": dep_clock
        if dep_clock is not None or dep_delay is None
        else shown(scheduled, dep_delay),
        "sched_dep_time": clock(scheduled.hour * 60 + scheduled.minute),
        "dep_delay": dep_delay,
        "arr_time": arr_clock
        if arr_clock is not None or arr_delay is None
        else shown(due, arr_delay),
        "sched_arr_time": clock(due.hour * 60 + due.minute),
        "arr_delay": arr_delay,
        "carrier": "UA",
        "flight": 1,
        "tailnum": "N1",
        "origin": "EWR",
        "dest": dest,
        "air_time": air_time,
        "distance": 100,
        "hour": scheduled.hour,
        "minute": scheduled.minute,
        "time_hour": hour.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


AIRPORTS = pl.DataFrame(
    {
        "faa": ["LAX", "BOS", "PHX", "HNL"],
        "lat": [33.9, 42.3, 33.4, 21.3],
        "lon": [-118.4, -71.0, -112.0, -157.9],
        "tzone": [
            "America/Los_Angeles",
            "America/New_York",
            "America/Phoenix",
            "Pacific/Honolulu",
        ],
    }
)


def dated(**what) -> dict:
    schema = {
        "dep_time": pl.Int64,
        "arr_time": pl.Int64,
        "dep_delay": pl.Int64,
        "arr_delay": pl.Int64,
        "air_time": pl.Int64,
    }
    frame = pl.DataFrame([flight(**what)], schema_overrides=schema)
    return timetable(frame, AIRPORTS).row(0, named=True)


def utc(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=UTC)


def test_across_the_continent():
    row = dated(scheduled=datetime(2013, 1, 15, 8), due=datetime(2013, 1, 15, 11), air_time=330)
    assert row["scheduled"] == row["departed"] == utc(2013, 1, 15, 13)
    assert row["due"] == row["landed"] == utc(2013, 1, 15, 19)


def test_delay_carries_the_departure_past_midnight():
    row = dated(
        scheduled=datetime(2013, 1, 15, 23, 30),
        due=datetime(2013, 1, 16, 0, 40),
        dest="BOS",
        dep_delay=45,
        arr_delay=40,
        air_time=40,
    )
    assert row["departed"] == utc(2013, 1, 16, 5, 15)
    assert row["landed"] == utc(2013, 1, 16, 6, 20)


def test_early_departure_before_midnight_of_a_flight_scheduled_after_it():
    row = dated(
        scheduled=datetime(2013, 1, 16, 0, 5),
        due=datetime(2013, 1, 16, 1, 10),
        dest="BOS",
        dep_delay=-10,
        arr_delay=-12,
        air_time=40,
    )
    assert row["departed"] == utc(2013, 1, 16, 4, 55)
    assert row["landed"] == utc(2013, 1, 16, 5, 58)


def test_clock_2400_is_the_midnight_that_ends_the_day():
    row = dated(
        scheduled=datetime(2013, 1, 15, 23, 50),
        due=datetime(2013, 1, 16, 1, 0),
        dest="BOS",
        dep_delay=10,
        dep_clock=2400,
        air_time=40,
    )
    assert row["departed"] == utc(2013, 1, 16, 5, 0)
    assert row["landed"] == utc(2013, 1, 16, 6, 0)


def test_night_flight_into_the_hour_that_spring_skips():
    # 22:00 EST on 9 March in New York; Boston shows 03:20 EDT, 80 minutes before which it was
    # 01:00 EST: the night has one hour less.
    row = dated(
        scheduled=datetime(2013, 3, 9, 22),
        due=datetime(2013, 3, 9, 23, 10),
        dest="BOS",
        dep_delay=180,
        arr_delay=250,
        arr_clock=320,
        air_time=45,
    )
    assert row["departed"] == utc(2013, 3, 10, 6)
    # The clock says 07:20 UTC, the delay counted from the schedule 08:20: the later one counts.
    assert row["landed"] == utc(2013, 3, 10, 8, 20)


def test_a_clock_in_the_skipped_hour_falls_back_to_the_delay():
    row = dated(
        scheduled=datetime(2013, 3, 9, 23),
        due=datetime(2013, 3, 10, 0, 10),
        dest="BOS",
        dep_delay=90,
        arr_delay=140,
        arr_clock=230,
        air_time=45,
    )
    assert row["landed"] == utc(2013, 3, 10, 7, 30)


def test_in_the_hour_that_autumn_repeats_the_later_one_counts():
    row = dated(
        scheduled=datetime(2013, 11, 2, 23),
        due=datetime(2013, 11, 3, 0, 10),
        dest="BOS",
        dep_delay=60,
        arr_delay=80,
        arr_clock=130,
        air_time=45,
    )
    assert row["landed"] == utc(2013, 11, 3, 6, 30)


def test_the_first_moment_that_the_clock_allows():
    """No time on the ground at all: the arrival is then, not a day later."""
    row = dated(
        scheduled=datetime(2013, 1, 15, 22),
        due=datetime(2013, 1, 15, 23, 10),
        dest="BOS",
        air_time=70,
    )
    assert row["landed"] == utc(2013, 1, 16, 4, 10)


def test_destination_without_daylight_saving_time():
    row = dated(
        scheduled=datetime(2013, 7, 1, 8),
        due=datetime(2013, 7, 1, 10, 30),
        dest="PHX",
        air_time=300,
    )
    assert row["due"] == utc(2013, 7, 1, 17, 30)


def test_cancelled_and_diverted_flights_have_no_moments_of_their_own():
    plan = {"scheduled": datetime(2013, 1, 15, 8), "due": datetime(2013, 1, 15, 11)}
    cancelled = dated(**plan, dep_delay=None, arr_delay=None, air_time=None)
    assert cancelled["departed"] is None
    assert cancelled["landed"] is None
    diverted = dated(**plan, dep_delay=5, arr_delay=None, arr_clock=1530, air_time=None)
    assert diverted["departed"] == utc(2013, 1, 15, 13, 5)
    assert diverted["landed"] is None


def test_destination_nobody_knows():
    with pytest.raises(DataError, match="XXX"):
        dated(scheduled=datetime(2013, 1, 1, 8), due=datetime(2013, 1, 1, 9), dest="XXX")


def test_every_real_flight_shows_its_clocks(raw: Raw, flights: pl.DataFrame):
    """Back from UTC to the wall clocks of the raw file, for all 336,776 flights."""
    assert flights.height == raw.flights.height
    assert flights["flight"].equals(raw.flights["flight"])  # order kept
    local = pl.col("departed").dt.convert_time_zone("America/New_York")
    shown = local.dt.hour().cast(pl.Int64) * 100 + local.dt.minute()
    left = flights.filter(pl.col("dep_time").is_not_null())
    assert left.filter(shown != pl.col("dep_time") % 2400).height == 0
    assert left["departed"].null_count() == 0
    landed = flights.filter(pl.col("arr_delay").is_not_null())
    assert landed["landed"].null_count() == 0

    wrong = 0
    zones = destinations(raw.airports).select("dest", "zone")
    for (zone,), part in (
        landed.select("dest", "landed", "arr_time").join(zones, on="dest").group_by("zone")
    ):
        local = pl.col("landed").dt.convert_time_zone(zone)
        shown = local.dt.hour().cast(pl.Int64) * 100 + local.dt.minute()
        wrong += part.filter(shown != pl.col("arr_time") % 2400).height
    assert wrong <= 1  # one landing at a clock time that did not exist on 10 March


def test_real_flights_land_after_they_were_in_the_air(flights: pl.DataFrame):
    ground = (pl.col("landed") - pl.col("departed")).dt.total_minutes() - pl.col("air_time")
    taxi = flights.filter(pl.col("landed").is_not_null()).select(ground).to_series()
    assert taxi.min() >= 5
    assert taxi.max() < 300  # with a wrong time zone or day this is off by 60 or 1440 minutes
    assert taxi.quantile(0.999) < 150


def test_clock_and_delay_agree_on_every_landing_but_one(flights: pl.DataFrame):
    """On 3 November in Los Angeles the clock showed the landing's time twice: the later counts."""
    differing = flights.filter(pl.col("landed") != pl.col("due") + pl.duration(minutes="arr_delay"))
    assert differing.height == 1
    row = differing.row(0, named=True)
    assert row["landed"] - row["due"] == timedelta(minutes=row["arr_delay"] + 60)
    assert row["landed"].date() == date(2013, 11, 3)
