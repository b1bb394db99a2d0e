"""What came of an analysis, and its JSON form: for a status, an artifact, a page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from zeroskew.errors import DataError
from zeroskew.rollout.analysis_metrics import Number
from zeroskew.rollout.rollout_judging import MetricType
from zeroskew.rollout.rollout_state import MetricSeen, Outcome

if TYPE_CHECKING:
    import polars as pl

FORMAT = 1
MOST_SEEN, LARGEST_SEEN = 32, 1e15
"""A status has no room for every slice, and its schema none for every number."""
Mode = Literal["shadow", "canary"]


@dataclass(frozen=True, slots=True)
class Question:
    """Which answers are compared."""

    log: str
    """Folder or s3:// prefix of the prediction log."""
    model: str
    champion: str
    challenger: str
    since: datetime
    until: datetime
    mode: Mode = "shadow"
    threshold: float = 0.5
    """Score from which on a decision is positive."""
    mirror_percent: int = 100
    """Share of the requests that the challenger gets a copy of. Below 100 nobody can tell a copy
    that was not answered from one that was not sent: none counts as an error."""


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric over all rows, or over those of one slice."""

    name: str
    type: MetricType
    outcome: Outcome
    number: Number
    low: float | None
    """The range it must stay in."""
    high: float | None
    dry_run: bool
    message: str
    slice: str = ""
    """`column=value`; empty: all rows."""

    def to_json(self) -> dict[str, Any]:
        number = self.number
        return {
            "name": self.name,
            "type": self.type,
            "slice": self.slice,
            "outcome": self.outcome,
            "value": _finite(number.value),
            "interval": {"low": _finite(number.low), "high": _finite(number.high)},
            "samples": number.samples,
            "thresholdRange": {"min": self.low, "max": self.high},
            "dryRun": self.dry_run,
            "message": self.message,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> MetricResult:
        value, low, high = raw["value"], raw["interval"]["low"], raw["interval"]["high"]
        unknown = value is None
        number = Number(
            math.nan if value is None else float(value),
            (math.nan if unknown else -math.inf) if low is None else float(low),
            (math.nan if unknown else math.inf) if high is None else float(high),
            int(raw["samples"]),
        )
        if raw["type"] not in get_args(MetricType) or raw["outcome"] not in get_args(Outcome):
            raise ValueError(f"neither metric nor outcome: {raw['type']}, {raw['outcome']}")
        wanted = raw["thresholdRange"]
        return cls(
            raw["name"], raw["type"], raw["outcome"], number, wanted["min"], wanted["max"],
            bool(raw["dryRun"]), raw["message"], raw["slice"],
        )  # fmt: skip


@dataclass(frozen=True)
class AnalysisResult:
    """What came of it, and for whoever looks closer, why."""

    question: Question
    outcome: Outcome
    message: str
    pairs: int
    champion_rows: int
    challenger_rows: int
    unanswered: int
    """Rows of the champion that the challenger had a copy of and did not answer."""
    uncalled: int
    """Rows of the challenger that the champion's log should hold and does not."""
    ambiguous: int
    """Request ids left out because a client used them more than once."""
    read_apart: int
    """Pairs left out of FeatureMismatch: a feature view was updated between the two reads."""
    metrics: tuple[MetricResult, ...]
    requests: int = 0
    """Of the champion while copies were sent, as far as both logs are complete."""
    copies: int = 0
    """Of these, those that the challenger answered as well."""
    differing: Mapping[str, int] = field(default_factory=dict)
    """By feature, the pairs in which it differs, of those not read apart."""
    examples: pl.DataFrame | None = field(default=None, compare=False)
    """The pairs whose scores differ most; not in the JSON form, as they hold what users sent."""
    scores: tuple[Any, Any] | None = field(default=None, compare=False)
    """Scores of champion and challenger; not in the JSON form."""
    paired_scores: tuple[Any, Any] | None = field(default=None, compare=False)
    """Those of the pairs, in the same order; not in the JSON form."""

    @property
    def worst_slices(self) -> tuple[MetricResult, ...]:
        """Slices that failed, those furthest outside their range first."""
        failed = [each for each in self.metrics if each.slice and each.outcome == "Failed"]
        return tuple(sorted(failed, key=_beyond, reverse=True))

    @property
    def seen(self) -> tuple[MetricSeen, ...]:
        """What a rollout's status tells of the metrics: those over all rows, then the slices that
        failed, the worst first; not more than `MOST_SEEN`."""
        whole = tuple(each for each in self.metrics if not each.slice)
        return tuple(
            MetricSeen(
                each.name, each.outcome, each.slice, _told(each.number.value),
                _told(each.number.low), _told(each.number.high), each.low, each.high, each.dry_run,
            )
            for each in (*whole, *self.worst_slices)[:MOST_SEEN]
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """A number that is not known, or has no bound, becomes null."""
        asked = self.question
        return {
            "format": FORMAT,
            "model": asked.model,
            "champion": asked.champion,
            "challenger": asked.challenger,
            "mode": asked.mode,
            "log": asked.log,
            "since": asked.since.isoformat(),
            "until": asked.until.isoformat(),
            "threshold": asked.threshold,
            "mirrorPercent": asked.mirror_percent,
            "outcome": self.outcome,
            "message": self.message,
            "pairs": self.pairs,
            "championRows": self.champion_rows,
            "challengerRows": self.challenger_rows,
            "unanswered": self.unanswered,
            "uncalled": self.uncalled,
            "ambiguous": self.ambiguous,
            "readApart": self.read_apart,
            "requests": self.requests,
            "copies": self.copies,
            "differing": dict(self.differing),
            "metrics": [each.to_json() for each in self.metrics],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> AnalysisResult:
        """Raises `DataError` for what is no result of this format."""
        try:
            if raw["format"] != FORMAT:
                raise ValueError(f"format {raw['format']!r}; this reads {FORMAT}")
            question = Question(
                raw["log"], raw["model"], raw["champion"], raw["challenger"],
                datetime.fromisoformat(raw["since"]), datetime.fromisoformat(raw["until"]),
                raw["mode"], raw["threshold"], raw["mirrorPercent"],
            )  # fmt: skip
            return cls(
                question, raw["outcome"], raw["message"], raw["pairs"], raw["championRows"],
                raw["challengerRows"], raw["unanswered"], raw["uncalled"], raw["ambiguous"],
                raw["readApart"], tuple(map(MetricResult.from_json, raw["metrics"])),
                # Results of earlier versions have no count of requests.
                raw.get("requests", 0), raw.get("copies", 0), dict(raw["differing"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"is no analysis: {error}", where="analysis") from None


def _beyond(each: MetricResult) -> float:
    value = each.number.value
    over = value - each.high if each.high is not None else -math.inf
    under = each.low - value if each.low is not None else -math.inf
    return max(over, under)


def _told(value: float) -> float | None:
    return float(f"{value:.6g}") if abs(value) < LARGEST_SEEN else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
