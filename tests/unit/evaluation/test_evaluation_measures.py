"""Every measure against scikit-learn or a brute-force count, ties and extremes included."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from zeroskew.errors import DataError
from zeroskew.evaluation import (
    CLIP,
    METRICS,
    SLICE_ROWS,
    Metrics,
    calibration_curve,
    confusion,
    evaluate,
    roc_points,
)
from zeroskew.evaluation.measures import SortedScores, checked, draws
from zeroskew.model_config import Evaluation

QUICK = Evaluation(bootstrap=10)


@st.composite
def rows(draw, smallest=2):
    """Scores, often tied, and labels of both classes."""
    n = draw(st.integers(smallest, 60))
    grid = draw(st.sampled_from([1, 2, 5, 1000]))
    scores = [k / grid for k in draw(st.lists(st.integers(0, grid), min_size=n, max_size=n))]
    labels = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    assume(any(labels) and not all(labels))
    return np.array(scores, np.float32), np.array(labels)


def flights(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = random.beta(2, 6, n).astype(np.float32)
    return scores, random.random(n) < scores


@given(rows())
def test_measures_are_scikit_learns(data) -> None:
    scores, labels = data
    wide = scores.astype(np.float64)
    found = evaluate(scores, labels, config=QUICK)
    values = {name: measure.value for name, measure in found.values.items()}
    assert tuple(values) == METRICS
    assert values["auc"] == pytest.approx(oracle.roc_auc_score(labels, wide))
    assert values["pr_auc"] == pytest.approx(oracle.average_precision_score(labels, wide))
    assert values["brier"] == pytest.approx(oracle.brier_score_loss(labels, wide))
    clipped = np.clip(wide, CLIP, 1 - CLIP)
    assert values["log_loss"] == pytest.approx(oracle.log_loss(labels, clipped))
    assert found.base_rate == pytest.approx(labels.mean())


@given(rows(), st.integers(0, 2**31))
def test_counts_weigh_as_drawing_the_rows_does(data, seed) -> None:
    scores, labels = checked(*data)
    prepared = SortedScores(scores, labels)
    counts = next(draws(len(scores), 1, seed))
    taken = np.repeat(np.arange(len(scores)), counts.astype(int))
    s, y = prepared.scores[taken], prepared.labels[taken]
    auc, pr_auc, log_loss, brier, ece = prepared.measure(METRICS, counts)
    if y.min() == y.max():
        assert np.isnan(auc)
        return
    assert auc == pytest.approx(oracle.roc_auc_score(y, s))
    assert pr_auc == pytest.approx(oracle.average_precision_score(y, s))
    assert brier == pytest.approx(oracle.brier_score_loss(y, s))
    assert log_loss == pytest.approx(oracle.log_loss(y, np.clip(s, CLIP, 1 - CLIP)))
    assert 0 <= ece <= 1


@given(rows())
def test_calibration_error_is_the_weighted_gap_of_the_curve(data) -> None:
    scores, labels = data
    curve = calibration_curve(scores, labels)
    gap = sum(b.rows * abs(b.rate - b.score) for b in curve) / len(scores)
    assert evaluate(scores, labels, config=QUICK).values["ece"].value == pytest.approx(gap)
    assert sum(b.rows for b in curve) == len(scores)
    assert [b.score for b in curve] == sorted(b.score for b in curve)


def test_calibration_bins_hold_equally_many_rows() -> None:
    curve = calibration_curve(*flights(5_000))
    assert len(curve) == 10
    assert all(480 <= entry.rows <= 520 for entry in curve)


def test_a_calibrated_score_has_a_small_calibration_error_and_a_shifted_one_its_shift() -> None:
    scores, labels = flights(100_000)
    found = evaluate(scores, labels, config=QUICK).values["ece"].value
    shifted = evaluate(scores * 0.5 + 0.5, labels, config=QUICK).values["ece"].value
    assert found < 0.01
    assert shifted == pytest.approx(float((scores * 0.5 + 0.5 - scores).mean()), abs=0.01)


@given(rows())
def test_roc_is_scikit_learns_without_thinning(data) -> None:
    scores, labels = data
    points = roc_points(scores, labels)
    fpr, tpr, thresholds = oracle.roc_curve(
        labels, scores.astype(np.float64), drop_intermediate=False
    )
    assert [p[0] for p in points] == pytest.approx(fpr.tolist())
    assert [p[1] for p in points] == pytest.approx(tpr.tolist())
    assert [p[2] for p in points[1:]] == pytest.approx(thresholds[1:].tolist())
    assert points[0][2] > scores.max()
    assert json.loads(json.dumps(points, allow_nan=False))


@pytest.mark.parametrize("positives", [1, 50, 5_000])
def test_a_thinned_roc_keeps_its_ends_and_its_area(positives) -> None:
    scores, _ = flights(20_000)
    labels = np.zeros(20_000)
    labels[np.argsort(-scores + np.random.default_rng(1).normal(0, 0.2, 20_000))[:positives]] = 1
    points = np.array(roc_points(scores, labels))
    assert 2 <= len(points) <= 200
    assert points[0, :2].tolist() == [0, 0]
    assert points[-1, :2].tolist() == [1, 1]
    assert (np.diff(points[:, :2], axis=0) >= 0).all()
    assert (np.diff(points[:, 2]) < 0).all()
    area = np.trapezoid(points[:, 1], points[:, 0])
    assert area == pytest.approx(oracle.roc_auc_score(labels, scores), abs=2e-3)
    exact = set(zip(*oracle.roc_curve(labels, scores, drop_intermediate=False)[:2], strict=True))
    near = np.array(sorted(exact))
    for x, y, _ in points[:: max(1, len(points) // 20)]:
        assert np.abs(near - (x, y)).sum(axis=1).min() < 1e-12, "not a point of the curve"


@given(rows(), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_confusion_is_scikit_learns(data, threshold) -> None:
    scores, labels = data
    found = confusion(scores, labels, threshold)
    predicted = scores.astype(np.float64) >= threshold
    assert found.matrix == oracle.confusion_matrix(labels, predicted, labels=[0, 1]).tolist()
    assert found.recall == pytest.approx(oracle.recall_score(labels, predicted))
    if predicted.any():
        assert found.precision == pytest.approx(oracle.precision_score(labels, predicted))
    else:
        assert found.precision is None


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """AUC of two normals one apart is Φ(1/√2) = 0.7602; squeezed into (0, 1), order is kept."""
    covered = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        labels = random.random(1_500) < 0.3
        scores = 1 / (1 + np.exp(-(random.normal(size=1_500) + labels)))
        auc = evaluate(scores, labels, config=Evaluation(bootstrap=100), seed=seed).values["auc"]
        covered += auc.low <= 0.76025 <= auc.high
        assert auc.low < auc.value < auc.high
    assert 51 <= covered <= 60, f"{covered} of 60"


def test_the_seed_decides_the_intervals() -> None:
    scores, labels = flights(2_000)
    first, again, other = (
        evaluate(scores, labels, config=Evaluation(bootstrap=50), seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.values["auc"].value == other.values["auc"].value
    assert first.values["auc"].low != other.values["auc"].low


def test_slices_are_marked_not_dropped() -> None:
    scores, labels = flights(3_000)
    names = np.array(["big"] * 1_500 + ["one class"] * 1_000 + ["small"] * 499 + ["gone"], object)
    labels[1_500:2_500] = False
    names[2_500 + SLICE_ROWS - 1 : 2_999] = "big"
    names[-1] = None
    found = {s.value: s for s in evaluate(scores, labels, config=QUICK, slices={"n": names}).slices}
    assert set(found) == {"big", "one class", "small", "(missing)"}
    assert found["big"].values["auc"].value == pytest.approx(
        oracle.roc_auc_score(labels[names == "big"], scores[names == "big"])
    )
    assert found["big"].note == ""
    assert (found["one class"].note, dict(found["one class"].values)) == ("all labels are 0", {})
    assert found["small"].note == f"fewer than {SLICE_ROWS} rows"
    assert sum(s.rows for s in found.values()) == 3_000


def test_rare_slice_values_are_gathered() -> None:
    scores, labels = flights(4_000)
    values = [f"v{k % 50}" if k < 3_500 else f"rare{k}" for k in range(4_000)]
    found = evaluate(scores, labels, config=QUICK, slices={"c": values}).slices
    assert len(found) == 51
    assert (found[-1].value, found[-1].rows) == ("(other)", 500)
    assert found[-1].values


def test_metrics_travel_as_json() -> None:
    scores, labels = flights(1_000)
    found = evaluate(scores, labels, config=QUICK, slices={"x": scores > 0.2})
    text = json.dumps(found.to_json(), allow_nan=False)
    assert Metrics.from_json(json.loads(text)) == found


@pytest.mark.parametrize(
    ("score", "label", "message"),
    [
        ([], [], "no rows"),
        ([0.1, 0.2], [0], "2 scores for 1 labels"),
        ([0.1, float("nan")], [0, 1], "1 of 2 scores are NaN"),
        ([0.1, float("inf")], [0, 1], "1 of 2 scores are NaN or infinite"),
        ([0.1, 3.2], [0, 1], "not in \\[0, 1\\]"),
        ([0.1, 0.2], [1, 1], "all 2 labels are 1"),
        ([0.1, 0.2], [0, 2], "0 or 1"),
        ([0.1, 0.2], [0, None], "0 or 1"),
        (["a", "b"], [0, 1], "not numbers"),
        ([[0.1, 0.2], [0.1, 0.2]], [0, 1], "shape"),
    ],
)
def test_bad_input_is_named(score, label, message) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(score, label, config=QUICK)


def test_a_column_of_scores_is_taken_and_a_short_slice_column_is_not() -> None:
    scores, labels = flights(500)
    flat = evaluate(scores, labels, config=QUICK)
    assert evaluate(scores[:, None], labels, config=QUICK) == flat
    with pytest.raises(DataError, match="slice column `c` has 3 values for 500"):
        evaluate(scores, labels, config=QUICK, slices={"c": [1, 2, 3]})


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 6))
def test_tiny_samples_get_a_value_and_honest_intervals(n) -> None:
    labels = np.arange(n) == 0
    found = evaluate(np.linspace(0, 1, n), labels, config=QUICK)
    auc = found.values["auc"]
    assert auc.value == 0.0
    assert (auc.low is None) == (auc.high is None)


@given(rows())
def test_the_baseline_is_the_base_rate_as_a_score(data) -> None:
    _, labels = data
    constant = np.full(len(labels), labels.mean())
    found = evaluate(constant, labels, config=QUICK)
    assert found.baseline == pytest.approx({k: v.value for k, v in found.values.items()}, abs=1e-9)
