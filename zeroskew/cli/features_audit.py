"""`zeroskew features audit`: is what was served what training sees."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroskew.cli.tables import bars, moment
from zeroskew.errors import ConfigError

if TYPE_CHECKING:
    from zeroskew.features.audit_result import AuditResult


class By(StrEnum):
    answered_at = "answered_at"
    event_time = "event_time"


def add_to(features: typer.Typer) -> None:
    """Add the command to the group `zeroskew features`."""
    features.command()(audit)


def audit(
    folder: Annotated[Path, typer.Argument(help="Model folder.", metavar="FOLDER")],
    version: Annotated[
        str, typer.Option("--version", "-v", help="Number or alias. Default: all that logged.")
    ] = "",
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="champion, canary or shadow; repeatable. Default: all."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="ISO 8601, UTC. Default: the first row.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="ISO 8601, UTC. Default: the last row.")] = None,
    by: Annotated[By, typer.Option(help="Which moment the range is about.")] = By.answered_at,
    limit: Annotated[
        int | None, typer.Option(help="About so many rows, whole requests by a stable sample.")
    ] = None,
    fraction: Annotated[float, typer.Option(help="Share of the requests to look at.")] = 1.0,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(help="`float64=1e-9`: relative tolerance of a type; repeatable."),
    ] = None,
    examples: Annotated[int, typer.Option(min=0, max=1000, help="Kept per feature and cause.")] = 5,
    max_mismatch: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of rows that may differ.")
    ] = 0.0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON to write.")] = None,
    page: Annotated[Path | None, typer.Option(help="HTML page to write.")] = None,
    metrics: Annotated[
        Path | None, typer.Option(help="Prometheus text to write (textfile collector).")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep a report beside the log, for the monitor.")
    ] = False,
) -> None:
    """Compare what was served, by the prediction log, with the point-in-time join, row by row.

    Says per feature what matches, differs, is missing or extra, and the likely cause with its
    evidence. Ends with 0 if consistent, 3 if more rows differ than --max-mismatch, 4 without rows.

        zeroskew features audit pipelines/flight_delay --version champion --page audit.html
    """
    from zeroskew.endpoints import Endpoints

    Endpoints.from_environment().export()
    from zeroskew.features.audit_metrics import prometheus_text
    from zeroskew.steps.audit import audit_model, keep_report
    from zeroskew.steps.audit_page import audit_page
    from zeroskew.steps.files import write_json, write_text

    with bars() as tell:
        result = audit_model(
            folder,
            version=version,
            roles=role or (),
            since=moment(since, "--since"),
            until=moment(until, "--until"),
            by=by.value,  # type: ignore[arg-type]
            limit=limit,
            fraction=fraction,
            tolerances=_tolerances(tolerance or []),
            examples=examples,
            on_progress=tell,
        )
    if out is not None:
        write_json(out, result.to_json())
    if page is not None:
        write_text(page, audit_page(result, max_mismatch))
    if metrics is not None:
        write_text(metrics, prometheus_text(result))
    if keep:
        keep_report(result, Endpoints.from_environment().prediction_log)
    _show(result)
    raise typer.Exit(result.exit_code(max_mismatch))


def _tolerances(texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        kind, _, value = text.partition("=")
        try:
            found[kind] = float(value)
        except ValueError:
            raise ConfigError(
                f"`{text}` is no type=number", where="--tolerance", mend="float64=1e-9"
            ) from None
    return found


def _show(result: AuditResult) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not result.rows:
        console.print("no rows in the log for this selection")
        return
    low, high = result.interval
    console.print(
        f"{result.different:,} of {result.rows:,} rows differ: {result.rate:.3%} "
        f"(95 %: {low:.3%} to {high:.3%}); {result.values:,} values in {result.seconds:.1f} s"
    )
    wrong = [each for each in result.features if each.different]
    if wrong:
        table = Table()
        for title in ("feature", "view"):
            table.add_column(title)
        for title in ("match", "mismatch", "missing", "extra"):
            table.add_column(title, justify="right")
        table.add_column("likely causes")
        for each in wrong:
            counts = (each.match, each.mismatch, each.missing, each.extra)
            causes = ", ".join(f"{cause} {count:,}" for cause, count in each.by_cause.items())
            table.add_row(each.feature, each.source, *(f"{count:,}" for count in counts), causes)
        console.print(table)
        seen = set()
        for example in result.examples:
            if (example.feature, example.cause) in seen:
                continue
            seen.add((example.feature, example.cause))
            keys = ", ".join(f"{key}={value}" for key, value in example.entity.items())
            console.print(
                f"[bold]{escape(example.feature)}[/] {example.cause}: served {example.served!r}, "
                f"joined {example.joined!r} ({escape(keys)}, {example.event_time})\n"
                f"  [dim]{escape(example.evidence)}[/]",
                highlight=False,
            )
    for name, reason in result.not_audited.items():
        console.print(f"{name} is not compared: {reason}", style="dim")
