"""The gates: what is measured, what is refused, and which precision wins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from zeroskew.errors import ExportError, GateFailed
from zeroskew.export.gate import (
    FASTER,
    Breach,
    Candidate,
    Quality,
    choose,
    find_breaches,
    measure_quality,
)
from zeroskew.export.latency import BatchLatency, race
from zeroskew.model_config import Export

LATENCY = BatchLatency(32, p50=1.0, p99=2.0, batches=400)
QUALITY = Quality(1000, "auc", 0.8, 0.8, 0.0, 0.01, 0.001)


def _scores(rows: int = 5000) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    score = random.beta(2, 5, rows).astype(np.float32)
    return score, (random.random(rows) < score).astype(np.float32)


@pytest.mark.parametrize(
    ("metric", "judge", "sign"),
    [
        ("auc", roc_auc_score, 1),
        ("pr_auc", average_precision_score, 1),
        ("log_loss", log_loss, -1),
        ("brier", brier_score_loss, -1),
    ],
)
def test_metric_loss_is_scikit_learns_difference(metric: str, judge: object, sign: int) -> None:
    score, label = _scores()
    worse = np.clip(score + np.random.default_rng(1).normal(0, 0.1, len(score)), 0.01, 0.99)
    worse = worse.astype(np.float32)
    quality = measure_quality(score, worse, label, metric=metric)
    assert quality.fp32 == pytest.approx(judge(label, score.astype(float)), abs=1e-6)
    assert quality.value == pytest.approx(judge(label, worse.astype(float)), abs=1e-6)
    assert quality.metric_loss == pytest.approx(sign * (quality.fp32 - quality.value))
    assert quality.metric_loss > 0
    assert quality.max_score_difference == np.abs(worse - score).max()
    assert quality.psi > 0


def test_identical_scores_lose_nothing() -> None:
    score, label = _scores()
    quality = measure_quality(score, score.copy(), label, metric="auc")
    assert (quality.metric_loss, quality.max_score_difference, quality.psi) == (0, 0, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1])
def test_a_score_that_is_no_probability_is_refused(bad: float) -> None:
    score, label = _scores(100)
    wrong = score.copy()
    wrong[7] = bad
    with pytest.raises(ExportError, match="1 of 100 scores"):
        measure_quality(score, wrong, label, metric="auc")


def test_each_limit_is_watched() -> None:
    limits = Export(max_metric_loss=0.002, max_score_difference=0.1, max_psi=0.02,
                    latency={"batch": 32, "max_milliseconds": 2.0})  # fmt: skip
    assert find_breaches(QUALITY, LATENCY, limits) == ()
    assert find_breaches(None, LATENCY, limits) == ()
    worst = replace(QUALITY, metric_loss=0.0021, max_score_difference=0.11, psi=0.021)
    found = find_breaches(worst, replace(LATENCY, p99=2.1), limits)
    assert [breach.limit for breach in found] == [2.0, 0.002, 0.1, 0.02]
    assert find_breaches(replace(QUALITY, psi=float("nan")), LATENCY, limits)


def test_int8_out_of_bounds_fails_with_numbers_and_limits() -> None:
    breaches = (Breach("loss of auc", 0.0312, 0.002), Breach("PSI of the scores", 0.4, 0.02))
    candidates = [_candidate("fp32", 1.0), _candidate("int8", 0.5, breaches)]
    with pytest.raises(GateFailed) as failed:
        choose(candidates, Export(precision="int8"))
    for part in ("int8: loss of auc 0.0312 is above 0.002", "PSI of the scores 0.4", "calibration"):
        assert part in str(failed.value)


def test_auto_falls_back_and_says_why() -> None:
    breaches = (Breach("loss of auc", 0.0312, 0.002),)
    candidates = [_candidate("fp32", 1.0), _candidate("int8", 0.5, breaches)]
    choice = choose(candidates, Export(precision="auto"), {"fp16": "does not fit"})
    assert choice.precision == "fp32"
    assert "int8 0.5 ms but loss of auc 0.0312 is above 0.002" in choice.reason
    assert "no fp16: does not fit" in choice.reason


def test_auto_with_nothing_left_fails() -> None:
    slow = (Breach("p99 of 32 rows in milliseconds", 9.0, 2.0),)
    candidates = [_candidate("fp32", 8.0, slow), _candidate("int8", 8.0, slow)]
    with pytest.raises(GateFailed, match=r"fp32: p99[^\n]*\n +int8: p99"):
        choose(candidates, Export(precision="auto"))


@given(
    st.floats(0.1, 10),
    st.lists(st.tuples(st.floats(0.1, 10), st.booleans()), min_size=1, max_size=2),
    st.booleans(),
)
def test_auto_takes_the_fastest_that_passes(
    fp32: float, others: list[tuple[float, bool]], fp32_passes: bool
) -> None:
    breach = (Breach("x", 2, 1),)
    candidates = [_candidate("fp32", fp32, () if fp32_passes else breach)] + [
        _candidate(name, p50, () if passes else breach)
        for name, (p50, passes) in zip(("int8", "fp16"), others, strict=False)
    ]
    passing = [c for c in candidates if c.passed]
    if not passing:
        with pytest.raises(GateFailed):
            choose(candidates, Export(precision="auto"))
        return
    chosen = choose(candidates, Export(precision="auto")).precision
    winner = next(c for c in candidates if c.precision == chosen)
    assert winner.passed
    fastest = min(c.latency.p50 for c in passing)
    if chosen == "fp32":
        assert fastest > FASTER * fp32 or fastest == fp32
    else:
        assert winner.latency.p50 == fastest


def test_candidates_take_turns() -> None:
    calls: list[str] = []
    runners = {name: (lambda name=name: calls.append(name)) for name in ("a", "b")}
    found = race(runners, batch=4, rounds=10)
    counted = calls[-20:]
    assert {tuple(counted[i : i + 2]) for i in range(0, 20, 2)} == {("a", "b"), ("b", "a")}
    assert found["a"].batches == 10
    assert 0 <= found["b"].p50 <= found["b"].p99


def _candidate(name: str, p50: float, breaches: tuple[Breach, ...] = ()) -> Candidate:
    quality = None if name == "fp32" else QUALITY
    return Candidate(name, "0" * 64, quality, replace(LATENCY, p50=p50), breaches)
