"""What the checks found, as a table for terminals, a page for the dashboard, and JSON."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from zeroskew.errors import ValidationFailed
from zeroskew.pages import Badge, Page, Svg, Tile, horizontal_bars, paired_histogram
from zeroskew.pages.page import Tone
from zeroskew.profiles import (
    MODERATE,
    SIGNIFICANT,
    CategoricalProfile,
    ColumnProfile,
    Drift,
    NumericProfile,
    Profile,
    paired_bins,
)

if TYPE_CHECKING:
    from rich.table import Table

MOST_CHARTS = 12
"""Histograms on a page; the columns that moved most come first."""

MOST_BARS = 16
"""Categories of a histogram; the rest is drawn as one bar."""


class Outcome(StrEnum):
    """What became of a check. Only `failed` stops anything."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    NOTED = "noted"


OUTCOME_TONES: dict[Outcome, Tone] = {
    Outcome.PASSED: "good",
    Outcome.FAILED: "bad",
    Outcome.INCONCLUSIVE: "muted",
    Outcome.NOTED: "plain",
}
VERDICT_TONES: dict[str, Tone] = {
    "stable": "good",
    "moderate": "warn",
    "significant": "bad",
    "inconclusive": "muted",
}
STYLES = {"good": "green", "warn": "yellow", "bad": "bold red", "muted": "dim", "plain": ""}
"""Styles of rich for the tones of a page."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: which column, what was measured, the limit and the value, as texts."""

    column: str
    """Empty where the whole batch is meant."""
    measure: str
    limit: str
    value: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """A column's own profile, and the pair that was compared with the reference."""

    name: str
    dtype: str
    own: ColumnProfile | None
    expected: ColumnProfile | None = None
    actual: ColumnProfile | None = None
    drift: Drift | None = None


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """All checks of one batch."""

    where: str
    checks: tuple[Finding, ...]
    profile: Profile
    """The batch's own profile, with bins of its own: the reference of the next batch."""
    columns: tuple[ColumnReport, ...]
    reference_rows: int | None
    """Rows of the profile compared with; None where there was none."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every check that did not simply pass."""
        return tuple(check for check in self.checks if check.outcome is not Outcome.PASSED)

    @property
    def failed(self) -> tuple[Finding, ...]:
        return self._with(Outcome.FAILED)

    @property
    def inconclusive(self) -> tuple[Finding, ...]:
        return self._with(Outcome.INCONCLUSIVE)

    @property
    def passed(self) -> bool:
        return not self.failed

    def _with(self, outcome: Outcome) -> tuple[Finding, ...]:
        return tuple(check for check in self.checks if check.outcome is outcome)

    def raise_if_failed(self) -> None:
        """Raise `ValidationFailed` with the table of failed gates in its text."""
        if self.passed:
            return
        count = len(self.failed)
        raise ValidationFailed(
            f"{count} {'gate' if count == 1 else 'gates'} failed\n"
            + plain_text(self.table(self.failed)),
            findings=self.failed,
            where=self.where,
            mend="mend the data, or change the limits under `validation` in model.yaml",
        )

    def table(self, findings: tuple[Finding, ...] | None = None) -> Table:
        """Column, measure, limit and value of `findings` (default: all that did not pass)."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("column", overflow="fold")
        table.add_column("measure", no_wrap=True)
        for name in ("limit", "value"):
            table.add_column(name, justify="right", overflow="fold")
        table.add_column("outcome", no_wrap=True)
        table.add_column("detail", overflow="fold")
        for found in self.findings if findings is None else findings:
            style = STYLES[OUTCOME_TONES[found.outcome]]
            cells = [found.column or "(batch)", found.measure, found.limit, found.value]
            table.add_row(
                *(Text(printable(cell)) for cell in cells),
                Text(found.outcome, style=style),
                Text(printable(found.detail)),
            )
        return table

    def to_json(self) -> dict[str, Any]:
        """Plain values: the summary, every check, and the drift of every compared column."""
        return {
            "where": self.where,
            "passed": self.passed,
            "rows": self.profile.rows,
            "reference_rows": self.reference_rows,
            "checks": [asdict(check) | {"outcome": str(check.outcome)} for check in self.checks],
            "drift": {
                column.name: {
                    "psi": None if math.isnan(column.drift.psi) else column.drift.psi,
                    "verdict": column.drift.verdict,
                    "samples": column.drift.samples,
                }
                for column in self.columns
                if column.drift is not None
            },
        }

    def html(self) -> str:
        """A self-contained page: verdict, failed gates, drift with histograms, all columns."""
        return self.page().render()

    def page(self) -> Page:
        """The report as a page that a caller may add to."""
        word: tuple[str, Tone] = ("passed", "good") if self.passed else ("failed", "bad")
        page = Page("Validation", self.where, badge=Badge(*word))
        drifted = [c for c in self._compared() if c.drift and c.drift.verdict == "significant"]
        page.metrics(
            [
                Tile("Rows", self.profile.rows),
                Tile("Columns", len(self.columns)),
                Tile("Failed gates", len(self.failed), tone="bad" if self.failed else "good"),
                Tile("Inconclusive", len(self.inconclusive), tone="muted"),
                Tile(
                    "Significant drift",
                    None if self.reference_rows is None else len(drifted),
                    note="no reference"
                    if self.reference_rows is None
                    else f"against {self.reference_rows:,} rows",
                ),
            ]
        )
        if self.findings:
            page.section("Findings").table(
                ["Column", "Measure", "Limit", "Value", "Outcome", "Detail"],
                [
                    [
                        printable(f.column) or "(batch)",
                        f.measure,
                        f.limit,
                        printable(f.value),
                        Badge(f.outcome, OUTCOME_TONES[f.outcome]),
                        printable(f.detail),
                    ]
                    for f in sorted(self.findings, key=lambda f: list(Outcome).index(f.outcome))
                ],
                align="llrrll",
            )
        else:
            page.note("Every check passed.", "good")
        self._add_drift(page)
        self._add_columns(page)
        return page

    def _compared(self) -> list[ColumnReport]:
        """Columns with a PSI, those that moved most first."""
        known = [c for c in self.columns if c.drift is not None and not math.isnan(c.drift.psi)]
        return sorted(known, key=lambda c: -(c.drift.psi if c.drift else 0.0))

    def _add_drift(self, page: Page) -> None:
        compared = self._compared()
        if not compared:
            if self.reference_rows is None:
                page.section("Drift", "There is no reference yet: this profile will be one.")
            return
        page.section(
            "Drift against the last training set",
            f"Population stability index over the reference's own quantiles: below {MODERATE} is "
            f"stable, above {SIGNIFICANT} significant.",
        )
        shown = [c for c in compared if c.drift][: 2 * MOST_CHARTS]
        page.figure(
            horizontal_bars(
                [printable(c.name) for c in shown],
                [c.drift.psi for c in shown if c.drift],
                title="PSI by column" if len(shown) == len(compared) else "PSI, largest first",
                texts=[f"{c.drift.psi:.3f}" for c in shown if c.drift],
                limit=SIGNIFICANT,
                scale_to=4 * SIGNIFICANT,
                limit_label="significant above",
                tones=[VERDICT_TONES[c.drift.verdict] for c in shown if c.drift],
                width=700,
            )
        )
        moved = [c for c in compared if c.drift and c.drift.psi >= MODERATE][:MOST_CHARTS]
        if moved:
            page.section("What moved", "Shares of rows per bin, reference beside current.")
            page.figures((_histogram(c), "") for c in moved)

    def _add_columns(self, page: Page) -> None:
        rows = []
        for column in self.columns:
            own = column.own
            nulls = own.nulls / own.total if own is not None and own.total else None
            rows.append(
                [
                    printable(column.name),
                    column.dtype,
                    None if nulls is None else f"{100 * nulls:.2f} %",
                    _summary(own),
                    None if column.drift is None else round(column.drift.psi, 4),
                    ""
                    if column.drift is None
                    else Badge(column.drift.verdict, VERDICT_TONES[column.drift.verdict]),
                ]
            )
        page.section("Columns").table(
            ["Column", "Type", "Nulls", "Values", "PSI", "Drift"], rows, align="llrlrl"
        )


def printable(text: str) -> str:
    """Text that any terminal and file takes: control characters and surrogates as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def plain_text(table: Table) -> str:
    """A table of rich without colours, for messages and logs."""
    from rich.console import Console

    target = io.StringIO()
    Console(file=target, width=120, color_system=None, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in target.getvalue().splitlines()).strip("\n")


