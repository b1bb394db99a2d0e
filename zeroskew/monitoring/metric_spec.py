"""What a DriftMonitor looks at, and how bad it must be for how long before it counts.

The words of `DriftMonitor.spec.metrics` and of the `monitoring` section in model.yaml alike.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from zeroskew.profiles import MODERATE, SIGNIFICANT
from zeroskew.rollout.rollout_judging import ThresholdRange
from zeroskew.rollout.rollout_steps import Length, Section, cel

MetricType = Literal[
    "PSI",
    "ScorePSI",
    "NullRate",
    "OutOfRange",
    "Freshness",
    "ConsistencyMismatch",
    "Performance",
]
Severity = Literal["info", "warn", "error"]

BY_FEATURE: frozenset[str] = frozenset({"PSI", "NullRate", "OutOfRange", "Freshness"})
"""Have a value per feature, or per feature view."""
FROM_REPORTS: frozenset[str] = frozenset({"ConsistencyMismatch", "Performance"})
"""Read from the newest report of a pipeline of their own."""

# The server has filled in the defaults before it asks.
_RULES = cel(
    (
        "self.type in ['PSI', 'NullRate', 'OutOfRange', 'Freshness'] || (self.minFeatures == 1"
        " && self.features.include == ['*'] && self.features.exclude.size() == 0)",
        "only PSI, NullRate, OutOfRange and Freshness have features",
    ),
    (
        "!(self.type in ['Freshness', 'Performance']) || has(self.thresholdRange)",
        "Freshness and Performance need a thresholdRange",
    ),
)
_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}

Pattern = Annotated[str, Field(pattern=r"^[A-Za-z_*?][A-Za-z0-9_*?.-]{0,126}$", max_length=127)]


class Features(Section):
    """Names, with `*` and `?` for any characters and any one."""

    include: Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=64)] = ("*",)
    exclude: Annotated[tuple[Pattern, ...], Field(max_length=64)] = ()


class DriftMetric(Section):
    """A number that must stay in its range."""

    model_config = ConfigDict(json_schema_extra=_RULES)

    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$", max_length=63)]
    type: MetricType
    threshold_range: ThresholdRange | None = None
    """Outside of it the metric has failed. Unset: PSI up to 0.25; 0.05 more rows without a value,
    or outside the training range, than in the training set; no inconsistent value. Freshness (age
    in seconds) and Performance (AUC) have no default."""
    features: Features = Features()
    min_features: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many features must be outside the range."""
    failure_limit: Annotated[int, Field(ge=1, le=1000)] = 2
    """Measurements in a row that must fail, each of other rows than the one before."""
    inconclusive_limit: Annotated[int, Field(ge=1, le=1000)] = 8
    """Inconclusive ones in a row, or such that could not be made, before the monitor says that it
    is blind."""
    max_age: Length = "48h"
    """How old a report may be that ConsistencyMismatch or Performance is read from."""
    severity: Severity = "error"
    """Only `error` is a reason to act; the others are shown and counted."""
    dry_run: bool = False
    """Shown, but never a reason to act."""

    @model_validator(mode="after")
    def _fits_its_type(self) -> DriftMetric:
        if self.type not in BY_FEATURE and (self.min_features != 1 or self.features != Features()):
            raise ValueError("only PSI, NullRate, OutOfRange and Freshness have features")
        if self.threshold_range is None and self.type in ("Freshness", "Performance"):
            raise ValueError(f"{self.type} needs a thresholdRange")
        return self

    @property
    def range(self) -> tuple[float | None, float | None]:
        """Least and greatest value that is all right."""
        if self.threshold_range is not None:
            return self.threshold_range.min, self.threshold_range.max
        return None, _DEFAULT_MOST[self.type]

    @property
    def moderate(self) -> float | None:
        """PSI from which on it is worth a closer look; None for other metrics."""
        most = self.range[1]
        if self.type not in ("PSI", "ScorePSI") or most is None:
            return None
        return min(MODERATE, most)

    @property
    def acts(self) -> bool:
        """Whether its failure is a reason to act."""
        return self.severity == "error" and not self.dry_run


_DEFAULT_MOST: dict[str, float] = {
    "PSI": SIGNIFICANT,
    "ScorePSI": SIGNIFICANT,
    "NullRate": 0.05,
    "OutOfRange": 0.05,
    "ConsistencyMismatch": 0.0,
}


def default_metrics() -> tuple[DriftMetric, ...]:
    """Features and scores may call for a new model; what is missing or new is told."""
    return (
        DriftMetric(name="feature-psi", type="PSI"),
        DriftMetric(name="score-psi", type="ScorePSI"),
        DriftMetric(name="null-rate", type="NullRate", severity="warn"),
        DriftMetric(name="out-of-range", type="OutOfRange", severity="warn"),
    )


Metrics = Annotated[
    tuple[DriftMetric, ...], Field(min_length=1, max_length=64, json_schema_extra=_BY_NAME)
]


def check_names(metrics: tuple[DriftMetric, ...]) -> None:
    """Raises `ValueError` if two have one name."""
    names = [metric.name for metric in metrics]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"metrics: more than one is named {', '.join(twice)}")
