"""What is watched, how often, and what follows: `DriftMonitor.spec`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from zeroskew.monitoring.metric_spec import Metrics, check_names, default_metrics
from zeroskew.monitoring.trigger_spec import Trigger
from zeroskew.rollout.rollout_spec import parse_section
from zeroskew.rollout.rollout_steps import Section, as_timedelta, between, cel, duration_field

Often = Annotated[str, duration_field("1s", "24h"), AfterValidator(between("1s", "24h"))]
Long = Annotated[str, duration_field("1m", "2160h"), AfterValidator(between("1m", "2160h"))]

_SOURCE = cel(
    ("self.type != 'Prometheus' || has(self.uri)", "Prometheus needs its address in uri"),
    (
        "!has(self.uri) || self.uri.startsWith('http') == (self.type == 'Prometheus')",
        "uri is no place for the type",
    ),
)
_COOLDOWN = (
    "duration(self.trigger.cooldown) >= duration(self.interval)",
    "trigger.cooldown must not be shorter than interval",
)
_PIPELINE = (
    "self.trigger.policy == 'Disabled' || self.trigger.dryRun || has(self.trigger.pipelineRef)",
    "name the pipeline in trigger.pipelineRef, or set policy: Disabled or dryRun",
)


class ModelName(Section):
    """A registered model. Whichever version is its champion is watched."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", max_length=63)]


class MeasuredWindow(Section):
    """Predictions that are looked at together."""

    duration: Long = "24h"
    """Up to now, by the time that the requests asked about; begun hours count as a whole."""
    min_samples: Annotated[int, Field(ge=500, le=1_000_000_000)] = 1000
    """With fewer, every verdict is inconclusive and none an alarm."""


class Source(Section):
    """Where what was served is read from."""

    model_config = ConfigDict(json_schema_extra=_SOURCE)

    type: Literal["Profiles", "Predictions", "Prometheus"] = "Profiles"
    """The profiles beside the prediction log (at the same cost whatever the traffic), its rows, or
    the counters that Prometheus has scraped from Triton."""
    uri: Annotated[
        str, Field(pattern=r"^(s3://|https?://|/)[^\s]+$", max_length=1024)
    ] | None = None  # fmt: skip
    """The log's folder or s3:// prefix, or Prometheus' address; unset: the operator's own."""


class Watch(Section):
    """What model.yaml can say: everything but the model."""

    suspend: bool = False
    """Measures nothing and starts nothing; a run under way is followed to its end."""
    interval: Often = "15m"
    moderate_interval: Often | None = None
    """While something is moderate (PSI from 0.1 on) or failing; unset: a quarter of `interval`."""
    window: MeasuredWindow = MeasuredWindow()
    source: Source = Source()
    roles: Annotated[
        tuple[Literal["champion", "canary", "shadow"], ...], Field(min_length=1, max_length=3)
    ] = ("champion", "canary")
    """Predictions of these roles count."""
    metrics: Metrics = default_metrics()
    trigger: Trigger = Trigger()

    @model_validator(mode="after")
    def _fits_together(self) -> Watch:
        check_names(self.metrics)
        if as_timedelta(self.trigger.cooldown) < as_timedelta(self.interval):
            raise ValueError("trigger.cooldown must not be shorter than interval")
        if self.source.type == "Prometheus" and self.source.uri is None:
            raise ValueError("source: Prometheus needs its address in uri")
        kind = "http" if self.source.type == "Prometheus" else ("s3://", "/")
        if self.source.uri is not None and not self.source.uri.startswith(kind):
            raise ValueError(f"source: {self.source.uri} is no place for {self.source.type}")
        return self

    @property
    def window_length(self) -> timedelta:
        return as_timedelta(self.window.duration)

    def next_after(self, *, close: bool) -> timedelta:
        """Until the next measurement; `close`: something is moderate or failing."""
        usual = as_timedelta(self.interval)
        if not close:
            return usual
        if self.moderate_interval is not None:
            return min(usual, as_timedelta(self.moderate_interval))
        return max(usual / 4, min(usual, timedelta(seconds=1)))


class MonitorSpec(Watch):
    """`DriftMonitor.spec`."""

    model_config = ConfigDict(json_schema_extra=cel(_COOLDOWN, _PIPELINE))

    model_ref: ModelName

    @model_validator(mode="after")
    def _can_act(self) -> MonitorSpec:
        trigger = self.trigger
        starts = trigger.policy != "Disabled" and not trigger.dry_run
        if starts and trigger.pipeline_ref is None:
            raise ValueError(
                "trigger: name the pipeline in pipelineRef, or set policy: Disabled or dryRun"
            )
        return self


def parse_monitor(raw: object, *, where: str = "DriftMonitor") -> MonitorSpec:
    """`raw`: the spec of a manifest, as JSON gives it.

    Raises `ConfigError` that names every wrong field by its path.
    """
    return parse_section(MonitorSpec, raw, where=where)
