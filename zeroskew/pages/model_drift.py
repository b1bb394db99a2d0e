"""What a version was served, beside what it was trained on: PSI by feature and day, the worst
distributions, scores, and how old the values were.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from zeroskew.pages.charts import paired_histogram
from zeroskew.pages.heat_map import Heat, HeatCell, HeatKey, HeatMap, HeatRow
from zeroskew.pages.page import Page, number_text
from zeroskew.pages.svg import Svg
from zeroskew.pages.time_charts import sparkline
from zeroskew.profiles import MODERATE, SIGNIFICANT
from zeroskew.profiles.psi import MIN_SAMPLES, paired_bins

if TYPE_CHECKING:
    from zeroskew.monitoring.drift_history import DriftHistory, DriftPeriod, FeatureDrift
    from zeroskew.monitoring.model_facts import ModelFacts

SCORE = "score"
WORST, NEW = 3, 6
OTHERS = 8
"""Features of the versions besides the first whose history is shown."""
SEVERE = 1.0
_NOTHING = HeatCell("", "none")
KEY = HeatKey(
    (
        ("mild", f"stable: below {MODERATE:g}"),
        ("warm", f"moderate: {MODERATE:g} to {SIGNIFICANT:g}"),
        ("hot", f"significant: above {SIGNIFICANT:g}"),
        ("burning", f"above {SEVERE:g}"),
        ("unsure", f"may be chance: fewer than {MIN_SAMPLES} predictions, or too many bins"),
        ("none", "nothing served"),
    )
)


def drift_section(page: Page, facts: ModelFacts) -> None:
    """The heat map of the version that is watched, its worst distributions, and the others."""
    history = facts.watched
    step = "day" if history is None else history.step
    page.section(
        f"Drift by feature and {step}",
        "PSI of what was served against the training set, in the training set's own bins, nulls "
        "included; the worst features first.",
    )
    if problem := facts.problems.get("history"):
        page.note(f"Not all of the prediction log could be read: {problem}", "bad")
    if history is None:
        if "history" not in facts.problems:
            page.note(_nothing(facts))
        return
    page.draw(KEY)
    page.text(f"Counted: predictions as {' or '.join(history.roles)}.")
    names = by_drift(history)
    page.draw(_heat_map(history, names, len(names)))
    last = newly_significant(history)
    if last is not None and last[1] and len(history.periods) > 1:
        period, new = last
        told = ", ".join(f"{name} ({period.features[name].psi:.2f})" for name in new[:NEW])
        more = f" and {len(new) - NEW} more" if len(new) > NEW else ""
        page.text(
            f"Above {SIGNIFICANT:g} on {_moment(period, step)} alone, though not over all: "
            f"{told}{more}."
        )
    page.figures(
        (_histogram(history, name), _told(history.overall.features[name]))
        for name in [name for name in names if name != SCORE][:WORST]
    )
    for other in facts.histories[1:]:
        names = by_drift(other)[:OTHERS]
        page.draw(_heat_map(other, names, OTHERS))


def scores_section(page: Page, facts: ModelFacts) -> None:
    """How the scores lie, beside those on the training set."""
    page.section("Scores", "What versions answered, beside their scores on the training set.")
    charts = []
    for history in facts.histories:
        found = history.overall.features.get(SCORE)
        if found is not None and SCORE in history.reference.columns:
            charts.append((_histogram(history, SCORE), _told(found)))
    if charts:
        page.figures(charts)
    else:
        page.note("Nothing was scored yet, or the version has no reference of its scores.")


def freshness_section(page: Page, facts: ModelFacts) -> None:
    """How old the values of each feature view were when they were served."""
    page.section(
        "Freshness", "Age of the newest value of each feature view at the moment asked about."
    )
    history = facts.watched
    if history is None or not history.overall.ages:
        page.note("Nothing says how old values were yet.")
        return
    last = next(p for p in reversed(history.periods) if p.ages)
    rows: list[list[Any]] = []
    for view, age in sorted(history.overall.ages.items()):
        means = [p.ages[view].mean if view in p.ages else math.nan for p in history.periods]
        newest = last.ages.get(view)
        rows.append(
            [
                view, seconds_text(age.mean),
                "–" if newest is None else seconds_text(newest.mean),
                seconds_text(age.longest),
                sparkline(means, title=f"Mean age of {view} by {history.step}"),
                age.count,
            ]
        )  # fmt: skip
    page.table(
        ["Feature view", "Mean age", f"Last {history.step}", "Oldest",
         f"Mean by {history.step}", "Values"],
        rows, align="lrrrlr",
    )  # fmt: skip


def by_drift(history: DriftHistory) -> list[str]:
    """Features (and `score`), the worst first: by PSI over all periods, what may be chance last.

    Single days are no measure of it: of any one day, the weekday has drifted.
    """

    def worst(name: str) -> tuple[bool, float]:
        found = history.overall.features[name]
        return found.verdict != "inconclusive", 0.0 if math.isnan(found.psi) else found.psi

    names = [name for name in history.reference.columns if name in history.overall.features]
    return sorted(names, key=worst, reverse=True)


def newly_significant(history: DriftHistory) -> tuple[DriftPeriod, list[str]] | None:
    """The last period that can tell, and what is significant in it but not over all periods."""
    for period in reversed(history.periods):
        sure = {n: f for n, f in period.features.items() if f.verdict != "inconclusive"}
        if sure:
            new = [
                name
                for name, found in sure.items()
                if found.verdict == "significant"
                and history.overall.features[name].verdict != "significant"
            ]
            return period, sorted(new, key=lambda name: -sure[name].psi)
    return None


def seconds_text(seconds: float) -> str:
    """A length of time for people: `45 s`, `3.2 h`, `12 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.1f} s"


def _moment(period: DriftPeriod, step: str) -> str:
    return f"{period.start:%Y-%m-%d}" if step == "day" else f"{period.start:%Y-%m-%d %H:%M}"


def _nothing(facts: ModelFacts) -> str:
    if not facts.log:
        return "No prediction log was given, so nothing can be said of what was served."
    if facts.versions:
        return "No version has served anything yet, as far as the prediction log knows."
    return "Nothing was served yet."


def _heat_map(history: DriftHistory, names: list[str], open_rows: int) -> HeatMap:
    periods = history.periods
    whole = history.overall
    rows = [HeatRow(name, [_cell(each, name) for each in (whole, *periods)]) for name in names]
    return HeatMap(
        columns=[("", "all"), *_heads(history)],
        rows=rows,
        caption=f"Version {history.version}: PSI by feature and {history.step}",
        corner=f"Version {history.version}",
        top=[_count(each.rows) for each in (whole, *periods)],
        top_name="predictions",
        open_rows=min(open_rows, 30),
        fold_text=f"{len(names) - 30} more features, none with a larger PSI than these",
        wide=1,
    )


def _heads(history: DriftHistory) -> list[tuple[str, str]]:
    heads, before = [], ""
    for period in history.periods:
        by_day = history.step == "day"
        upper = f"{period.start:%b}" if by_day else f"{period.start:%d %b}"
        heads.append(("" if upper == before else upper, f"{period.start:%d}" if by_day
                      else f"{period.start:%H}"))  # fmt: skip
        before = upper
    return heads


def _cell(period: DriftPeriod, name: str) -> HeatCell:
    found = period.features.get(name)
    if found is None or math.isnan(found.psi):
        return _NOTHING
    text = f"{found.psi:.2f}" if found.psi < 1 else f"{found.psi:.1f}"
    if found.psi >= 10:
        text = f"{found.psi:.0f}"
    more = (
        f"{name}, {period.start:%Y-%m-%d %H:%M}: PSI {found.psi:.3f} in {found.rows:,}; "
        f"null {found.null_rate:.1%}, outside {found.outside:.1%}"
    )
    return HeatCell(text.removeprefix("0") or "0", _heat(found), more)


def _heat(found: FeatureDrift) -> Heat:
    if found.verdict == "inconclusive":
        return "unsure"
    if found.psi < MODERATE:
        return "cool" if found.psi < MODERATE / 2 else "mild"
    if found.psi <= SIGNIFICANT:
        return "warm"
    return "hot" if found.psi <= SEVERE else "burning"


def _histogram(history: DriftHistory, name: str) -> Svg:
    bins = paired_bins(history.reference.columns[name], history.served.columns[name], column=name)
    return paired_histogram(
        bins.labels, bins.expected, bins.actual,
        names=("training set", f"served by version {history.version}"), title=name,
    )  # fmt: skip


def _told(found: FeatureDrift) -> str:
    said = f"PSI {found.psi:.3f} ({found.verdict}) in {found.rows:,} predictions"
    if found.null_rate:
        said += f", {found.null_rate:.1%} without a value"
    if found.outside:
        said += f", {found.outside:.1%} outside the training range"
    return said + "."


def _count(rows: int) -> str:
    for unit, length in (("M", 1_000_000), ("k", 1_000)):
        if rows >= length:
            return f"{number_text(float(f'{rows / length:.2g}'))}{unit}"
    return str(rows) if rows else ""
