"""Platt scaling against scikit-learn's, and against what it must never do."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from zeroskew.training.calibration import fit_calibration


def sample(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    truth = draw.normal(-1.0, 1.5, count)
    label = (draw.random(count) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    return truth.astype(np.float32), label


def probability(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_it_is_the_maximum_likelihood_fit() -> None:
    truth, label = sample(5_000, 1)
    logits = truth * 2.5 + 1.7
    slope, offset = fit_calibration(logits, label)
    oracle = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(logits[:, None], label)
    np.testing.assert_allclose(
        [slope, offset], [oracle.coef_[0, 0], oracle.intercept_[0]], rtol=1e-3
    )


def test_it_takes_back_what_class_weights_shifted() -> None:
    truth, label = sample(20_000, 2)
    shifted = truth + np.log((1 - label.mean()) / label.mean())
    slope, offset = fit_calibration(shifted, label)
    fresh, fresh_label = sample(20_000, 3)
    before = log_loss(fresh_label, probability(fresh + shifted[0] - truth[0]))
    after = log_loss(fresh_label, probability(slope * (fresh + shifted[0] - truth[0]) + offset))
    assert after < before - 0.02
    assert abs(after - log_loss(fresh_label, probability(fresh))) < 0.002


def test_the_order_of_scores_is_never_turned_round() -> None:
    truth, label = sample(2_000, 4)
    assert fit_calibration(-truth, label) == (1.0, 0.0)


def test_one_class_changes_nothing() -> None:
    truth, _ = sample(100, 5)
    assert fit_calibration(truth, np.ones(100, np.float32)) == (1.0, 0.0)


def test_separable_and_huge_logits_stay_finite() -> None:
    label = np.repeat(np.array([0, 1], np.float32), 50)
    for logits in (label * 2 - 1, (label * 2 - 1) * 1e4, np.zeros(100, np.float32)):
        assert np.isfinite(fit_calibration(logits.astype(np.float32), label)).all()
