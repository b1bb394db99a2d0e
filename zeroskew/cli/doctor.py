"""`zeroskew doctor`: what a cluster lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zeroskew.cli.cluster_options import Context, Kubeconfig, Output, Outputs, opened, print_json

if TYPE_CHECKING:
    from zeroskew.cluster.doctor.observations import Finding

TONES = {"ok": "green", "warning": "yellow", "problem": "bold red", "not checkable": "dim"}


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command()(doctor)


def doctor(
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", "-n", help="Namespace of models; more than one may be named."),
    ] = None,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    output: Output = Outputs.text,
) -> None:
    """Look at a cluster and say what is missing or of a wrong version, with a hint for each.

    Reads only, with whatever rights you have: what they do not let you see is *not checkable*, and
    the right is named. Ends with 1 if there is a problem.

        zeroskew doctor -n team
    """
    from zeroskew.cluster.doctor.checks import check_all
    from zeroskew.cluster.doctor.reading import read_cluster

    cluster, where = opened(context, kubeconfig, (namespace or [""])[0])
    spaces = list(dict.fromkeys(namespace or [where]))
    findings = check_all(read_cluster(cluster, spaces))
    if output is Outputs.json:
        for finding in findings:
            print_json(finding)
    else:
        _print(findings, cluster.named)
    raise typer.Exit(1 if any(each.state == "problem" for each in findings) else 0)


def _print(findings: tuple[Finding, ...], named: str) -> None:
    from collections import Counter

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("about", "", "what was found"):
        table.add_column(column, overflow="fold")
    for each in findings:
        text = Text(each.message)
        if each.hint:
            text.append(f"\n→ {each.hint}", "dim")
        table.add_row(each.about, Text(each.state, TONES[each.state]), text)
    console = Console(highlight=False)
    console.print(table)
    counted: Counter[str] = Counter(each.state for each in findings)
    said = ", ".join(f"{counted[state]} {state}" for state in TONES if counted[state])
    console.print(f"\n{named}: {said}", markup=False)
