"""Registry commands: versions, lineage, promotion, rollback."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
