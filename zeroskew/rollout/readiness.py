"""Whether an InferenceService (Standard mode) serves what its spec says: more than its `Ready`.

KServe copies `status.observedGeneration` from the Deployment, and its `Ready` stays True through a
rolling update for as long as old pods answer, with `modelStatus` Loaded. So the Deployment is asked
first: whether it is of this spec, whether all of its pods are new, and whether there are as many as
autoscaling may not go below.

The other way round, every change of the number of pods takes `Ready` away: while a pod more is
started, and for as long as it cannot start, the Deployment has `MinimumReplicasUnavailable` or
`FailedCreate`, and the model is Pending, Loading or failed by what one pod says. Pods that were
ready once do not get worse by that. So a version is `ready` or only `steady`; the machine remembers
with which pods it was ready, and lets `steady` do for the same ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from zeroskew.rollout.names import PREFIX
from zeroskew.rollout.rollout_observations import VersionSeen

__all__ = ["SOURCE", "TEMPLATE", "deployment_name", "slim_deployment", "version_seen"]

TEMPLATE = PREFIX + "template"
"""Annotation of the InferenceService: `RolloutSpec.template_digest` that it was made from. KServe
gives its pods the same annotations."""
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
"""Annotation that KServe gives the pods: where their model comes from."""

Object = Mapping[str, Any]

_DIGEST = "digest"
_LONGEST_REASON = 1_000
_ERROR_LINE = re.compile(r"\b(ERROR|CRITICAL|FATAL)\b")


def deployment_name(inference_service: str) -> str:
    """The Deployment of an InferenceService's predictor."""
    return f"{inference_service}-predictor"


def slim_deployment(deployment: Object) -> dict[str, Any]:
    """What `version_seen` reads of a Deployment: its pods' spec as a digest."""
    spec = deployment.get("spec") or {}
    template = spec.get("template") or {}
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    digest = template.get(_DIGEST) or hashlib.sha256(text.encode()).hexdigest()
    kept = {"metadata": template.get("metadata") or {}, _DIGEST: digest}
    return {**deployment, "spec": {"replicas": spec.get("replicas"), "template": kept}}


def version_seen(
    service: Object | None, deployment: Object | None, warning: str = ""
) -> VersionSeen:
    """Both as the API server returns them, or by `slim_deployment`; None: there is none.

    `warning`: KServe's newest warning about the InferenceService, for when nothing else tells why
    there is no Deployment.
    """
    if service is None:
        return VersionSeen(reason="there is no InferenceService")
    if deployment is not None:
        deployment = slim_deployment(deployment)
    template = (service.get("metadata", {}).get("annotations") or {}).get(TEMPLATE)
    answering = _count(deployment, "availableReplicas") > 0
    if service.get("metadata", {}).get("deletionTimestamp") is not None:
        return VersionSeen(reason="it is being deleted", template=template)
    off = _off(service)
    stale = "" if deployment is None else _older(service, deployment)
    few = "" if deployment is None else _few(service, deployment)
    reason = (
        off or _failed(service) or _undeployed(service, deployment, warning)
        or stale or _lagging(deployment) or _refused(deployment) or few or _not_true(service)
    )  # fmt: skip
    return VersionSeen(
        exists=True,
        ready=not reason,
        steady=deployment is not None and not (off or stale or few) and _fits(service),
        available=answering,
        reason=reason,
        template=template,
        pods=deployment["spec"]["template"][_DIGEST] if deployment is not None else None,
    )


def _off(service: Object) -> str:
    if _conditions(service).get("Stopped", {}).get("status") == "True":
        return "stopped by the annotation serving.kserve.io/stop"
    mode = service.get("status", {}).get("deploymentMode", "Standard")
    if mode not in ("Standard", "RawDeployment"):
        return f"in mode {mode}: annotate it with serving.kserve.io/deploymentMode=Standard"
    return ""


def _failed(service: Object) -> str:
    model = _model(service)
    if model.get("transitionStatus") not in ("InvalidSpec", "BlockedByFailedLoad"):
        return ""
    failure = model.get("lastFailureInfo") or {}
    detail = _last_error(failure.get("message") or "") or failure.get("reason")
    return f"{model['transitionStatus']}: {detail or 'KServe gives no reason'}"


