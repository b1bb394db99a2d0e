"""By what a challenger is judged, and how many bad answers it may give before it is taken off.

The words of `ModelRollout.spec.analysis` and of the `rollout` section in model.yaml alike.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from zeroskew.rollout.rollout_steps import Interval, Section, cel

MetricType = Literal[
    "Disagreement",
    "ScoreDifference",
    "ScorePSI",
    "ErrorRatio",
    "LatencyRatio",
    "FeatureMismatch",
    "AUC",
]
PAIRED: frozenset[str] = frozenset({"Disagreement", "ScoreDifference", "FeatureMismatch"})
"""Need both versions' answers to the same request, which only a mirror gives."""
WITH_QUANTILE: frozenset[str] = frozenset({"ScoreDifference", "LatencyRatio"})

_ORDERED = cel(
    ("!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max")
)
_QUANTILE = cel(
    (
        "!has(self.quantile) || self.type in ['ScoreDifference', 'LatencyRatio']",
        "only ScoreDifference and LatencyRatio have a quantile",
    )
)
_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}

Bound = Annotated[float, Field(ge=-1e9, le=1e9)]


class ThresholdRange(Section):
    """Where a metric must stay; at least one end."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1} | _ORDERED)

    min: Bound | None = None
    max: Bound | None = None

    @model_validator(mode="after")
    def _a_range(self) -> ThresholdRange:
        if self.min is None and self.max is None:
            raise ValueError("needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min must not be above max")
        return self


class Metric(Section):
    """A number that compares challenger and champion."""

    model_config = ConfigDict(json_schema_extra=_QUANTILE)

    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$", max_length=63)]
    type: MetricType
    threshold_range: ThresholdRange
    min_samples: Annotated[int, Field(ge=1, le=1_000_000_000)] = 500
    """With fewer, it is inconclusive."""
    quantile: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Of ScoreDifference and LatencyRatio; unset: 0.99."""
    slices: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$", max_length=63)], ...],
        Field(max_length=8),
    ] = ()
    """Columns of the prediction log whose values are judged each by itself, too."""
    dry_run: bool = False
    """Shown, but never a reason to stop or to wait."""

    @model_validator(mode="after")
    def _fits_its_type(self) -> Metric:
        if self.quantile is not None and self.type not in WITH_QUANTILE:
            raise ValueError("only ScoreDifference and LatencyRatio have a quantile")
        return self


def _default_metrics() -> tuple[Metric, ...]:
    limits: tuple[tuple[str, MetricType, float], ...] = (
        ("disagreement", "Disagreement", 0.1),
        ("score-psi", "ScorePSI", 0.25),
        ("feature-mismatch", "FeatureMismatch", 0.01),
        ("errors", "ErrorRatio", 1.1),
        ("latency-p99", "LatencyRatio", 1.5),
    )
    return tuple(
        Metric(name=name, type=kind, threshold_range=ThresholdRange(max=most))
        for name, kind, most in limits
    )


class Analysis(Section):
    """Runs every `interval` while the challenger gets requests, at whatever step."""

    interval: Interval = "1m"
    failure_limit: Annotated[int, Field(ge=0, le=1000)] = 2
    """Failed analyses of one attempt that are put up with; one more takes the challenger off."""
    inconclusive_limit: Annotated[int, Field(ge=0, le=1000)] = 10
    """Inconclusive ones in a row after which the phase is Waiting, for somebody to look; it goes
    on by itself when there are samples enough."""
    consecutive_error_limit: Annotated[int, Field(ge=0, le=1000)] = 4
    """Analyses in a row that could not be made; one more takes the challenger off."""
    min_pairs: Annotated[int, Field(ge=1, le=1_000_000_000)] = 500
    """Requests that both versions must have answered before a shadow ends."""
    metrics: Annotated[
        tuple[Metric, ...],
        Field(min_length=1, max_length=16, json_schema_extra=_BY_NAME),
    ] = _default_metrics()

    @model_validator(mode="after")
    def _names_differ(self) -> Analysis:
        names = [metric.name for metric in self.metrics]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"metrics: more than one is named {', '.join(twice)}")
        return self

    def applicable(self, *, mirrored: bool) -> tuple[Metric, ...]:
        """Metrics that can be judged on mirrored requests, or on requests that were divided."""
        return tuple(each for each in self.metrics if mirrored or each.type not in PAIRED)
