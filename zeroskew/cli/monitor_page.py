"""`zeroskew monitor page`: everything about a model on one page."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer


def register(monitor: typer.Typer) -> None:
    """Add this command to the group `monitor`."""
    monitor.command()(page)


def page(
    model: Annotated[Path, typer.Argument(help="Folder of the model.", metavar="MODEL")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML to write.")] = Path("page.html"),
    days: Annotated[
        int, typer.Option(min=1, max=366, help="Days of predictions, up to the last served one.")
    ] = 30,
    log: Annotated[
        str, typer.Option(help="Prediction log; default: ZEROSKEW_PREDICTION_LOG.")
    ] = "",
    at: Annotated[
        datetime | None, typer.Option(help="Nothing from then on, UTC; default: all there is.")
    ] = None,
    analyses: Annotated[
        Path | None, typer.Option(help="Folder with pages of rollouts' analyses, to be linked.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Draw one page: drift by feature and day, freshness, live performance, versions and more.

    The page is a single file that loads nothing and runs no script. What is missing is said on it.

        zeroskew monitor page pipelines/flight_delay --open
    """
    from rich.console import Console

    from zeroskew.errors import ConfigError
    from zeroskew.pages.model_page import model_page
    from zeroskew.steps.model_page import facts_of

    linked = {}
    if analyses is not None:
        if not analyses.is_dir():
            raise ConfigError(
                "there is no such folder", where=str(analyses), mend="correct --analyses"
            )
        for path in sorted(analyses.glob("*.html"), reverse=True):
            linked[path.stem] = Path(os.path.relpath(path, out.parent)).as_posix()
    facts = facts_of(
        model,
        days=days,
        log=log,
        until=at.replace(tzinfo=UTC) if at else None,
        analyses=linked,
    )
    model_page(facts).save(out)
    console = Console()
    for what, problem in facts.problems.items():
        console.print(f"{what}: {problem}", markup=False, style="yellow")
    seen = facts.watched
    served = f", {seen.rows:,} predictions by version {seen.version}" if seen else ""
    console.print(f"{out}: {len(facts.versions)} versions{served}", markup=False, highlight=False)
    if show:
        typer.launch(out.absolute().as_uri())
