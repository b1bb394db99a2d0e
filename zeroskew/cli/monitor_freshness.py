"""`zeroskew monitor freshness`: how old what is served is, and what will be too old soon."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

STALE = 3
"""Exit status where somebody should look."""


def register(monitor: typer.Typer) -> None:
    """Add this command to the group `monitor`."""
    monitor.command()(freshness)


def freshness(
    model: Annotated[Path, typer.Argument(help="Folder of the model.", metavar="MODEL")],
    keep: Annotated[bool, typer.Option(help="Keep the report for the operator's metrics.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    at: Annotated[datetime | None, typer.Option(help="As of then, UTC; default: now.")] = None,
) -> None:
    """Look into the online store: ages, lag behind the sources, what is near its TTL.

    Exit status 3: somebody should look, and the table says why.

        zeroskew monitor freshness pipelines/flight_delay
    """
    from rich.console import Console
    from rich.table import Table

    from zeroskew.cli.stack import export_endpoints
    from zeroskew.steps.freshness import freshness_of, keep_freshness
    from zeroskew.steps.model_folder import read_config

    read_config(model)
    export_endpoints(online=True)
    found = freshness_of(model, at.replace(tzinfo=UTC) if at else None)
    if keep:
        keep_freshness(found)
    if as_json:
        views = [asdict(view) | {"problems": view.problems} for view in found.views]
        typer.echo(json.dumps({"model": found.model, "at": found.at.isoformat(), "views": views}))
        raise typer.Exit(STALE if found.problems else 0)
    table = Table("view", "entities", "median age", "p99", "TTL", "near it", "beyond", "behind by")
    for view in found.views:
        table.add_row(
            view.view, f"{view.entities:,}", _span(view.age_median), _span(view.age_p99),
            _span(view.ttl) if view.ttl else "none", f"{view.near:.1%}", f"{view.expired:.1%}",
            _span(view.lag),
        )  # fmt: skip
    console = Console()
    console.print(table)
    for problem in found.problems:
        console.print(problem, style="yellow", markup=False)
    raise typer.Exit(STALE if found.problems else 0)


def _span(seconds: float | None) -> str:
    """In its largest unit, which fits a column."""
    if seconds is None:
        return "unknown"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"
