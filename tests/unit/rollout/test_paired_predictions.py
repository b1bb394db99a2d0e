"""Pairs, whatever the cuts between the spans they come in, against two nested loops."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.rollout.paired_predictions import (
    EXAMPLES,
    IN_FLIGHT,
    SLACK,
    TOLERANCE,
    Pairing,
    comparable,
    pair,
    repeated_ids,
)

START = datetime(2024, 3, 1, tzinfo=UTC)
TYPES = {
    "request_id": pl.String, "row": pl.Int32, "score": pl.Float32, "distance": pl.Float64,
    "origin": pl.String, "tags": pl.List(pl.String), "age_v": pl.Int64,
    "event_time": pl.Datetime("us", "UTC"), "answered_at": pl.Datetime("us", "UTC"),
}  # fmt: skip
COMPARED = ("distance", "origin", "tags")


def log(rows):
    """Rows (id, row, score, distance, origin, tags, age, second) in order of time."""
    ordered = sorted(rows, key=lambda row: row[-1])
    moments = [START + timedelta(seconds=row[-1]) for row in ordered]
    columns = [
        *([row[at] for row in ordered] for at in range(7)),
        # Asked about another moment than the one it was answered at.
        [moment - timedelta(days=40) for moment in moments],
        moments,
    ]
    return pl.DataFrame(dict(zip(TYPES, columns, strict=True)), schema=TYPES)


ROW = st.tuples(
    st.sampled_from("abcdefgh"),
    st.integers(0, 1),
    st.floats(0, 1, width=32),
    st.none() | st.sampled_from([0.0, 1.0, 1.0 + 1e-9, 2.0, math.nan, math.inf]),
    st.sampled_from(["JFK", None]),
    st.sampled_from([["x"], [], None]),
    st.none() | st.sampled_from([0, 10_000]),
    st.integers(0, 20).map(lambda n: n * 10),
)


def feature_differs(one, other):
    one, other = (None if v is None or v != v else v for v in (one, other))
    if one is None or other is None or math.inf in (one, other):
        return one != other
    return abs(one - other) > TOLERANCE * max(abs(one), abs(other))


def updated(one, other):
    """The view's value was written at another moment."""
    if one[6] is None or other[6] is None:
        return False
    return one[7] * 1000 - one[6] != other[7] * 1000 - other[6]


@settings(deadline=None, max_examples=250)
@given(st.lists(ROW, max_size=14), st.lists(ROW, max_size=14), st.sets(st.integers(0, 200)))
def test_pairs_are_those_of_two_nested_loops(one, other, cuts):
    keys = [[row[:2] for row in side] for side in (one, other)]
    twice = {key[0] for side in keys for key in side if side.count(key) > 1}
    sides = [[row for row in side if row[0] not in twice] for side in (one, other)]
    slack, flight = SLACK.total_seconds(), IN_FLIGHT.total_seconds()
    expected = [
        (a, b)
        for a in sides[0]
        for b in sides[1]
        if a[:2] == b[:2] and abs(a[7] - b[7]) <= slack
    ]  # fmt: skip

    frames = log(one), log(other)
    pairing = Pairing(
        compared=COMPARED, ages=("age_v",), keep=("origin",),
        repeated=repeated_ids([frames[0]], [frames[1]]),
    )  # fmt: skip
    start = START
    for end in [*(START + timedelta(seconds=cut) for cut in sorted(cuts)), None]:
        inside = pl.col("answered_at") >= start
        if end is not None:
            inside &= pl.col("answered_at") < end
        pairing.add(*(frame.filter(inside) for frame in frames), end)
        start = end
    found = pairing.pairs()

    assert found.ambiguous == len(twice)
    got = sorted(map(repr, found.frame.select(
        pl.col("champion_score"), "challenger_score", "mismatched", "read_apart", "champion_origin"
    ).iter_rows()))  # fmt: skip
    differing = [
        (feature_differs(a[3], b[3]), a[4] != b[4], a[5] != b[5]) for a, b in expected
    ]  # fmt: skip
    assert got == sorted(
        repr((a[2], b[2], any(marks), updated(a, b), a[4]))
        for (a, b), marks in zip(expected, differing, strict=True)
    )
    together = [m for (a, b), m in zip(expected, differing, strict=True) if not updated(a, b)]
    assert list(found.differing.values()) == [sum(m[i] for m in together) for i in range(3)]
    gaps = sorted((abs(a[2] - b[2]) for a, b in expected), reverse=True)[:EXAMPLES]
    assert [round(gap, 5) for gap in found.examples["difference"]] == [round(g, 5) for g in gaps]
    for at, mine, theirs, count in (
        (0, *sides, found.unanswered), (1, *sides[::-1], found.uncalled),
    ):  # fmt: skip
        met = {pair_[at][:2] for pair_ in expected}
        first = min((row[7] for row in theirs), default=math.inf) + flight
        last = max((row[7] for row in theirs), default=-math.inf) - flight
        assert count == sum(row[:2] not in met and first <= row[7] <= last for row in mine)

    met = {a[:2] for a, _ in expected}
    first = min((row[7] for row in sides[1]), default=math.inf) + flight
    last = max((row[7] for row in sides[1]), default=-math.inf) - flight
    counted = [row for row in sides[0] if row[1] == 0 and first <= row[7] <= last]
    if sides[1]:
        assert found.requests == len(counted)
        assert found.copies == sum(row[:2] in met for row in counted)

    whole = pair(*frames, compared=COMPARED, ages=("age_v",), keep=("origin",))
    assert sorted(whole.frame.rows(), key=repr) == sorted(found.frame.rows(), key=repr)
    assert (whole.unanswered, whole.uncalled, whole.differing, whole.requests, whole.copies) == (
        found.unanswered, found.uncalled, found.differing, found.requests, found.copies
    )  # fmt: skip


def row(name, second, score=0.5, **other):
    given_ = {"distance": 1.0, "origin": "JFK", "tags": [], "age": 0} | other
    return (name, 0, score, *given_.values(), second)


def test_a_log_that_comes_later_accuses_nobody():
    one = log([row(f"r{i}", i) for i in range(100)])
    other = log([row(f"r{i}", i) for i in range(100) if i % 2 == 0 or i < 40])
    pairing = Pairing(repeated=repeated_ids([one], [other]))
    pairing.add(one, other)
    assert pairing.pairs().unanswered == 28
    half = START + timedelta(seconds=42)
    assert pairing.pairs((None, half)).unanswered == 0


def test_a_challenger_that_never_logged_got_no_copy_once_it_is_too_late_for_its_log():
    one = log([row(f"r{i}", i) for i in range(0, 1000, 10)])
    found = pair(one, one.clear())
    assert (found.requests, found.copies) == (40, 0)
    assert pair(one.head(60), one.clear()).requests == 0


def test_numbers_of_different_width_are_comparable_and_texts_are_not():
    assert comparable(pl.Int64, pl.Float32)
    assert not comparable(pl.Int64, pl.String)
    one = log([row("a", 0), row("b", 0, distance=2.0)])
    other = log([row("a", 0), row("b", 0)]).with_columns(pl.col("distance").cast(pl.Int32))
    assert pair(one, other, compared=("distance",)).differing == {"distance": 1}


def test_a_view_that_only_one_of_both_finds_is_a_difference():
    found = pair(
        log([row("a", 0, distance=1.0, age=5_000)]), log([row("a", 0, distance=None, age=None)]),
        compared=("distance",), ages=("age_v",),
    )  # fmt: skip
    assert found.frame.select("mismatched", "read_apart").rows() == [(True, False)]
