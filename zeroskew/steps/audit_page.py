"""The consistency audit as a page: how much differs, in which features, why, since when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from zeroskew.pages import Badge, Page, Tile, bar_chart, horizontal_bars

if TYPE_CHECKING:
    from zeroskew.features.audit_result import AuditResult

MEANING: Mapping[str, str] = {
    "late_data": "The value came into the source after the answer. Training will see it, the "
    "request could not. Record creation times in the source, and the join leaves it out.",
    "stale_materialisation": "A newer value was in the source and not in the store. Materialise "
    "more often.",
    "changed_definition": "The version was served by other definitions than the folder has now.",
    "different_transform": "The inputs match, the request-time function gave something else: the "
    "server runs other code.",
    "value_rewritten": "The source holds another value for the same moment than when it was "
    "materialised. `materialise --replace-ties` brings it online.",
    "expired_served": "A value older than its TTL was served.",
    "wrong_event_time": "The event time does not fit the answer: a time zone, a clock, a replay.",
    "other_entity": "The values of another entity were served: look for swapped or shifted keys.",
    "not_in_source": "The store has a value that no source has: pushed online only, or deleted "
    "offline.",
    "store_unavailable": "The server answered without the store.",
    "input_differs": "Computed from an input that differs; its cause is told there.",
    "unexplained": "The log and the sources do not tell.",
}


def audit_page(result: AuditResult, max_mismatch: float = 0.0) -> str:
    """HTML of one audit."""
    code = result.exit_code(max_mismatch)
    badge = {0: Badge("consistent", "good"), 3: Badge("skewed", "bad")}.get(
        code, Badge("no rows", "warn")
    )
    low, high = result.interval
    page = Page(f"{result.model}: served beside joined", _subtitle(result), badge=badge)
    if not result.rows:
        page.note("The log has no row of this selection, so nothing can be said.", "warn")
        return page.render()
    page.metrics(
        [
            Tile("Rows", result.rows, f"{result.fraction:.1%} of the requests"),
            Tile(
                "Rows that differ", result.different,
                f"{result.rate:.3%} (95 %: {low:.3%} to {high:.3%})",
                "good" if code == 0 else "bad",
            ),
            Tile("Values compared", result.values),
            Tile("Seconds", result.seconds),
        ]
    )  # fmt: skip
    if not result.different:
        page.note("Every value that was served is the value that training sees.", "good")
    else:
        _causes(page, result)
    _features(page, result)
    _trend(page, result)
    _examples(page, result)
    if result.not_audited:
        page.section("Not compared")
        page.table(["Feature", "Reason"], list(result.not_audited.items()))
    return page.render()


def _subtitle(result: AuditResult) -> str:
    since, until = (_short(text) if text else "…" for text in (result.since, result.until))
    span = f", {_words(result.by)} {since} to {until}" if result.since or result.until else ""
    return (
        f"feature service {result.service}, version {', '.join(result.versions) or '–'}{span}, "
        f"definitions {result.schema_version[:12]}"
    )


def _causes(page: Page, result: AuditResult) -> None:
    page.section("Why", "Values that differ, by what log and sources say of them.")
    causes = result.by_cause
    page.figure(
        horizontal_bars(
            [_words(cause) for cause in causes],
            list(causes.values()),
            title="Likely causes",
            texts=[f"{count:,}" for count in causes.values()],
        )
    )
    page.table(
        ["Cause", "Values", "What it means"],
        [[_words(cause), count, MEANING.get(cause, "")] for cause, count in causes.items()],
    )


def _features(page: Page, result: AuditResult) -> None:
    page.section("Features", "Missing: only offline has it. Extra: only online served it.")
    rows: list[list[Any]] = []
    for each in sorted(result.features, key=lambda each: -each.different):
        if each.different:
            low, high = each.interval
            rows.append(
                [
                    f"{each.feature} ({each.kind})", each.source, each.mismatch, each.missing,
                    each.extra, f"{each.rate:.3%} (95 %: {low:.3%} to {high:.3%})",
                    ", ".join(_words(cause) for cause in each.by_cause),
                ]
            )  # fmt: skip
    if rows:
        page.table(["Feature", "View", "Mismatch", "Missing", "Extra", "Differ", "Causes"], rows)
    if same := [each.feature for each in result.features if not each.different]:
        every = "Every value matches" if rows else "All of them"
        page.text(f"{every}: {', '.join(same)}.")


def _trend(page: Page, result: AuditResult) -> None:
    if len(result.periods) < 2:
        return
    page.section(f"By {result.period}", "Rows that differ, by when they were answered (UTC).")
    labels = [_short(each.start)[5 : 16 if result.period == "hour" else 10]
              for each in result.periods]  # fmt: skip
    page.figure(
        bar_chart(
            labels,
            [100 * each.different / each.rows for each in result.periods],
            title="Rows that differ, per cent",
            y_label="per cent",
        )
    )


def _examples(page: Page, result: AuditResult) -> None:
    if not result.examples:
        return
    page.section("Examples", "A few of each feature and cause, as the log has them.")
    page.table(
        ["Feature", "Served", "Joined", "Entity and time", "Request", "Cause and evidence"],
        [
            [
                f"{each.feature}: {each.outcome}", _text(each.served), _text(each.joined),
                ", ".join(f"{key}={value}" for key, value in each.entity.items())
                + f" at {_short(each.event_time)}",
                f"{each.request_id} row {each.row}, version {each.version} ({each.role})",
                f"{_words(each.cause)}: {each.evidence}",
            ]
            for each in result.examples
        ],
        align="llllll",
    )  # fmt: skip


def _text(value: Any) -> str:
    """All digits: a difference in the last place is one."""
    return "–" if value is None else repr(value) if isinstance(value, float) else str(value)


def _words(cause: str) -> str:
    return cause.replace("_", " ")


def _short(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}"
