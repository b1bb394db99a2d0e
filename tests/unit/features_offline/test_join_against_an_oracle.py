"""The join beside a loop that does what the contract says, on rows that try every corner."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.features.join import JoinView, point_in_time_join

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
SECONDS = st.integers(0, 12)
MOMENT = st.none() | SECONDS.map(lambda s: EPOCH + timedelta(seconds=s))
KEY = st.none() | st.integers(0, 3)
TIME = pl.Datetime("us", "UTC")

SOURCE_ROWS = st.lists(
    st.tuples(KEY, KEY, MOMENT, MOMENT, st.none() | st.integers(0, 99)), max_size=40
)
ENTITY_ROWS = st.lists(st.tuples(KEY, KEY, MOMENT), max_size=25)
TTL = st.none() | st.integers(0, 8).map(lambda s: timedelta(seconds=s))


def source_frame(rows) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        schema={"a": pl.Int64, "b": pl.Int64, "at": TIME, "written": TIME, "value": pl.Int64},
        orient="row",
    )


def entity_frame(rows) -> pl.DataFrame:
    frame = pl.DataFrame(
        rows, schema={"a": pl.Int64, "b": pl.Int64, "event_timestamp": TIME}, orient="row"
    )
    return frame.with_row_index("n")


def answer(question, source, keys, ttl, created, filtered):
    """The contract, word by word. `keys` are positions of key columns."""
    moment = question[2]
    if moment is None or any(question[k] is None for k in keys):
        return None
    candidates = []
    for number, row in enumerate(source):
        at, written = row[2], row[3]
        if any(row[k] != question[k] for k in keys) or at is None or at > moment:
            continue
        if created and filtered and (written is None or written > moment):
            continue
        if ttl and moment - at > ttl:
            continue
        order = (written or datetime.min.replace(tzinfo=UTC)) if created else None
        candidates.append(((at, order, number) if created else (at, number), row[4]))
    return max(candidates, key=lambda c: c[0])[1] if candidates else None


@settings(max_examples=300, deadline=None)
@given(
    SOURCE_ROWS,
    ENTITY_ROWS,
    TTL,
    st.sampled_from([(), (0,), (1,), (0, 1)]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_every_answer_is_the_oracles(source, questions, ttl, keys, created, filtered, ordered):
    if ordered:
        source = sorted(source, key=lambda r: (r[2] or EPOCH, r[3] or EPOCH))
    view = JoinView(
        name="view",
        frame=source_frame(source).lazy(),
        keys={"ab"[k]: "ab"[k] for k in keys},
        features={"value": "value"},
        timestamp="at",
        created_timestamp="written" if created else None,
        ttl=ttl,
    )
    rows = entity_frame(questions)
    joined = point_in_time_join(rows, [view], filter_by_created=filtered)
    expected = [answer(q, source, keys, ttl, created, filtered) for q in questions]
    assert joined.get_column("value").to_list() == expected
    assert joined.drop("value").equals(rows)


@settings(max_examples=100, deadline=None)
@given(SOURCE_ROWS, ENTITY_ROWS, TTL, st.permutations(range(40)))
def test_the_order_of_the_source_decides_nothing_but_full_ties(source, questions, ttl, order):
    distinct = list({(r[0], r[1], r[2], r[3]): r for r in source}.values())
    shuffled = [distinct[i] for i in order if i < len(distinct)]
    joined = [
        point_in_time_join(
            entity_frame(questions),
            [
                JoinView(
                    "view",
                    source_frame(rows).lazy(),
                    {"a": "a", "b": "b"},
                    {"value": "value"},
                    "at",
                    "written",
                    ttl,
                )
            ],
        )
        for rows in (distinct, shuffled)
    ]
    assert joined[0].equals(joined[1])


@settings(max_examples=60, deadline=None)
@given(SOURCE_ROWS, ENTITY_ROWS, TTL, TTL)
def test_several_views_answer_as_each_alone(source, questions, ttl, other_ttl):
    frame = source_frame(source).lazy()
    views = [
        JoinView("one", frame, {"a": "a"}, {"value": "one"}, "at", "written", ttl),
        JoinView("two", frame, {"a": "b"}, {"value": "two"}, "at", None, other_ttl),
        JoinView("all", frame, {}, {"value": "three"}, "at", "written", None),
    ]
    rows = entity_frame(questions)
    together = point_in_time_join(rows, views)
    for view in views:
        (column,) = view.features.values()
        alone = point_in_time_join(rows, [view])
        assert together.get_column(column).equals(alone.get_column(column))


@settings(max_examples=80, deadline=None)
@given(SOURCE_ROWS, ENTITY_ROWS, TTL, st.integers(0, 12))
def test_what_happens_later_changes_no_answer(source, questions, ttl, now):
    """Whatever is written after a moment, questions up to that moment are answered the same."""
    moment = EPOCH + timedelta(seconds=now)
    then = [r for r in source if r[2] and r[3] and r[2] <= moment and r[3] <= moment]
    asked = [q for q in questions if q[2] and q[2] <= moment]
    joined = [
        point_in_time_join(
            entity_frame(asked),
            [
                JoinView(
                    "view",
                    source_frame(rows).lazy(),
                    {"a": "a"},
                    {"value": "value"},
                    "at",
                    "written",
                    ttl,
                )
            ],
        ).get_column("value")
        for rows in (then, source)
    ]
    assert joined[0].to_list() == joined[1].to_list()
