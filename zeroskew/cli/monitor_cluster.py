"""`zeroskew monitor status` and `trigger`: on a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from zeroskew.cli.cluster_options import (
    Context,
    Kubeconfig,
    Namespace,
    Output,
    Outputs,
    opened,
    print_json,
)

NOT_STARTED, NOT_YET = 3, 4
ANSWER_SECONDS = 60.0

Name = Annotated[str, typer.Argument(help="Name of the DriftMonitor.", metavar="NAME")]


def register(monitor: typer.Typer) -> None:
    """Add these commands to the group `monitor`."""
    for command in (status, trigger):
        monitor.command()(command)


def status(
    name: Name,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    output: Output = Outputs.text,
) -> None:
    """Show a monitor as it is: metrics, runs, conditions, events.

    zeroskew monitor status flight-delay -n team
    """
    from rich.console import Console

    from zeroskew.cluster.monitor_drawing import draw_monitor
    from zeroskew.cluster.monitor_reading import read_monitor

    cluster, where = opened(context, kubeconfig, namespace)
    view = read_monitor(cluster, where, name)
    if output is Outputs.json:
        print_json(view)
    else:
        Console(highlight=False).print(draw_monitor(view))


def trigger(
    name: Name,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    output: Output = Outputs.text,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for the operator's answer; 0: none.", min=0.0)
    ] = ANSWER_SECONDS,
) -> None:
    """Start the monitor's pipeline now, without waiting for drift or for the cooldown.

    Never beside a run that goes on, nor beyond the weekly limit: the operator then says why not,
    and nothing waits in line. Ends with 0 if the run is asked for, 3 if not, 4 without an answer.

        zeroskew monitor trigger flight-delay -n team
    """
    from zeroskew.cluster import monitor_reading

    cluster, where = opened(context, kubeconfig, namespace)
    value = monitor_reading.trigger(cluster, where, name)
    answer = monitor_reading.wait_for_answer(cluster, where, name, value, seconds=wait)
    if output is Outputs.json:
        print_json(monitor_reading.read_monitor(cluster, where, name))
    elif answer is not None:
        print(f"{where}/{name}: {answer.reason}, {answer.message}")
    else:
        print(f"{where}/{name}: asked for ({value}); the operator has not answered yet")
    if answer is None:
        raise typer.Exit(NOT_YET if wait else 0)
    raise typer.Exit(0 if answer.taken else NOT_STARTED)
