"""What came true, and whether served is trained: live performance, audits, and decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from zeroskew.pages.charts import horizontal_bars
from zeroskew.pages.page import Badge, Page
from zeroskew.pages.time_charts import TimePoint, band_chart

if TYPE_CHECKING:
    from zeroskew.monitoring.model_facts import ModelFacts
    from zeroskew.monitoring.reports import Report

LINES = 4
"""Lines in one chart: more cannot be told apart."""
ROLES = ("users", "shadow")
"""Users: champion and canary together."""
BARS = 15


def performance_section(page: Page, facts: ModelFacts) -> None:
    """AUC on labels that arrived, over time, and how many arrived."""
    page.section(
        "Live performance",
        "Measured on labels that came in since, with 95 % intervals; champion and canary together "
        "are `users`.",
    )
    if problem := facts.problems.get("performance"):
        page.note(f"Not all reports could be read: {problem}", "bad")
    if not facts.performance:
        page.note("No report of live performance yet: labels have not been looked at.")
        return
    lines = live_lines(facts.performance)
    if lines:
        shown = dict(list(lines.items())[:LINES])
        page.figure(band_chart(shown, title="AUC on delayed labels", y_label="AUC"))
    newest: dict[str, Report] = {}
    for report in facts.performance:
        newest.setdefault(report.version, report)
    page.table(
        ["Version", "Role", "Predictions", "With a label", "AUC", "Log loss", "Came true per "
         "predicted", "Labels known after"],
        [row for report in newest.values() for row in _rows(report)],
        align="llrrlrlr",
    )  # fmt: skip
    for report in newest.values():
        coverage = _mapping(report.details.get("coverage"))
        fraction = _number(coverage.get("fraction"))
        if not math.isnan(fraction):
            page.text(
                f"Version {report.version}: {fraction:.1%} of the predictions old enough to have "
                f"a label have one, as of {report.at:%Y-%m-%d %H:%M} UTC."
            )
        if report.value is None:
            page.text(f"Version {report.version}: {report.message or 'nothing can be said yet'}.")


def audits_section(page: Page, facts: ModelFacts) -> None:
    """Whether what was served is what the point-in-time join gives."""
    page.section("Audits", "Logged features beside the point-in-time join, row by row.")
    if problem := facts.problems.get("consistency"):
        page.note(f"Not all reports could be read: {problem}", "bad")
    if not facts.audits:
        page.note("No audit yet.")
        return
    page.table(
        ["When (UTC)", "Version", "Rows", "Differ", "Likely causes"],
        [
            [
                _minute(report.at), report.version, report.samples,
                Badge("cannot tell", "warn") if report.value is None else
                Badge(f"{report.value:.3%} ({report.low:.3%} to {report.high:.3%})",
                      "good" if report.value == 0 else "bad"),
                _causes(report.details) or report.message or "–",
            ]
            for report in facts.audits
        ],
        align="llrll",
    )  # fmt: skip
    for report in facts.audits:
        if wrong := _wrong(report.details):
            page.figure(
                horizontal_bars(
                    [name for name, *_ in wrong],
                    [rate for _, rate, _ in wrong],
                    texts=[f"{rate:.2%}" for _, rate, _ in wrong],
                    title=f"Values that differ, audit of {_minute(report.at)}",
                ),
                "; ".join(f"{name}: {causes}" for name, _, causes in wrong if causes),
            )
            break


def decisions_section(page: Page, facts: ModelFacts) -> None:
    """What the monitor decided, and from what."""
    page.section("Decisions", "What drift led to; each is kept with all it was made from.")
    if problem := facts.problems.get("decision"):
        page.note(f"Not all reports could be read: {problem}", "bad")
    if not facts.decisions:
        page.note("No decision yet: nothing has failed for long enough.")
        return
    page.table(
        ["When (UTC)", "Version", "Reason", "What was seen", "Window", "Predictions", "Run"],
        [_decision(report) for report in facts.decisions],
        align="lllllrl",
    )


def live_lines(reports: Sequence[Report]) -> dict[str, list[TimePoint]]:
    """AUC over time by version and role, from reports that are the newest first.

    Stretches that more than one report knows are taken from the newest: more labels are in by then.
    """
    found: dict[tuple[str, str], dict[datetime, TimePoint]] = {}
    for report in reports:
        for row in _performance(report):
            role, start = str(row.get("role")), _moment(row.get("start"))
            if start is None or row.get("slice") or role not in ROLES:
                continue
            line = found.setdefault((report.version, role), {})
            value, low, high = (_number(row.get(n)) for n in ("auc", "auc_low", "auc_high"))
            line.setdefault(start, TimePoint(start, value, low, high))
    return {
        f"version {version}, {role}": [line[at] for at in sorted(line)]
        for (version, role), line in found.items()
        if any(math.isfinite(point.value) for point in line.values())
    }


def _rows(report: Report) -> list[list[Any]]:
    rows = []
    for row in _performance(report):
        if row.get("slice") or row.get("start"):
            continue
        predictions, labelled = (_number(row.get(n)) for n in ("predictions", "labelled"))
        share = f" ({labelled / predictions:.1%})" if predictions else ""
        auc, low, high = (_number(row.get(n)) for n in ("auc", "auc_low", "auc_high"))
        ratio = [_number(row.get(n)) for n in ("observed_per_expected", "ratio_low", "ratio_high")]
        delay = _number(row.get("delay_p50"))
        rows.append(
            [
                report.version, str(row.get("role")), f"{predictions:,.0f}",
                f"{labelled:,.0f}{share}",
                "too few labels" if math.isnan(auc) else f"{auc:.4f} [{low:.4f}, {high:.4f}]",
                _decimal(_number(row.get("log_loss"))),
                "–" if math.isnan(ratio[0]) else
                f"{ratio[0]:.3f} [{ratio[1]:.3f}, {ratio[2]:.3f}]",
                "–" if math.isnan(delay) else f"{delay / 3600:,.1f} h",
            ]
        )  # fmt: skip
    if not rows:
        value = "–" if report.value is None else f"{report.value:.4f}"
        rows.append([report.version, "users", "–", f"{report.samples:,}", value, "–", "–", "–"])
    return rows


def _performance(report: Report) -> list[Mapping[str, Any]]:
    rows = report.details.get("rows")
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _causes(details: Mapping[str, Any]) -> str:
    causes = _mapping(details.get("causes"))
    return ", ".join(f"{str(cause).replace('_', ' ')}: {count}" for cause, count in causes.items())


def _wrong(details: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """Features with a difference, their rate and causes, the worst first."""
    found = []
    for name, each in _mapping(details.get("features")).items():
        rate = _number(_mapping(each).get("rate"))
        if rate > 0:
            causes = _mapping(each.get("causes"))
            told = ", ".join(str(cause).replace("_", " ") for cause in causes)
            found.append((str(name), rate, told))
    return sorted(found, key=lambda one: -one[1])[:BARS]


def _decision(report: Report) -> list[Any]:
    made = _mapping(report.details.get("decision"))
    start, end = (_moment(made.get(name)) for name in ("windowStart", "windowEnd"))
    window = f"{_minute(start)} to {_minute(end)}" if start and end else "–"
    checksum = str(made.get("checksum", ""))[:12]
    return [
        _minute(report.at), report.version,
        Badge(str(made.get("reason") or "not recorded"), "warn"),
        report.message or "–", window, report.samples,
        Badge(f"…-{checksum}", "plain") if checksum else "–",
    ]  # fmt: skip


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def _decimal(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _number(value: Any) -> float:
    """NaN for what is no number: reports are read as they are found."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _moment(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
