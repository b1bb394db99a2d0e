"""Times of a schedule against an oracle that looks at every minute, on days of 22 to 26 hours."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.schedule.cron import Times, check_cron, check_zone

MINUTE = timedelta(minutes=1)
CHANGES = {
    # The day before clocks change: by an hour, at midnight, by two hours, south of the equator.
    "Europe/Berlin": [datetime(2026, 3, 28, 12), datetime(2026, 10, 24, 12)],
    "America/New_York": [datetime(2026, 3, 7, 12), datetime(2026, 10, 31, 12)],
    "America/Santiago": [datetime(2026, 4, 4, 12), datetime(2026, 9, 5, 12)],
    "Antarctica/Troll": [datetime(2026, 3, 28, 12), datetime(2026, 10, 24, 12)],
    "Africa/Cairo": [datetime(2026, 4, 23, 12), datetime(2026, 10, 29, 12)],
    "Etc/UTC": [datetime(2026, 2, 27, 12)],
}
HOURS = 40


def values(field, low, high):
    """What a field of numbers, steps and ranges holds."""
    found = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            first, last = low, high
        else:
            first, _, last = span.partition("-")
            first, last = int(first), int(last or (high if step else first))
        found |= set(range(first, last + 1, int(step or 1)))
    return found


def matcher(fields):
    """Whether a minute of the wall clock is one of the expression's."""
    ranges = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    minutes, hours, days, months, weekdays = (
        values(field, *limits) for field, limits in zip(fields, ranges, strict=True)
    )
    weekdays = {each % 7 for each in weekdays}
    both = fields[2][0] == "*" or fields[4][0] == "*"

    def matches(wall):
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        dom, dow = wall.day in days, wall.isoweekday() % 7 in weekdays
        return (dom and dow) if both else (dom or dow)

    return matches


def oracle(text, zone, start, end):
    """All times in (start, end], by looking at each minute: elapsed ones for a job whose minute or
    hour begins with a star, those of the wall clock for the others."""
    fields, where = text.split(), ZoneInfo(zone)
    matches, found = matcher(fields), set()
    if zone == "Etc/UTC" or "*" in (fields[0][0], fields[1][0]):
        now = start.replace(second=0, microsecond=0)
        while now <= end:
            if now > start and matches(now.astimezone(where)):
                found.add(now)
            now += MINUTE
        return sorted(found)
    wall = start.astimezone(where).replace(tzinfo=None, second=0) - timedelta(hours=4)
    for _ in range(int((end - start) / MINUTE) + 10 * 60):
        wall += MINUTE
        if matches(wall):
            there = wall
            while not exists(there, where):
                there += MINUTE
            moment = there.replace(tzinfo=where, fold=0).astimezone(UTC)
            if start < moment <= end:
                found.add(moment)
    return sorted(found)


def exists(wall, where):
    moment = wall.replace(tzinfo=where).astimezone(UTC)
    return moment.astimezone(where).replace(tzinfo=None) == wall


def number(low, high):
    one = st.integers(low, high).map(str)
    span = st.tuples(st.integers(low, high), st.integers(low, high)).map(
        lambda pair: f"{min(pair)}-{max(pair)}"
    )
    stepped = st.tuples(st.sampled_from(["*", f"{low}-{high}"]), st.integers(1, 20)).map(
        lambda pair: f"{pair[0]}/{pair[1]}"
    )
    listed = st.lists(st.one_of(one, span), min_size=2, max_size=3).map(",".join)
    return st.one_of(st.just("*"), one, span, stepped, listed)


