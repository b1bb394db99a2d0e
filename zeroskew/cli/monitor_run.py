"""`zeroskew monitor run`, `check` and `manifest`."""

from __future__ import annotations

import contextlib
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from zeroskew.monitoring.local_monitor import Champion
    from zeroskew.monitoring.monitor_observations import Measured

DRIFTED, INCONCLUSIVE = 3, 4
TONES = {"Stable": "green", "Moderate": "yellow", "Failed": "red"}

Folder = Annotated[Path, typer.Argument(help="Folder of the model.", metavar="MODEL")]
Log = Annotated[str, typer.Option(help="Prediction log; default: ZEROSKEW_PREDICTION_LOG.")]


def register(monitor: typer.Typer) -> None:
    """Add these commands to the group `monitor`."""
    for command in (run, check, manifest):
        monitor.command()(command)


def run(
    model: Folder,
    command: Annotated[
        str,
        typer.Option(
            help="What a drift decision starts; {windowEnd}, {champion} and others are filled in. "
            "Without it, decisions are only recorded."
        ),
    ] = "",
    log: Log = "",
) -> None:
    """Watch the champion on this machine, and start a retraining when that is right, until Ctrl-C.

    What counts and how often it may act is `monitoring` of model.yaml.

        zeroskew monitor run pipelines/flight_delay --command "python -m pipelines.run training
            pipelines/flight_delay --start 2013-01-01 --end {windowEnd}"
    """
    import signal

    from rich.console import Console

    from zeroskew.endpoints import Endpoints
    from zeroskew.model_config import load_model_config
    from zeroskew.monitoring.local_monitor import LocalMonitor
    from zeroskew.monitoring.local_runs import LocalRuns
    from zeroskew.monitoring.monitor_observations import Tell

    config, endpoints, console = load_model_config(model), Endpoints.from_environment(), Console()
    folder = Path(endpoints.home) / "monitor" / config.name
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def tell(event: Tell) -> None:
        console.print(f"{event.reason}: {event.message}", markup=False)

    monitor = LocalMonitor(
        config.name, config.monitoring, folder,
        log=log or endpoints.prediction_log,
        champion=_champion_of(config.name),
        runs=LocalRuns(folder / "runs", shlex.split(command)) if command else None,
        said=tell,
    )  # fmt: skip
    said = ""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            status = monitor.turn()
            if status.message != said:
                said = status.message
                console.print(f"[bold]{status.phase}[/]", end=" ")
                console.print(said, markup=False)
            time.sleep(1.0)


def check(
    model: Folder,
    at: Annotated[
        datetime | None, typer.Option(help="Judge the window that ended then, UTC; default: now.")
    ] = None,
    version: Annotated[
        str, typer.Option("--version", "-v", help="Number or alias: 3, champion.")
    ] = "champion",
    log: Log = "",
) -> None:
    """Judge one window of what was served by `monitoring` of model.yaml; nothing is started.

    Ends with 0 if every metric is in its range, 3 if one has failed, 4 if none can tell yet.

        zeroskew monitor check pipelines/flight_delay --at 2013-05-06
    """
    from rich.console import Console

    from zeroskew.endpoints import Endpoints
    from zeroskew.errors import DataError
    from zeroskew.model_config import load_model_config
    from zeroskew.monitoring.measuring import measure
    from zeroskew.monitoring.served_profiles import ServedProfiles
    from zeroskew.registry import Registry

    config = load_model_config(model)
    number = str(Registry.from_environment().resolve(config.name, version))
    until = at.replace(tzinfo=UTC) if at else datetime.now(UTC)
    place = log or Endpoints.from_environment().prediction_log
    profiles, watch = ServedProfiles(place), config.monitoring
    reference = profiles.reference(config.name, number)
    if reference is None:
        raise DataError(
            f"version {number} of {config.name} has served nothing yet",
            where=place,
            mend="send it requests, or name the log with --log",
        )
    window = profiles.window(
        config.name, number, until - watch.window_length, until, watch.roles, reference
    )
    found = measure(watch.metrics, reference, window, watch.window.min_samples)
    console = Console()
    console.print(metrics_table(found))
    console.print(
        f"version {number}, {window.rows:,} predictions from {window.since:%Y-%m-%d %H:%M} to "
        f"{window.until:%Y-%m-%d %H:%M} UTC"
    )
    states = {each.state for each in found}
    if "Failed" in states:
        raise typer.Exit(DRIFTED)
    if not states & {"Stable", "Moderate"}:
        raise typer.Exit(INCONCLUSIVE)


def manifest(
    model: Folder,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace.")] = "default",
) -> None:
    """Print the DriftMonitor that watches the model on a cluster.

    zeroskew monitor manifest pipelines/flight_delay | kubectl apply -f -
    """
    from zeroskew.model_config import load_model_config
    from zeroskew.monitoring.monitor_config import monitor_manifest
    from zeroskew.rollout.manifests import to_yaml

    config = load_model_config(model)
    print(to_yaml([monitor_manifest(config.monitoring, config.name, namespace=namespace)]), end="")


def metrics_table(found: tuple[Measured, ...]) -> Table:
    """A row per metric: its state, and what was seen."""
    from rich.table import Table
    from rich.text import Text

    table = Table("metric", "state", "what was seen")
    for each in found:
        table.add_row(each.name, Text(each.state, TONES.get(each.state, "dim")), Text(each.message))
    return table


def _champion_of(model: str) -> Champion:
    """Asked anew at every call."""
    from zeroskew.registry import Registry

    registry = Registry.from_environment()

    def champion() -> tuple[str | None, str | None]:
        now = registry.champion(model)
        before = registry.alias(model, "previous")
        return (None if now is None else str(now), None if before is None else str(before))

    return champion
