"""The `schedules` section of model.yaml, and the PipelineSchedules that are made from it.

The words are those of the manifest, in snake_case; in place of `pipelineRef` stands which of the
model's own pipelines it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from zeroskew.errors import ConfigError
from zeroskew.monitoring.trigger_spec import Name, PipelineRef
from zeroskew.rollout.crd_schema import GROUP, VERSION
from zeroskew.rollout.names import check_namespace, label_value, rollout_name
from zeroskew.schedule.crd import KIND, LONGEST_NAME
from zeroskew.schedule.schedule_spec import ScheduleSpec, Timing, parse_schedule

__all__ = [
    "PipelineName",
    "ScheduleSection",
    "Schedules",
    "pipeline_of",
    "schedule_manifests",
    "schedule_specs",
]

PipelineName = Literal[
    "training", "materialisation", "consistency-audit", "live-performance", "batch-prediction"
]


ServiceAccount = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]


class ScheduleSection(Timing):
    """When one of the model's pipelines runs by itself."""

    pipeline: PipelineName
    version_name: Name | None = None
    """Of the compiled pipeline; unset: always the newest."""
    experiment: Name | None = None
    """Of Kubeflow Pipelines; unset: the default one."""
    service_account: ServiceAccount | None = None
    """Of the run's pods; unset: the default one."""


ScheduleName = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$", max_length=40)]
Schedules = Annotated[dict[ScheduleName, ScheduleSection], Field(max_length=32)]
"""By a name of the owner's choice: `materialisation`, `nightly-audit`."""


def pipeline_of(model: str, pipeline: str) -> str:
    """Name of a model's pipeline in Kubeflow Pipelines."""
    return f"{model.replace('_', '-')}-{pipeline}"


def schedule_specs(schedules: Mapping[str, ScheduleSection], model: str) -> dict[str, ScheduleSpec]:
    """What the PipelineSchedules of a model say, by the names of these objects.

    Raises `ConfigError` for a name that is too long for a cluster.
    """
    return {name: parse_schedule(spec) for name, spec in _named(schedules, model)}


def schedule_manifests(
    schedules: Mapping[str, ScheduleSection], model: str, *, namespace: str = ""
) -> list[dict[str, Any]]:
    """The PipelineSchedules of a model. `namespace`: empty, whoever applies them says which.

    Raises `ConfigError` for names that a cluster would refuse.
    """
    place = {"namespace": check_namespace(namespace)} if namespace else {}
    labels = {
        "app.kubernetes.io/part-of": "zeroskew",
        "app.kubernetes.io/managed-by": "zeroskew",
        f"{GROUP}/model": label_value(model),
    }
    made = []
    for name, spec in _named(schedules, model):
        parse_schedule(spec, where=f"{KIND} {name}")
        made.append(
            {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "metadata": {"name": name, "labels": dict(labels), **place},
                "spec": spec,
            }
        )
    return made


def _named(
    schedules: Mapping[str, ScheduleSection], model: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for short, section in sorted(schedules.items()):
        name = f"{rollout_name(model)}-{short}"
        if len(name) > LONGEST_NAME:
            raise ConfigError(
                f"{name!r} has {len(name)} characters; a {KIND}'s name may have {LONGEST_NAME}",
                where=f"schedules.{short}",
                mend="give the schedule a shorter name",
            )
        spec = section.model_dump(mode="json", by_alias=True, exclude_none=True)
        reference = PipelineRef(
            name=pipeline_of(model, spec.pop("pipeline")),
            version_name=spec.pop("versionName", None),
            experiment=spec.pop("experiment", None),
            service_account=spec.pop("serviceAccount", None),
        )
        yield (
            name,
            {
                "pipelineRef": reference.model_dump(by_alias=True, exclude_none=True),
                **spec,
            },
        )
