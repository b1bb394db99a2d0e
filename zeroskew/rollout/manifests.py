"""KServe manifests of one registered version: what `kubectl apply` needs to serve it.

    documents = serving_manifests(version, config, storage_uri="s3://…", image="…", namespace="…")
    Path("serving.yaml").write_text(to_yaml(documents))

The InferenceService `<rollout>-<version>` runs in Standard mode (a Deployment, a Service, an HPA)
and without a route of KServe's: traffic comes through the rollout's own. Every version has a
ServingRuntime of its own, so that a new image for a challenger restarts no champion. Nothing here
changes while a version lives, whatever alias it bears: a promotion restarts no pod.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from zeroskew.errors import ConfigError, ServingError
from zeroskew.model_config import ModelConfig
from zeroskew.registry import ModelVersion
from zeroskew.rollout.names import (
    PREFIX,
    check_namespace,
    label_value,
    rollout_name,
    service_name,
    short_hash,
)
from zeroskew.rollout.triton_container import (
    GRACE_SECONDS,
    METRICS,
    SECRET,
    USER,
    resources,
    tolerations,
    triton_container,
    volumes,
)
from zeroskew.serving.request_identity import ROLES

SERVICE_ACCOUNT = "zeroskew-serving"
GRAPH = "model.onnx"
"""Name of the chosen graph in a record."""

_IMAGE = re.compile(r"[a-z0-9][\w.\-/:@]*", re.ASCII)
_STORAGE = re.compile(r"(s3|gs|hdfs|webhdfs|pvc|https?|oci|oci\+[a-z]+|hf)://[^\s]+")


def serving_manifests(
    version: ModelVersion,
    config: ModelConfig,
    *,
    storage_uri: str,
    image: str,
    namespace: str,
    rollout: str | None = None,
    role: str = "champion",
) -> list[dict[str, Any]]:
    """ServiceAccount, ServingRuntime, InferenceService and PodDisruptionBudget, in that order.

    `storage_uri`: the version's Triton repository, as KServe's storage initializer fetches it.
    `image`: of images/triton, for the device in `serving`. `rollout`: default, the model's name.
    `role`: what a request counts as that does not say (a gateway marks canary and shadow itself).

    Raises `ConfigError` for names and values that a cluster would refuse, `RegistryError` for a
    version without lineage, `ServingError` if it lacks what the device needs.
    """
    if version.name != config.name:
        raise ConfigError(
            f"the version is one of {version.name}, model.yaml is that of {config.name}",
            where="serving manifests",
        )
    _check(storage_uri, image, role)
    if config.serving.device == "gpu" and not version.record.plans:
        raise ServingError(
            f"version {version.version} has no TensorRT plan, and `serving.device` is gpu",
            where=version.name,
            mend="register a version exported with `export.tensorrt: [current]` on the serving GPU "
            "class, or serve on `device: cpu`",
        )
    group = rollout_name(rollout or config.name)
    name = service_name(group, version.version, check_namespace(namespace))
    space = {"namespace": namespace}
    own = {
        "app.kubernetes.io/name": "triton",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/part-of": "zeroskew",
        PREFIX + "model": label_value(version.name),
        PREFIX + "rollout": label_value(group),
        PREFIX + "version": str(version.version),
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            # Shared by all versions of all models, hence labels of none.
            "metadata": {"name": SERVICE_ACCOUNT, **space}
            | {"labels": {"app.kubernetes.io/part-of": "zeroskew"}},
            "automountServiceAccountToken": False,
            # From here KServe's storage initializer learns the keys of the object store; its
            # address is the Secret's annotation serving.kserve.io/s3-endpoint.
            "secrets": [{"name": SECRET}],
        },
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ServingRuntime",
            "metadata": {"name": name, **space, "labels": own},
            "spec": _runtime(config, version.version, image, role),
        },
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": name,
                **space,
                "labels": own
                | {"networking.kserve.io/visibility": "cluster-local"}
                | _lineage_labels(version),
                "annotations": {
                    "serving.kserve.io/deploymentMode": "Standard",
                    "serving.kserve.io/autoscalerClass": "hpa",
                }
                | _lineage(version),
            },
            "spec": {"predictor": _predictor(config, name, storage_uri)},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": name, **space, "labels": own},
            # `minAvailable` would forbid to drain the node of a single replica for ever, and so
            # would a replica that is broken anyway.
            "spec": {
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": _pods(name)},
            },
        },
    ]


def to_yaml(documents: list[dict[str, Any]]) -> str:
    """The documents as one YAML text: the same for the same documents, every value written out."""
    return yaml.dump_all(
        documents,
        Dumper=_Plain,
        sort_keys=False,
        explicit_start=True,
        allow_unicode=True,
        width=100,
    )


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _runtime(config: ModelConfig, version: int, image: str, role: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        # Named by its InferenceService; it must never be found for anybody else's.
        "supportedModelFormats": [{"name": "triton", "version": "2", "autoSelect": False}],
        "protocolVersions": ["v2", "grpc-v2"],
        "multiModel": False,
        "containers": [triton_container(config, version, image, role)],
        "volumes": volumes(config.serving),
    }
    if taints := tolerations(config.serving):
        spec["tolerations"] = taints
    return spec


def _predictor(config: ModelConfig, name: str, storage_uri: str) -> dict[str, Any]:
    serving = config.serving
    return {
        "minReplicas": serving.min_replicas,
        "maxReplicas": serving.max_replicas,
        "scaleMetric": "cpu",
        "scaleTarget": serving.target_cpu_percent,
        "deploymentStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "annotations": {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(METRICS),
            "prometheus.io/path": "/metrics",
        },
        "serviceAccountName": SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _pods(name)},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        "model": {
            "modelFormat": {"name": "triton", "version": "2"},
            "runtime": name,
            # Not set, it would default to v1, which no runtime of ours speaks.
            "protocolVersion": "v2",
            "storageUri": storage_uri,
            # Here and not in the runtime: KServe fills in its own defaults where an
            # InferenceService names none, and these would win.
            "resources": resources(serving),
        },
    }


def _pods(name: str) -> dict[str, str]:
    """Labels that KServe gives the pods of an InferenceService's predictor."""
    return {"serving.kserve.io/inferenceservice": name, "component": "predictor"}


