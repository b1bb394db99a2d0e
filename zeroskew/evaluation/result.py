"""What an evaluation found, as plain values with a JSON form that travels between steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zeroskew.record import Measure


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts at a threshold; a score equal to it is a positive."""

    threshold: float
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def matrix(self) -> list[list[int]]:
        """Rows: label 0 and 1; columns: predicted 0 and 1."""
        return [
            [self.true_negative, self.false_positive],
            [self.false_negative, self.true_positive],
        ]

    @property
    def precision(self) -> float | None:
        """Share of the predicted positives that are; None if nothing was predicted positive."""
        predicted = self.true_positive + self.false_positive
        return self.true_positive / predicted if predicted else None

    @property
    def recall(self) -> float | None:
        """Share of the positives that were found."""
        positive = self.true_positive + self.false_negative
        return self.true_positive / positive if positive else None


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Rows of similar score: what was predicted on average, and how often it came true."""

    score: float
    rate: float
    rows: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Metrics of the rows with one value of one column.

    `note` says why `values` is empty, if it is: too few rows, or one class only.
    """

    column: str
    value: str
    rows: int
    base_rate: float
    values: Mapping[str, Measure] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Metrics:
    """What `evaluate` measured."""

    rows: int
    base_rate: float
    """Share of label 1."""
    values: Mapping[str, Measure]
    """By name, in the order of `METRICS`, with 95 % intervals."""
    confusion: Confusion
    roc: tuple[tuple[float, float, float], ...]
    """(false positive rate, true positive rate, threshold), at most 200 points."""
    calibration: tuple[CalibrationBin, ...]
    slices: tuple[Slice, ...] = ()
    bootstrap: int = 0
    seed: int = 0

    @property
    def baseline(self) -> dict[str, float]:
        """The same metrics of a model that says the base rate, of these very rows, every time."""
        rate = self.base_rate
        return {
            "auc": 0.5,
            "pr_auc": rate,
            "log_loss": -rate * math.log(rate) - (1 - rate) * math.log1p(-rate),
            "brier": rate * (1 - rate),
            "ece": 0.0,
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "base_rate": self.base_rate,
            "values": _measures_to_json(self.values),
            "confusion": {name: getattr(self.confusion, name) for name in Confusion.__slots__},
            "roc": [list(point) for point in self.roc],
            "calibration": [[b.score, b.rate, b.rows] for b in self.calibration],
            "slices": [
                {name: getattr(s, name) for name in Slice.__slots__}
                | {"values": _measures_to_json(s.values)}
                for s in self.slices
            ],
            "bootstrap": self.bootstrap,
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Metrics:
        return cls(
            rows=raw["rows"],
            base_rate=raw["base_rate"],
            values=_measures_from_json(raw["values"]),
            confusion=Confusion(**raw["confusion"]),
            roc=tuple((float(x), float(y), float(t)) for x, y, t in raw["roc"]),
            calibration=tuple(CalibrationBin(*entry) for entry in raw["calibration"]),
            slices=tuple(
                Slice(**(s | {"values": _measures_from_json(s["values"])})) for s in raw["slices"]
            ),
            bootstrap=raw["bootstrap"],
            seed=raw["seed"],
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who won, by how much, and why, in one sentence."""

    outcome: str
    """`first` (there is no champion), `wins` or `loses`, said of the challenger."""
    metric: str
    margin: float
    challenger: Measure
    champion: Measure | None
    difference: Measure | None
    """How much better the challenger is, in units of the metric: a loss that shrank is positive."""
    rows: int
    reason: str

    @property
    def challenger_wins(self) -> bool:
        return self.outcome != "loses"

    def to_json(self) -> dict[str, Any]:
        raw = {name: getattr(self, name) for name in Verdict.__slots__}
        for name in ("challenger", "champion", "difference"):
            raw[name] = None if raw[name] is None else raw[name].to_json()
        return raw

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Verdict:
        values = dict(raw)
        for name in ("challenger", "champion", "difference"):
            values[name] = None if raw[name] is None else Measure.from_json(raw[name])
        return cls(**values)


def _measures_to_json(values: Mapping[str, Measure]) -> dict[str, Any]:
    return {name: value.to_json() for name, value in values.items()}


def _measures_from_json(raw: Mapping[str, Any]) -> dict[str, Measure]:
    return {name: Measure.from_json(value) for name, value in raw.items()}
