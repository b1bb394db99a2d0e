"""How long ago something was, in as few characters as `kubectl` needs."""

from __future__ import annotations

from datetime import datetime

__all__ = ["age"]


def age(moment: datetime | None, now: datetime) -> str:
    """`42s`, `7m`, `3h`, `5d`; empty if the moment is not known."""
    if moment is None:
        return ""
    seconds = max(0, int((now - moment).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
