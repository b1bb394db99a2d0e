"""The `rollout` section of model.yaml, and the ModelRollout that is made from it.

The words are those of the manifest, in snake_case. What a model's folder cannot know, the version
and its template, is given when the manifest is made.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from zeroskew.errors import ConfigError
from zeroskew.rollout.crd import GROUP, KIND, VERSION
from zeroskew.rollout.names import check_versions, label_value, rollout_name, service_name
from zeroskew.rollout.rollout_judging import Analysis
from zeroskew.rollout.rollout_spec import Entry, Rollback, check_judged, parse_spec
from zeroskew.rollout.rollout_steps import Section, Strategy

_LARGEST_VERSION = 999_999_999


class RolloutSection(Section):
    """How a new version of the model replaces the one that serves."""

    service: Entry = Entry()
    strategy: Strategy = Strategy()
    analysis: Analysis = Analysis()
    progress_deadline_seconds: Annotated[int, Field(ge=30, le=604_800)] = 1800
    rollback: Rollback = Rollback()
    revision_history_limit: Annotated[int, Field(ge=1, le=100)] = 10

    @model_validator(mode="after")
    def _judges_every_step(self) -> RolloutSection:
        check_judged(self.strategy, self.analysis)
        return self


def template_of(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """`spec.template` from what `serving_manifests` rendered (its ServiceAccount is shared by all
    models, and not a part of it).

    Raises `ConfigError` if they hold no InferenceService or no ServingRuntime.
    """
    kinds = {document["kind"]: document for document in documents}
    for kind in ("InferenceService", "ServingRuntime"):
        if kind not in kinds:
            raise ConfigError(f"there is no {kind} among the documents", where="rollout template")
    service = kinds["InferenceService"]
    template = {
        "labels": dict(service["metadata"].get("labels", {})),
        "annotations": dict(service["metadata"].get("annotations", {})),
        "inferenceService": service["spec"],
        "servingRuntime": kinds["ServingRuntime"]["spec"],
    }
    if "PodDisruptionBudget" in kinds:
        template["podDisruptionBudget"] = kinds["PodDisruptionBudget"]["spec"]
    return template


def rollout_manifest(
    section: RolloutSection,
    model: str,
    version: int,
    template: dict[str, Any],
    *,
    namespace: str,
    name: str | None = None,
) -> dict[str, Any]:
    """The ModelRollout that brings `version` to the users. `name`: default, the model's.

    Raises `ConfigError` for names that a cluster would refuse and for a section without gateways.
    """
    rollout = rollout_name(name or model)
    service_name(rollout, max(version, _LARGEST_VERSION))
    check_versions(rollout, version, namespace)
    if not section.service.gateway_refs:
        raise ConfigError(
            "no gateway is named",
            where="model.yaml: rollout.service.gateway_refs",
            mend="name the Gateway that requests come through: `gateway_refs: [{name: …}]`",
        )
    said = section.model_dump(mode="json", by_alias=True, exclude_none=True)
    spec = {
        "modelRef": {"name": model, "version": str(version)},
        "template": template,
        **said,
    }
    parse_spec(spec, where=f"ModelRollout {rollout}")
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {
            "name": rollout,
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/part-of": "zeroskew",
                f"{GROUP}/model": label_value(model),
            },
        },
        "spec": spec,
    }
