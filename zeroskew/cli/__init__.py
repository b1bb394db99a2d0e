"""The `zeroskew` command: subcommands grouped by what they work on.

Each group is a module of this folder with a Typer `app`; heavy libraries are imported inside the
commands, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import sys

import typer
from rich.console import Console

from zeroskew.errors import ZeroskewError

app = typer.Typer(
    name="zeroskew",
    help="Features computed once, for training and for serving, and proven row by row.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

GROUPS = ("features", "data", "export", "registry", "embedded")
"""Modules of this folder; each one's `register(app)` adds its commands."""


def main() -> None:
    """Entry point: a user's mistake is one message on stderr, never a traceback."""
    errors = Console(stderr=True, highlight=False)
    for group in GROUPS:
        importlib.import_module(f"zeroskew.cli.{group}").register(app)
    try:
        app(standalone_mode=True)
    except ZeroskewError as error:
        errors.print(f"[bold red]error[/] [dim]({error.reason})[/]")
        errors.print(str(error), markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        errors.print("interrupted; nothing half-written was kept")
        sys.exit(130)
