"""Hour files of a prediction log, written by hand: any hour, role and writer, without a log."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

from zeroskew.profiles import Profile
from zeroskew.serving.log_profiles import FOLDER, FORMAT

LONG_AGO = 1_700_000_000
"""A time of change after which a file is taken to stay as it is, seconds."""


def hour_folder(log: Path, model: str, version: str, hour: datetime) -> Path:
    base = log / f"model={model}" / f"version={version}" / FOLDER
    return base / f"date={hour:%Y-%m-%d}" / f"hour={hour:%H}"


def write_hour(
    log: Path,
    hour: datetime,
    profile: Profile,
    *,
    model: str = "m",
    version: str = "1",
    role: str = "champion",
    writer: str = "w",
    missing: dict[str, int] | None = None,
    stale: dict[str, int] | None = None,
    ages: dict[str, tuple[int, float, float]] | None = None,
    changed: float = LONG_AGO,
) -> Path:
    """`ages`: count, mean and longest by view."""
    path = hour_folder(log, model, version, hour) / f"{role}-{writer}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {
        "format": FORMAT,
        "model": model,
        "version": version,
        "role": role,
        "writer": writer,
        "segments": [1],
        "start": hour.isoformat(),
        "end": hour.isoformat(),
        "rows": profile.rows,
        "degraded": 0,
        "missing": missing or {},
        "stale": stale or {},
        "feature_age": {
            view: {"count": count, "mean": mean if count else None, "max": most if count else None}
            for view, (count, mean, most) in (ages or {}).items()
        },
        "profile": profile.to_json(),
    }
    path.write_text(json.dumps(said))
    os.utime(path, (changed, changed))
    return path


def write_reference(log: Path, profile: Profile, model: str = "m", version: str = "1") -> Path:
    path = log / f"model={model}" / f"version={version}" / FOLDER / "reference.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {"format": FORMAT, "model": model, "version": version, "profile": profile.to_json()}
    path.write_text(json.dumps(said))
    return path
