"""The `zeroskew` command: subcommands grouped by what they work on.

Each group is a module of this folder with a Typer `app`; heavy libraries are imported inside the
commands, so that `--help` answers at once.
"""

from __future__ import annotations

import functools
import importlib

import typer

from zeroskew.cli.shell import run

GROUPS = (
    "features",
    "data",
    "export",
    "registry",
    "serving",
    "rollout",
    "monitor",
    "doctor",
    "schedule",
    "run_pipelines",
    "embedded",
)
"""Modules of this folder; each one's `register(app)` adds its commands."""


def main() -> None:
    """Entry point of the `zeroskew` command."""
    run(application())


@functools.cache
def application() -> typer.Typer:
    """The command with all its groups, put together once."""
    app = typer.Typer(
        name="zeroskew",
        help="Features computed once, for training and for serving, and proven row by row.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    for group in GROUPS:
        importlib.import_module(f"zeroskew.cli.{group}").register(app)
    return app
