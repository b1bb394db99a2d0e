"""How every command ends: a user's mistake is one message on stderr, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console

from zeroskew.errors import ZeroskewError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells count: 128 + SIGINT."""


def run(command: Callable[..., Any] | typer.Typer) -> None:
    """Parse `sys.argv`, call the command or the one that is asked for, and exit.

    The exit code is 0, the error's own (`ZeroskewError.exit_code`), 2 for a command line that
    makes no sense, or 130 after Ctrl-C.
    """
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
    except SystemExit as end:
        if end.code == INTERRUPTED:
            errors.print("interrupted; nothing half-written was kept")
        raise
