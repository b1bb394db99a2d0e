"""`zeroskew run`: a model's pipelines on this machine, once or by their schedules."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from zeroskew.schedule.schedule_observations import StartRun, Tell
    from zeroskew.schedule.schedule_spec import ScheduleSpec
    from zeroskew.schedule.schedule_state import ScheduleStatus

TURN_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(run)


def run(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(help="A pipeline and its options; or with --schedule, the model's folder."),
    ],
    schedule: Annotated[
        bool,
        typer.Option("--schedule", help="Keep the `schedules` of model.yaml, until Ctrl-C."),
    ] = False,
) -> None:
    """Run a pipeline of a model on this machine; or all of them, whenever their time comes.

        zeroskew run materialisation pipelines/flight_delay
        zeroskew run --schedule pipelines/flight_delay

    With --schedule each time of `schedules` in model.yaml starts the pipeline once, never two of a
    schedule at once, and times that were missed while nothing ran are caught up or left out as it
    says. Ctrl-C ends the runs under way as well. What has been done is remembered below the home.
    """
    words = [*words, *context.args]
    if schedule:
        if len(words) != 1:
            from zeroskew.errors import ConfigError

            raise ConfigError(
                f"--schedule takes the folder of one model, not {' '.join(words)!r}",
                where="zeroskew run",
            )
        _keep(Path(words[0]))
        return
    command = _pipelines(*words)
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 (no shell: the arguments are passed as they are)


def _keep(model: Path) -> None:
    import signal

    from rich.console import Console
    from rich.live import Live

    from zeroskew.endpoints import Endpoints
    from zeroskew.errors import ConfigError
    from zeroskew.model_config import load_model_config
    from zeroskew.schedule.local_clock import LocalClock
    from zeroskew.schedule.schedule_config import schedule_specs

    config, console = load_model_config(model), Console(highlight=False)
    if not config.schedules:
        raise ConfigError(
            "has no schedules",
            where=str(model / "model.yaml"),
            mend="say when its pipelines run, as `schedules: {hourly: {pipeline: materialisation, "
            'schedule: "0 * * * *"}}`',
        )
    specs = schedule_specs(config.schedules, config.name)
    pipelines = {
        name: config.schedules[short].pipeline
        for short, name in zip(sorted(config.schedules), specs, strict=True)
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def command(name: str, asked: StartRun) -> Sequence[str]:
        given = [f"--parameter={key}={value}" for key, value in asked.arguments.items()]
        return _pipelines("pipeline", pipelines[name], str(model.absolute()), *given)

    def tell(name: str, event: Tell) -> None:
        at = f"{datetime.now():%H:%M:%S}"
        tone = "yellow" if event.type == "Warning" else "dim"
        console.print(f"[dim]{at}[/] [{tone}]{event.reason}[/]", end=" ")
        console.print(event.message, markup=False)

    folder = Path(Endpoints.from_environment().home) / "schedule" / config.name
    with contextlib.suppress(KeyboardInterrupt), LocalClock(
        config.name, specs, folder, command=command, said=tell
    ) as clock:  # fmt: skip
        clock.turn()
        if not console.is_terminal:
            for name, status in clock.statuses.items():
                console.print(f"{name}: next at {_local(status.next_schedule_time)}", markup=False)
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                if console.is_terminal:
                    live.update(drawn(specs, clock.statuses), refresh=True)
                time.sleep(TURN_SECONDS)
                clock.turn()
    console.print("stopped; times from now on are missed ones when it is started again")


def drawn(specs: Mapping[str, ScheduleSpec], statuses: Mapping[str, ScheduleStatus]) -> Table:
    """A row for each schedule: when it runs, how the last run went, what goes on."""
    from rich.table import Table
    from rich.text import Text

    table = Table("schedule", "times", "next", "last", "now", box=None, pad_edge=False)
    tones = {"Succeeded": "green", "Failed": "red", "Replaced": "yellow"}
    for name, status in statuses.items():
        last, active = status.last_run, status.active
        ended = Text("none yet", "dim")
        if last is not None:
            ended = Text(f"{last.phase} {_local(last.completion_time)}", tones.get(last.phase, ""))
        doing = Text("suspended" if status.suspended else "waits", "dim")
        if active is not None:
            since = datetime.now(UTC) - (active.start_time or active.requested_time)
            doing = Text(f"runs for {int(since.total_seconds())} s", "bold")
        table.add_row(name, specs[name].clock, _local(status.next_schedule_time), ended, doing)
    return table


def _local(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"


def _pipelines(*words: str) -> list[str]:
    """The command that runs a pipeline. Raises `ConfigError` where there is none."""
    import importlib.util

    from zeroskew.errors import ConfigError

    if importlib.util.find_spec("pipelines") is None:
        raise ConfigError(
            "the package `pipelines` is not installed",
            where="zeroskew run",
            mend="run it in the repository that has the models' folders",
        )
    return [sys.executable, "-m", "pipelines.run", *words]
