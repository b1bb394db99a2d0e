"""Reads what the checks ask about, with no more than rights to read; what is forbidden is noted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from zeroskew.cluster.access import Cluster, Kind
from zeroskew.cluster.doctor.node_reading import read_nodes
from zeroskew.cluster.doctor.observations import (
    Cr,
    Deployed,
    GatewayClass,
    Look,
    NamespaceSeen,
    Seen,
    Wanted,
)
from zeroskew.cluster.doctor.requirements import GROUPS, MINE, OPERATORS, STACK_NAMESPACE
from zeroskew.errors import ClusterError

__all__ = ["look", "read_cluster"]

T = TypeVar("T")

CRD = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CRD", False)
DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
GATEWAY_CLASS = Kind("gateway.networking.k8s.io", "v1", "gatewayclasses", "GatewayClass", False)
STORAGE_CLASS = Kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
STORAGE_CONTAINER = Kind(
    "serving.kserve.io", "v1alpha1", "clusterstoragecontainers", "ClusterStorageContainer", False
)
CLAIM = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
NAMESPACE = Kind("", "v1", "namespaces", "Namespace", False)
CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")
SECRET = Kind("", "v1", "secrets", "Secret")
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_ENFORCE = "pod-security.kubernetes.io/enforce"
_WORKLOADS = ("zeroskew-operator", "kserve-controller-manager", "ml-pipeline")


def read_cluster(cluster: Cluster, namespaces: Iterable[str]) -> Seen:
    """Everything, for these namespaces of models.

    Raises `ClusterError` if the API server cannot be reached or knows nobody of this name.
    """
    version = str(cluster.get("/version").get("gitVersion", ""))
    deployments = _deployments(cluster)
    accounts = [each for each in deployments.value or () if each.name == _WORKLOADS[0]]
    account = f"{accounts[0].namespace}:{accounts[0].account}" if accounts else ""
    return Seen(
        version=version,
        served=_served(cluster),
        crds=look(lambda: {each["metadata"]["name"]: _crd(each) for each in cluster.list(CRD)}),
        deployments=deployments,
        gateway_classes=look(lambda: tuple(map(_class, cluster.list(GATEWAY_CLASS)))),
        storage_classes=look(lambda: {
            each["metadata"]["name"]: (each["metadata"].get("annotations") or {}).get(_DEFAULT)
            == "true"
            for each in cluster.list(STORAGE_CLASS)
        }),
        storage_containers=look(lambda: tuple(
            each.get("spec", {}).get("container", {}) for each in cluster.list(STORAGE_CONTAINER)
        )),
        pending_claims=look(lambda: tuple(
            each["metadata"]["name"] for each in cluster.list(CLAIM, STACK_NAMESPACE)
            if (each.get("status") or {}).get("phase") == "Pending"
        )),
        nodes=look(lambda: read_nodes(cluster)),
        namespaces=tuple(_namespace(cluster, name, account) for name in namespaces),
    )  # fmt: skip


def look(read: Callable[[], T]) -> Look[T]:
    """What `read` gives, and what it may not. Raises `ClusterError` if nobody answers."""
    try:
        return Look(read())
    except ClusterError as error:
        if error.code == 404:
            return Look()
        if error.code in (401, 403):
            return Look(forbidden=error.what)
        raise


def _served(cluster: Cluster) -> dict[str, frozenset[str]]:
    """By the API server's own lists, which everybody may read who may log in."""
    groups = cluster.get("/apis").get("groups") or []
    found = {}
    for group in groups:
        if group.get("name") not in GROUPS:
            continue
        for version in group.get("versions") or []:
            name = version["groupVersion"]
            listed = look(lambda name=name: cluster.get(f"/apis/{name}")).value or {}  # type: ignore[misc]
            found[name] = frozenset(each["name"] for each in listed.get("resources") or [])
    return found


def _crd(body: Mapping[str, Any]) -> Cr:
    versions = [each for each in body["spec"]["versions"] if each.get("served")]
    schema = versions[-1].get("schema", {}).get("openAPIV3Schema") if versions else None
    return Cr(schema, body["metadata"].get("annotations") or {})


