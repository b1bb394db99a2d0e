"""Registry commands: list, show, lineage, history, promote, rollback, download."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from zeroskew.errors import ConfigError

if TYPE_CHECKING:
    from zeroskew.registry import ModelVersion, Registry

registry = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Model versions: lineage, champion, promotion, rollback.\n\n"
    "The registry is MLflow: the server that `ZEROSKEW_MLFLOW` names, or an embedded one (SQLite "
    "and a folder below `ZEROSKEW_HOME`). A version is named by number or alias: `3`, `champion`, "
    "`challenger`, `previous`.",
)

Name = Annotated[str, typer.Argument(help="Model, named after its folder.", metavar="MODEL")]
Version = Annotated[
    str, typer.Argument(help="Number or alias: 3, champion, challenger.", metavar="VERSION")
]
Reason = Annotated[
    str, typer.Option("--reason", "-r", help="Why, in one sentence; the history keeps it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(registry, name="registry")


def _open() -> Registry:
    from zeroskew.registry import Registry

    return Registry.from_environment()


@registry.command("list")
def list_(
    model: Annotated[
        str | None, typer.Argument(help="Model; all of them if left out.", metavar="[MODEL]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Models and their versions, newest first, with stage, aliases, metrics and verdict.

    zeroskew registry list
    zeroskew registry list flight_delay --json
    """
    store = _open()
    names = [model] if model else store.models()
    found = {name: list(reversed(store.versions(name))) for name in names}
    if as_json:
        _print_json({name: [_plain(v) for v in versions] for name, versions in found.items()})
        return
    console = Console()
    if not names:
        console.print("no model is registered yet; a training pipeline registers the first")
    for name, versions in found.items():
        table = Table(title=name, title_justify="left")
        for title in ("version", "stage", "aliases", "registered (UTC)", "metrics", "verdict"):
            table.add_column(title)
        for version in versions:
            table.add_row(
                str(version.version),
                version.stage or "[yellow]made by another tool[/]",
                ", ".join(version.aliases),
                f"{version.created:%Y-%m-%d %H:%M}",
                _metrics(version),
                _verdict(version),
            )
        console.print(table)


@registry.command()
def show(model: Name, version: Version = "champion", as_json: AsJson = False) -> None:
    """Everything recorded of one version, tag by tag.

    zeroskew registry show flight_delay champion
    """
    found = _open().version(model, version)
    if as_json:
        _print_json(_plain(found))
        return
    console = Console()
    table = Table(title=f"{model} version {found.version}", title_justify="left", show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("aliases", ", ".join(found.aliases) or "none")
    table.add_row("registered", f"{found.created:%Y-%m-%d %H:%M:%S} UTC")
    table.add_row("MLflow run", found.run_id)
    for name, value in sorted(found.tags.items()):
        table.add_row(_safe(name), _safe(value))
    console.print(table)


@registry.command()
def lineage(model: Name, version: Version = "champion") -> None:
    """Which data, which code, which features, at what cost, beaten whom, by how much.

    Works for deleted versions, too, as far as the promotion history knows them.

        zeroskew registry lineage flight_delay 3
    """
    Console().print(_open().lineage(model, version))


@registry.command()
def history(model: Name, as_json: AsJson = False) -> None:
    """Every change of champion, oldest first: when, by whom, and why.

    Entries are written once and outlive the versions they speak of.

        zeroskew registry history flight_delay
    """
    entries = _open().history(model)
    if as_json:
        _print_json([asdict(entry) for entry in entries])
        return
    console = Console()
    if not entries:
        console.print(f"no version of {model} was promoted yet")
        return
    table = Table(title=f"Champions of {model}", title_justify="left")
    for title in ("#", "when (UTC)", "what", "champion", "instead of", "by", "reason"):
        table.add_column(title, overflow="fold")
    for entry in entries:
        cells = (entry.number, entry.at.removesuffix("+00:00").replace("T", " "), entry.action,
                 entry.version, entry.replaced, entry.by, entry.reason)  # fmt: skip
        table.add_row(*("none" if cell is None else _safe(str(cell)) for cell in cells))
    console.print(table)


@registry.command()
def promote(
    model: Name,
    version: Version,
    reason: Reason,
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect", help="Refuse unless this version is the champion now; `none` for nobody."
        ),
    ] = None,
) -> None:
    """Make a version the champion. The one before becomes `previous` and is archived.

    A promotion that was broken off is completed by calling it again.

        zeroskew registry promote flight_delay challenger --reason "better by 0.004 AUC" --expect 1
    """
    from zeroskew.registry import ANY

    store = _open()
    number = store.resolve(model, version)
    entry = store.promote(
        model,
        number,
        reason,
        expected_champion=ANY if expect is None else _number(expect),
    )
    instead = "" if entry.replaced is None else f" instead of version {entry.replaced}"
    Console().print(
        f"version {entry.version} of {model} is champion{instead} (#{entry.number})", markup=False
    )


@registry.command()
def rollback(
    model: Name,
    reason: Reason,
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect",
            help="Version to roll back from; with it the command may safely be repeated.",
        ),
    ] = None,
) -> None:
    """Bring the previous champion back; once more for the one before it.

    zeroskew registry rollback flight_delay --reason "alerts after the rollout" --expect 2
    """
    from zeroskew.registry import ANY

    entry = _open().rollback(
        model, reason, expected_champion=ANY if expect is None else _number(expect)
    )
    Console().print(
        f"version {entry.version} of {model} is champion again instead of version "
        f"{entry.replaced} (#{entry.number})",
        markup=False,
    )


@registry.command()
def download(
    model: Name,
    version: Version,
    folder: Annotated[Path, typer.Argument(help="New folder for the files.", metavar="FOLDER")],
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="File or folder inside the version; repeatable."),
    ] = None,
) -> None:
    """Bring a version's files into a new folder, every one checked by its SHA-256.

    zeroskew registry download flight_delay champion ./champion
    zeroskew registry download flight_delay champion ./net --only export/model.onnx
    """
    from zeroskew.cli.tables import bars

    with bars() as progress:
        target = _open().download(
            model, version, folder, only=tuple(only or ()), on_progress=progress
        )
    Console().print(f"{target}: files are those that were registered", markup=False)


def _number(text: str) -> int | None:
    if text.lower() == "none":
        return None
    if not text.isdigit():
        raise ConfigError(
            f"{text!r} is not a version", where="--expect", mend="give a number, or `none`"
        )
    return int(text)


def _metrics(version: ModelVersion) -> str:
    try:
        found: dict[str, list[float]] = json.loads(version.tags["metrics"])
        return "  ".join(f"{_safe(name)} {value[0]:.4f}" for name, value in found.items())
    except (KeyError, ValueError, TypeError, IndexError, AttributeError):
        return ""


def _verdict(version: ModelVersion) -> str:
    verdict, against = version.tags.get("verdict", ""), version.tags.get("compared_against")
    return _safe(f"{verdict} against {against}" if against else verdict)


def _plain(version: ModelVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "stage": version.stage,
        "aliases": list(version.aliases),
        "registered": version.created.isoformat(),
        "run_id": version.run_id,
        "complete": version.complete,
        "tags": dict(version.tags),
    }


def _print_json(value: Any) -> None:
    Console(soft_wrap=True).print(json.dumps(value, indent=2), markup=False, highlight=False)


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape(text)
