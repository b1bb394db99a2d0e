"""`zeroskew rollout` on a cluster: status, watch, approve, abort, pause, resume, retry."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from zeroskew.cluster.rollout_reading import RolloutView
    from zeroskew.cluster.rollout_requests import Asked

ROLLED_BACK, NOT_YET = 3, 4
"""Exit codes of `watch`, as those of `analyse`: the version failed; nobody can tell yet."""

Name = Annotated[str, typer.Argument(help="Name of the ModelRollout.", metavar="NAME")]
Version = Annotated[
    str | None,
    typer.Option("--version", "-v", help="Refused unless it is this version that is under trial."),
]


def register(rollout: typer.Typer) -> None:
    """Add these commands to the group `rollout`."""
    for command in (status, watch, approve, abort, pause, resume, retry):
        rollout.command()(command)


def status(
    name: Name,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    output: Output = Outputs.text,
) -> None:
    """Show a rollout as it is: steps, weights, metrics, versions, conditions, events.

    zeroskew rollout status flight-delay -n team
    """
    from rich.console import Console

    from zeroskew.cluster.rollout_drawing import draw_rollout
    from zeroskew.cluster.rollout_reading import read_rollout

    cluster, where = opened(context, kubeconfig, namespace)
    view = read_rollout(cluster, where, name)
    if output is Outputs.json:
        print_json(view)
    else:
        Console(highlight=False).print(draw_rollout(view))


def watch(
    name: Name,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    output: Output = Outputs.text,
    version: Annotated[
        str | None,
        typer.Option("--version", "-v", help="Wait for this version to be named, then decided."),
    ] = None,
    timeout: Annotated[
        str, typer.Option(help="Longest wait, such as 90s, 45m or 2h; default: none.")
    ] = "",
) -> None:
    """Follow a rollout until it has ended, or Ctrl-C, which changes nothing on the cluster.

    Ends with 0 if the version was promoted, 3 if it was taken off or cannot get ready, 4 after the
    timeout, 1 if the rollout was deleted. An API server that goes away is waited for.

        zeroskew rollout watch flight-delay -n team --version 3 --timeout 2h
    """
    from zeroskew.cli.rollout_screen import Lines, Screen, shown
    from zeroskew.cluster.rollout_following import follow
    from zeroskew.errors import ConfigError
    from zeroskew.rollout.rollout_steps import as_timedelta

    longest = as_timedelta(timeout) if timeout else None
    if longest == timedelta(0):
        raise ConfigError(
            f"{timeout!r} is not a duration", where="--timeout", mend="write 90s or 2h"
        )
    cluster, where = opened(context, kubeconfig, namespace)
    screen = Lines(json=True) if output is Outputs.json else Screen.fitting()
    last = shown(follow(cluster, where, name), screen, version, longest)
    if last is None:
        raise typer.Exit(NOT_YET)
    if last.gone:
        raise typer.Exit(1)
    raise typer.Exit(0 if _outcome(last.view) == "Succeeded" else ROLLED_BACK)


def approve(
    name: Name,
    version: Version = None,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    output: Output = Outputs.text,
) -> None:
    """Let the version that waits for approval go on.

    zeroskew rollout approve flight-delay --version 3 -n team
    """
    from zeroskew.cluster import rollout_requests

    cluster, where = opened(context, kubeconfig, namespace)
    _told(rollout_requests.approve(cluster, where, name, version), output)


def abort(
    name: Name,
    version: Version = None,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    output: Output = Outputs.text,
) -> None:
    """Take the version under trial off; `retry` or a changed manifest tries it again.

    zeroskew rollout abort flight-delay -n team
    """
    from zeroskew.cluster import rollout_requests

    cluster, where = opened(context, kubeconfig, namespace)
    _told(rollout_requests.abort(cluster, where, name, version), output)


def pause(
    name: Name,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    output: Output = Outputs.text,
) -> None:
    """Keep the weights as they are until `resume`; a version that fails is still taken off.

    zeroskew rollout pause flight-delay -n team
    """
    from zeroskew.cluster import rollout_requests

    cluster, where = opened(context, kubeconfig, namespace)
    _told(rollout_requests.pause(cluster, where, name), output)


def resume(
    name: Name,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    output: Output = Outputs.text,
) -> None:
    """End a pause by hand.

    zeroskew rollout resume flight-delay -n team
    """
    from zeroskew.cluster import rollout_requests

    cluster, where = opened(context, kubeconfig, namespace)
    _told(rollout_requests.resume(cluster, where, name), output)


def retry(
    name: Name,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    output: Output = Outputs.text,
) -> None:
    """Try a version once more that was taken off.

    zeroskew rollout retry flight-delay -n team
    """
    from zeroskew.cluster import rollout_requests

    cluster, where = opened(context, kubeconfig, namespace)
    _told(rollout_requests.retry(cluster, where, name), output)


def _told(asked: Asked, output: Outputs) -> None:
    if output is Outputs.json:
        print_json(asked)
        return
    print(f"{asked.namespace}/{asked.name}: {asked.message}")
    print(f"zeroskew rollout watch {asked.name} -n {asked.namespace} shows what comes of it")


def _outcome(view: RolloutView | None) -> str:
    return view.outcome if view is not None else ""
