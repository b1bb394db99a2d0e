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
from zeroskew.rollout.analysis_metrics import (
    Compared,
    difference,
    measure,
    quantile_of,
    ratio,
    share,
)
from zeroskew.rollout.paired_predictions import pair
from zeroskew.rollout.rollout_judging import Metric, ThresholdRange, _default_metrics

START = datetime(2024, 3, 1, tzinfo=UTC)
QUESTION = Question("nowhere", "m", "1", "2", START, START + timedelta(hours=1))


PAIR = st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.booleans(), st.booleans())


@settings(deadline=None, max_examples=200)
@given(st.lists(PAIR, max_size=12), st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_numbers_over_pairs_are_those_of_a_loop(pairs, threshold, quantile):
    names = ("champion_score", "challenger_score", "mismatched", "read_apart")
    kinds = dict(zip(names, (pl.Float32, pl.Float32, pl.Boolean, pl.Boolean), strict=True))
    frame = pl.DataFrame(pairs, schema=kinds, orient="row")
    rows = Compared(frame, frame, frame, mirrored=True)
    disagreement = measure("Disagreement", rows, threshold=threshold)
    gap = measure("ScoreDifference", rows, quantile=quantile)
    mismatch = measure("FeatureMismatch", rows)
    together = [pair for pair in pairs if not pair[3]]
    assert (disagreement.samples, gap.samples) == (len(pairs), len(pairs))
    assert mismatch.samples == len(together)
    if pairs:
        differ = [(a >= threshold) != (b >= threshold) for a, b, *_ in pairs]
        assert disagreement.value == pytest.approx(sum(differ) / len(pairs))
        expected = np.quantile([abs(a - b) for a, b, *_ in pairs], quantile)
        assert gap.value == pytest.approx(expected, abs=1e-7)
    if together:
        assert mismatch.value == pytest.approx(sum(pair[2] for pair in together) / len(together))


def test_a_score_that_is_no_number_is_an_error_and_disagrees():
    kinds = {"score": pl.Float32, "degraded": pl.Boolean, "latency_us": pl.Int64}
    good = pl.DataFrame([(0.2, False, 5)] * 100, schema=kinds, orient="row")
    bad = pl.DataFrame([(math.nan, False, 5)] * 50 + [(0.2, False, 5)] * 50, schema=kinds,
                       orient="row")  # fmt: skip
    pairs = pl.DataFrame(
        {"champion_score": good["score"], "challenger_score": bad["score"]}
    ).with_columns(mismatched=pl.lit(False), read_apart=pl.lit(False))
    rows = Compared(good, bad, pairs, mirrored=True)
    assert measure("Disagreement", rows).value == 0.5
    assert measure("ScoreDifference", rows, quantile=0.99).value == 1.0
    assert measure("ErrorRatio", rows).value == pytest.approx(0.5 / 0.001)


def test_errors_that_no_log_holds_count_once():
    random = np.random.default_rng(4)
    one, other = simulated(random, 1000)
    one, other = (side.with_columns(degraded=pl.lit(False)) for side in (one, other))
    pairs = pair(one, other.head(900))
    rows = Compared(one, other.head(900), pairs.frame, True, 100, (10, 60))
    assert measure("ErrorRatio", rows).value == pytest.approx((100 / 1000) / (10 / 1010))
    divided = Compared(one, other, pairs.frame, False, 0, (10, 60))
    assert measure("ErrorRatio", divided).value == pytest.approx((60 / 1060) / (10 / 1010))


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
    held = {"share": 0, "quantile": 0, "ratio": 0, "difference": 0}
    for _ in range(runs):
        found = share(int(random.binomial(800, 0.03)), 800)
        held["share"] += found.low <= 0.03 <= found.high
        found = quantile_of(random.exponential(size=800), 0.9)
        held["quantile"] += found.low <= -math.log(0.1) <= found.high
        a, b = (int(random.binomial(4000, p)) for p in (0.02, 0.01))
        one, other = share(a, 4000), share(b, 4000)
        found = ratio(one, other, 0.001)
        held["ratio"] += found.low <= 2.0 <= found.high
        found = difference(one, other)
        held["difference"] += found.low <= 0.01 <= found.high
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
    return judge(QUESTION, metrics, *sides, pair(*sides, keep=("origin",)))


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
    told = found.seen
    assert [each.slice for each in told] == ["", "origin=EWR"], "all rows, and what failed"
    assert told[1].low <= told[1].value <= told[1].high
    assert (told[1].least, told[1].most) == (metric.threshold_range.min, 0.5)


def test_a_dry_run_is_shown_and_decides_nothing():
    random = np.random.default_rng(8)
    metric = _default_metrics()[0].model_copy(update={"dry_run": True})
    found = verdict(simulated(random, 1000, noise=0.5), (metric,))
    assert found.metrics[0].outcome == "Failed"
    assert found.outcome == "Passed"
    assert found.to_json()["metrics"][0]["dryRun"] is True


def test_labels_judge_by_auc():
    random = np.random.default_rng(9)
    sides = simulated(random, 1500, noise=0.2)
    pairs = pair(*sides)
    label = random.random(1500) < pairs.frame["champion_score"].to_numpy()
    labelled = pairs.frame.with_columns(pl.Series("label", label.astype(np.int8)))
    found = measure("AUC", Compared(*sides, labelled, mirrored=True))

    def auc(scores):
        positive, negative = scores[label], scores[~label]
        higher = (positive[:, None] > negative[None, :]).mean()
        return higher + 0.5 * (positive[:, None] == negative[None, :]).mean()

    one, other = (labelled[f"{who}_score"].to_numpy() for who in ("champion", "challenger"))
    assert found.value == pytest.approx(auc(other) - auc(one), abs=1e-9)
    assert found.low < found.value < found.high
