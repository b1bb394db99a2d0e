"""Commands of the local stack: up, down, status."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(up)
    app.command()(down)
    app.command()(status)


def _folder() -> Path:
    from zeroskew.endpoints import Endpoints

    return Path(Endpoints.from_environment().home) / "valkey"


def up() -> None:
    """Start the local stack's servers and leave them running.

    Not needed for single commands, which start what they use and end it again; it keeps the
    online store up between them, and for your own programs.

        zeroskew up
        export ZEROSKEW_REDIS=…   (as printed)
    """
    from zeroskew.embedded import valkey

    address = valkey.ensure(_folder(), detached=True)
    console = Console(highlight=False)
    console.print(f"online store (Valkey) answers at [bold]{address}[/]")
    console.print(f"export ZEROSKEW_REDIS={address}")


def down() -> None:
    """Save and end what `zeroskew up` started. The data stays.

    zeroskew down
    """
    from zeroskew.embedded import valkey

    ended = valkey.shut_down(_folder())
    Console().print("online store ended, its data is kept" if ended else "nothing was running")


def status() -> None:
    """Show what runs, where it answers and where its data is.

    zeroskew status
    """
    from zeroskew.embedded import valkey

    folder = _folder()
    running = valkey.find(folder)
    table = Table(title="Local stack")
    for title in ("part", "state", "address", "lives", "data"):
        table.add_column(title)
    saved = folder / "valkey.rdb"
    size = f"{saved.stat().st_size / 1e6:.1f} MB in {folder}" if saved.exists() else str(folder)
    table.add_row(
        "online store (Valkey)",
        "[green]running[/]" if running else "stopped",
        running.address if running else "",
        ("until zeroskew down" if running.detached else "with the process that started it")
        if running
        else "",
        size,
    )
    Console().print(table)
