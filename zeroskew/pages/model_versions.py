"""The versions of a model on its page: where each came from, how good it was, who answered when."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from zeroskew.pages.marks import Chain, Link
from zeroskew.pages.page import Badge, Page, Tone
from zeroskew.pages.time_charts import interval_chart

if TYPE_CHECKING:
    from zeroskew.monitoring.model_facts import ModelFacts, VersionFacts
    from zeroskew.record import Measure, VersionRecord

SHOWN = 20
"""The newest versions in the table; older ones are counted."""
LINES = 6
"""The newest versions with their lineage as a line."""
METRIC = "auc"
_VERDICTS: dict[str, tuple[str, Tone]] = {
    "first": ("first", "plain"), "wins": ("wins", "good"), "loses": ("loses", "warn"),
}  # fmt: skip
_ALIASES: dict[str, Tone] = {"champion": "good", "challenger": "warn"}


def versions_section(page: Page, facts: ModelFacts) -> None:
    """Versions, their lineage, and their held-out metric."""
    page.section("Versions", "Brackets and bars hold the 95 % interval of the bootstrap.")
    if problem := facts.problems.get("registry"):
        page.note(f"The registry could not be read: {problem}", "bad")
        return
    if not facts.versions:
        page.note("No version is registered yet; a training pipeline registers the first.")
        return
    newest = list(reversed(facts.versions))
    metric = _metric(facts)
    page.table(
        ["Version", "", "Registered (UTC)", metric or "Metric", "Verdict", "Better by", "Trained"],
        [_row(each, metric) for each in newest[:SHOWN]],
        align="lllrllr",
    )  # fmt: skip
    if len(newest) > SHOWN:
        page.text(f"And {len(newest) - SHOWN} older versions, which the registry lists.")
    measured = [each for each in facts.versions if _measure(each, metric)][-SHOWN:]
    if len(measured) > 1:
        page.figure(
            interval_chart(
                [_label(each) for each in measured],
                [_ends(_measure(each, metric)) for each in measured],
                marked=["champion" in each.aliases for each in measured],
                title=f"{metric} on held-out rows, version by version",
            ),
            "Each version on the test rows of its own run: those of later runs are other rows.",
        )
    page.section("Lineage", "From data to what answers.")
    for each in newest[:LINES]:
        page.draw(Chain(_steps(each, facts, metric)))


def changes_section(page: Page, facts: ModelFacts) -> None:
    """Who became champion when, and why; the pages of the rollouts' analyses."""
    page.section("Rollouts", "Every change of champion, newest first; entries are written once.")
    if "registry" in facts.problems:
        page.note("The promotion log could not be read: see Versions.", "bad")
    elif not facts.changes:
        page.note("No version was promoted yet.")
    else:
        page.table(
            ["#", "When (UTC)", "", "Champion", "Instead of", "By", "Reason"],
            [
                [
                    change.number,
                    change.at[:19].replace("T", " "),
                    Badge(change.action, "warn" if change.action != "promote" else "good"),
                    change.version or "none",
                    change.replaced or "–",
                    change.by,
                    change.reason,
                ]
                for change in list(reversed(facts.changes))[:50]
            ],
            align="rllllll",
        )
    if facts.analyses:
        page.table(
            ["Analyses of rollouts"],
            [[Link(name, address)] for name, address in facts.analyses.items()],
        )
    else:
        page.text("No analysis page was given.")


def _row(each: VersionFacts, metric: str) -> list[Any]:
    badges = _Badges(
        [Badge(alias, _ALIASES.get(alias, "plain")) for alias in each.aliases]
        + [Badge(each.stage or "made by another tool", "muted")]
    )
    made = f"{each.created:%Y-%m-%d %H:%M}"
    record = each.record
    if record is None:
        return [each.version, badges, made, f"not recorded: {each.problem}", "", "", ""]
    verdict, tone = _VERDICTS.get(record.verdict, (record.verdict or "not recorded", "muted"))
    against = f" against {record.compared_against}" if record.compared_against else ""
    better = "–"
    if record.difference is not None:
        margin = "" if record.margin is None else f"; margin {record.margin:g}"
        better = f"{record.difference} {record.compared_by}{margin}"
    measure = record.metrics.get(metric)
    return [
        each.version, badges, made,
        "–" if measure is None else str(measure),
        Badge(verdict + against, tone), better, _effort(record) or "–",
    ]  # fmt: skip


