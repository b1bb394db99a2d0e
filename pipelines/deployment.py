"""The end of the training pipeline on a cluster: a version that won is brought to its users.

    register ─► publish ─► deploy        (unless it lost to the champion)

`deploy` is a commit in the repository that Argo CD or Flux follows; the ModelRollout in it takes
the version through shadow and canary. Who may push is said by a Secret of its own, which no other
step sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from components.deploy import deploy
from components.publish import publish
from pipelines.pod import Images, place
from zeroskew.pod_resources import Resources

GIT_SECRET = "zeroskew-git"  # noqa: S105 (the name of a Secret)
GIT_KEYS = {"username": "ZEROSKEW_GIT_USERNAME", "token": "ZEROSKEW_GIT_TOKEN"}


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where versions go; the git repository is ZEROSKEW_GIT_REMOTE of the endpoints."""

    models: str
    """URL below which Triton repositories are kept, such as `s3://models`."""
    image: str
    """Triton with the front model."""
    namespace: str
    """Of the ModelRollout."""
    mode: str = "merge"
    """`merge`, or `branch` for a merge request."""
    request: str = "none"
    """`gitlab` or `github` open the merge request of a `branch`."""
    target: str = ""
    """The GPU that TensorRT plans are built for; empty: ONNX Runtime."""


def deploy_winner(
    model: Any,
    version: Any,
    verdict: Any,
    images: Images,
    resources: Resources,
    deployment: Deployment,
) -> None:
    """Add the steps to the pipeline that is being made; arguments are its tasks' outputs."""
    with dsl.If(verdict != "loses", name="won"):
        served = place(
            publish(
                model=model,
                version=version,
                models=deployment.models,
                target=deployment.target,
            ),
            images, resources, minutes=20,
        )  # fmt: skip
        committed = place(
            deploy(
                model=model,
                version=version,
                storage_uri=served.output,
                image=deployment.image,
                namespace=deployment.namespace,
                mode=deployment.mode,
                request=deployment.request,
            ),
            images, resources, minutes=15,
        )  # fmt: skip
        kubernetes.use_secret_as_env(committed, GIT_SECRET, GIT_KEYS, optional=True)
