"""serving.json of a version: what the front model needs to know, as plain values.

Written beside the read plan when a Triton repository is made from a registered version; read when
Triton loads the front. Where the store and the log are is not in it: those are endpoints.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroskew.errors import ConfigError
from zeroskew.features.read_plan import ReadPlan
from zeroskew.features.row import FeatureRow
from zeroskew.serving.request_identity import ROLES

FILE, PLAN_FILE = "serving.json", "read_plan.json"
GRAPH_FILE = "model.onnx"
REFERENCE_FILE, SCORES_FILE = "profile.json", "scores.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """One version's front."""

    model: str
    version: int
    plan: ReadPlan
    row: FeatureRow
    lookup: Mapping[str, Any]
    """`serving.features` of model.yaml."""
    log: Mapping[str, Any]
    """`serving.log` of model.yaml."""
    optional_columns: tuple[str, ...]
    reference: Mapping[str, Any] | None
    """Profile of the training set, as JSON."""
    score_reference: Mapping[str, Any] | None
    """Profile of the held-out scores, as JSON."""

    @classmethod
    def read(cls, folder: Path) -> FrontSettings:
        """Read a version's folder. Raises `ConfigError` that names the file."""
        raw = _json(folder / FILE)
        if raw.get("format") != FORMAT:
            raise ConfigError(
                f"format {raw.get('format')!r}; this server reads {FORMAT}",
                where=str(folder / FILE),
                mend="write the Triton repository with the release that the image was built from",
            )
        try:
            return cls(
                model=raw["model"],
                version=int(raw["version"]),
                plan=ReadPlan.from_json(_json(folder / PLAN_FILE)),
                row=FeatureRow.from_json(raw["row"]),
                lookup=raw["lookup"],
                log=raw["log"],
                optional_columns=tuple(raw["optional_columns"]),
                reference=_json_or_none(folder / REFERENCE_FILE),
                score_reference=_json_or_none(folder / SCORES_FILE),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"incomplete: {error!r}", where=str(folder)) from None


@dataclass(frozen=True, slots=True)
class FrontEndpoints:
    """Where a front finds its parts: variables of Triton's own environment."""

    redis: str
    """ZEROSKEW_REDIS."""
    redis_type: str
    """ZEROSKEW_REDIS_TYPE: `redis` (default), `redis_cluster` or `redis_sentinel`."""
    sink: str
    """ZEROSKEW_PREDICTION_LOG; empty: predictions are not logged."""
    spool: Path
    """ZEROSKEW_SPOOL; default: below the temporary folder."""
    role: str
    """ZEROSKEW_ROLE: what a request counts as that does not say; default champion."""
    flush_seconds: float | None = None
    """ZEROSKEW_LOG_FLUSH_SECONDS: in place of the version's own `serving.log.flush_seconds`."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> FrontEndpoints:
        """Raises `ConfigError` without a store, or for a role that is none."""
        env = os.environ if environment is None else environment
        redis = env.get("ZEROSKEW_REDIS", "")
        if not redis:
            raise ConfigError(
                "ZEROSKEW_REDIS is not set", mend="name the online store: host:port[,db=0,…]"
            )
        role = env.get("ZEROSKEW_ROLE") or "champion"
        if role not in ROLES:
            raise ConfigError(f"ZEROSKEW_ROLE is {role!r}", mend=f"give one of {', '.join(ROLES)}")
        return cls(
            redis=redis,
            redis_type=env.get("ZEROSKEW_REDIS_TYPE") or "redis",
            sink=env.get("ZEROSKEW_PREDICTION_LOG", ""),
            spool=Path(env.get("ZEROSKEW_SPOOL") or Path(tempfile.gettempdir()) / "zeroskew-spool"),
            role=role,
            flush_seconds=_seconds(env.get("ZEROSKEW_LOG_FLUSH_SECONDS", "")),
        )


def _seconds(text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.2 <= seconds <= 3600:
        raise ConfigError(
            f"{text!r} is no number of seconds from 0.2 to 3600", where="ZEROSKEW_LOG_FLUSH_SECONDS"
        )
    return seconds


def _json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            "is missing", where=str(path), mend="write the Triton repository again"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from None
    if not isinstance(raw, dict):
        raise ConfigError("must be a JSON object", where=str(path))
    return raw


def _json_or_none(path: Path) -> dict[str, Any] | None:
    return _json(path) if path.exists() else None
