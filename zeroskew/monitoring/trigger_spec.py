"""What a DriftMonitor does about drift, and how often at most.

The words of `DriftMonitor.spec.trigger` and of the `monitoring` section in model.yaml alike.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from zeroskew.rollout.rollout_steps import Length, Section, cel

DecisionField = Literal[
    "checksum",
    "reason",
    "message",
    "dominantMetric",
    "champion",
    "previous",
    "model",
    "windowStart",
    "windowEnd",
]

_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
_ONE = cel(("has(self.value) != has(self.valueFrom)", "exactly one of value and valueFrom"))

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,126}$", max_length=127)]


class Parameter(Section):
    """An argument of the pipeline: a text, or a field of the decision."""

    model_config = ConfigDict(json_schema_extra=_ONE)

    name: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$", max_length=63)]
    value: Annotated[str, Field(max_length=1024)] | None = None
    value_from: DecisionField | None = None

    @model_validator(mode="after")
    def _one(self) -> Parameter:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("exactly one of value and valueFrom")
        return self


class PipelineRef(Section):
    """A pipeline of KFP, by the names that its dashboard shows."""

    name: Name
    version_name: Name | None = None
    """Unset: the newest."""
    experiment: Name | None = None
    """Unset: KFP's default one; where it serves several users, the namespace's `Default`."""
    service_account: Annotated[
        str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", max_length=253)
    ] | None = None  # fmt: skip
    """Of the run's pods; unset: KFP's default one."""


class LabelGate(Section):
    """No retraining on what nobody has labelled."""

    min_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.6
    """Of the predictions older than `max_delay`, those whose label must have arrived."""
    max_delay: Length = "168h"
    """After which a label should be there."""


class Retry(Section):
    """How often a decision whose run failed is acted on again."""

    limit: Annotated[int, Field(ge=0, le=10)] = 3
    """Runs after the first one; when the last of them has failed, the decision is given up."""
    backoff: Length = "10m"
    """Pause before the first of them; each further pause is three times as long, at most a day."""


class Trigger(Section):
    """A run of a pipeline for each decision, and a further one when it failed."""

    policy: Literal["Automatic", "Manual", "Disabled"] = "Automatic"
    """Manual: waits for the annotation `zeroskew.dev/approve: <run name>`."""
    action: Literal["Retrain", "RollBack"] = "Retrain"
    """What the pipeline is for; said in events and in the record."""
    when: Literal["Any", "All"] = "Any"
    """Of the metrics with severity error."""
    pipeline_ref: PipelineRef | None = None
    parameters: Annotated[
        tuple[Parameter, ...], Field(max_length=64, json_schema_extra=_BY_NAME)
    ] = ()
    cooldown: Length = "24h"
    """Shortest time from one decision, and from the end of a run that succeeded, to the next
    decision. A run that failed is asked for again before that (see `retry`); when all runs of a
    decision have failed, the next one waits a day at most."""
    retry: Retry = Retry()
    concurrency_policy: Literal["Forbid", "Replace"] = "Forbid"
    """While a run goes on: none besides it, or a new one in its place."""
    max_runs_per_week: Annotated[int, Field(ge=1, le=100)] = 3
    """Of the decisions that led to a run; a decision counts once, however often it is retried."""
    run_deadline: Length = "48h"
    """A run that has not ended by then is stopped, and counts as failed."""
    labels: LabelGate | None = None
    """Needs reports of live performance."""
    run_history_limit: Annotated[int, Field(ge=1, le=50)] = 10
    dry_run: bool = False
    """Decisions are made and recorded, and nothing is started."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Trigger:
        names = [parameter.name for parameter in self.parameters]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"parameters: more than one is named {', '.join(twice)}")
        return self