def _last_error(log: str) -> str:
    """KServe's message is the end of a container's log: its last line of an error, or its last."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    wrong = [line for line in lines if _ERROR_LINE.search(line)]
    return (wrong or lines or [""])[-1][:_LONGEST_REASON]


def _undeployed(service: Object, deployment: Object | None, warning: str) -> str:
    if deployment is not None:
        return ""
    for kind in ("PredictorReady", "Ready"):
        condition = _conditions(service).get(kind, {})
        if condition.get("status") == "False" and (detail := _detail(condition)):
            return f"KServe made no Deployment: {detail}"
    if warning:
        return f"KServe made no Deployment: {_last_error(warning)}"
    return "KServe has not made its Deployment yet"


def _older(service: Object, deployment: Object) -> str:
    """Whether the Deployment is of what the InferenceService said before."""
    predictor = service.get("spec", {}).get("predictor", {})
    annotations = service.get("metadata", {}).get("annotations") or {}
    given = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    wanted = (predictor.get("model") or {}).get("storageUri")
    if wanted is not None and given.get(SOURCE, wanted) != wanted:
        return f"its Deployment is still of {given[SOURCE]}"
    if given.get(TEMPLATE, annotations.get(TEMPLATE)) != annotations.get(TEMPLATE):
        return "its Deployment is still of an older template"
    return ""


def _lagging(deployment: Object | None) -> str:
    deployment = deployment or {}
    meta, status = deployment.get("metadata", {}), deployment.get("status", {})
    if int(status.get("observedGeneration", 0)) < int(meta.get("generation", 0)):
        return "its Deployment's last change was not looked at yet"
    return ""


def _refused(deployment: Object | None) -> str:
    """What Kubernetes says of pods that it may not make, or that do not come up."""
    for condition in (deployment or {}).get("status", {}).get("conditions") or ():
        bad = {"ReplicaFailure": "True", "Progressing": "False"}.get(condition.get("type", ""))
        if bad is not None and condition.get("status") == bad:
            said = f"{condition.get('reason', 'no progress')}: {condition.get('message', '')}"
            return said[:_LONGEST_REASON]
    return ""


def _few(service: Object, deployment: Object) -> str:
    predictor = service.get("spec", {}).get("predictor", {})
    total, updated = _count(deployment, "replicas"), _count(deployment, "updatedReplicas")
    available = _count(deployment, "availableReplicas")
    # KServe's own default is 1; 0 would be a version that serves nobody.
    least = max(1, int(predictor.get("minReplicas", 1) or 1))
    if updated < total:
        return f"{total - updated} of {total} pods are of an older spec"
    if available < least:
        return f"{available} of {least} pods answer"
    return ""


def _fits(service: Object) -> bool:
    """What KServe says, but for what follows from the number of pods."""
    transformer = _conditions(service).get("TransformerReady", {"status": "True"})
    return (
        transformer.get("status") == "True"
        and _model(service).get("transitionStatus") != "InvalidSpec"
    )


def _not_true(service: Object) -> str:
    conditions = _conditions(service)
    for kind in ("PredictorReady", "TransformerReady", "Ready"):
        condition = conditions.get(kind)
        if condition is None:
            if kind == "TransformerReady":
                continue
            return f"KServe does not say {kind} yet"
        if condition.get("status") != "True":
            return f"{kind} is {condition.get('status')}: {_detail(condition)}".rstrip(": ")
    transition = _model(service).get("transitionStatus")
    if transition not in (None, "UpToDate"):
        return f"its model is {transition}"
    return ""


def _model(service: Object) -> Object:
    model: Object = service.get("status", {}).get("modelStatus") or {}
    return model


def _detail(condition: Object) -> str:
    return str(condition.get("message") or condition.get("reason") or "")[:_LONGEST_REASON]


def _conditions(service: Object) -> dict[str, Object]:
    found = service.get("status", {}).get("conditions") or ()
    return {str(each.get("type")): each for each in found}


def _count(deployment: Object | None, field: str) -> int:
    return int((deployment or {}).get("status", {}).get(field, 0) or 0)
