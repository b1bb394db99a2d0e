"""The join's contract in small tables that a person can check."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest

from zeroskew.features import asof
from zeroskew.features.join import JoinView, point_in_time_join

DAY = datetime(2024, 5, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return DAY + timedelta(minutes=minutes)


def view(rows, *, name="v", created=False, ttl=None, key="k", features=None, **schema) -> JoinView:
    columns = [key, "at", *(["written"] if created else []), "x"]
    frame = pl.DataFrame(rows, schema=columns, orient="row", strict=False)
    if schema:
        frame = frame.cast(schema)
    return JoinView(
        name,
        frame.lazy(),
        {"k": key},
        features or {"x": "x"},
        "at",
        "written" if created else None,
        ttl,
    )


def ask(*questions, key=None) -> pl.DataFrame:
    frame = pl.DataFrame(list(questions), schema=["k", "event_timestamp"], orient="row")
    return frame.cast({"k": key}) if key else frame


def values(rows, *views, **options) -> list:
    return point_in_time_join(rows, list(views), **options).get_column("x").to_list()


def test_a_value_counts_from_its_own_moment_on():
    source = view([(1, at(10), "new"), (1, at(0), "old")])
    rows = ask((1, at(-1)), (1, at(0)), (1, at(9)), (1, at(10)), (1, at(99)))
    assert values(rows, source) == [None, "old", "old", "new", "new"]


def test_exactly_ttl_old_still_counts():
    source = view([(1, at(0), "x")], ttl=timedelta(minutes=5))
    late = at(5) + timedelta(microseconds=1)
    assert values(ask((1, at(5)), (1, late)), source) == ["x", None]


@pytest.mark.parametrize("ttl", [None, timedelta(0)])
def test_without_ttl_nothing_expires(ttl):
    assert values(ask((1, at(10**8))), view([(1, at(0), "x")], ttl=ttl)) == ["x"]


def test_ties_go_to_what_was_written_last():
    rows = [(1, at(0), at(2), "second"), (1, at(0), at(3), "third"), (1, at(0), at(1), "first")]
    source = view(rows, created=True)
    assert values(ask((1, at(9))), source) == ["third"]
    assert values(ask((1, at(2))), source) == ["second"]


def test_a_backfill_does_not_leak_into_the_past():
    """A value for minute 0, written at minute 60, was known to nobody at minute 30."""
    source = view([(1, at(0), at(0), "as it was"), (1, at(0), at(60), "corrected")], created=True)
    rows = ask((1, at(30)), (1, at(60)))
    assert values(rows, source) == ["as it was", "corrected"]
    assert values(rows, source, filter_by_created=False) == ["corrected", "corrected"]


def test_a_late_value_does_not_hide_a_newer_one():
    source = view([(1, at(10), at(10), "newer"), (1, at(5), at(20), "late")], created=True)
    assert values(ask((1, at(30))), source) == ["newer"]


def test_a_late_value_counts_once_it_is_written():
    source = view([(1, at(0), at(0), "first"), (1, at(5), at(20), "late")], created=True)
    assert values(ask((1, at(19)), (1, at(20))), source) == ["first", "late"]


def test_the_latest_value_is_null_and_stays_null():
    source = view([(1, at(0), "old"), (1, at(5), None)])
    assert values(ask((1, at(9))), source) == [None]


def test_rows_come_back_once_and_in_order_duplicates_too():
    source = view([(1, at(0), "x")])
    rows = ask((1, at(9)), (2, at(9)), (1, at(9)), (None, at(9)), (1, None), (1, at(1)))
    rows = rows.with_columns(label=pl.Series([5, 4, 3, 2, 1, 0]))
    joined = point_in_time_join(rows, [source])
    assert joined.drop("x").equals(rows)
    assert joined.get_column("x").to_list() == ["x", None, "x", None, None, "x"]


def test_null_keys_and_times_of_the_source_match_nothing():
    source = view([(None, at(0), "nobody's"), (1, None, "no time"), (1, at(0), "x")])
    assert values(ask((None, at(9)), (1, at(9))), source) == [None, "x"]


def test_a_view_without_keys_has_one_history_for_all():
    frame = pl.DataFrame({"at": [at(0), at(5)], "x": ["old", "new"]}).lazy()
    source = JoinView("v", frame, {}, {"x": "x"}, "at")
    assert values(ask((1, at(1)), (2, at(6)), (None, at(6))), source) == ["old", "new", "new"]


def test_empty_on_either_side():
    empty = view([], at=pl.Datetime("us", "UTC"), k=pl.Int64)
    assert values(ask((1, at(0))), empty) == [None]
    nobody = ask((1, at(0))).clear()
    assert values(nobody, view([(1, at(0), "x")])) == []


@pytest.mark.parametrize("mine", [pl.Int32, pl.Int64, pl.UInt8, pl.UInt64, pl.Float64])
@pytest.mark.parametrize("theirs", [pl.Int16, pl.Int64, pl.UInt32])
def test_whole_numbers_match_whatever_their_width(mine, theirs):
    source = view([(7, at(0), "x")], k=theirs)
    assert values(ask((7, at(1)), (8, at(1)), key=mine), source) == ["x", None]


def test_categories_match_text():
    source = view([("a", at(0), "x")], k=pl.Categorical)
    assert values(ask(("a", at(1)), ("b", at(1))), source) == ["x", None]


def test_a_key_beyond_the_other_sides_range_matches_nothing():
    source = view([(1, at(0), "x")], k=pl.Int8)
    assert values(ask((2**40 + 1, at(1))), source) == [None]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("side", ["entity rows", "source"])
def test_units_and_zones_are_only_spellings(unit, zone, side):
    """A naive time is UTC; any other zone is the same moment in other words."""
    kind = pl.Datetime(unit, "UTC")
    source = view([(1, at(0), "old"), (1, at(10), "new")])
    rows = ask((1, at(9.999)), (1, at(10)))

    def respell(frame, column):
        changed = pl.col(column).cast(kind)
        changed = changed.dt.convert_time_zone(zone) if zone else changed.dt.replace_time_zone(None)
        return frame.with_columns(changed)

    if side == "source":
        frame = respell(source.frame.collect(), "at").lazy()
        source = JoinView("v", frame, {"k": "k"}, {"x": "x"}, "at")
    else:
        rows = respell(rows, "event_timestamp")
    assert values(rows, source) == ["old", "new"]


def test_nanoseconds_are_not_rounded_into_the_future():
    moments = pl.Series([1_000_000_000_500, 1_000_000_000_900]).cast(pl.Datetime("ns", "UTC"))
    frame = pl.DataFrame({"k": [1, 1], "at": moments, "x": ["first", "second"]}).lazy()
    rows = pl.DataFrame(
        {
            "k": [1, 1],
            "event_timestamp": pl.Series([1_000_000_000_499, 1_000_000_000_899]).cast(
                pl.Datetime("ns", "UTC")
            ),
        }
    )
    source = JoinView("v", frame, {"k": "k"}, {"x": "x"}, "at")
    assert values(rows, source) == [None, "first"]


def test_moments_beyond_the_reach_of_nanoseconds():
    """A source that says "for ever" with the year 9999, asked in nanoseconds."""
    forever = datetime(9999, 1, 1, tzinfo=UTC)
    source = view([(1, datetime(1500, 1, 1, tzinfo=UTC), "ancient"), (1, forever, "never")])
    rows = ask((1, at(0))).with_columns(pl.col("event_timestamp").dt.cast_time_unit("ns"))
    assert values(rows, source) == ["ancient"]


def test_dates_and_iso_text_are_times():
    source = view([(1, DAY.date(), "x")])
    assert values(ask((1, at(0)), (1, at(-1))), source) == ["x", None]
    for text in (
        ["2024-05-01 00:00", "2024-04-30 23:59"],
        ["2024-05-01T00:00:00Z", "2024-04-30T23:59:59Z"],
        ["2024-05-01T02:00:00+02:00", "2024-05-01T01:59:00+02:00"],
    ):
        rows = pl.DataFrame({"k": [1, 1], "event_timestamp": text})
        assert values(rows, source) == ["x", None]


def test_other_zones_of_python_moments():
    source = view([(1, at(0), "x")])
    tokyo = timezone(timedelta(hours=9))
    rows = pl.DataFrame({"k": [1], "event_timestamp": [at(0).astimezone(tokyo)]})
    assert values(rows, source) == ["x"]


def test_keys_of_another_name_and_several_of_them():
    frame = pl.DataFrame(
        {"airport": ["JFK", "JFK"], "line": [1, 2], "at": [at(0), at(0)], "x": ["one", "two"]}
    ).lazy()
    rows = pl.DataFrame(
        {"origin": ["JFK", "JFK"], "carrier": [2, 3], "event_timestamp": [at(1), at(1)]}
    )
    source = JoinView("v", frame, {"origin": "airport", "carrier": "line"}, {"x": "x"}, "at")
    assert values(rows, source) == ["two", None]


def test_numbers_come_in_their_declared_type():
    frame = pl.DataFrame({"k": [1, 2], "at": [at(0), at(0)], "x": [1, 2]}).lazy()
    source = JoinView("v", frame, {"k": "k"}, {"x": "x"}, "at", types={"x": pl.Float64()})
    joined = point_in_time_join(ask((1, at(1)), (3, at(1))), [source])
    assert joined.schema["x"] == pl.Float64
    assert joined.get_column("x").to_list() == [1.0, None]


def test_lists_and_structs_travel_too():
    frame = pl.DataFrame({"k": [1], "at": [at(0)], "x": [[1.0, 2.0]], "y": [{"a": 1}]}).lazy()
    source = JoinView("v", frame, {"k": "k"}, {"x": "x", "y": "y"}, "at")
    joined = point_in_time_join(ask((1, at(1)), (2, at(1))), [source])
    assert joined.rows()[0][2:] == ([1.0, 2.0], {"a": 1})
    assert joined.rows()[1][2:] == (None, None)


def test_codes_and_times_too_wide_for_one_integer():
    """Nanoseconds of a century times many keys do not fit 63 bits: ranks take over."""
    rng = np.random.default_rng(3)
    code = rng.integers(0, 5000, 4000)
    event = rng.integers(-(2**60), 2**60, 4000)
    created = event + rng.integers(0, 2**58, 4000)
    asked_code = rng.integers(-1, 5000, 3000)
    asked = rng.integers(-(2**60), 2**60, 3000)
    found = asof.latest_rows(code, event, created, asked_code, asked, ttl=2**59)
    for number in range(0, 3000, 7):
        fits = (
            (code == asked_code[number])
            & (event <= asked[number])
            & (created <= asked[number])
            & (asked[number] - event <= 2**59)
        )
        rows = np.flatnonzero(fits)
        best = rows[np.lexsort((rows, created[rows], event[rows]))[-1]] if len(rows) else -1
        assert found[number] == best
    assert (found >= 0).sum() > 20


def test_progress_is_told_per_view():
    told = []
    views = [view([(1, at(0), "x")], name=n, features={"x": n}) for n in ("a", "b")]
    point_in_time_join(ask((1, at(1))), views, on_progress=lambda *p: told.append(p))
    assert told == [("joining a", 0, 2), ("joining b", 1, 2), ("joining", 2, 2)]
