"""The objects that serve one version of a rollout, made from the template in its manifest.

A ServingRuntime, an InferenceService and, where the template has one, a PodDisruptionBudget, all
named `<rollout>-<version>` and owned by the ModelRollout: what it made goes when it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zeroskew.rollout.names import PREFIX, label_value, rollout_name, service_name
from zeroskew.rollout.readiness import TEMPLATE
from zeroskew.rollout.rollout_spec import RolloutSpec

ROLLOUT_LABEL = PREFIX + "rollout"
VERSION_LABEL = PREFIX + "version"
PART_OF = ("app.kubernetes.io/part-of", "zeroskew")

KINDS = (
    ("serving.kserve.io/v1alpha1", "ServingRuntime"),
    ("policy/v1", "PodDisruptionBudget"),
    ("serving.kserve.io/v1beta1", "InferenceService"),
)
"""In the order in which they are applied. The InferenceService is the last: it bears the digest by
which all of them count as applied."""


def version_objects(
    spec: RolloutSpec,
    rollout: str,
    namespace: str,
    *,
    owner: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Manifests of the version that the spec names, in the order of `KINDS`.

    `owner`: an owner reference to the ModelRollout. Raises `ConfigError` if the version's objects
    could not have their name.
    """
    template, version = spec.template, spec.model_ref.version
    name = service_name(rollout, int(version), namespace)
    labels = template.labels | {
        PART_OF[0]: PART_OF[1],
        "app.kubernetes.io/instance": name,
        PREFIX + "model": label_value(spec.model_ref.name),
        ROLLOUT_LABEL: label_value(rollout_name(rollout)),
        VERSION_LABEL: version,
    }
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": labels}
    if owner is not None:
        metadata["ownerReferences"] = [dict(owner)]
    service = dict(template.inference_service)
    model = service["predictor"].get("model")
    if isinstance(model, dict):
        service["predictor"] = service["predictor"] | {"model": model | {"runtime": name}}
    # Without a route of KServe's own: requests come through the rollout's.
    marked = metadata | {
        "labels": labels | {"networking.kserve.io/visibility": "cluster-local"},
        "annotations": {"serving.kserve.io/deploymentMode": "Standard"}
        | template.annotations
        | {TEMPLATE: spec.template_digest},
    }
    parts = [
        (KINDS[0], metadata, template.serving_runtime),
        (KINDS[1], metadata, template.pod_disruption_budget),
        (KINDS[2], marked, service),
    ]
    return [
        {"apiVersion": version_of, "kind": kind, "metadata": about, "spec": what}
        for (version_of, kind), about, what in parts
        if what is not None
    ]
