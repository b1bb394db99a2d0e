"""What a prediction log holds: the columns of one model version, and the settings of its spool.

Both are plain values with a JSON form: the front hands them to the process that ships the log, and
what a dead front leaves on disk still says what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from zeroskew.errors import ConfigError

FORMAT = 1
MIB = 1 << 20

NATURAL_KINDS = ("int64", "int32", "float64", "float32", "string", "bool", "bytes", "timestamp")
"""Kinds with a type of their own in the log; every other kind is text there."""

TEXT_KINDS = ("uuid", "time_uuid", "decimal", "json")
"""Kinds whose values are texts already; what is none of these and not natural becomes JSON."""

RESERVED = (
    "request_id", "row", "event_time", "model", "version", "date", "hour", "model_version", "role",
    "score", "degraded", "answered_at", "latency_us", "trace_id", "missing", "stale",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How the log is kept until it is shipped."""

    enabled: bool = True
    flush_seconds: float = 30.0
    """Age at which a segment becomes a Parquet file."""
    segment_bytes: int = 16 * MIB
    """Size at which it does so earlier."""
    spool_bytes: int = 1024 * MIB
    """Most bytes that one writer's segments take on disk; beyond it rows are dropped, counted."""
    redact: Mapping[str, str] = field(default_factory=dict)
    """Column to `drop` or `hash`."""

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> LogSettings:
        """Read `serving.log` of model.yaml; what is not there gets its default.

        Raises `ConfigError` on values that cannot work.
        """
        base = cls()
        try:
            settings = cls(
                enabled=bool(raw.get("enabled", True)),
                flush_seconds=float(raw.get("flush_seconds", base.flush_seconds)),
                segment_bytes=int(raw.get("segment_mib", base.segment_bytes / MIB) * MIB),
                spool_bytes=int(raw.get("spool_mib", base.spool_bytes / MIB) * MIB),
                redact=dict(raw.get("redact", {})),
            )
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error), where="serving.log") from None
        if min(settings.flush_seconds, settings.segment_bytes, settings.spool_bytes) <= 0:
            raise ConfigError("times and sizes must be above 0", where="serving.log")
        return settings


@dataclass(frozen=True, slots=True)
class LogSchema:
    """The columns of one version's log."""

    model: str
    version: str
    columns: Mapping[str, str]
    """Entity columns, request columns, then every feature as served, with their kind (those of
    `redis_layout.KINDS`)."""
    features: tuple[str, ...]
    """The columns that are features, in the order of `PredictionBatch.status`."""
    views: tuple[str, ...] = ()
    """In the order of `PredictionBatch.view_times`."""
    reference: Mapping[str, Any] | None = None
    """Profile of the training set, as JSON."""
    score_reference: Mapping[str, Any] | None = None
    """Profile of its scores, as JSON: one column `score`."""

    def __post_init__(self) -> None:
        if unknown := [name for name in self.features if name not in self.columns]:
            raise ConfigError(
                f"features without a column: {', '.join(unknown)}", where="prediction log"
            )
        names = [*map(parquet_name, self.columns), *map(age_name, self.views), *RESERVED]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(
                f"two columns would have the name {', '.join(twice)}",
                where="prediction log",
                mend="rename one of them in the feature definitions",
            )

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> LogSchema:
        """Raises `ValueError` or `KeyError` on what is no schema of this format."""
        if raw["format"] != FORMAT:
            raise ValueError(f"a log of format {raw['format']!r}; this reads {FORMAT}")
        return cls(
            model=raw["model"],
            version=raw["version"],
            columns=dict(raw["columns"]),
            features=tuple(raw["features"]),
            views=tuple(raw["views"]),
            reference=raw["reference"],
            score_reference=raw["score_reference"],
        )


def parquet_name(column: str) -> str:
    """What a column is called in the Parquet files.

    Its own name, unless the log or its partitions use that name themselves: a feature `hour` is
    `served_hour` there, because `hour` is a folder.
    """
    return f"served_{column}" if column in RESERVED else column


def age_name(view: str) -> str:
    """The column that holds how old a view's values were, milliseconds."""
    return f"age_{view}"
