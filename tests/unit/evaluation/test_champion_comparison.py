"""The challenger wins by more than the margin or not at all."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from zeroskew.errors import DataError
from zeroskew.evaluation import Verdict, compare
from zeroskew.model_config import Evaluation

RANDOM = np.random.default_rng(5)
ROWS = 4_000
TRUTH = RANDOM.beta(2, 4, ROWS)
LABEL = RANDOM.random(ROWS) < TRUTH


def noisy(amount: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, amount, ROWS)
    return np.clip(TRUTH + noise, 0.001, 0.999)


LOSSES = {"log_loss": oracle.log_loss, "brier": oracle.brier_score_loss}
GAINS = {"auc": oracle.roc_auc_score, "pr_auc": oracle.average_precision_score}


@pytest.mark.parametrize("metric", [*LOSSES, *GAINS])
def test_the_difference_is_the_metrics_and_better_is_positive(metric) -> None:
    good, bad = noisy(0.02), noisy(0.3)
    config = Evaluation(metric=metric, bootstrap=50)
    measured = (LOSSES | GAINS)[metric]
    gap = measured(LABEL, good) - measured(LABEL, bad)
    verdict = compare(good, bad, LABEL, config=config)
    assert verdict.outcome == "wins"
    assert verdict.difference.value == pytest.approx(gap if metric in GAINS else -gap)
    assert 0 < verdict.difference.low < verdict.difference.value < verdict.difference.high
    back = compare(bad, good, LABEL, config=config)
    assert back.outcome == "loses"
    assert back.difference.value == pytest.approx(-verdict.difference.value)
    assert "worse" in back.reason


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 0.3), st.floats(0, 0.3), st.floats(0, 0.05))
def test_only_more_than_the_margin_wins(one, other, margin) -> None:
    config = Evaluation(metric="auc", margin=margin, bootstrap=10)
    verdict = compare(noisy(one, 1), noisy(other, 2), LABEL, config=config)
    gap = oracle.roc_auc_score(LABEL, noisy(one, 1)) - oracle.roc_auc_score(LABEL, noisy(other, 2))
    assert verdict.challenger_wins == (verdict.difference.value > margin)
    assert verdict.difference.value == pytest.approx(gap, abs=1e-12)


def test_the_same_scores_never_win_and_differ_by_exactly_nothing() -> None:
    verdict = compare(TRUTH, TRUTH.copy(), LABEL, config=Evaluation(margin=0.0, bootstrap=20))
    assert verdict.outcome == "loses"
    assert (verdict.difference.value, verdict.difference.low, verdict.difference.high) == (0, 0, 0)
    assert "as good" in verdict.reason


def test_pairing_makes_the_interval_narrower_than_the_models_own() -> None:
    config = Evaluation(bootstrap=200)
    verdict = compare(noisy(0.02), noisy(0.04), LABEL, config=config)
    own = verdict.challenger.high - verdict.challenger.low
    assert verdict.difference.high - verdict.difference.low < own / 3


def test_resamples_are_paired_row_by_row() -> None:
    """A model ahead by one fixed transformation that keeps the order is ahead in no resample."""
    verdict = compare(TRUTH**2, TRUTH, LABEL, config=Evaluation(metric="auc", bootstrap=50))
    assert verdict.difference.low == pytest.approx(0, abs=1e-12)
    assert verdict.difference.high == pytest.approx(0, abs=1e-12)


def test_a_win_within_the_margin_says_so() -> None:
    verdict = compare(noisy(0.02), noisy(0.06), LABEL, config=Evaluation(margin=0.4, bootstrap=20))
    assert verdict.outcome == "loses"
    assert "better" in verdict.reason
    assert verdict.reason.endswith("not more than the margin of 0.4.")


def test_the_first_version_has_nobody_to_beat() -> None:
    verdict = compare(TRUTH, None, LABEL, config=Evaluation(bootstrap=20))
    assert (verdict.outcome, verdict.champion, verdict.difference) == ("first", None, None)
    assert verdict.challenger_wins
    assert verdict.challenger.low < verdict.challenger.value < verdict.challenger.high


def test_verdicts_travel_as_json() -> None:
    for champion in (None, noisy(0.1)):
        verdict = compare(TRUTH, champion, LABEL, config=Evaluation(bootstrap=10))
        assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


def test_bad_scores_are_named_by_owner() -> None:
    with pytest.raises(DataError, match="champion's scores"):
        compare(TRUTH, TRUTH[:-1], LABEL, config=Evaluation())
    with pytest.raises(DataError, match="challenger's scores"):
        compare(np.full(ROWS, np.nan), TRUTH, LABEL, config=Evaluation())
