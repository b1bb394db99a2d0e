"""Categories: spelling, cap, unseen values, hostile texts."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.features import row
from zeroskew.profiles import MAX_VALUES, RARE, CategoricalProfile, Profile, psi, text_of
from zeroskew.profiles.psi import paired_bins

TEXTS = st.lists(
    st.one_of(
        st.none(),
        st.sampled_from(["a", "b", "c", "", "null", "é"]),
        st.text(st.characters(), max_size=4),  # surrogates included
        st.binary(max_size=3),
    ),
    max_size=60,
)


def test_most_frequent_value_first_and_equals_by_text():
    column = Profile.learn({"x": ["b", "a", None, "c", "c", "b", "a"]}).columns["x"]
    assert column == CategoricalProfile(("a", "b", "c"), (2, 2, 2), unseen=0, nulls=1)


def test_new_values_are_unseen():
    reference = Profile.learn({"x": ["a", "b"]})
    assert reference.measure({"x": ["a", "z", "y", None]}).columns["x"] == CategoricalProfile(
        ("a", "b"), (1, 0), unseen=2, nulls=1
    )


def test_huge_cardinality_stays_bounded():
    values = [f"user-{i}" for i in range(50_000)] + ["often"] * 100
    profile = Profile.learn({"x": values})
    column = profile.columns["x"]
    assert len(column.values) == MAX_VALUES
    assert column.values[0] == "often"
    assert column.unseen == 50_100 - sum(column.counts)
    assert len(json.dumps(profile.to_json())) < 64_000


def test_long_texts_are_shortened_and_stay_apart():
    long = "x" * 100_000
    column = Profile.learn({"x": [long + "1", long + "2", long + "1"]}).columns["x"]
    assert column.counts == (2, 1)
    assert all(len(value) <= 128 for value in column.values)


@settings(max_examples=150, deadline=None)
@given(learnt=TEXTS, parts=st.tuples(TEXTS, TEXTS, TEXTS))
def test_merge_and_json_are_exact(learnt, parts):
    reference = Profile.learn({"x": learnt}) if learnt else Profile.learn({"x": [None]})
    a, b, c = (reference.measure({"x": part}) for part in parts)
    assert a.merge(b) == b.merge(a) == reference.measure({"x": parts[0] + parts[1]})
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    text = json.dumps(a.to_json(), allow_nan=False)
    text.encode()
    assert Profile.from_json(text) == a


@pytest.mark.parametrize(
    "value", ["x", b"caf\xc3\xa9", b"\xff\xfe", True, np.bool_(False), 3.0, np.float32(2), 2.5, 7]
)
def test_the_spelling_is_that_of_the_feature_row(value):
    assert text_of(value) == row._text(value)


def test_identifiers_are_counted_by_value_whatever_their_number_type():
    reference = Profile.learn({"id": np.array([7, 7, 9])}, categorical=["id"])
    assert reference.columns["id"].values == ("7", "9")
    assert reference.measure({"id": [7.0, None, 11.0]}).columns["id"] == CategoricalProfile(
        ("7", "9"), (1, 0), unseen=1, nulls=1
    )


def test_rare_categories_share_a_bin_of_psi():
    values = ["a"] * 500 + ["b"] * 480 + [f"r{i}" for i in range(20)]
    reference = Profile.learn({"x": values})
    bins = paired_bins(reference.columns["x"], reference.columns["x"])
    assert bins.labels == ("a", "b", "rare", "unseen", "null")
    assert bins.expected == (500, 480, 20, 0, 0)
    assert RARE > 1 / 1000
    shuffled = reference.measure({"x": ["a"] * 500 + ["b"] * 480 + ["r3"] * 20})
    assert psi(reference.columns["x"], shuffled.columns["x"]) == 0


def test_mixed_types_and_unhashable_values_are_texts():
    profile = Profile.learn({"x": [1, "a", 2.5, None], "y": [[1], [1], {"k": 2}, None]})
    assert set(profile.columns["x"].values) == {"1", "a", "2.5"}
    assert profile.columns["y"].values == ("[1]", "{'k': 2}")
    assert profile.columns["y"].nulls == 1
