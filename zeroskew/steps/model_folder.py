"""A model's folder as the steps see it: its settings, its data script, moments of time."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from zeroskew.errors import ConfigError
from zeroskew.model_config import ModelConfig, load_model_config

_RELATIVE = re.compile(r"^now(?:\s*-\s*(?P<amount>\d+)\s*(?P<unit>[mhdw]))?$")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_config(model: str | Path) -> ModelConfig:
    """model.yaml of the folder. Raises `ConfigError` if its name is not the folder's name."""
    folder = Path(model)
    config = load_model_config(folder)
    if config.name != folder.resolve().name:
        raise ConfigError(
            f"`name` is {config.name!r}, but the folder is called {folder.resolve().name!r}",
            where=str(folder / "model.yaml"),
            mend="give both the same name: it is the name of the registered model, too",
        )
    return config


def prepare_data(
    model: str | Path, data_root: str, on_progress: Callable[[str, int, int], None] | None = None
) -> bool:
    """Run `prepare(data_root)` of the folder's data.py; False if there is none to run."""
    script = Path(model) / "data.py"
    if not script.is_file():
        return False
    name = f"_zeroskew_data_of_{Path(model).resolve().name}"
    spec = importlib.util.spec_from_file_location(name, script)
    if spec is None or spec.loader is None:
        raise ConfigError("cannot be imported", where=str(script))
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import does: a script may look itself up
    spec.loader.exec_module(module)
    if not hasattr(module, "prepare"):
        raise ConfigError(
            "has no function `prepare`",
            where=str(script),
            mend="define `prepare(data_root, on_progress=None)`, or remove the file",
        )
    module.prepare(data_root, on_progress)
    return True


def parse_moment(text: str, *, field: str, now: datetime | None = None) -> datetime:
    """A point in time, UTC: ISO 8601 (without an offset it is UTC), `now`, or such as `now-90d`.

    Relative moments (m, h, d, w) are for schedules, whose arguments stay the same for ever.
    """
    if match := _RELATIVE.match(text.strip()):
        moment = (now or datetime.now(UTC)).replace(microsecond=0)
        if match["amount"]:
            moment -= timedelta(**{_UNITS[match["unit"]]: int(match["amount"])})
        return moment
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(
            f"{text!r} is not a moment in time",
            where=field,
            mend="write 2013-01-31, 2013-01-31T06:00:00Z, now or now-90d",
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def parse_range(start: str, end: str) -> tuple[datetime, datetime]:
    """Start (included) and end (excluded) of a run. Raises `ConfigError` unless start < end."""
    now = datetime.now(UTC)
    first = parse_moment(start, field="start_time", now=now)
    last = parse_moment(end, field="end_time", now=now)
    if first >= last:
        raise ConfigError(
            f"start_time {first.isoformat()} is not before end_time {last.isoformat()}",
            mend="give a range of time with something in it",
        )
    return first, last
