"""The PipelineSchedules of a model, beside the pipelines that they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kfp.dsl.graph_component import GraphComponent

from pipelines.arguments import typed_arguments
from zeroskew.model_config import ModelConfig
from zeroskew.schedule.schedule_config import schedule_manifests

__all__ = ["schedule_documents"]

_ANY_MOMENT = "2026-01-01T00:00:00Z"


def schedule_documents(
    config: ModelConfig, pipelines: Mapping[str, GraphComponent], *, namespace: str, where: str
) -> list[dict[str, Any]]:
    """One for each entry of `schedules` in model.yaml; `pipelines` are the model's own, by kind.

    Raises `ConfigError`, with `where` in it, for arguments that a pipeline does not take: now, and
    not when the time comes.
    """
    for name, section in sorted(config.schedules.items()):
        given = {
            each.name: _ANY_MOMENT if each.value is None else each.value
            for each in section.parameters
        }
        typed_arguments(
            pipelines[section.pipeline], given, where=f"{where}: schedules.{name}.parameters"
        )
    return schedule_manifests(config.schedules, config.name, namespace=namespace)