def _deployments(cluster: Cluster) -> Look[tuple[Deployed, ...]]:
    """Of the cluster or, where that is forbidden, of the namespaces where they usually are."""
    whole = look(lambda: cluster.list(DEPLOYMENT))
    found = whole.value or []
    if whole.forbidden:
        parts = [
            look(lambda name=name: cluster.list(DEPLOYMENT, name))  # type: ignore[misc]
            for name in (STACK_NAMESPACE, "kserve", "kubeflow")
        ]
        if all(part.forbidden for part in parts):
            return Look(forbidden=whole.forbidden)
        found = [each for part in parts for each in part.value or []]
    return Look(tuple(_deployed(each) for each in found if each["metadata"]["name"] in _WORKLOADS))


def _deployed(body: Mapping[str, Any]) -> Deployed:
    pod = body["spec"]["template"]["spec"]
    containers = pod.get("containers") or []
    words: list[str] = []
    for each in containers:
        words += [*(each.get("command") or []), *(each.get("args") or [])]
        words += [f"{name['name']}={name.get('value', '')}" for name in each.get("env") or []]
    return Deployed(
        namespace=body["metadata"]["namespace"],
        name=body["metadata"]["name"],
        images=tuple(each.get("image", "") for each in containers),
        wanted=int(body["spec"].get("replicas", 1)),
        ready=int((body.get("status") or {}).get("readyReplicas", 0)),
        account=pod.get("serviceAccountName") or "default",
        arguments=" ".join(words),
    )


def _class(body: Mapping[str, Any]) -> GatewayClass:
    status = body.get("status") or {}
    listed = status.get("supportedFeatures")
    said = {each.get("type"): each.get("status") for each in status.get("conditions") or []}
    return GatewayClass(
        body["metadata"]["name"],
        body["spec"].get("controllerName", ""),
        said.get("Accepted") == "True",
        # A name until Gateway API 1.1, an object with a name since.
        frozenset(each if isinstance(each, str) else each.get("name", "") for each in listed)
        if listed
        else None,
    )


def _namespace(cluster: Cluster, name: str, account: str) -> NamespaceSeen:
    labels = look(
        lambda: cluster.get(NAMESPACE.path(name=name))["metadata"].get("labels") or {}
    )  # fmt: skip
    enforced = "" if labels.value is None else labels.value.get(_ENFORCE, "")
    operators: Look[Mapping[Wanted, bool]] = Look()
    if account:
        subject = f"system:serviceaccount:{account}"
        operators = look(lambda: {each: _may(cluster, name, each, subject) for each in OPERATORS})
    return NamespaceSeen(
        name,
        enforced=Look(forbidden=labels.forbidden) if labels.value is None else Look(enforced),
        endpoints=look(lambda: _keys(cluster, CONFIG_MAP.path(name, "zeroskew-endpoints"))),
        credentials=look(lambda: _keys(cluster, SECRET.path(name, "zeroskew-credentials"))),
        mine={each: _may(cluster, name, each) for each in MINE},
        operators=operators,
    )


def _keys(cluster: Cluster, path: str) -> frozenset[str]:
    """Names alone: a value is forgotten at once."""
    return frozenset(cluster.get(path).get("data") or {})


def _may(cluster: Cluster, namespace: str, right: Wanted, subject: str = "") -> bool:
    attributes = {
        "namespace": namespace, "verb": right.verb, "group": right.group,
        "resource": right.resource.partition("/")[0],
        "subresource": right.resource.partition("/")[2],
    }  # fmt: skip
    kind = "SubjectAccessReview" if subject else "SelfSubjectAccessReview"
    spec: dict[str, Any] = {"resourceAttributes": attributes}
    if subject:
        spec |= {"user": subject, "groups": ["system:serviceaccounts"]}
    answer = cluster.create(
        f"/apis/authorization.k8s.io/v1/{kind.lower()}s",
        {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec},
    )
    return (answer.get("status") or {}).get("allowed") is True
