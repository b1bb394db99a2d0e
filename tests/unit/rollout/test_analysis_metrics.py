"""Each metric against a slow, obvious oracle, and how often chance alone takes a challenger off."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.rollout.analysis import Question, judge
from zeroskew.rollout.analysis_metrics import measure, quantile_of, ratio_of_shares, share
from zeroskew.rollout.paired_predictions import pair
from zeroskew.rollout.rollout_judging import Metric, ThresholdRange, _default_metrics

START = datetime(2024, 3, 1, tzinfo=UTC)
QUESTION = Question("nowhere", "m", "1", "2", START, START + timedelta(hours=1))


def rows(given_rows, role="champion"):
    """(request id, row, score, feature) as a log has them."""
    return pl.DataFrame(
        {
            "request_id": [r[0] for r in given_rows],
            "row": [r[1] for r in given_rows],
            "role": [role] * len(given_rows),
            "score": pl.Series([r[2] for r in given_rows], dtype=pl.Float32),
            "degraded": [False] * len(given_rows),
            "latency_us": [500] * len(given_rows),
            "answered_at": [START + timedelta(seconds=i) for i in range(len(given_rows))],
            "distance": pl.Series([r[3] for r in given_rows], dtype=pl.Float64),
        }
    )


ROW = st.tuples(
    st.sampled_from("abcdefgh"), st.integers(0, 1), st.floats(0, 1, width=32),
    st.none() | st.sampled_from([0.0, 1.0, 1.0 + 1e-9, 2.0]),
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(ROW, max_size=12), st.lists(ROW, max_size=12))
def test_pairs_are_those_of_two_nested_loops(one, other):
    keys = [[(r[0], r[1]) for r in side] for side in (one, other)]
    twice = {key[0] for side in keys for key in side if side.count(key) > 1}
    expected = [
        (a, b)
        for a in one
        for b in other
        if a[:2] == b[:2] and a[0] not in twice
    ]  # fmt: skip
    found = pair(rows(one), rows(other, "shadow"))
    got = {
        (r["champion_request_id"], r["champion_row"]): (
            r["champion_score"], r["challenger_score"], r["challenger_request_id"],
        )
        for r in found.frame.iter_rows(named=True)
    }  # fmt: skip
    assert got == {a[:2]: (a[2], b[2], b[0]) for a, b in expected}
    assert found.frame.height == len(expected)
    if one and other:
        assert found.ambiguous == len(twice)
        last = START + timedelta(seconds=len(other) - 1)
        lonely = [
            a
            for at, a in enumerate(one)
            if a[0] not in twice
            and a[:2] not in keys[1]
            and START + timedelta(seconds=at) < last
        ]  # fmt: skip
        assert found.unanswered == len(lonely)
    if not expected:
        return
    common = {"threshold": 0.5, "quantile": 0.9, "features": ("distance",), "unanswered": 0}
    sides = rows(one), rows(other, "shadow"), found.frame
    disagreement = measure("Disagreement", *sides, **common)
    assert disagreement.value * len(expected) == pytest.approx(
        sum((a[2] >= 0.5) != (b[2] >= 0.5) for a, b in expected)
    )
    gap = measure("ScoreDifference", *sides, **common)
    assert gap.value == pytest.approx(np.quantile([abs(a[2] - b[2]) for a, b in expected], 0.9))
    different = sum(
        (a[3] is None) != (b[3] is None)
        or (a[3] is not None and abs(a[3] - b[3]) > 1e-6 * abs(b[3]))
        for a, b in expected
    )
    mismatch = measure("FeatureMismatch", *sides, **common)
    assert mismatch.value * len(expected) == pytest.approx(different)


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilsons_interval_holds_what_solves_its_equation(hits, rows_):
    hits = min(hits, rows_)
    found = share(hits, rows_)
    assert 0 <= found.low <= found.value <= found.high <= 1
    for end in (found.low, found.high):
        if 0 < end < 1:
            # Its ends are where |p - p̂| is z standard errors at p itself.
            assert abs(end - found.value) == pytest.approx(
                1.959963984540054 * math.sqrt(end * (1 - end) / rows_), abs=1e-9
            )


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(11)
    runs = 600
    held = {"share": 0, "quantile": 0, "ratio": 0}
    for _ in range(runs):
        found = share(int(random.binomial(800, 0.03)), 800)
        held["share"] += found.low <= 0.03 <= found.high
        found = quantile_of(random.exponential(size=800), 0.9)
        held["quantile"] += found.low <= -math.log(0.1) <= found.high
        a, b = (int(random.binomial(4000, p)) for p in (0.02, 0.01))
        found = ratio_of_shares(a, 4000, b, 4000)
        held["ratio"] += found.low <= 2.0 <= found.high
    for name, count in held.items():
        assert count / runs > 0.92, name


def simulated(random, n, *, noise=0.0, slower=1.0):
    base = random.beta(2, 6, n)
    sides = []
    for which in (0, 1):
        score = np.clip(base + (noise * random.normal(size=n) if which else 0), 0, 1)
        latency = random.lognormal(6.2, 0.5, n) * (slower if which else 1)
        sides.append(
            pl.DataFrame(
                {
                    "request_id": [str(i) for i in range(n)],
                    "row": np.zeros(n, np.int32),
                    "role": ["shadow" if which else "champion"] * n,
                    "score": score.astype(np.float32),
                    "degraded": random.random(n) < 0.002,
                    "latency_us": latency.astype(np.int64),
                    "answered_at": [START] * n,
                    "origin": ["JFK" if i % 4 else "EWR" for i in range(n)],
                }
            )
        )
    return sides


def verdict(sides, metrics):
    return judge(QUESTION, metrics, *sides, pair(*sides))


def test_a_challenger_as_good_as_its_champion_hardly_ever_fails():
    random = np.random.default_rng(3)
    outcomes = [verdict(simulated(random, 600), _default_metrics()).outcome for _ in range(300)]
    assert outcomes.count("Failed") <= 1


@pytest.mark.parametrize(
    ("worse", "metric"),
    [
        ({"noise": 0.3}, "disagreement"),
        ({"slower": 3.0}, "latency-p99"),
    ],
)
def test_a_plainly_worse_one_fails_with_the_reason(worse, metric):
    random = np.random.default_rng(5)
    found = verdict(simulated(random, 2000, **worse), _default_metrics())
    assert found.outcome == "Failed"
    assert metric in found.message
    assert "above" in found.message


def test_few_samples_are_inconclusive_whatever_they_say():
    random = np.random.default_rng(6)
    found = verdict(simulated(random, 300, noise=0.5), _default_metrics())
    assert found.outcome == "Inconclusive"
    assert "300 of 500 samples" in found.message


def test_a_bad_slice_fails_and_a_small_one_stops_nothing():
    random = np.random.default_rng(7)
    sides = simulated(random, 4000)
    flip = pl.when(pl.col("origin") == "EWR").then(1 - pl.col("score")).otherwise(pl.col("score"))
    sides[1] = sides[1].with_columns(flip.alias("score"))
    metric = Metric(
        name="disagreement", type="Disagreement", slices=("origin",),
        threshold_range=ThresholdRange(max=0.5),
    )  # fmt: skip
    found = verdict(sides, (metric,))
    assert {each.slice: each.outcome for each in found.metrics} == {
        "": "Passed", "origin=JFK": "Passed", "origin=EWR": "Failed",
    }  # fmt: skip
    assert found.outcome == "Failed"
    assert "origin=EWR" in found.message
    small = metric.model_copy(update={"min_samples": 2000})
    assert verdict(sides, (small,)).outcome == "Passed"


def test_a_dry_run_is_shown_and_decides_nothing():
    random = np.random.default_rng(8)
    metric = _default_metrics()[0].model_copy(update={"dry_run": True})
    found = verdict(simulated(random, 1000, noise=0.5), (metric,))
    assert found.metrics[0].outcome == "Failed"
    assert found.outcome == "Passed"
    assert found.to_json()["metrics"][0]["dry_run"] is True


def test_labels_judge_by_auc():
    random = np.random.default_rng(9)
    sides = simulated(random, 1500, noise=0.2)
    pairs = pair(*sides)
    label = random.random(1500) < pairs.frame["champion_score"].to_numpy()
    labelled = pairs.frame.with_columns(pl.Series("label", label.astype(np.int8)))
    found = measure("AUC", *sides, labelled, threshold=0.5, quantile=0.9, features=(), unanswered=0)

    def auc(scores):
        positive, negative = scores[label], scores[~label]
        higher = (positive[:, None] > negative[None, :]).mean()
        return higher + 0.5 * (positive[:, None] == negative[None, :]).mean()

    one, other = (labelled[f"{who}_score"].to_numpy() for who in ("champion", "challenger"))
    assert found.value == pytest.approx(auc(other) - auc(one), abs=1e-9)
    assert found.low < found.value < found.high