class _Badges:
    def __init__(self, badges: list[Badge]) -> None:
        self._badges = badges

    def __html__(self) -> str:
        return " ".join(badge.__html__() for badge in self._badges)


def _steps(each: VersionFacts, facts: ModelFacts, metric: str) -> list[tuple[str, str, str]]:
    steps = [("version", each.version, f"{each.created:%Y-%m-%d}")]
    record = each.record
    if record is None:
        return [*steps, ("record", "not recorded", each.problem)]
    rows = "" if record.data_rows is None else f"{record.data_rows:,} rows"
    spanned = f"{record.data_start[:10]} to {record.data_end[:10]}" if record.data_start else ""
    steps += [
        ("training set", record.data_hash[:12], ", ".join(filter(None, (rows, spanned)))),
        ("features", record.feature_service, f"schema {record.feature_schema_version[:12]}"),
        ("code", _code(record), record.image.rpartition("/")[2]),
    ]
    if effort := _effort(record):
        seconds, _, cost = effort.partition(", ")
        steps.append(("trained in", seconds, cost))
    if (measure := record.metrics.get(metric)) is not None:
        reason = record.verdict_reason
        steps.append((metric, f"{measure.value:.4f}", reason if len(reason) < 90 else ""))
    if record.precision:
        graph = next(iter(record.onnx_sha256.values()), "")
        steps.append(("exported", record.precision.upper(), graph and f"graph {graph[:12]}"))
    if route := each.notes.get("route"):
        steps.append(("route", route, ""))
    steps.append(("answers", *_answers(each, facts)))
    return steps


def _answers(each: VersionFacts, facts: ModelFacts) -> tuple[str, str]:
    became = [change for change in facts.changes if change.version == each.version]
    if "champion" in each.aliases:
        return "users", f"champion since {became[-1].at[:10]}" if became else "champion"
    if became:
        after = [change.at for change in facts.changes if change.replaced == each.version]
        return "nobody now", f"champion until {after[-1][:10]}" if after else "was champion"
    return "nobody yet", "challenger" if "challenger" in each.aliases else each.stage


def _metric(facts: ModelFacts) -> str:
    """The metric of the comparison, or AUC, or whichever the newest version has."""
    for each in reversed(facts.versions):
        if each.record is not None and each.record.metrics:
            known = each.record.metrics
            for name in (each.record.compared_by, METRIC):
                if name in known:
                    return name
            return next(iter(known))
    return ""


def _measure(each: VersionFacts, metric: str) -> Measure | None:
    return None if each.record is None else each.record.metrics.get(metric)


def _ends(measure: Measure | None) -> tuple[float, float, float]:
    if measure is None:
        return math.nan, math.nan, math.nan
    low, high = (math.nan if end is None else end for end in (measure.low, measure.high))
    return measure.value, low, high


def _label(each: VersionFacts) -> str:
    return f"version {each.version}" + (", champion" if "champion" in each.aliases else "")


def _code(record: VersionRecord) -> str:
    sha, _, dirty = record.code_sha.partition("-")
    return sha[:12] + (f"-{dirty}" if dirty else "")


def _effort(record: VersionRecord) -> str:
    """Seconds of training, and what they cost."""
    if record.training_seconds is None:
        return ""
    text = f"{record.training_seconds:,.1f} s"
    if record.compute_cost:
        text += f", {record.compute_cost:.3g} {record.currency}".rstrip()
    return text
