"""Numeric histograms: counts against a loop over every value, edges at the quantiles."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zeroskew.profiles import FLOOR, Profile, psi

DTYPES = st.sampled_from(
    [np.float64, np.float32, np.float16, np.int64, np.int32, np.int8, np.uint8, np.uint64, np.bool_]
)


def arrays(dtype, low=0, high=60):
    return hnp.arrays(dtype, st.integers(low, high))


COLUMNS = DTYPES.flatmap(arrays)
"""Any number type, any bit pattern: NaN, infinities, denormals, largest and smallest."""

TIED = st.lists(st.sampled_from([0.0, -0.0, 1.0, 1.5, 2.0, 7.0, math.nan, math.inf]), max_size=80)


def count_slowly(profile, values):
    """The documented definition of a bin, value by value, in exact arithmetic."""
    counts, nulls = [0] * (len(profile.edges) + 1), 0
    for value in values:
        value = value.item() if hasattr(value, "item") else value
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            nulls += 1
            continue
        counts[sum(1 for edge in profile.edges if value >= edge)] += 1
    finite = [
        v
        for v in (v.item() if hasattr(v, "item") else v for v in values)
        if v is not None and not (isinstance(v, float) and not math.isfinite(v))
    ]
    below = sum(1 for v in finite if profile.low is not None and v < profile.low)
    above = sum(1 for v in finite if profile.high is not None and v > profile.high)
    return tuple(counts), nulls, below, above


def psi_slowly(a, b):
    """PSI straight from its formula."""
    na, nb = sum(a.counts) + a.nulls, sum(b.counts) + b.nulls
    result = 0.0
    for here, there in zip([*a.counts, a.nulls], [*b.counts, b.nulls], strict=True):
        e, x = max(here / na, FLOOR), max(there / nb, FLOOR)
        result += (x - e) * math.log(x / e)
    return result


@settings(max_examples=300, deadline=None)
@given(learnt=COLUMNS, later=COLUMNS)
def test_counts_equal_a_loop_over_every_value(learnt, later):
    reference = Profile.learn({"x": learnt})
    for values in (learnt, later):
        column = reference.measure({"x": values}).columns["x"]
        counts, nulls, below, above = count_slowly(column, values)
        assert (column.counts, column.nulls, column.below, column.above) == (
            counts, nulls, below, above,
        )  # fmt: skip
        assert column.total == len(values)


@settings(max_examples=200, deadline=None)
@given(learnt=st.one_of(COLUMNS, TIED.map(np.array)), bins=st.integers(2, 20))
def test_edges_are_few_finite_and_part_the_training_values(learnt, bins):
    column = Profile.learn({"x": learnt}, bins=bins).columns["x"]
    if column.kind == "categorical":  # an empty list has no type
        return
    assert len(column.edges) < bins
    assert all(math.isfinite(edge) for edge in column.edges)
    assert list(column.edges) == sorted(set(column.edges))
    assert all(column.counts) or not sum(column.counts), "no training bin is empty"
    assert column.below == column.above == 0


@settings(max_examples=100, deadline=None)
@given(values=hnp.arrays(np.float64, st.integers(20, 300), elements=st.floats(-1e6, 1e6)))
def test_at_most_ten_distinct_values_get_a_bin_each_and_ties_are_never_parted(values):
    values = np.round(values, -5)
    column = Profile.learn({"x": values}).columns["x"]
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 10:
        assert column.counts == tuple(counts)
    for value, count in zip(distinct, counts, strict=True):
        bin_of_value = int(np.sum(np.array(column.edges) <= value))
        assert column.counts[bin_of_value] >= count


def test_distinct_values_fall_into_ten_equal_bins():
    values = np.random.default_rng(0).permutation(np.arange(10_000) * 0.37)
    column = Profile.learn({"x": values}).columns["x"]
    assert column.counts == (1000,) * 10
    assert column.edges[0] == pytest.approx(np.quantile(values, 0.1), abs=0.37)


def test_a_value_that_holds_most_rows_gets_a_bin_of_its_own():
    values = np.concatenate([np.zeros(8000), np.arange(1, 2001)])
    column = Profile.learn({"x": values}).columns["x"]
    assert column.counts[0] == 8000
    assert len(column.counts) == 3
    assert column.edges[0] == 0.5


def test_a_rare_flag_that_becomes_common_is_seen():
    was = np.arange(10_000) % 20 == 0
    reference = Profile.learn({"flag": was})
    now = reference.measure({"flag": np.arange(10_000) % 2 == 0})
    assert reference.columns["flag"].counts == (9500, 500)
    assert psi(reference.columns["flag"], now.columns["flag"]) > 1


def test_a_constant_column_has_one_bin_and_counts_what_leaves_it():
    reference = Profile.learn({"x": [3.0] * 100})
    assert reference.columns["x"].counts == (100,)
    moved = reference.measure({"x": [2.0, 3.0, 4.0, 5.0]}).columns["x"]
    assert (moved.below, moved.above, moved.smallest, moved.largest) == (1, 2, 2.0, 5.0)


def test_rounding_to_float32_moves_no_value_out_of_its_bin_or_range():
    values = np.array([0.1, 0.2, 0.3, 0.7, 0.9] * 100)
    reference = Profile.learn({"x": values})
    rounded = reference.measure({"x": values.astype(np.float32)}).columns["x"]
    assert rounded.counts == reference.columns["x"].counts
    assert rounded.below == rounded.above == 0


def test_nan_infinity_and_none_are_nulls_and_infinities_are_told_apart():
    reference = Profile.learn({"x": [1.0, None, math.nan, math.inf, -math.inf, 2.0]}).columns["x"]
    assert (reference.nulls, reference.infinite, reference.counts) == (4, 2, (1, 1))
    nothing = Profile.learn({"x": np.full(5, np.nan)})
    assert nothing.columns["x"].low is None
    assert nothing.measure({"x": [4.0]}).columns["x"].counts == (1,)


@settings(max_examples=150, deadline=None)
@given(learnt=COLUMNS, parts=st.tuples(COLUMNS, COLUMNS, COLUMNS))
def test_merge_is_exact_commutative_and_associative(learnt, parts):
    reference = Profile.learn({"x": learnt})
    a, b, c = (reference.measure({"x": part}) for part in parts)
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    if parts[0].dtype == parts[1].dtype:
        assert a.merge(b) == reference.measure({"x": np.concatenate(parts[:2])})


@settings(max_examples=150, deadline=None)
@given(values=COLUMNS, later=COLUMNS)
def test_json_gives_back_the_same_profile(values, later):
    reference = Profile.learn({"x": values, "y": values})
    for profile in (reference, reference.measure({"x": later, "y": later})):
        text = json.dumps(profile.to_json(), allow_nan=False)
        assert Profile.from_json(text) == profile
        assert len(text) < 4_000


@settings(max_examples=150, deadline=None)
@given(
    values=hnp.arrays(np.float64, st.integers(1, 80)),
    later=hnp.arrays(np.float64, st.integers(1, 80)),
)
def test_psi_is_its_formula_and_zero_only_without_a_difference(values, later):
    reference = Profile.learn({"x": values})
    current = reference.measure({"x": later})
    value = psi(reference.columns["x"], current.columns["x"])
    assert value == pytest.approx(psi_slowly(reference.columns["x"], current.columns["x"]))
    assert value >= 0
    assert psi(reference.columns["x"], reference.columns["x"]) == 0
    assert value == pytest.approx(psi(current.columns["x"], reference.columns["x"])), "symmetric"


def test_labels_tell_neighbouring_bins_apart():
    values = 1e6 + np.arange(100) / 1e4
    labels = Profile.learn({"x": values}).columns["x"].labels()
    assert len(set(labels)) == 10
    assert labels[0].startswith("< 1,000,000.00")


def test_integers_beyond_2_to_the_53_keep_exact_counts():
    values = np.array([2**60, 2**60 + 1, 2**60 + 2, 2**63 - 1], np.int64).repeat(3)
    column = Profile.learn({"x": values}).columns["x"]
    assert (column.counts, column.nulls, column.below, column.above) == count_slowly(column, values)
    assert column.above == 0
