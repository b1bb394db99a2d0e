"""The metrics of a monitor over one window: what was served, against what was trained on.

PSI is on the training set's own quantiles (`zeroskew.profiles`). A share of rows (without a value,
outside of the training range) is compared with the training set's: it fails when even the lower end
of the difference's 95 % interval is outside the range, so that chance alone hardly ever does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from zeroskew.errors import DataError
from zeroskew.monitoring.metric_spec import DriftMetric
from zeroskew.monitoring.monitor_observations import Measured
from zeroskew.monitoring.monitor_state import FeatureValue, State
from zeroskew.monitoring.reports import Report
from zeroskew.monitoring.served_profiles import ServedWindow
from zeroskew.profiles import (
    CategoricalProfile,
    ColumnProfile,
    Drift,
    NumericProfile,
    Profile,
    drift,
)
from zeroskew.profiles.profile import require_same_bins
from zeroskew.rollout.analysis_metrics import difference, share

SHOWN = 10
SCORE = "score"


def measure(
    metrics: Sequence[DriftMetric],
    reference: Profile,
    window: ServedWindow,
    min_samples: int,
    reports: Mapping[str, Report] | None = None,
) -> tuple[Measured, ...]:
    """Each metric's value and state, in the order of `metrics`.

    `reference`: the training set's profile with its scores as `score`. `reports`: the newest report
    by metric name, for metrics that are read from one; what is absent is an Error. Never raises:
    a metric that cannot be made says why.
    """
    found = []
    for metric in metrics:
        try:
            found.append(_measured(metric, reference, window, min_samples, reports or {}))
        except DataError as error:
            found.append(Measured(metric.name, "Error", f"{metric.name}: {error}"))
    return tuple(found)


def _measured(
    metric: DriftMetric,
    reference: Profile,
    window: ServedWindow,
    min_samples: int,
    reports: Mapping[str, Report],
) -> Measured:
    match metric.type:
        case "ConsistencyMismatch" | "Performance":
            return _reported(metric, reports.get(metric.name))
        case "Freshness":
            return _freshness(metric, window, min_samples)
        case "ScorePSI":
            return _score(metric, reference, window, min_samples)
        case "PSI":
            return _by_feature(metric, reference, window, min_samples, _psi)
        case "NullRate":
            return _by_feature(metric, reference, window, min_samples, _share_of(_nulls))
        case _:
            return _by_feature(metric, reference, window, min_samples, _share_of(_outside))


_One = Callable[[DriftMetric, ColumnProfile, ColumnProfile], tuple[float, State] | None]


def _by_feature(
    metric: DriftMetric, reference: Profile, window: ServedWindow, min_samples: int, one: _One
) -> Measured:
    if window.rows < min_samples:
        return _too_few(metric, window.rows, min_samples)
    values = []
    blind = 0
    for name, expected in reference.columns.items():
        actual = window.profile.columns.get(name)
        if name == SCORE or actual is None or not chosen(metric, name):
            continue
        require_same_bins(expected, actual, name)
        made = one(metric, expected, actual)
        if made is None:
            blind += 1
        else:
            values.append(FeatureValue(metric.name, name, made[0], made[1]))
    return _worst(metric, values, window.rows, blind)


def _worst(
    metric: DriftMetric, values: list[FeatureValue], samples: int, blind: int = 0
) -> Measured:
    if not values:
        if blind:
            text = f"{metric.name}: no feature can be told from chance in {samples:,} samples"
            return Measured(metric.name, "Inconclusive", text, samples=samples)
        text = f"{metric.name}: the window has no feature that it includes"
        return Measured(metric.name, "Error", text, samples=samples)
    values.sort(key=lambda each: _badness(metric, each), reverse=True)
    failing = [each for each in values if each.state == "Failed"]
    moderate = [each for each in values if each.state == "Moderate"]
    state: State = "Stable"
    if len(failing) >= metric.min_features:
        state = "Failed"
    elif metric.moderate is not None and len(failing) + len(moderate) >= metric.min_features:
        state = "Moderate"
    shown = failing or moderate or values[:1]
    names = ", ".join(f"{each.feature} {each.value:.3g}" for each in shown[:3])
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    said = f"{metric.name}: {names}{more} in {samples:,} samples"
    if state != "Stable":
        said += f", {_limit(metric, state, shown[0].value)}"
    return Measured(
        metric.name, state, said, values[0].value, samples, tuple(values[:SHOWN]), len(failing)
    )


def _badness(metric: DriftMetric, each: FeatureValue) -> tuple[int, float]:
    low, high = metric.range
    over = -math.inf if high is None else each.value - high
    under = -math.inf if low is None else low - each.value
    return ("Stable", "Moderate", "Failed").index(each.state), max(over, under)


def _psi(
    metric: DriftMetric, expected: ColumnProfile, actual: ColumnProfile
) -> tuple[float, State] | None:
    found = drift(expected, actual)
    state = state_of(metric, found.psi)
    if math.isnan(found.psi) or _may_be_chance(found, state):
        return None
    return found.psi, state


def _may_be_chance(found: Drift, state: State) -> bool:
    # A range may be so narrow that samples of one distribution are outside of it.
    return not found.conclusive or (state != "Stable" and found.psi <= found.chance)


def _share_of(count: Callable[[ColumnProfile], int]) -> _One:
    def made(
        metric: DriftMetric, expected: ColumnProfile, actual: ColumnProfile
    ) -> tuple[float, State] | None:
        if not expected.total or not actual.total:
            return None
        more = difference(
            share(count(actual), actual.total), share(count(expected), expected.total)
        )
        low, high = metric.range
        outside = (high is not None and more.low > high) or (low is not None and more.high < low)
        return more.value, "Failed" if outside else "Stable"

    return made


def _nulls(column: ColumnProfile) -> int:
    return column.nulls


def _outside(column: ColumnProfile) -> int:
    if isinstance(column, CategoricalProfile):
        return column.unseen
    assert isinstance(column, NumericProfile)
    return column.below + column.above


def _score(
    metric: DriftMetric, reference: Profile, window: ServedWindow, min_samples: int
) -> Measured:
    expected, actual = reference.columns.get(SCORE), window.profile.columns.get(SCORE)
    if expected is None or (window.rows and actual is None):
        text = f"{metric.name}: the version has no reference of its scores"
        return Measured(metric.name, "Error", text, samples=window.rows)
    if window.rows < min_samples or actual is None:
        return _too_few(metric, window.rows, min_samples)
    found = drift(expected, actual, column=SCORE)
    if _may_be_chance(found, state_of(metric, found.psi)):
        text = f"{metric.name}: {found.psi:.3g} may be chance in {window.rows:,} samples"
        return Measured(metric.name, "Inconclusive", text, samples=window.rows)
    return _single(metric, found.psi, window.rows)


def _freshness(metric: DriftMetric, window: ServedWindow, min_samples: int) -> Measured:
    if window.rows < min_samples:
        return _too_few(metric, window.rows, min_samples)
    values = [
        FeatureValue(metric.name, view, age.mean, state_of(metric, age.mean))
        for view, age in window.ages.items()
        if chosen(metric, view)
    ]
    if not values:
        text = f"{metric.name}: the window says nothing of how old values were"
        return Measured(metric.name, "Error", text, samples=window.rows)
    return _worst(metric, values, window.rows)


def _reported(metric: DriftMetric, report: Report | None) -> Measured:
    if report is None:
        text = f"{metric.name}: no report of the last {metric.max_age}"
        return Measured(metric.name, "Inconclusive", text)
    if report.value is None:
        text = f"{metric.name}: {report.message or 'the report is inconclusive'}"
        return Measured(metric.name, "Inconclusive", text, samples=report.samples)
    low, high = metric.range
    least, most = (-math.inf if low is None else low), (math.inf if high is None else high)
    if report.low > most or report.high < least:
        return _single(metric, report.value, report.samples)
    state = state_of(metric, report.value)
    if state == "Failed":
        text = f"{metric.name}: {report.value:.4g} may be {report.low:.4g} to {report.high:.4g}"
        return Measured(metric.name, "Inconclusive", text, report.value, report.samples)
    return _single(metric, report.value, report.samples)


def _single(metric: DriftMetric, value: float, samples: int) -> Measured:
    state = state_of(metric, value)
    said = f"{metric.name}: {value:.4g} in {samples:,} samples"
    if state != "Stable":
        said += f", {_limit(metric, state, value)}"
    return Measured(metric.name, state, said, value, samples)


def _too_few(metric: DriftMetric, rows: int, min_samples: int) -> Measured:
    text = f"{metric.name}: {rows:,} of {min_samples:,} samples in the window"
    return Measured(metric.name, "Inconclusive", text, samples=rows)


def state_of(metric: DriftMetric, value: float) -> State:
    """Of a single value."""
    low, high = metric.range
    if (high is not None and value > high) or (low is not None and value < low):
        return "Failed"
    if metric.moderate is not None and value >= metric.moderate:
        return "Moderate"
    return "Stable"


def _limit(metric: DriftMetric, state: State, value: float) -> str:
    low, high = metric.range
    if state == "Moderate":
        return f"moderate from {metric.moderate:g} on"
    below = low is not None and value < low
    return f"{'below' if below else 'above'} {low if below else high:g}"


def chosen(metric: DriftMetric, name: str) -> bool:
    """Whether a feature is one of those that the metric includes."""
    wanted = metric.features
    return any(fnmatchcase(name, each) for each in wanted.include) and not any(
        fnmatchcase(name, each) for each in wanted.exclude
    )
