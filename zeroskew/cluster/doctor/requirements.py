"""What this release needs of a cluster: versions, keys, rights."""

from __future__ import annotations

from itertools import product

from zeroskew.cluster.doctor.observations import Wanted

__all__ = [
    "CREDENTIALS", "ENDPOINTS", "GROUPS", "KUBERNETES", "MINE", "OPERATORS", "STACK_NAMESPACE",
]  # fmt: skip

KUBERNETES = (1, 29)
"""The oldest; the CRDs' rules need its CEL library."""
STACK_NAMESPACE = "zeroskew"
GROUPS = frozenset({
    "zeroskew.dev", "serving.kserve.io", "gateway.networking.k8s.io", "pipelines.kubeflow.org",
    "ray.io", "monitoring.coreos.com",
})  # fmt: skip
ENDPOINTS = frozenset({
    "ZEROSKEW_HOME", "ZEROSKEW_DATA", "ZEROSKEW_REGISTRY", "ZEROSKEW_REDIS", "ZEROSKEW_MLFLOW",
    "ZEROSKEW_MLFLOW_ARTIFACTS", "ZEROSKEW_RAY", "ZEROSKEW_PREDICTION_LOG", "ZEROSKEW_GIT_REMOTE",
    "ZEROSKEW_GIT_BRANCH", "ZEROSKEW_GIT_AUTHOR", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION",
    "MLFLOW_S3_ENDPOINT_URL",
})  # fmt: skip
"""Keys of the ConfigMap `zeroskew-endpoints`; each must be there, though it may be empty."""
CREDENTIALS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"})
"""Keys of the Secret `zeroskew-credentials` that buckets need."""


def _rights(group: str, resources: str, verbs: str) -> tuple[Wanted, ...]:
    return tuple(
        Wanted(verb, group, name) for name, verb in product(resources.split(), verbs.split())
    )


MINE = (
    *_rights("zeroskew.dev", "modelrollouts driftmonitors", "get list watch patch"),
    *_rights("serving.kserve.io", "inferenceservices", "list"),
    *_rights("", "events", "list"),
)
"""What the commands use."""
_KEEPS = "get list watch create patch delete"
OPERATORS = (
    *_rights("zeroskew.dev", "modelrollouts", "get list watch patch"),
    *_rights("zeroskew.dev", "driftmonitors pipelineschedules", "get list watch"),
    *_rights(
        "zeroskew.dev",
        "modelrollouts/status driftmonitors/status pipelineschedules/status",
        "patch update",
    ),
    *_rights("serving.kserve.io", "inferenceservices servingruntimes", _KEEPS),
    *_rights("gateway.networking.k8s.io", "httproutes", _KEEPS),
    *_rights("policy", "poddisruptionbudgets", _KEEPS),
    *_rights("apps", "deployments", "get list watch"),
    *_rights("", "events", "create list patch"),
)
"""What the operator does in a namespace of models."""
