"""`zeroskew monitor performance`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from zeroskew.monitoring.performance import LivePerformance


def register(monitor: typer.Typer) -> None:
    """Add this command to the group `monitor`."""
    monitor.command()(performance)


def performance(
    model: Annotated[Path, typer.Argument(help="Folder of the model.", metavar="MODEL")],
    since: Annotated[
        datetime | None, typer.Option(help="First answer, UTC; default: 30 days ago.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="Last answer, UTC; default: now.")] = None,
    at: Annotated[
        datetime | None, typer.Option(help="Labels known by then count; default: now.")
    ] = None,
    versions: Annotated[
        list[str] | None, typer.Option("--version", "-v", help="Number or alias; several.")
    ] = None,
    log: Annotated[
        str, typer.Option(help="Prediction log; default: ZEROSKEW_PREDICTION_LOG.")
    ] = "",
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep a report beside the log, for the monitor.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--json", help="Everything, as JSON.")] = None,
) -> None:
    """How good versions were for their users: measured on the labels that have arrived.

    zeroskew monitor performance pipelines/flight_delay -v champion -v previous --keep
    """
    from rich.console import Console

    from zeroskew.endpoints import Endpoints
    from zeroskew.model_config import load_model_config
    from zeroskew.monitoring.reports import write_report
    from zeroskew.registry import Registry
    from zeroskew.steps.performance import live_performance

    config, endpoints = load_model_config(model), Endpoints.from_environment()
    endpoints.export()
    registry = Registry.from_environment()
    numbers = [str(registry.resolve(config.name, each)) for each in versions or ["champion"]]
    now = datetime.now(UTC)
    last = until.replace(tzinfo=UTC) if until else now
    place = log or endpoints.prediction_log
    found = live_performance(
        model, numbers, place,
        since=since.replace(tzinfo=UTC) if since else last - timedelta(days=30),
        until=last,
        now=at.replace(tzinfo=UTC) if at else now,
    )  # fmt: skip
    console = Console()
    console.print(performance_table(found))
    if out is not None:
        out.write_text(json.dumps([row.to_json() for row in found.rows], indent=1))
    if keep:
        for number in numbers:
            console.print(write_report(place, found.report(number)))


def performance_table(found: LivePerformance) -> Table:
    """A row per version and role, over the whole window."""
    from rich.table import Table

    table = Table(
        "version", "role", "predictions", "labelled", "AUC", "log loss", "observed/expected"
    )
    for row in found.rows:
        if row.slice or row.start is not None:
            continue
        auc = "too few labels"
        if row.auc is not None:
            auc = f"{row.auc:.4f} [{row.auc_low:.4f}, {row.auc_high:.4f}]"
        table.add_row(
            row.version, row.role, f"{row.predictions:,}", f"{row.labelled:,} ({row.coverage:.0%})",
            auc, "" if row.log_loss is None else f"{row.log_loss:.4f}",
            "" if row.observed_per_expected is None else f"{row.observed_per_expected:.3f}",
        )  # fmt: skip
    return table
