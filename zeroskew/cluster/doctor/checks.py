"""Each check: from what was seen to findings. A table of them is what `zeroskew doctor` prints.

`problem`: something of this release will not work. `warning`: it may not, or not as one expects.
What is optional and absent is `ok`, and said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from zeroskew import __version__
from zeroskew.cluster.doctor.namespace_checks import check_namespaces
from zeroskew.cluster.doctor.node_checks import check_gpus, check_nodes
from zeroskew.cluster.doctor.observations import Cr, Deployed, Finding, Look, Seen
from zeroskew.cluster.doctor.requirements import KUBERNETES
from zeroskew.cluster.doctor.serving_checks import check_gateway, check_kserve

__all__ = ["CHECKS", "check_all", "own_crds"]


def check_all(seen: Seen) -> tuple[Finding, ...]:
    """All findings, in the order in which one would mend them."""
    return tuple(finding for check in CHECKS for finding in check(seen))


def check_kubernetes(seen: Seen) -> list[Finding]:
    found = re.match(r"v(\d+)\.(\d+)", seen.version)
    least = ".".join(map(str, KUBERNETES))
    if found is None:
        text = f"says that it is {seen.version!r}"
        return [Finding("Kubernetes", "warning", text, f"it should be {least} or later")]
    if (int(found[1]), int(found[2])) < KUBERNETES:
        text = f"{seen.version} is older than {least}"
        return [Finding("Kubernetes", "problem", text, f"update it to {least} or later")]
    return [Finding("Kubernetes", "ok", seen.version)]


def own_crds() -> dict[str, dict[str, Any]]:
    """Schemas of this release, by the name of the CRD."""
    from zeroskew.monitoring.crd import DRIFT_MONITOR
    from zeroskew.rollout.crd import MODEL_ROLLOUT
    from zeroskew.schedule.crd import PIPELINE_SCHEDULE

    made = [each.crd() for each in (MODEL_ROLLOUT, DRIFT_MONITOR, PIPELINE_SCHEDULE)]
    return {
        crd["metadata"]["name"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for crd in made
    }


def check_own_crds(seen: Seen) -> list[Finding]:
    mend = "kubectl apply --server-side -k manifests/crds, of this release"
    findings = []
    for name, schema in own_crds().items():
        plural = name.partition(".")[0]
        about = f"CRD {plural}"
        if plural not in seen.served.get("zeroskew.dev/v1alpha1", ()):
            findings.append(Finding(about, "problem", "is not installed", mend))
        elif seen.crds.forbidden:
            text = "is served; its schema cannot be compared"
            findings.append(Finding(about, "not checkable", text, seen.crds.forbidden))
        elif not _same(schema, (seen.crds.value or {}).get(name, Cr(None, {})).schema):
            text = f"is of another release than {__version__}"
            findings.append(Finding(about, "problem", text, mend))
        else:
            findings.append(Finding(about, "ok", f"is that of {__version__}"))
    return findings


def check_operator(seen: Seen) -> list[Finding]:
    about = "operator"
    found = _deployed(seen.deployments, "zeroskew-operator")
    if isinstance(found, str):
        return [Finding(about, "not checkable", "its Deployment cannot be seen", found)]
    if not found:
        hint = "kubectl apply --server-side -k manifests/overlays/…, see docs/install.md"
        return [Finding(about, "problem", "is not deployed", hint)]
    findings = []
    if len(found) > 1:
        where = ", ".join(each.namespace for each in found)
        hint = "keep one, or give each its own namespaces (components/namespaced-operator)"
        findings.append(Finding(about, "warning", f"is deployed more than once: {where}", hint))
    for each in found:
        image = ", ".join(each.images)
        if not each.ready:
            hint = f"kubectl describe pods -n {each.namespace} -l app.kubernetes.io/name=operator"
            findings.append(Finding(about, "problem", f"no pod of it is ready ({image})", hint))
            continue
        tag = re.search(r":v?(\d+\.\d+\.\d+)(?:[-@]|$)", image)
        if tag is not None and tag[1] != __version__:
            text = f"is ready, and its image is {tag[1]}, not {__version__} ({image})"
            hint = "update the operator, or use the command line of its release"
            findings.append(Finding(about, "warning", text, hint))
        else:
            findings.append(Finding(about, "ok", f"is ready ({image})"))
        if not re.search(r"ZEROSKEW_KFP=\S", each.arguments):
            text = "knows no Kubeflow Pipelines: monitors and schedules start nothing"
            hint = "set ZEROSKEW_KFP of the operator if they should"
            findings.append(Finding(about, "warning", text, hint))
    return findings


def check_pipelines(seen: Seen) -> list[Finding]:
    about = "Kubeflow Pipelines"
    kinds = seen.served.get("pipelines.kubeflow.org/v2beta1", frozenset())
    servers = _deployed(seen.deployments, "ml-pipeline")
    lacks = {"pipelines", "pipelineversions"} - kinds
    if isinstance(servers, str):
        state = "the kinds Pipeline and PipelineVersion are " + ("not " if lacks else "") + "served"
        return [Finding(about, "not checkable", f"its server cannot be seen; {state}", servers)]
    if not servers and lacks:
        hint = "rollouts do without; for training, install it (docs/install.md)"
        return [Finding(about, "warning", "is not installed", hint)]
    findings = []
    if lacks:
        text = f"does not serve {' and '.join(sorted(lacks))} as Kubernetes objects"
        hint = "install its CRDs and start its API server with --pipelinesStoreKubernetes=true"
        findings.append(Finding(about, "problem", text, hint))
    for each in servers:
        if not each.ready:
            hint = f"kubectl describe pods -n {each.namespace} -l app=ml-pipeline"
            findings.append(Finding(about, "problem", "no pod of ml-pipeline is ready", hint))
        if not re.search(r"pipelinesStoreKubernetes(=|\s+)true", each.arguments):
            text = "ml-pipeline is not told to keep pipelines as Kubernetes objects"
            hint = "start it with --pipelinesStoreKubernetes=true"
            findings.append(Finding(about, "problem", text, hint))
        users = "several users" if re.search(r"MULTIUSER=true", each.arguments) else "one user"
        mode = "its runs are in the namespaces of their users"
        if users == "one user":
            mode = f"unless its ConfigMap says otherwise, its runs are all in {each.namespace}"
        text = f"{', '.join(each.images)}: for {users}; {mode}"
        findings.append(Finding(about, "ok", text))
    return findings


def check_optional(seen: Seen) -> list[Finding]:
    """What some overlays use, and nothing needs."""
    findings = []
    for about, group, kind, use in (
        ("KubeRay", "ray.io/v1", "rayclusters", "the Ray cluster of overlays/…"),
        ("Prometheus operator", "monitoring.coreos.com/v1", "podmonitors", "rules and targets"),
    ):
        there = kind in seen.served.get(group, ())
        text = "is installed" if there else f"is not installed; only {use} need it"
        findings.append(Finding(about, "ok", text))
    return findings


def check_storage(seen: Seen) -> list[Finding]:
    about = "storage"
    findings = []
    if seen.storage_classes.forbidden:
        text = "StorageClasses cannot be seen"
        findings.append(Finding(about, "not checkable", text, seen.storage_classes.forbidden))
    else:
        classes = seen.storage_classes.value or {}
        default = sorted(name for name, is_default in classes.items() if is_default)
        if default:
            findings.append(Finding(about, "ok", f"the default StorageClass is {default[0]}"))
        else:
            known = f" (there are {', '.join(sorted(classes))})" if classes else ""
            findings.append(Finding(
                about, "problem", f"there is no default StorageClass{known}",
                "the stack's disks name none: mark one as the default, or patch the claims",
            ))  # fmt: skip
    if seen.pending_claims.value:
        text = f"claims without a volume: {', '.join(seen.pending_claims.value)}"
        hint = "kubectl describe pvc -n zeroskew"
        findings.append(Finding(about, "problem", text, hint))
    return findings


def _same(ours: Any, theirs: Any) -> bool:
    """Whether the schemas say the same; the server may have put a number into another form."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(_same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return bool(ours == theirs)


def _deployed(found: Look[tuple[Deployed, ...]], name: str) -> list[Deployed] | str:
    """Those of this name; a text: the right that is missing to tell."""
    if found.forbidden:
        return found.forbidden
    return [each for each in found.value or () if each.name == name]


CHECKS: tuple[Callable[[Seen], list[Finding]], ...] = (
    check_kubernetes,
    check_own_crds,
    check_operator,
    check_kserve,
    check_gateway,
    check_pipelines,
    check_optional,
    check_namespaces,
    check_storage,
    check_nodes,
    check_gpus,
)
