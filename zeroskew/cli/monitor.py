"""Monitoring commands; each is a module `monitor_….py` of this folder."""

from __future__ import annotations

import importlib

import typer

monitor = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="What serving does, seen beside what was trained on: drift, freshness, performance.",
)

COMMANDS = (
    "monitor_run",
    "monitor_performance",
    "monitor_freshness",
    "monitor_page",
    "monitor_report",
    "monitor_cluster",
)
"""Modules of this folder; each one's `register(monitor)` adds its commands."""


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    for name in COMMANDS:
        importlib.import_module(f"zeroskew.cli.{name}").register(monitor)
    app.add_typer(monitor, name="monitor")
