"""Gates: each one fails on what it is for, passes beside it, and says column, limit and value."""

import datetime as dt
import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.errors import ValidationFailed
from zeroskew.model_config import ColumnGate, Validation
from zeroskew.profiles import Profile
from zeroskew.validation import Outcome, validate

ROWS = 2_000
SCHEMA = {"amount": "float64", "count": "int64", "place": "string", "flag": "bool"}


def batch(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "amount": rng.normal(size=rows),
            "count": rng.integers(0, 50, rows),
            "place": rng.choice(["EWR", "JFK", "LGA"], rows),
            "flag": rng.random(rows) < 0.3,
        }
    )


def check(frame, gates=None, reference=None, schema=None, **options):
    return validate(
        frame, schema or SCHEMA, gates or Validation(), reference, where="batch", **options
    )


def failures(report):
    return {(f.column, f.measure) for f in report.failed}


def test_a_good_batch_passes_with_and_without_a_reference():
    first = check(batch(0))
    assert first.passed
    assert first.findings == ()
    assert first.profile == Profile.learn(batch(0))
    second = check(batch(1), reference=first.profile)
    assert second.findings == ()
    second.raise_if_failed()


def test_missing_new_and_retyped_columns():
    frame = (
        batch()
        .drop("amount")
        .with_columns(
            pl.col("count").cast(pl.String), extra=pl.lit(1), flag=pl.col("flag").cast(pl.Int8)
        )
    )
    expected = {("amount", "column"), ("count", "type"), ("flag", "type"), ("extra", "column")}
    report = check(frame)
    assert failures(report) == expected
    assert failures(check(frame, strict_columns=False)) == expected - {("extra", "column")}
    noted = check(frame, strict_columns=False).findings
    assert [f.outcome for f in noted if f.column == "extra"] == [Outcome.NOTED]


@pytest.mark.parametrize(
    ("type_name", "values", "ok"),
    [
        ("int64", [1.0, 2.0, None], True),
        ("int64", [1.0, 2.5], False),
        ("int64", pl.Series([1, 2], dtype=pl.UInt8), True),
        ("float64", [1, 2], True),
        ("float32", [1.5], True),
        ("float64", ["1.5"], False),
        ("float64", [None, None], True),
        ("string", [1], False),
        ("string", pl.Series(["a"], dtype=pl.Categorical), True),
        ("string", pl.Series(["a"], dtype=pl.Enum(["a"])), True),
        ("bool", [0, 1], False),
        ("timestamp", [dt.datetime(2024, 1, 1)], True),
        ("unix_timestamp", [dt.datetime(2024, 1, 1)], True),
        ("timestamp", [1704067200], False),
        ("float64", [dt.date(2024, 1, 1)], False),
        ("array(float64)", [[1.0]], True),
        ("float64", [[1.0]], False),
        ("struct", [{"a": 1}], True),
    ],
)
def test_types(type_name, values, ok):
    frame = pl.DataFrame({"x": values}, strict=False)
    gates = Validation(min_rows=1, max_null_rate=1.0)
    report = check(frame, gates, schema={"x": type_name})
    assert (("x", "type") not in failures(report)) == ok, report.findings
    report.html()


@settings(max_examples=60, deadline=None)
@given(nulls=st.integers(0, 100), limit=st.integers(0, 100))
def test_the_null_rate_fails_exactly_above_its_limit(nulls, limit):
    values = [None, math.nan, math.inf, -math.inf] * 25
    frame = pl.DataFrame({"x": [*values[:nulls], *[1.0] * (100 - nulls)]}, strict=False)
    gates = Validation(min_rows=1, max_null_rate=limit / 100)
    assert check(frame, gates, schema={"x": "float64"}).passed == (nulls <= limit)
    # A limit of the column's own goes before the general one.
    gates = Validation(
        min_rows=1, max_null_rate=0.0, columns={"x": ColumnGate(max_null_rate=limit / 100)}
    )
    assert check(frame, gates, schema={"x": "float64"}).passed == (nulls <= limit)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.integers(-20, 20).map(float)), min_size=1, max_size=50),
    low=st.one_of(st.none(), st.integers(-10, 0).map(float)),
    high=st.one_of(st.none(), st.integers(1, 10).map(float)),
    limit=st.floats(0, 1),
    dtype=st.sampled_from([pl.Float64, pl.Float32, pl.Int16]),
)
def test_out_of_range_is_counted_among_the_values_that_are_there(values, low, high, limit, dtype):
    gate = ColumnGate(min=low, max=high, max_out_of_range=limit)
    gates = Validation(min_rows=1, max_null_rate=1.0, columns={"x": gate})
    frame = pl.DataFrame({"x": pl.Series(values).cast(dtype)})
    there = [v for v in values if v is not None]
    outside = [v for v in there if (low is not None and v < low) or (high is not None and v > high)]
    too_many = bool(there) and len(outside) / len(there) > limit
    assert check(frame, gates, schema={"x": str(dtype)}).passed == (not too_many)


