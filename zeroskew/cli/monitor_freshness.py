"""`zeroskew monitor freshness`: how old what is served is, and what will be too old soon."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
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
) -> None:
    """Look into the online store: ages, lag behind the sources, what is near its TTL.

    Exit status 3: somebody should look, and the table says why.

        zeroskew monitor freshness pipelines/flight_delay
    """
    from rich.console import Console
    from rich.table import Table

    from zeroskew.steps.freshness import freshness_of, keep_freshness

    found = freshness_of(model)
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
    return "unknown" if seconds is None else str(timedelta(seconds=round(seconds)))
