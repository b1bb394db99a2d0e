"""`zeroskew schedule`: what model.yaml says about times."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(help="Folder of the model.", metavar="MODEL")]

schedule = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Pipelines that run by a clock; `zeroskew run --schedule` keeps it on this machine.",
)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    for command in (manifest, times):
        schedule.command()(command)
    app.add_typer(schedule, name="schedule")


def manifest(
    model: Folder,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace.")] = "default",
) -> None:
    """Print the PipelineSchedules that keep the model's times on a cluster.

    zeroskew schedule manifest pipelines/flight_delay -n team | kubectl apply -f -
    """
    from zeroskew.model_config import load_model_config
    from zeroskew.rollout.manifests import to_yaml
    from zeroskew.schedule.schedule_config import schedule_manifests

    config = load_model_config(model)
    made = schedule_manifests(config.schedules, config.name, namespace=namespace)
    print(to_yaml(made), end="")


def times(
    model: Folder,
    count: Annotated[int, typer.Option(min=1, max=100, help="So many of each.")] = 3,
) -> None:
    """Show when each schedule runs next, in its own time zone and in UTC.

    zeroskew schedule times pipelines/flight_delay --count 5
    """
    from zoneinfo import ZoneInfo

    from rich.console import Console
    from rich.table import Table

    from zeroskew.model_config import load_model_config

    config = load_model_config(model)
    table = Table("schedule", "pipeline", "at", "UTC")
    for name, section in sorted(config.schedules.items()):
        moment: datetime | None = datetime.now(UTC)
        for place in range(count):
            moment = None if moment is None else section.times.after(moment)
            if moment is None:
                break
            there = moment.astimezone(ZoneInfo(section.time_zone))
            table.add_row(
                name if place == 0 else "", section.pipeline if place == 0 else "",
                f"{there:%Y-%m-%d %H:%M %Z}", f"{moment:%Y-%m-%d %H:%M}",
                end_section=place == count - 1,
            )  # fmt: skip
    Console().print(table)