def test_out_of_range_names_what_was_seen():
    gates = Validation(columns={"amount": ColumnGate(min=-10, max=10)})
    frame = batch().with_columns(
        amount=pl.when(pl.int_range(pl.len()) < 40).then(1048.0).otherwise(pl.col("amount"))
    )
    (found,) = check(frame, gates).failed
    assert (found.column, found.measure, found.limit, found.value) == (
        "amount", "out of range", "≤ 1 %", "2 %",
    )  # fmt: skip
    assert "allowed -10 to 10" in found.detail
    assert "1048" in found.detail


def test_a_share_just_above_its_limit_does_not_read_like_it():
    gates = Validation(columns={"count": ColumnGate(min=0, max=49, max_out_of_range=0)})
    frame = batch(rows=100_000).with_columns(
        count=pl.when(pl.int_range(pl.len()) < 1).then(99).otherwise(pl.col("count"))
    )
    (found,) = check(frame, gates).failed
    assert (found.limit, found.value) == ("≤ 0 %", "0.001 %")


def test_unseen_categories_against_a_list_and_against_the_reference():
    reference = check(batch()).profile
    frame = batch(1).with_columns(
        place=pl.when(pl.int_range(pl.len()) < 160).then(pl.lit("XXX")).otherwise(pl.col("place"))
    )
    (found,) = (f for f in check(frame, reference=reference).failed if f.measure != "drift (PSI)")
    assert (found.measure, found.value, found.limit) == ("unseen values", "8 %", "≤ 5 %")
    assert "'XXX'" in found.detail
    gates = Validation(
        columns={"place": ColumnGate(categories=("EWR", "JFK", "LGA", "XXX"), max_unseen=0)}
    )
    assert check(frame, gates).passed
    narrow = Validation(columns={"place": ColumnGate(categories=("EWR",), max_unseen=0.5)})
    assert failures(check(frame, narrow)) == {("place", "unseen values")}


def test_a_training_set_beyond_the_cap_does_not_make_its_own_twin_unseen():
    frame = pl.DataFrame({"id": [f"u{i % 3000}" for i in range(30_000)]})
    reference = check(frame, schema={"id": "string"}).profile
    assert reference.columns["id"].unseen > 0
    assert check(frame, reference=reference, schema={"id": "string"}).passed
    other = frame.with_columns(pl.col("id") + "x")
    assert ("id", "unseen values") in failures(
        check(other, reference=reference, schema={"id": "string"})
    )


def test_identifiers_are_checked_by_value():
    frame = pl.DataFrame({"code": np.arange(ROWS) % 7})
    reference = check(frame, schema={"code": "int64"}, categorical=["code"]).profile
    assert reference.columns["code"].kind == "categorical"
    moved = frame.with_columns(pl.col("code") + 7)
    report = check(moved, reference=reference, schema={"code": "int64"}, categorical=["code"])
    assert failures(report) == {("code", "unseen values"), ("code", "drift (PSI)")}


def test_drift_fails_above_its_limit_unless_ignored_or_allowed():
    reference = check(batch()).profile
    moved = batch(1).with_columns(pl.col("amount") + 0.8)
    report = check(moved, reference=reference)
    assert failures(report) == {("amount", "drift (PSI)")}
    assert check(moved, Validation(max_psi=5), reference).passed
    allowed = Validation(columns={"amount": ColumnGate(max_psi=5)})
    assert check(moved, allowed, reference).passed
    ignored = check(moved, Validation(ignore=("amount",)), reference)
    assert ignored.passed
    assert {(f.column, f.outcome) for f in ignored.findings} == {("amount", Outcome.NOTED)}
    assert {f.measure for f in ignored.findings} == {"drift (PSI)", "outside the reference"}
    assert ignored.to_json()["drift"]["amount"]["verdict"] == "significant"


def test_too_few_rows_are_inconclusive_and_never_a_failure_of_drift():
    reference = check(batch()).profile
    few = batch(1, rows=499).with_columns(pl.col("amount") + 5)
    report = check(few, Validation(min_rows=100, max_out_of_range=1), reference)
    assert report.passed
    assert {f.column for f in report.inconclusive} == set(SCHEMA)
    assert "499 rows on one side, 500 are needed" in report.inconclusive[0].detail
    enough = batch(1, rows=500).with_columns(pl.col("amount") + 5)
    gates = Validation(min_rows=100, max_out_of_range=1)
    assert failures(check(enough, gates, reference)) == {("amount", "drift (PSI)")}