def _summary(own: ColumnProfile | None) -> str:
    if isinstance(own, NumericProfile):
        if own.smallest is None or own.largest is None:
            return "no values"
        return f"{own.smallest:,.6g} to {own.largest:,.6g}".replace("-", "−")
    if isinstance(own, CategoricalProfile):
        names = ", ".join(printable(value) for value in own.values[:3])
        more = len(own.values) - 3
        rest = "" if more <= 0 else f" and {more:,} more" + ("…" if own.unseen else "")
        return names + rest or "no values"
    return "not profiled"


def _histogram(column: ColumnReport) -> Svg:
    assert column.expected is not None
    assert column.actual is not None
    assert column.drift is not None
    bins = paired_bins(column.expected, column.actual, column=column.name)
    labels, before, after = list(bins.labels), list(bins.expected), list(bins.actual)
    if isinstance(column.expected, CategoricalProfile):
        kept = [i for i in range(len(labels)) if before[i] or after[i]]
        labels = [labels[i] for i in kept]
        before, after = [before[i] for i in kept], [after[i] for i in kept]
        if len(labels) > MOST_BARS:
            head, tail = MOST_BARS - 4, len(labels) - 3
            labels = [*labels[:head], f"{tail - head} others", *labels[tail:]]
            before = [*before[:head], sum(before[head:tail]), *before[tail:]]
            after = [*after[:head], sum(after[head:tail]), *after[tail:]]
    elif not before[-1] and not after[-1]:
        labels, before, after = labels[:-1], before[:-1], after[:-1]
    return paired_histogram(
        [printable(label) for label in labels],
        before,
        after,
        title=f"{printable(column.name)}: PSI {column.drift.psi:.3f}",
    )
