"""Run a Typer function as a command: a user's mistake is one message, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console

from zeroskew.errors import ZeroskewError


def run(command: Callable[..., Any] | typer.Typer) -> None:
    """Parse `sys.argv`, call the command, and exit as `zeroskew` does."""
    app = command
    if not isinstance(app, typer.Typer):
        app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
        app.command()(command)
    errors = Console(stderr=True, highlight=False)
    try:
        app()
    except ZeroskewError as error:
        errors.print(f"[bold red]error[/] [dim]({error.reason})[/]")
        errors.print(str(error), markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        errors.print("interrupted; nothing half-written was kept, no process was left")
        sys.exit(130)
