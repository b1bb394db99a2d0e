"""Metrics of a window: each against an obvious oracle, and never an alarm without a cause."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.monitoring.measuring import measure
from zeroskew.monitoring.metric_spec import DriftMetric, default_metrics
from zeroskew.monitoring.reports import Report
from zeroskew.monitoring.served_profiles import ServedWindow, ViewAge
from zeroskew.profiles import FLOOR, CategoricalProfile, NumericProfile, Profile

START = datetime(2026, 3, 1, tzinfo=UTC)
BAD = ("Moderate", "Failed")


def metric(type_: str, **options: Any) -> DriftMetric:
    return DriftMetric.model_validate({"name": type_.lower(), "type": type_, **options})


def served(profile: Profile, ages: dict[str, ViewAge] | None = None) -> ServedWindow:
    return ServedWindow("m", "1", START, START, profile.rows, profile, ages=ages or {})


def judged(each: DriftMetric, reference: Profile, current: Any, min_samples: int = 500, **more):
    profile = current if isinstance(current, Profile) else reference.measure(current)
    (found,) = measure([each], reference, served(profile), min_samples, **more)
    assert found.name == each.name
    assert each.name in found.message
    return found


def psi_by_hand(before: list[int], after: list[int]) -> float:
    total = 0.0
    for here, there in zip(before, after, strict=True):
        e = max(here / sum(before), FLOOR)
        a = max(there / sum(after), FLOOR)
        total += (a - e) * math.log(a / e)
    return total


# --- the numbers ---------------------------------------------------------------------------------

bins = st.lists(st.integers(0, 5000), min_size=4, max_size=4).filter(lambda c: sum(c) >= 500)


@given(bins, bins, st.integers(0, 500), st.integers(0, 500))
def test_psi_is_its_formula_and_states_are_its_ranges(before, after, nulls, more):
    reference = Profile(
        {"x": NumericProfile((0.0, 1.0, 2.0), -9.0, 9.0, tuple(before), nulls)},
        sum(before) + nulls,
    )
    current = Profile(
        {"x": NumericProfile((0.0, 1.0, 2.0), -9.0, 9.0, tuple(after), more)}, sum(after) + more
    )
    found = judged(metric("PSI"), reference, current)
    expected = psi_by_hand([*before, nulls], [*after, more])
    if found.state == "Inconclusive":
        # Only what could be chance: six deviations of χ² with at most four degrees of freedom.
        assert 0.1 <= expected <= (4 + 6 * math.sqrt(8)) * (1 / reference.rows + 1 / current.rows)
        assert found.value is None
        return
    assert found.value == pytest.approx(expected, rel=1e-12, abs=1e-15)
    wanted = "Failed" if expected > 0.25 else "Moderate" if expected >= 0.1 else "Stable"
    assert found.state == wanted
    assert found.failing == (wanted == "Failed")
    assert [each.feature for each in found.features] == ["x"]


def wilson(hits: int, rows: int) -> tuple[float, float]:
    """Ends of the 95 % interval: shares p with |hits/rows − p| = z √(p (1 − p) / rows)."""
    z, share = 1.959963984540054, hits / rows
    a, b, c = 1 + z * z / rows, -2 * share - z * z / rows, share * share
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


@given(
    st.integers(500, 50_000), st.integers(500, 50_000), st.floats(0, 1), st.floats(0, 1),
    st.sampled_from(["nulls", "numbers", "unseen"]), st.sampled_from([0.0, 0.05, 0.3]),
)  # fmt: skip
def test_shares_fail_where_even_the_low_end_is_outside(rows, others, share, other, kind, most):
    hits, base = int(rows * share), int(others * other)

    def profile(count: int, of: int) -> Profile:
        if kind == "nulls":
            column: Any = NumericProfile((), 0.0, 1.0, (of - count,), count)
        elif kind == "numbers":
            column = NumericProfile((), 0.0, 1.0, (of,), 0, 0, count // 2, count - count // 2)
        else:
            column = CategoricalProfile(("a",), (of - count,), count)
        return Profile({"x": column}, of)

    each = metric(
        "NullRate" if kind == "nulls" else "OutOfRange", thresholdRange={"max": most}
    )  # fmt: skip
    found = judged(each, profile(base, others), profile(hits, rows))
    difference = hits / rows - base / others
    low = difference - math.hypot(
        hits / rows - wilson(hits, rows)[0], wilson(base, others)[1] - base / others
    )
    assert found.value == pytest.approx(difference, abs=1e-12)
    if abs(low - most) > 1e-9:
        assert found.state == ("Failed" if low > most else "Stable")


def test_a_share_that_falls_below_its_range():
    reference = Profile({"x": NumericProfile((), 0.0, 1.0, (500,), 500)}, 1000)
    each = metric("NullRate", thresholdRange={"min": -0.1})
    fewer = Profile({"x": NumericProfile((), 0.0, 1.0, (900,), 100)}, 1000)
    found = judged(each, reference, fewer)
    assert (found.state, found.value) == ("Failed", pytest.approx(-0.4))
    assert "below -0.1" in found.message
    same = Profile({"x": NumericProfile((), 0.0, 1.0, (580,), 420)}, 1000)
    assert judged(each, reference, same).state == "Stable"


def test_the_worst_of_a_range_with_two_ends_is_told():
    def profile(a: int, b: int) -> Profile:
        column = NumericProfile((), 0.0, 1.0, (1000 - a,), a)
        return Profile({"a": column, "b": NumericProfile((), 0.0, 1.0, (1000 - b,), b)}, 1000)

    each = metric("NullRate", thresholdRange={"min": -0.1, "max": 0.2})
    found = judged(each, profile(900, 100), profile(100, 200))
    assert (found.state, found.features[0].feature) == ("Failed", "a")
    assert found.value == pytest.approx(-0.8)
    assert "below -0.1" in found.message


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from(["v1", "v2", "w1"]),
        st.tuples(st.integers(1, 99), st.floats(0, 1e6), st.floats(0, 1e6)),
    ),
    st.floats(1, 1e6),
)
def test_freshness_is_the_mean_age_by_view(ages, most):
    each = metric(
        "Freshness", thresholdRange={"max": most}, features={"include": ["v*"], "exclude": ["v2"]}
    )
    profile = Profile({}, 700)
    window = served(profile, {view: ViewAge(*age) for view, age in ages.items()})
    (found,) = measure([each], profile, window, 500)
    if "v1" not in ages:
        assert found.state == "Error"
        return
    assert found.value == ages["v1"][1]
    assert found.state == ("Failed" if ages["v1"][1] > most else "Stable")


@pytest.mark.parametrize(
    ("type_", "limits", "value", "low", "high", "state"),
    [
        ("ConsistencyMismatch", None, 0.0, 0.0, 0.0, "Stable"),
        ("ConsistencyMismatch", None, 0.01, 0.002, 0.03, "Failed"),
        ("ConsistencyMismatch", {"max": 0.05}, 0.06, 0.04, 0.08, "Inconclusive"),
        ("Performance", {"min": 0.8}, 0.85, 0.78, 0.9, "Stable"),
        ("Performance", {"min": 0.8}, 0.79, 0.75, 0.82, "Inconclusive"),
        ("Performance", {"min": 0.8}, 0.7, 0.65, 0.75, "Failed"),
        ("Performance", {"min": 0.8}, None, -math.inf, math.inf, "Inconclusive"),
    ],
)
def test_reports_fail_beyond_their_interval(type_, limits, value, low, high, state):
    options = {} if limits is None else {"thresholdRange": limits}
    each = metric(type_, **options)
    report = Report("performance", "m", "1", START, value, low, high, 900, "too few labels")
    found = judged(each, Profile({}, 0), Profile({}, 0), reports={each.name: report})
    assert (found.state, found.samples) == (state, 900)
    assert judged(each, Profile({}, 0), Profile({}, 0)).state == "Inconclusive"


# --- what is included, and what cannot be told --------------------------------------------------


def normals(names: str, shifts: dict[str, float], rows: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(shifts.get(name, 0.0), 1, rows) for name in names}


def test_features_are_chosen_and_counted():
    reference = Profile.learn(normals("abcd", {}, 20_000, 1))
    drifted = normals("abcd", {"a": 2, "b": 2}, 2000, 2)

    def found(**options):
        return judged(metric("PSI", **options), reference, drifted)

    assert (found().state, found().failing) == ("Failed", 2)
    assert found(minFeatures=2).state == "Failed"
    assert found(minFeatures=3).state == "Stable"
    assert found(minFeatures=3).failing == 2
    assert found(features={"exclude": ["a", "b"]}).state == "Stable"
    assert found(features={"include": ["?"], "exclude": ["a"]}).features[0].feature == "b"
    assert found(features={"include": ["zz"]}).state == "Error"


def test_ten_features_at_most_are_kept_the_worst_first():
    names = "abcdefghijklmnopqrst"
    reference = Profile.learn(normals(names, {}, 20_000, 1))
    shifts = {name: i / 5 for i, name in enumerate(names)}
    found = judged(metric("PSI"), reference, normals(names, shifts, 2000, 2))
    assert [each.feature for each in found.features] == list("tsrqponmlk")
    assert found.value == found.features[0].value
    assert "t " in found.message
    assert "more in 2,000 samples, above 0.25" in found.message


def test_few_samples_are_inconclusive_however_far_they_are():
    reference = Profile.learn({**normals("a", {}, 5000, 1), "score": np.zeros(5000)})
    far = {**normals("a", {"a": 9}, 999, 2), "score": np.ones(999)}
    for each in default_metrics():
        found = judged(each, reference, far, min_samples=1000)
        assert (found.state, found.samples) == ("Inconclusive", 999)
        assert "999 of 1,000 samples" in found.message


def test_a_small_reference_is_no_ground_for_an_alarm():
    reference = Profile.learn(normals("a", {}, 200, 1))
    assert judged(metric("PSI"), reference, normals("a", {"a": 9}, 2000, 2)).state == "Inconclusive"


def test_a_narrow_range_does_not_make_chance_an_alarm():
    """600 rows of the same distribution have a PSI of 0.015 in the mean."""
    reference = Profile.learn(normals("a", {}, 50_000, 1))
    each = metric("PSI", thresholdRange={"max": 0.001})
    states = {judged(each, reference, normals("a", {}, 600, seed)).state for seed in range(100)}
    assert states == {"Inconclusive"}
    assert judged(each, reference, normals("a", {"a": 1.0}, 600, 1)).state == "Failed"


def test_scores_are_no_feature():
    rng = np.random.default_rng(3)
    reference = Profile.learn({"a": rng.normal(size=5000), "score": rng.random(5000)})
    now = {"a": rng.normal(size=2000), "score": rng.random(2000) ** 3}
    assert judged(metric("PSI"), reference, now).state == "Stable"
    scores = judged(metric("ScorePSI"), reference, now)
    assert scores.state == "Failed"
    before, after = reference.columns["score"], reference.measure(now).columns["score"]
    assert scores.value == pytest.approx(psi_by_hand([*before.counts, 0], [*after.counts, 0]))
    without = reference.select(["a"])
    found = judged(metric("ScorePSI"), without, without.measure(now))
    assert (found.state, "no reference of its scores" in found.message) == ("Error", True)


def test_other_bins_are_an_error_that_names_the_feature():
    reference = Profile.learn(normals("ab", {}, 5000, 1))
    other = Profile.learn(normals("ab", {}, 5000, 2))
    mixed = Profile({**reference.columns, "b": other.columns["b"]}, 5000)
    for each in default_metrics():
        if each.type != "ScorePSI":
            found = judged(each, reference, mixed)
            assert found.state == "Error"
            assert "`b`" in found.message


# --- false alarms and detection at the default settings -----------------------------------------


def fifty(rng: np.random.Generator, rows: int, shifted: float = 0.0) -> dict[str, Any]:
    """Fifty features as tables have them; the first, a normal one, is shifted."""
    columns: dict[str, Any] = {"f0": rng.normal(shifted, 1, rows)}
    for i in range(1, 50):
        match i % 6:
            case 0:
                values: Any = rng.normal(0, 1, rows)
            case 1:
                values = rng.lognormal(0, 2, rows)
            case 2:
                values = rng.poisson(4, rows).astype(float)
            case 3:
                values = np.maximum(rng.normal(0, 1, rows), 0)
            case 4:
                values = rng.standard_cauchy(rows)
            case _:
                values = np.minimum(rng.geometric(0.2, rows), 30).astype(float)
        if i % 5 == 0:
            values[rng.random(rows) < 0.1] = np.nan
        columns[f"f{i}"] = values
    columns["score"] = rng.beta(2, 8, rows).astype(np.float32)
    return columns


CATEGORIES = tuple(f"f{i}" for i in range(5, 50, 6))


def test_no_false_alarm_in_a_thousand_windows_without_drift():
    """1,000 windows of 1,000 rows: nothing Failed, nothing even Moderate, nothing left open."""
    rng = np.random.default_rng(11)
    reference = Profile.learn(fifty(rng, 20_000), categorical=CATEGORIES)
    windows, block = 1000, 50
    told: dict[str, set[str]] = {}
    for _ in range(windows // block):
        rows = fifty(rng, 1000 * block)
        for i in range(block):
            part = {name: values[1000 * i : 1000 * (i + 1)] for name, values in rows.items()}
            for found in measure(
                default_metrics(), reference, served(reference.measure(part)), 1000
            ):
                told.setdefault(found.name, set()).add(found.state)
    assert told == {each.name: {"Stable"} for each in default_metrics()}


def test_half_a_deviation_in_one_of_fifty_is_found_every_time():
    """PSI of such a shift is about 0.24: moderate or, by chance, significant, and the worst."""
    rng = np.random.default_rng(12)
    reference = Profile.learn(fifty(rng, 20_000), categorical=CATEGORIES)
    (psi, *_) = default_metrics()
    values = []
    for seed in range(200):
        found = judged(psi, reference, fifty(np.random.default_rng(1000 + seed), 1000, 0.5))
        assert found.state in BAD
        assert found.features[0].feature == "f0"
        assert [each.feature for each in found.features if each.state in BAD] == ["f0"]
        values.append(found.value)
    assert 0.2 < float(np.mean(values)) < 0.28


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda r, n: r.lognormal(0, 2, n), lambda r, n: r.lognormal(1, 2, n)),
        (
            lambda r, n: r.gamma(2, 1, n),
            lambda r, n: np.concatenate([r.gamma(2, 1.5, n - 1), [1e8]]),
        ),
        (lambda r, n: r.standard_cauchy(n), lambda r, n: r.standard_cauchy(n) + 1.0),
    ],
    ids=["lognormal-median-2.7x", "gamma-and-an-outlier", "cauchy"],
)
def test_drift_of_heavy_tails_is_found(before, after):
    rng = np.random.default_rng(4)
    reference = Profile.learn({"x": before(rng, 20_000)})
    (psi, *_) = default_metrics()
    for _ in range(50):
        assert judged(psi, reference, {"x": after(rng, 1000)}).state in BAD
        assert judged(psi, reference, {"x": before(rng, 1000)}).state == "Stable"