# What happens around a change of clocks depends on minute and hour; days are mostly open.
EXPRESSIONS = st.tuples(
    number(0, 59),
    st.one_of(number(0, 23), number(0, 4)),
    st.one_of(st.just("*"), st.just("*"), number(1, 31)),
    st.just("*"),
    st.one_of(st.just("*"), st.just("*"), number(0, 7)),
).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), text=EXPRESSIONS)
def test_times_are_those_of_every_minute_looked_at(data, text):
    zone = data.draw(st.sampled_from(sorted(CHANGES)))
    day = data.draw(st.sampled_from(CHANGES[zone])).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    start = day + timedelta(seconds=data.draw(st.integers(0, 24 * 3600)))
    end = start + timedelta(hours=HOURS)
    wanted = oracle(text, zone, start, end)
    times = Times(check_cron(text), zone)
    assert list(times.between(start, end, 10**6)) == wanted
    # The newest ones, the next one, and the one before say the same.
    assert list(times.between(start, end, 5)) == wanted[-5:]
    if wanted:
        assert times.after(start) == wanted[0]
        assert times.before(end + timedelta(seconds=1)) == wanted[-1]
        middle = wanted[len(wanted) // 2]
        assert [*times.between(start, middle, 10**6), *times.between(middle, end, 10**6)] == wanted


@pytest.mark.parametrize(
    ("text", "zone", "start", "wanted"),
    [
        # 02:00 to 03:00 does not exist: right after it, once.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00"]),
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00"]),
        # 02:00 to 03:00 exists twice: the first time only.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T00:30"]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00",
         ["2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30"]),
    ],
)  # fmt: skip
def test_days_on_which_clocks_change(text, zone, start, wanted):
    since = datetime.fromisoformat(start).replace(tzinfo=UTC)
    found = Times(text, zone).between(since, since + timedelta(hours=24), 100)
    assert [f"{each:%Y-%m-%dT%H:%M}" for each in found] == wanted


def test_begun_in_the_second_of_two_equal_hours_nothing_of_the_first_comes_again():
    second = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)
    assert Times("30 2 * * *", "Europe/Berlin").after(second) == datetime(
        2026, 10, 26, 1, 30, tzinfo=UTC
    )


def test_a_year_of_minutes_is_not_counted_one_by_one():
    until = datetime(2026, 11, 30, tzinfo=UTC)
    found = Times("* * * * *").between(until - timedelta(days=365), until, 100)
    assert found == tuple(until - MINUTE * back for back in reversed(range(100)))


def test_a_rare_time_is_found_both_ways():
    leap = Times("0 0 29 2 *")
    assert leap.after(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2028, 2, 29, tzinfo=UTC)
    assert leap.before(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2024, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("60 * * * *", "'60' cannot be the minute: 0 to 59"),
        ("0 24 * * *", "hour: 0 to 23"),
        ("0 0 0 * *", "day of the month: 1 to 31"),
        ("0 0 * 13 *", "month: 1 to 12"),
        ("0 0 * * 8", "day of the week: 0 to 7"),
        ("*/0 * * * *", "minute"),
        ("0 5-1 * * *", "the hour cannot be"),
        ("0 0 31 2 *", "the day-of-month cannot be"),
        ("0 0 L * *", "day of the month"),
        ("0 0 * * 1#2", "day of the week"),
    ],
)
def test_what_has_no_time_is_refused_by_its_field(text, said):
    with pytest.raises(ValueError, match="cannot be") as refused:
        check_cron(text)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["Mars/Phobos", "America", "Local", "../etc/passwd", "", "UTC+25"])
def test_a_zone_that_nobody_knows_is_refused(name):
    with pytest.raises(ValueError, match="time zone database"):
        check_zone(name)


def test_the_oracle_tells_expressions_apart():
    start, end = (datetime(2026, 3, 28, 12, tzinfo=UTC) + timedelta(hours=h) for h in (0, HOURS))
    texts = ["30 2 * * *", "0 3 * * *", "*/30 2 * * *", "* * * * *", "0 0 1 * 0"]
    found = [tuple(oracle(text, "Europe/Berlin", start, end)) for text in texts]
    assert all(a != b for a, b in itertools.combinations(found, 2))
