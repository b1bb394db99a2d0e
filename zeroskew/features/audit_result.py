"""What an audit found: counts per feature, outcome and cause, examples, and how it went over time.

Plain values with a JSON form whose field names stay; a page, a metric and an exit code are made
from it, not the other way round.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

FORMAT = 1
CONSISTENT, INCONSISTENT, NO_ROWS = 0, 3, 4
"""Exit codes of an audit."""
Z95 = 1.959963984540054


def wilson(hits: int, total: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval of a share: 95 % by default; 0 to 1 where nothing was counted.

    E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.
    """
    if not total:
        return 0.0, 1.0
    share = hits / total
    scale = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / scale
    # At the ends rounding would keep the interval from holding the share itself.
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == total else min(1.0, centre + half)
    return low, high


@dataclass(frozen=True, slots=True)
class FeatureCounts:
    """One feature: how many of its values had which outcome, and why."""

    feature: str
    kind: str
    """Its declared type."""
    source: str
    """The feature view that stores it, or the on-demand view that computes it."""
    match: int
    mismatch: int
    missing: int
    extra: int
    causes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Outcome to cause to count."""

    @property
    def values(self) -> int:
        return self.match + self.mismatch + self.missing + self.extra

    @property
    def different(self) -> int:
        return self.mismatch + self.missing + self.extra

    @property
    def rate(self) -> float:
        """Share of values that are not what the join gives; NaN without values."""
        return self.different / self.values if self.values else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.different, self.values)

    @property
    def by_cause(self) -> dict[str, int]:
        """Over all outcomes, most frequent first."""
        total: dict[str, int] = {}
        for counted in self.causes.values():
            for cause, count in counted.items():
                total[cause] = total.get(cause, 0) + count
        return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True)
class Example:
    """One value that differs, with what the cause was told from."""

    feature: str
    outcome: str
    cause: str
    evidence: str
    served: Any
    """A number, text, boolean, moment as ISO 8601, or None."""
    joined: Any
    request_id: str
    row: int
    event_time: str
    answered_at: str
    entity: Mapping[str, Any]
    version: str
    role: str
    age_seconds: float | None
    """Event time minus the time of the served value."""


@dataclass(frozen=True, slots=True)
class Period:
    """Rows answered in one hour or day."""

    start: str
    """ISO 8601, UTC."""
    rows: int
    different: int
    """Rows of them with a difference in any feature."""


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What `audit` found. Rates are shares of rows; counts per feature are of values."""

    model: str
    service: str
    schema_version: str
    """Of the definitions that the rows were joined with."""
    versions: tuple[str, ...]
    """Model versions of the rows that were audited."""
    roles: tuple[str, ...]
    since: str | None
    """Start of the range asked for, ISO 8601; None: open."""
    until: str | None
    by: str
    """Which moment of a row the range is about: answered_at or event_time."""
    fraction: float
    """Share of the requests that were looked at."""
    rows: int
    different: int
    """Rows with a difference in any feature."""
    features: tuple[FeatureCounts, ...]
    examples: tuple[Example, ...]
    periods: tuple[Period, ...]
    period: str
    """`hour` or `day`."""
    not_audited: Mapping[str, str]
    """Features that could not be compared, with the reason."""
    tolerances: Mapping[str, float]
    audited_at: str
    seconds: float

    @property
    def rate(self) -> float:
        """Share of rows with a difference in any feature; NaN without rows."""
        return self.different / self.rows if self.rows else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `rate` (Wilson)."""
        return wilson(self.different, self.rows)

    @property
    def values(self) -> int:
        return sum(feature.values for feature in self.features)

    @property
    def by_cause(self) -> dict[str, int]:
        """Values that differ, by cause, most frequent first."""
        total: dict[str, int] = {}
        for feature in self.features:
            for cause, count in feature.by_cause.items():
                total[cause] = total.get(cause, 0) + count
        return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))

    def exit_code(self, max_mismatch: float = 0.0) -> int:
        """0 consistent, 3 if `rate` exceeds `max_mismatch`, 4 if there were no rows."""
        if not self.rows:
            return NO_ROWS
        return INCONSISTENT if self.rate > max_mismatch else CONSISTENT

    def to_json(self) -> dict[str, Any]:
        """As JSON, with the rates for readers that do not count themselves."""
        raw = asdict(self)
        low, high = self.interval
        raw |= {"format": FORMAT, "rate": _number(self.rate), "rate_low": low, "rate_high": high}
        raw["by_cause"] = self.by_cause
        for text, counts in zip(raw["features"], self.features, strict=True):
            low, high = counts.interval
            text |= {"rate": _number(counts.rate), "rate_low": low, "rate_high": high}
        made: dict[str, Any] = json.loads(json.dumps(raw))
        return made

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> AuditResult:
        """Raises `ValueError` or `KeyError` on what is no result of this format."""
        if raw.get("format") != FORMAT:
            raise ValueError(f"an audit of format {raw.get('format')!r}; this reads {FORMAT}")
        plain = {name: raw[name] for name in cls.__dataclass_fields__}
        plain["features"] = tuple(_of(FeatureCounts, each) for each in raw["features"])
        plain["examples"] = tuple(_of(Example, each) for each in raw["examples"])
        plain["periods"] = tuple(_of(Period, each) for each in raw["periods"])
        plain["versions"], plain["roles"] = tuple(raw["versions"]), tuple(raw["roles"])
        return cls(**plain)


def moment_text(moment: datetime) -> str:
    """A moment as the result writes it."""
    return moment.isoformat()


def _of(kind: Any, raw: Mapping[str, Any]) -> Any:
    return kind(**{name: raw[name] for name in kind.__dataclass_fields__})


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
