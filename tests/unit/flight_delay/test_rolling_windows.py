"""Windows against a brute-force count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.flight_delay.rolling import KNOWN, mean, moments, running_totals, totals_at, within

START = datetime(2013, 1, 1, tzinfo=UTC)
FACTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", None]),
        st.sampled_from(["x", "y"]),
        st.one_of(st.none(), st.integers(0, 200)),
        st.integers(-500, 500),
    ),
    max_size=60,
)
KEYS = ["key", "other"]
AMOUNTS = {"n": pl.lit(1), "total": pl.col("amount"), "big": pl.col("amount") > 100}


def frame(facts) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "key": [f[0] for f in facts],
            "other": [f[1] for f in facts],
            KNOWN: [None if f[2] is None else START + timedelta(minutes=f[2]) for f in facts],
            "amount": [f[3] for f in facts],
        },
        schema={
            "key": pl.String,
            "other": pl.String,
            KNOWN: pl.Datetime("us", "UTC"),
            "amount": pl.Int64,
        },
    )


def expected(facts, key, other, moment, minutes):
    inside = [
        f[3]
        for f in facts
        if f[0] == key
        and f[1] == other
        and f[2] is not None
        and moment - timedelta(minutes=minutes) < START + timedelta(minutes=f[2]) <= moment
    ]
    return {"n": len(inside), "total": sum(inside), "big": sum(v > 100 for v in inside)}


@settings(deadline=None)
@given(FACTS, st.integers(1, 250))
def test_window_is_what_a_loop_counts(facts, minutes):
    totals = running_totals(frame(facts), KEYS, AMOUNTS)
    at = moments(totals, keys=KEYS)
    assert at[KNOWN].is_sorted()
    assert at.is_unique().all()
    result = pl.concat([at, within(at, totals, KEYS, timedelta(minutes=minutes))], how="horizontal")
    distinct = {(f[0], f[1], f[2]) for f in facts if f[0] is not None and f[2] is not None}
    assert result.height == len(distinct)
    for row in result.iter_rows(named=True):
        oracle = expected(facts, row["key"], row["other"], row[KNOWN], minutes)
        assert {name: row[name] for name in oracle} == oracle


@settings(deadline=None)
@given(FACTS, st.integers(0, 200))
def test_later_facts_change_no_earlier_value(facts, cut):
    def values(some):
        totals = running_totals(frame(some), KEYS, AMOUNTS)
        at = moments(totals, keys=KEYS)
        return pl.concat([at, within(at, totals, KEYS, timedelta(hours=1))], how="horizontal")

    known = [f for f in facts if f[2] is not None and f[2] <= cut]
    moment = START + timedelta(minutes=cut)
    assert values(known).equals(values(facts).filter(pl.col(KNOWN) <= moment))


def test_before_the_first_fact_totals_are_zero():
    totals = running_totals(frame([("a", "x", 60, 5)]), KEYS, AMOUNTS)
    at = pl.DataFrame(
        {"key": ["a", "b"], "other": ["x", "x"], KNOWN: [START, START + timedelta(hours=2)]},
        schema_overrides={KNOWN: pl.Datetime("us", "UTC")},
    )
    assert totals_at(at, totals, KEYS)["n"].to_list() == [0, 0]


def test_mean_of_nothing_is_null():
    assert pl.DataFrame({"t": [6, 0], "n": [3, 0]}).select(mean("t", "n"))["t"].to_list() == [
        2.0,
        None,
    ]
