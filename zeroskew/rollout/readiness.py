"""Whether an InferenceService (Standard mode) serves what its spec says: more than its `Ready`.

KServe copies `status.observedGeneration` from the Deployment, and its `Ready` stays True through a
rolling update for as long as old pods answer, with `modelStatus` Loaded. So the Deployment is asked
first: whether it is of this spec, whether all of its pods are new, and whether there are as many as
autoscaling may not go below. More than that would call a version unready whenever it grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zeroskew.rollout.names import PREFIX
from zeroskew.rollout.rollout_observations import VersionSeen

TEMPLATE = PREFIX + "template"
"""Annotation of the InferenceService: `RolloutSpec.template_digest` that it was made from."""
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
"""Annotation that KServe gives the pods: where their model comes from."""

Object = Mapping[str, Any]


def deployment_name(inference_service: str) -> str:
    """The Deployment of an InferenceService's predictor."""
    return f"{inference_service}-predictor"


def version_seen(service: Object | None, deployment: Object | None) -> VersionSeen:
    """Both as the API server returns them; None: there is none.

    `ready` needs all of it; `available` one pod of the present or an older spec that answers.
    """
    if service is None:
        return VersionSeen(reason="there is no InferenceService")
    template = (service.get("metadata", {}).get("annotations") or {}).get(TEMPLATE)
    answering = _count(deployment, "availableReplicas") > 0
    going = service.get("metadata", {}).get("deletionTimestamp") is not None
    reason = "it is being deleted" if going else _unfit(service, deployment)
    return VersionSeen(
        exists=not going,
        ready=not reason,
        available=answering and not going,
        reason=reason,
        template=template,
    )


def _unfit(service: Object, deployment: Object | None) -> str:
    conditions = _conditions(service)
    if conditions.get("Stopped", {}).get("status") == "True":
        return "stopped by the annotation serving.kserve.io/stop"
    mode = service.get("status", {}).get("deploymentMode", "Standard")
    if mode not in ("Standard", "RawDeployment"):
        return f"in mode {mode}: annotate it with serving.kserve.io/deploymentMode=Standard"
    model = service.get("status", {}).get("modelStatus", {})
    if model.get("transitionStatus") in ("InvalidSpec", "BlockedByFailedLoad"):
        failure = model.get("lastFailureInfo") or {}
        detail = failure.get("message") or failure.get("reason") or "KServe gives no reason"
        return f"{model['transitionStatus']}: {detail}"
    return _behind(service, deployment) or _not_true(conditions, model)


def _behind(service: Object, deployment: Object | None) -> str:
    if deployment is None:
        return "KServe has not made its Deployment yet"
    predictor = service.get("spec", {}).get("predictor", {})
    wanted = (predictor.get("model") or {}).get("storageUri")
    pods = deployment.get("spec", {}).get("template", {}).get("metadata", {})
    given = (pods.get("annotations") or {}).get(SOURCE)
    if wanted is not None and given is not None and given != wanted:
        return f"its Deployment is still of {given}"
    meta, status = deployment.get("metadata", {}), deployment.get("status", {})
    if int(status.get("observedGeneration", 0)) < int(meta.get("generation", 0)):
        return "its Deployment's last change was not looked at yet"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Progressing" and condition.get("status") == "False":
            return f"{condition.get('reason', 'no progress')}: {condition.get('message', '')}"
    total, updated = _count(deployment, "replicas"), _count(deployment, "updatedReplicas")
    available = _count(deployment, "availableReplicas")
    # KServe's own default is 1; 0 would be a version that serves nobody.
    least = max(1, int(predictor.get("minReplicas", 1) or 1))
    if updated < total:
        return f"{total - updated} of {total} pods are of an older spec"
    if available < least:
        return f"{available} of {least} pods answer"
    return ""


def _not_true(conditions: Mapping[str, Object], model: Object) -> str:
    for kind in ("PredictorReady", "TransformerReady", "Ready"):
        condition = conditions.get(kind)
        if condition is None:
            if kind == "TransformerReady":
                continue
            return f"KServe does not say {kind} yet"
        if condition.get("status") != "True":
            detail = condition.get("message") or condition.get("reason") or ""
            return f"{kind} is {condition.get('status')}: {detail}".rstrip(": ")
    transition = model.get("transitionStatus")
    if transition not in (None, "UpToDate"):
        return f"its model is {transition}"
    return ""


def _conditions(service: Object) -> dict[str, Object]:
    found = service.get("status", {}).get("conditions") or ()
    return {str(each.get("type")): each for each in found}


def _count(deployment: Object | None, field: str) -> int:
    return int((deployment or {}).get("status", {}).get(field, 0) or 0)
