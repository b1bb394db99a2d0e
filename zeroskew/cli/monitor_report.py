"""`zeroskew monitor report`: distributions side by side, for people."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer


def register(monitor: typer.Typer) -> None:
    """Add this command to the group `monitor`."""
    monitor.command()(report)


def report(
    model: Annotated[Path, typer.Argument(help="Folder of the model.", metavar="MODEL")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML to write.")] = Path("drift.html"),
    decision: Annotated[
        str, typer.Option(help="Checksum of a decision, or its first twelve digits.")
    ] = "",
    version: Annotated[
        str, typer.Option("--version", "-v", help="Without a decision: number or alias.")
    ] = "champion",
    hours: Annotated[float, typer.Option(min=0.1, help="Without a decision: so many hours.")] = 24,
    at: Annotated[datetime | None, typer.Option(help="Up to then, UTC; default: now.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Draw a window beside the training set with Evidently: what a decision was about, say.

    It is for looking at; what the monitor decides by are its own metrics.

        zeroskew monitor report pipelines/flight_delay --decision 3f9c21ab04de --open
    """
    from zeroskew.steps.drift_report import draw_decision, draw_window

    if decision:
        draw_decision(model, decision, out)
    else:
        from zeroskew.registry import Registry
        from zeroskew.steps.model_folder import read_config

        number = version
        if not version.isdigit():
            number = str(Registry.from_environment().resolve(read_config(model).name, version))
        draw_window(model, number, hours, out, at.replace(tzinfo=UTC) if at else None)
    typer.echo(str(out))
    if show:
        typer.launch(out.absolute().as_uri())
