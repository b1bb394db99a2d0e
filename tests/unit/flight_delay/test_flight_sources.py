"""Feature rows against loops over the raw file, with times rebuilt a second, independent way."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from statistics import fmean
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from pipelines.flight_delay import sources
from pipelines.flight_delay.raw import Raw

NEW_YORK = ZoneInfo("America/New_York")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SAMPLES = 60


class Fact:
    """One flight, its moments counted with zoneinfo from the raw row alone."""

    __slots__ = ("arr_delay", "block", "dep_delay", "departed", "landed", "left_at", "scheduled")

    def __init__(self, row: dict, zone: ZoneInfo) -> None:
        midnight = datetime(row["year"], row["month"], row["day"])
        local = midnight + timedelta(hours=row["hour"], minutes=row["minute"])
        self.scheduled = local.replace(tzinfo=NEW_YORK).astimezone(UTC)
        self.dep_delay, self.arr_delay = row["dep_delay"], row["arr_delay"]
        self.departed = self.landed = self.left_at = None
        if self.dep_delay is not None:
            self.departed = self.scheduled + timedelta(minutes=self.dep_delay)
            self.left_at = max(self.departed, self.scheduled) + MINUTE
        if self.arr_delay is not None:
            earliest = self.departed + timedelta(minutes=row["air_time"])
            day = earliest.astimezone(zone).date()
            hours, minutes = divmod(row["arr_time"] % 2400, 100)
            self.landed = next(
                moment
                for days in range(3)
                if (
                    moment := datetime(
                        day.year, day.month, day.day, hours, minutes, tzinfo=zone, fold=1
                    ).astimezone(UTC)
                    + days * DAY
                )
                >= earliest
            )


@pytest.fixture(scope="module")
def zones(raw: Raw) -> dict[str, ZoneInfo]:
    known = dict(zip(raw.airports["faa"], raw.airports["tzone"], strict=True))
    return defaultdict(
        lambda: ZoneInfo("America/Puerto_Rico"), {k: ZoneInfo(v) for k, v in known.items() if v}
    )


def facts_of(raw: Raw, zones: dict, moment: datetime, days: int, **keys: str) -> list[Fact]:
    """All flights with these keys scheduled up to `days` (and a bit) before the moment, or after
    it by less than two days."""
    chosen = raw.flights.filter(
        pl.datetime("year", "month", "day").is_between(
            (moment - timedelta(days=days + 4)).replace(tzinfo=None),
            (moment + timedelta(days=2)).replace(tzinfo=None),
        ),
        *(pl.col(name) == value for name, value in keys.items()),
    )
    return [Fact(row, zones[row["dest"]]) for row in chosen.iter_rows(named=True)]


def departures(facts: list[Fact], moment: datetime, window: timedelta) -> list[int]:
    return [f.dep_delay for f in facts if f.left_at and moment - window < f.left_at <= moment]


def arrivals(facts: list[Fact], moment: datetime, window: timedelta) -> list[int]:
    return [
        f.arr_delay for f in facts if f.landed and moment - window < f.landed + MINUTE <= moment
    ]


def overdue(facts: list[Fact], moment: datetime) -> int:
    return sum(
        f.scheduled + timedelta(minutes=16) <= moment < f.scheduled + timedelta(minutes=181)
        and (f.departed is None or f.departed + MINUTE > moment)
        for f in facts
    )


def sampled(table: pl.DataFrame, seed: int) -> list[dict]:
    """Random rows, and some from the nights in which the clocks change."""
    change = (
        pl.col("event_timestamp")
        .dt.date()
        .is_in([datetime(2013, 3, 10).date(), datetime(2013, 11, 3).date()])
    )
    return [
        *table.sample(SAMPLES, seed=seed).iter_rows(named=True),
        *table.filter(change).sample(12, seed=seed).iter_rows(named=True),
    ]


def late(delays: list[int]) -> float | None:
    return fmean(d > 15 for d in delays) if delays else None


def average(delays: list[int]) -> float | None:
    return fmean(delays) if delays else None


def assert_row(row: dict, **expected: float | None) -> None:
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_airport_delays(raw, zones, tables):
    for row in sampled(tables["airport_delays"], 1):
        moment = row["event_timestamp"]
        facts = facts_of(raw, zones, moment, 1, origin=row["origin"])
        one, three, day = (departures(facts, moment, w) for w in (HOUR, 3 * HOUR, DAY))
        assert_row(
            row,
            airport_departures_1h=len(one),
            airport_dep_delay_1h=average(one),
            airport_late_share_1h=late(one),
            airport_dep_delay_3h=average(three),
            airport_late_share_3h=late(three),
            airport_departures_24h=len(day),
            airport_dep_delay_24h=average(day),
            airport_late_share_24h=late(day),
            airport_overdue=overdue(facts, moment),
        )


def test_carrier_origin_delays(raw, zones, tables):
    for row in sampled(tables["carrier_origin_delays"], 2):
        moment = row["event_timestamp"]
        facts = facts_of(raw, zones, moment, 1, carrier=row["carrier"], origin=row["origin"])
        three = departures(facts, moment, 3 * HOUR)
        assert_row(
            row,
            carrier_origin_departures_3h=len(three),
            carrier_origin_dep_delay_3h=average(three),
            carrier_origin_late_share_3h=late(three),
            carrier_origin_overdue=overdue(facts, moment),
        )


def test_carrier_delays(raw, zones, tables):
    for row in sampled(tables["carrier_delays"], 3):
        moment = row["event_timestamp"]
        facts = facts_of(raw, zones, moment, 1, carrier=row["carrier"])
        three, day = (arrivals(facts, moment, w) for w in (3 * HOUR, DAY))
        assert_row(
            row,
            carrier_arrivals_3h=len(three),
            carrier_arr_delay_3h=average(three),
            carrier_late_share_3h=late(three),
            carrier_arr_delay_24h=average(day),
            carrier_late_share_24h=late(day),
        )


def test_route_delays(raw, zones, tables):
    for row in sampled(tables["route_delays"], 4):
        moment = row["event_timestamp"]
        origin, dest = row["route"].split("-")
        facts = facts_of(raw, zones, moment, 30, origin=origin, dest=dest)
        week, month = (arrivals(facts, moment, w) for w in (7 * DAY, 30 * DAY))
        assert_row(
            row,
            route_arrivals_7d=len(week),
            route_arr_delay_7d=average(week),
            route_late_share_7d=late(week),
            route_arr_delay_30d=average(month),
            route_late_share_30d=late(month),
        )


def test_aircraft_delays(raw, zones, tables):
    for row in sampled(tables["aircraft_delays"], 5):
        moment = row["event_timestamp"]
        facts = facts_of(raw, zones, moment, 7, tailnum=row["tailnum"])
        last = max(
            (f for f in facts if f.landed and f.landed + MINUTE <= moment),
            key=lambda f: (f.landed, f.departed),
        )
        assert_row(
            row,
            aircraft_last_arr_delay=last.arr_delay,
            aircraft_last_landed=int(last.landed.timestamp()),
            aircraft_last_block=(last.landed - last.departed) / MINUTE,
            aircraft_landings_24h=len(arrivals(facts, moment, DAY)),
            aircraft_arr_delay_7d=average(arrivals(facts, moment, 7 * DAY)),
        )


def test_entity_rows(raw, zones, tables):
    rows = tables["entity_rows"]
    left = raw.flights.filter(pl.col("dep_time").is_not_null())
    assert rows.height == left.height  # a row for each flight that left, none for the cancelled
    assert rows["event_timestamp"].is_sorted()
    rng = random.Random(6)
    keys = ["year", "month", "day", "carrier", "flight", "origin", "dest", "sched_dep_time"]
    assert left.select(keys).is_unique().all()
    for row in left[rng.sample(range(left.height), 80)].iter_rows(named=True):
        fact = Fact(row, zones[row["dest"]])
        found = rows.filter(
            event_timestamp=fact.scheduled,
            carrier=row["carrier"],
            flight=row["flight"],
            origin=row["origin"],
        )
        assert found.height == 1
        question = found.row(0, named=True)
        assert question["late"] == (row["arr_delay"] is None or row["arr_delay"] > 15)
        assert question["route"] == f"{row['origin']}-{row['dest']}"
        assert question["scheduled_departure"] == int(fact.scheduled.timestamp())
        assert question["scheduled_minute"] == row["hour"] * 60 + row["minute"]
        local = fact.scheduled.astimezone(NEW_YORK)
        assert question["scheduled_weekday"] == local.isoweekday()
        if fact.landed:
            assert question["label_timestamp"] == fact.landed + MINUTE


def test_diverted_flights_are_late_and_cancelled_ones_no_question(flights, tables):
    place = ["event_timestamp", "carrier", "flight", "origin", "dest"]
    planned = flights.rename({"scheduled": "event_timestamp"})
    diverted = planned.filter(pl.col("departed").is_not_null() & pl.col("arr_delay").is_null())
    questions = diverted.join(tables["entity_rows"], on=place, validate="1:1")
    assert questions.height == diverted.height == 1175
    assert questions["late"].unique().to_list() == [1]
    assert questions.select((pl.col("label_timestamp") == pl.col("due") + DAY).all()).item()
    cancelled = planned.filter(pl.col("departed").is_null())
    assert cancelled.height == 8255
    assert cancelled.join(tables["entity_rows"], on=place, how="semi").height == 0


def test_of_two_landings_in_one_minute_the_later_departure_is_the_last_leg(flights):
    one = flights.filter(pl.col("landed").is_not_null()).head(1)
    earlier = one.with_columns(
        departed=pl.col("departed") - timedelta(hours=1), arr_delay=pl.lit(77, pl.Int64)
    )
    for both in (pl.concat([one, earlier]), pl.concat([earlier, one])):
        rows = sources.aircraft_delays(sources.known_landings(both))
        assert rows.height == 1
        assert rows["aircraft_last_arr_delay"][0] == one["arr_delay"][0]
        assert rows["aircraft_landings_24h"][0] == 2


def test_the_answer_is_known_only_after_the_question(tables):
    rows = tables["entity_rows"]
    assert rows.filter(pl.col("label_timestamp") <= pl.col("event_timestamp")).height == 0
    assert rows["label_timestamp"].null_count() == 0


def test_the_answer_is_not_among_the_columns(tables):
    known = {
        "origin", "carrier", "dest", "route", "tailnum", "flight", "event_timestamp",
        "scheduled_departure", "scheduled_minute", "scheduled_weekday", "scheduled_block",
        "distance", "late", "label_timestamp",
    }  # fmt: skip
    assert set(tables["entity_rows"].columns) == known


def test_weather_is_known_at_the_end_of_its_hour(raw, tables):
    observed = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
    expected = raw.weather.select(
        "origin",
        (observed + HOUR).alias("event_timestamp"),
        temperature="temp",
        calm=pl.col("wind_speed") == 0,
    )
    both = tables["weather"].join(expected, on=["origin", "event_timestamp"], suffix="_raw")
    assert both.height == raw.weather.height
    assert both["temperature"].equals(both["temperature_raw"].rename("temperature"))
    speed = (pl.col("wind_east") ** 2 + pl.col("wind_north") ** 2).sqrt()
    directed = both.filter(pl.col("wind_east").is_not_null())
    assert directed.select(((speed - pl.col("wind_speed")).abs() < 1e-6).all()).item()
    assert both.filter("calm")["wind_east"].null_count() == 0


def test_wind_blows_from_where_the_vane_points(raw):
    one = raw.weather.head(2).with_columns(
        wind_dir=pl.Series([90, 180]), wind_speed=pl.Series([10.0, 10.0])
    )
    rows = sources.weather(one)
    assert rows["wind_east"].to_list() == pytest.approx([-10, 0], abs=1e-9)
    assert rows["wind_north"].to_list() == pytest.approx([0, 10], abs=1e-9)


def test_one_row_per_key_and_moment(tables):
    keys = {
        "weather": ["origin"],
        "airport_delays": ["origin"],
        "carrier_delays": ["carrier"],
        "carrier_origin_delays": ["carrier", "origin"],
        "route_delays": ["route"],
        "aircraft_delays": ["tailnum"],
        "planes": ["tailnum"],
        "airlines": ["carrier"],
        "airports": ["origin"],
        "destinations": ["dest"],
    }
    assert set(keys) | {"entity_rows"} == set(tables)
    for name, columns in keys.items():
        table = tables[name]
        assert table.select(*columns, "event_timestamp").is_unique().all(), name
        assert table["event_timestamp"].is_sorted(), name
        assert table.schema["event_timestamp"] == pl.Datetime("us", "UTC"), name
        assert table.select(pl.any_horizontal(pl.col(*columns).is_null().any())).item() is False


def test_every_key_of_a_question_has_its_facts(raw, tables):
    rows = tables["entity_rows"]
    for name, key in (("airlines", "carrier"), ("airports", "origin"), ("destinations", "dest")):
        assert set(rows[key].unique()) <= set(tables[name][key]), name
        assert tables[name].null_count().sum_horizontal().item() == 0


def _as_of(raw: Raw, full: pl.DataFrame, moment: datetime, rng: random.Random | None) -> Raw:
    """The raw file as somebody could have written it at `moment`; with `rng`, any future instead.

    Flights scheduled later are gone; of the others, departures and landings not yet known are.
    """
    known = full.select(
        planned=pl.col("scheduled") <= moment,
        left=pl.max_horizontal("departed", "scheduled") + MINUTE <= moment,
        landed=pl.col("landed") + MINUTE <= moment,
    ).fill_null(False)
    frame = pl.concat([raw.flights, known], how="horizontal")
    if rng is None:
        frame = frame.filter("planned").with_columns(
            *(
                pl.when("left").then(pl.col(name)).alias(name)
                for name in ("dep_time", "dep_delay", "air_time")
            ),
            *(
                pl.when("landed").then(pl.col(name)).alias(name)
                for name in ("arr_time", "arr_delay")
            ),
        )
    else:
        # Everything unknown happens later still: by a day, which keeps the wall clocks.
        frame = frame.with_columns(
            dep_delay=pl.when("left").then("dep_delay").otherwise(pl.col("dep_delay") + 1440),
            arr_delay=pl.when("landed").then("arr_delay").otherwise(pl.col("arr_delay") + 1440),
        )
    return Raw(
        flights=frame.select(raw.flights.columns),
        weather=raw.weather,
        planes=raw.planes,
        airports=raw.airports,
        airlines=raw.airlines,
        digest="",
    )


@pytest.fixture(scope="module")
def spring(raw: Raw, flights: pl.DataFrame) -> tuple[Raw, pl.DataFrame]:
    """Seven weeks around the change of the clocks: enough history, quick to rebuild."""
    chosen = pl.datetime("year", "month", "day").is_between(
        datetime(2013, 2, 10), datetime(2013, 3, 30)
    )
    part = Raw(raw.flights.filter(chosen), raw.weather, raw.planes, raw.airports, raw.airlines, "")
    return part, flights.filter(chosen)


MOMENTS = [
    datetime(2013, 3, 8, 20, 0, tzinfo=UTC),  # a snowstorm's afternoon
    datetime(2013, 3, 10, 7, 0, tzinfo=UTC),  # the clocks change
    datetime(2013, 3, 10, 14, 59, tzinfo=UTC),
    datetime(2013, 3, 20, 4, 30, tzinfo=UTC),  # after midnight in New York
]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
@pytest.mark.parametrize("future", ["cut off", "another one"])
def test_the_future_changes_nothing_known_by_then(spring, moment, future):
    """The proof that nothing leaks: whatever comes later, rows up to now stay bit for bit."""
    part, full = spring
    rng = None if future == "cut off" else random.Random(7)
    other = _as_of(part, full, moment, rng)
    assert not other.flights.equals(part.flights)
    before, after = sources.build(part), sources.build(other)
    past = pl.col("event_timestamp") <= moment
    for name in before:
        if name in ("entity_rows", "airports", "destinations"):
            continue
        mine, theirs = before[name].filter(past), after[name].filter(past)
        assert mine.height > 0, name
        assert mine.equals(theirs), name
    # The questions are the same as well, but for flights that had not left: those are not known
    # to become a row.
    asked = ["event_timestamp", "carrier", "flight", "origin", "scheduled_block", "distance"]
    mine, theirs = (
        t["entity_rows"].filter(pl.col("label_timestamp") <= moment) for t in (before, after)
    )
    assert mine.height > 0
    assert mine.join(theirs, on=asked, how="anti").height == 0


def test_dating_facts_by_the_timetable_would_leak(spring):
    """The same check finds the leak in tables that have one: it is able to fail."""
    part, full = spring
    moment = MOMENTS[0]
    past = pl.col("event_timestamp") <= moment

    def leaking(some: Raw) -> pl.DataFrame:
        from pipelines.flight_delay.raw import timetable

        flights = timetable(some.flights, some.airports)
        departures = sources.known_departures(flights).with_columns(known_at=pl.col("scheduled"))
        return sources.airport_delays(flights, departures).filter(past)

    assert not leaking(part).equals(leaking(_as_of(part, full, moment, None)))


def test_a_question_never_finds_its_own_answer(spring):
    """Change one flight's outcome: nothing known at its scheduled departure moves, even when the
    flight left ahead of schedule."""
    part, full = spring
    early = full.with_row_index("place").filter(
        (pl.col("dep_delay") < 0) & pl.col("landed").is_not_null()
    )
    before = sources.build(part)
    for row in early.sample(3, seed=8).iter_rows(named=True):
        here = pl.int_range(pl.len()) == row["place"]
        changed = part.flights.with_columns(
            dep_delay=pl.when(here).then(pl.col("dep_delay") + 1440).otherwise("dep_delay"),
            arr_delay=pl.when(here).then(pl.col("arr_delay") + 1440).otherwise("arr_delay"),
        )
        after = sources.build(
            Raw(changed, part.weather, part.planes, part.airports, part.airlines, "")
        )
        past = pl.col("event_timestamp") <= row["scheduled"]
        for name in ("airport_delays", "carrier_delays", "carrier_origin_delays", "route_delays",
                     "aircraft_delays"):  # fmt: skip
            assert before[name].filter(past).equals(after[name].filter(past)), name
            assert not before[name].equals(after[name]), name
