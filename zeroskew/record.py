"""The lineage record that follows a model version: which data, which code, what cost, how good.

The pipeline fills it in, the registry keeps it as the version's tags and as an artifact. It holds
strings, numbers and small mappings only, so that it survives any store as it is. What the record
is made of decides the version's identity: the same record registered twice is one version.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from zeroskew.errors import ConfigError, RegistryError
from zeroskew.model_config import Cost

FORMAT = 1
"""Number of this record's layout; a reader refuses a higher one instead of misreading it."""

TAG_LIMIT = 5_000
"""Characters per tag value that every MLflow server takes; longer values go on in `<tag>.1`, …"""

CODE_SHA_VARIABLE = "ZEROSKEW_CODE_SHA"


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with the interval that the bootstrap gives it (None where there is none)."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.4f}"
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def to_json(self) -> list[float | None]:
        return [self.value, self.low, self.high]

    @classmethod
    def from_json(cls, raw: Any) -> Measure:
        value, low, high = raw
        return cls(float(value), *(None if end is None else float(end) for end in (low, high)))


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """Everything about a model version that somebody will ask later.

    Raises `RegistryError` on construction if a field has the wrong type or is not finite.
    """

    model: str
    """Name of the model's folder."""
    data_hash: str
    """Content hash of the training set."""
    feature_service: str
    feature_schema_version: str
    """Hash of the feature definitions, request-time code included."""
    code_sha: str
    """Git commit, `-dirty` if the files differed from it."""
    image: str = ""
    """Container image of the training step."""
    data_rows: int | None = None
    data_start: str = ""
    """First moment (ISO 8601, UTC) of the training set's range."""
    data_end: str = ""
    """End of that range, excluded."""
    training_seconds: float | None = None
    compute_cost: float | None = None
    currency: str = ""
    calibration_hash: str = ""
    """Hash of the rows that calibrated INT8."""
    onnx_sha256: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by file name of the ONNX graphs."""
    precision: str = ""
    precision_reason: str = ""
    plans: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of TensorRT plans by key (ONNX hash, TensorRT version, compute capability)."""
    metrics: Mapping[str, Measure] = field(default_factory=dict)
    """Held-out metrics by name, with bootstrap intervals."""
    held_out_rows: int | None = None
    held_out_start: str = ""
    held_out_end: str = ""
    held_out_hash: str = ""
    compared_against: int | None = None
    """Champion's version that was scored on the same rows; None for a first version."""
    verdict: str = ""
    """`first`, `wins` or `loses`, as in `evaluation.Verdict.outcome`."""
    verdict_reason: str = ""
    compared_by: str = ""
    """Metric of the comparison."""
    margin: float | None = None
    difference: Measure | None = None
    """How much better than the champion, in units of that metric; negative is worse."""

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            object.__setattr__(self, name, _checked(name, kind, getattr(self, name)))

    @property
    def identity(self) -> str:
        """SHA-256 of the record. Fields left at their defaults do not enter, so that a field
        added by a later release leaves the identity of older records alone."""
        return hashlib.sha256(_compact(self.to_json()).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary without the fields that hold nothing."""
        raw: dict[str, Any] = {"format": FORMAT}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is None or value == "" or value == {}:
                continue
            if isinstance(value, Measure):
                value = value.to_json()
            elif isinstance(value, Mapping):
                value = {
                    key: item.to_json() if isinstance(item, Measure) else item
                    for key, item in value.items()
                }
            raw[entry.name] = value
        return raw

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], *, where: str = "version record") -> VersionRecord:
        """The reverse of `to_json`. Raises `RegistryError` on unknown, missing or wrong fields."""
        values = dict(raw)
        written = values.pop("format", None)
        if not isinstance(written, int) or not 1 <= written <= FORMAT:
            raise RegistryError(
                f"format {written!r} is not one this release reads (1 to {FORMAT})",
                where=where,
                mend="upgrade zeroskew: a newer release wrote it",
            )
        if unknown := sorted(values.keys() - _kinds().keys()):
            raise RegistryError(f"unknown fields: {', '.join(unknown)}", where=where)
        if missing := [name for name in REQUIRED if name not in values]:
            raise RegistryError(f"fields are missing: {', '.join(missing)}", where=where)
        try:
            for name, kind in _kinds().items():
                if name in values and kind == (Measure | None):
                    values[name] = Measure.from_json(values[name])
            if "metrics" in values:
                values["metrics"] = {
                    key: Measure.from_json(item) for key, item in values["metrics"].items()
                }
            return cls(**values)
        except (TypeError, ValueError, AttributeError) as error:
            raise RegistryError(f"cannot be read: {error}", where=where) from None

    def to_tags(self) -> dict[str, str]:
        """The record as MLflow tags: text as it is, everything else as compact JSON.

        Values longer than `TAG_LIMIT` go on in tags `<name>.1`, `<name>.2`, …
        """
        tags: dict[str, str] = {}
        for name, value in self.to_json().items():
            text = value if isinstance(value, str) else _compact(value)
            parts = [text[at : at + TAG_LIMIT] for at in range(0, len(text), TAG_LIMIT)] or [""]
            for position, part in enumerate(parts):
                tags[name if position == 0 else f"{name}.{position}"] = part
        return tags

    @classmethod
    def from_tags(cls, tags: Mapping[str, str], *, where: str = "version tags") -> VersionRecord:
        """The reverse of `to_tags`; tags that are not of the record are left alone.

        Raises `RegistryError` if required tags are missing or one cannot be read.
        """
        raw: dict[str, Any] = {}
        for name in ("format", *_kinds()):
            if name not in tags:
                continue
            text, position = tags[name], 1
            while (part := tags.get(f"{name}.{position}")) is not None:
                text, position = text + part, position + 1
            if _kinds().get(name) is str:
                raw[name] = text
                continue
            try:
                raw[name] = json.loads(text)
            except ValueError:
                raise RegistryError(f"tag `{name}` holds {text!r}", where=where) from None
        return cls.from_json(raw, where=where)


REQUIRED = ("model", "data_hash", "feature_service", "feature_schema_version", "code_sha")


def code_sha(folder: str | Path) -> str:
    """The commit that `folder`'s code is at: `$ZEROSKEW_CODE_SHA` if set (an image has no .git),
    else git's HEAD, with `-dirty` if a tracked file differs from it or the folder holds new files
    that git does not ignore; `unknown` outside a repository.
    """
    if given := os.environ.get(CODE_SHA_VARIABLE, "").strip():
        return given
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return "unknown"
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    added = _git(folder, "ls-files", "--others", "--exclude-standard", "--", ".")
    return f"{head}-dirty" if changed or added else head


def compute_cost(seconds: float, cost: Cost, *, cpus: float, gpus: float = 0) -> float:
    """Price of `seconds` on that many CPUs and GPUs, in `cost.currency`.

    Raises `ConfigError` if an amount is negative or not finite.
    """
    for name, amount in (("seconds", seconds), ("cpus", cpus), ("gpus", gpus)):
        if not math.isfinite(amount) or amount < 0:
            raise ConfigError(f"{name} is {amount}", where="compute cost", mend="give 0 or more")
    return seconds / 3600 * (cpus * cost.per_cpu_hour + gpus * cost.per_gpu_hour)


def _git(folder: str | Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


_KINDS: dict[str, Any] = {}


def _kinds() -> dict[str, Any]:
    if not _KINDS:
        _KINDS.update(get_type_hints(VersionRecord))
    return _KINDS


def _checked(name: str, kind: Any, value: Any) -> Any:
    """`value` if it is of `kind` (an int may stand for a float), else `RegistryError`."""
    optional = kind in (int | None, float | None, Measure | None)
    if optional and value is None:
        return None
    if kind is str and isinstance(value, str):
        if name in REQUIRED and not value:
            raise RegistryError(f"`{name}` is empty", where="version record")
        return value
    if kind == (int | None) and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == (float | None) and _finite(value):
        return float(value)
    if kind == (Measure | None) and _is_measure(value):
        return value
    if kind == Mapping[str, str] and isinstance(value, Mapping):
        if all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
            return dict(value)
    elif (
        kind == Mapping[str, Measure]
        and isinstance(value, Mapping)
        and all(isinstance(k, str) and _is_measure(v) for k, v in value.items())
    ):
        return dict(value)
    expected = getattr(kind, "__name__", str(kind)).replace("zeroskew.record.", "")
    raise RegistryError(
        f"`{name}` is {value!r}, which is not a (finite) {expected}", where="version record"
    )


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_measure(value: Any) -> bool:
    return (
        isinstance(value, Measure)
        and _finite(value.value)
        and all(end is None or _finite(end) for end in (value.low, value.high))
    )