def _lineage(version: ModelVersion) -> dict[str, str]:
    record = version.record
    values = {
        "data-hash": record.data_hash,
        "feature-service": record.feature_service,
        "feature-schema-version": record.feature_schema_version,
        "code-sha": record.code_sha,
        "onnx-sha256": record.onnx_sha256.get(GRAPH, ""),
        "precision": record.precision,
        "run-id": version.run_id,
        "registered": version.created.isoformat(),
    }
    return {PREFIX + key: value for key, value in values.items() if value}


def _lineage_labels(version: ModelVersion) -> dict[str, str]:
    """The same, where objects are selected by it: hashes are cut, annotations hold the whole."""
    record = version.record
    values = {
        "data-hash": short_hash(record.data_hash),
        "feature-schema-version": short_hash(record.feature_schema_version),
        "code-sha": label_value(record.code_sha),
        "onnx-sha256": short_hash(record.onnx_sha256.get(GRAPH, "")),
        "run-id": label_value(version.run_id),
    }
    return {PREFIX + key: value for key, value in values.items() if value}


def _check(storage_uri: str, image: str, role: str) -> None:
    if not _STORAGE.fullmatch(storage_uri):
        raise ConfigError(
            f"{storage_uri!r} is nothing that KServe fetches a repository from",
            where="storage URI",
            mend="give s3://bucket/path, gs://…, pvc://claim/path, oci://… or https://…",
        )
    if not _IMAGE.fullmatch(image):
        raise ConfigError(
            f"{image!r} cannot be an image",
            where="image",
            mend="give registry/name:tag, or better registry/name@sha256:…",
        )
    if role not in ROLES:
        raise ConfigError(
            f"{role!r} is not a role", where="role", mend=f"give one of {', '.join(ROLES)}"
        )
