"""Drift by feature and day: what a version was served, period by period, against its training set.

    history = drift_history(ServedProfiles(log), ServedDays(log), "flight_delay", "4", days=30)
    history.periods[-1].features["temperature"].psi

It is made from the hourly profiles, so its cost depends on hours and servers, not on traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from zeroskew.monitoring.served_days import ServedDays
from zeroskew.monitoring.served_profiles import HOUR, ServedProfiles, ServedWindow, ViewAge
from zeroskew.profiles import CategoricalProfile, ColumnProfile, NumericProfile, Profile, drift
from zeroskew.profiles.psi import Verdict

DAY = timedelta(days=1)
BY_HOUR = timedelta(days=2)
"""A log that covers less is shown by hour."""


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature (or `score`) in one period."""

    psi: float
    """NaN where one side has no rows."""
    verdict: Verdict
    null_rate: float
    """Share of the rows without a value."""
    outside: float
    """Share of the rows outside the training range, or with a category it did not have."""
    rows: int


@dataclass(frozen=True, slots=True)
class DriftPeriod:
    """A day or an hour."""

    start: datetime
    """UTC, included."""
    end: datetime
    """Excluded."""
    rows: int
    features: Mapping[str, FeatureDrift]
    """Empty if nothing was served."""
    ages: Mapping[str, ViewAge]
    """By feature view."""


@dataclass(frozen=True, slots=True)
class DriftHistory:
    """A version over time."""

    model: str
    version: str
    roles: tuple[str, ...]
    step: Literal["day", "hour"]
    periods: tuple[DriftPeriod, ...]
    """One after the other without a gap, the oldest first."""
    reference: Profile
    """The training set, in the bins of the version, with its scores as `score`."""
    served: Profile
    """All periods together."""
    overall: DriftPeriod
    """The same, judged as one."""

    @property
    def rows(self) -> int:
        return self.overall.rows


def drift_history(
    profiles: ServedProfiles,
    days_of: ServedDays,
    model: str,
    version: str,
    *,
    days: int = 30,
    until: datetime | None = None,
    roles: Sequence[str] = ("champion", "canary"),
) -> DriftHistory | None:
    """The last `days` days up to the last one on which the version served in any role.

    `until`: leave out what was served about moments from then on. By hour if the log covers less
    than two days. None if the version has served nothing. Both readers are of the same log.

    Raises `ServingError` and `DataError` as `ServedProfiles.window` does.
    """
    reference = profiles.reference(model, version)
    if reference is None:
        return None
    served = days_of.days(model, version)
    if until is not None:
        served = tuple(day for day in served if _midnight(day) < until.astimezone(UTC))
    if not served:
        return None
    first = min(day for day in served if day > served[-1] - days * DAY)
    hours = [h for day in (first, served[-1]) for h in days_of.hours(model, version, day)]
    start, end, step = _midnight(first), _midnight(served[-1]) + DAY, DAY
    if hours and hours[-1] + HOUR - hours[0] < BY_HOUR:
        start, end, step = hours[0], hours[-1] + HOUR, HOUR
    if until is not None:
        end = min(end, until.astimezone(UTC))
    windows = []
    while start < end:
        after = min(start + step, end)
        windows.append(profiles.window(model, version, start, after, roles, reference))
        start = after
    total = _together(windows)
    return DriftHistory(
        model=model,
        version=version,
        roles=tuple(roles),
        step="hour" if step == HOUR else "day",
        periods=tuple(_period(reference, window) for window in windows),
        reference=reference,
        served=total.profile,
        overall=_period(reference, total),
    )


def null_rate(column: ColumnProfile) -> float:
    """Share of the rows without a value; 0 without rows."""
    return column.nulls / column.total if column.total else 0.0


def outside_rate(column: ColumnProfile) -> float:
    """Share of the rows outside the training range, or with an unknown category."""
    if isinstance(column, CategoricalProfile):
        outside = column.unseen
    else:
        assert isinstance(column, NumericProfile)
        outside = column.below + column.above
    return outside / column.total if column.total else 0.0


def _period(reference: Profile, window: ServedWindow) -> DriftPeriod:
    features = {}
    for name, expected in reference.columns.items():
        actual = window.profile.columns.get(name)
        if actual is None or not window.rows:
            continue
        found = drift(expected, actual, column=name)
        features[name] = FeatureDrift(
            found.psi, found.verdict, null_rate(actual), outside_rate(actual), actual.total
        )
    return DriftPeriod(window.since, window.until, window.rows, features, window.ages)


def _together(windows: Sequence[ServedWindow]) -> ServedWindow:
    first, last = windows[0], windows[-1]
    profile = first.profile
    for window in windows[1:]:
        profile = profile.merge(window.profile)
    ages: dict[str, ViewAge] = {}
    for window in windows:
        for view, age in window.ages.items():
            known = ages.get(view, ViewAge(0, 0.0, 0.0))
            count = known.count + age.count
            mean = (known.mean * known.count + age.mean * age.count) / count
            ages[view] = ViewAge(count, mean, max(known.longest, age.longest))
    return ServedWindow(
        first.model, first.version, first.since, last.until,
        sum(window.rows for window in windows), profile, ages=ages,
    )  # fmt: skip


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