def test_a_strict_limit_does_not_take_noise_for_drift():
    reference = check(batch()).profile
    gates = Validation(max_psi=0.001)
    report = check(batch(5, rows=600), gates, reference)
    assert report.passed
    assert {f.outcome for f in report.findings} == {Outcome.INCONCLUSIVE}


def test_rows():
    report = check(batch(rows=499))
    (found,) = report.failed
    assert (found.column, found.measure, found.limit, found.value) == (
        "", "rows", "≥ 500", "499",
    )  # fmt: skip


def test_no_rows_no_columns_and_all_nulls():
    empty = check(batch(rows=0), reference=check(batch()).profile)
    assert failures(empty) == {("", "rows")}
    json.dumps(empty.to_json(), allow_nan=False)
    assert "Validation" in empty.html()
    nothing = check(pl.DataFrame())
    assert {(c, "column") for c in SCHEMA} < failures(nothing)
    nulls = pl.DataFrame(dict.fromkeys(SCHEMA, pl.Series([None] * ROWS)))
    report = check(nulls, reference=check(batch()).profile)
    assert {(c, "null rate") for c in SCHEMA} <= failures(report)
    assert not {(c, "type") for c in SCHEMA} & failures(report), "a null has no type"
    report.html()
    assert check(batch(), reference=report.profile, gates=Validation(max_psi=1e9)).profile.rows


def test_a_reference_with_other_columns_or_kinds_is_shown_and_does_not_crash():
    partial = check(batch()).profile.select(["amount"])
    report = check(batch(1), reference=partial)
    assert report.passed
    assert {f.column for f in report.findings} == {"count", "place", "flag"}
    assert all("does not have this column" in f.detail for f in report.findings)
    other = Profile.learn({**{n: batch()[n] for n in SCHEMA}, "old": [1.0] * ROWS})
    (found,) = check(batch(1), reference=other).findings
    assert (found.column, found.detail) == ("old", "in the reference, not in the schema")
    turned = Profile.learn({"amount": ["a"] * ROWS, "place": [1.0] * ROWS})
    crossed = check(batch(1), reference=turned)
    assert ("place", "type") in failures(crossed)
    assert ("amount", "unseen values") in failures(crossed)
    crossed.html()


def test_a_gate_for_an_unknown_column_is_pointed_out():
    gates = Validation(columns={"amuont": ColumnGate(min=0)}, ignore=("falg", "amount"))
    found = check(batch(), gates).findings
    assert [(f.column, f.outcome) for f in found] == [
        ("amuont", Outcome.NOTED), ("falg", Outcome.NOTED),
    ]  # fmt: skip


def test_moments_never_drift():
    when = pl.DataFrame(
        {
            "t": pl.datetime_range(
                dt.datetime(2024, 1, 1), dt.datetime(2024, 3, 1), "1h", eager=True, time_zone="UTC"
            )
        }
    )
    schema = {"t": "timestamp"}
    reference = check(when, schema=schema).profile
    later = check(when.with_columns(pl.col("t") + pl.duration(days=400)), None, reference, schema)
    assert later.findings == ()


def test_the_error_holds_the_table_and_travels_between_processes():
    import pickle

    report = check(batch().with_columns(pl.lit(None).alias("count")))
    with pytest.raises(ValidationFailed) as caught:
        report.raise_if_failed()
    text = str(caught.value)
    assert text.startswith("batch: 1 gate failed")
    for part in ("column", "measure", "limit", "value", "count", "null rate", "≤ 20 %", "100 %"):
        assert part in text
    assert "\x1b" not in text
    assert caught.value.findings == report.failed
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == text
    assert again.findings == report.failed


EVIL = "<script>alert('x')</script>\x1b[31m[bold]\n\u202e"


def test_hostile_names_and_values_are_text_everywhere():
    frame = batch().with_columns(pl.lit(EVIL).alias(EVIL), place=pl.lit(EVIL))
    reference = check(batch()).profile
    report = check(frame, reference=reference, schema=SCHEMA | {EVIL: "int64"})
    with pytest.raises(ValidationFailed) as caught:
        report.raise_if_failed()
    page = report.html()
    for text in (str(caught.value), page):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<script" not in page
    assert "alert" in page
    assert "[bold]" in str(caught.value), "not taken for a style"
    assert json.loads(json.dumps(report.to_json()))["passed"] is False


def test_the_page_shows_reference_and_current_of_what_moved():
    reference = check(batch()).profile
    moved = batch(1).with_columns(
        pl.col("amount") + 0.8, place=pl.lit("JFK"), count=pl.col("count") // 2
    )
    page = check(moved, reference=reference).html()
    for column in ("amount", "place", "count"):
        assert page.count(f"{column}: PSI") >= 1
    assert "flag: PSI" not in page
    assert "PSI by column" in page
    assert ">failed<" in page
