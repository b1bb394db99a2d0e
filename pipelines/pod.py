"""What the pod of a step gets: image, resources, identity, endpoints, patience.

All of it is decided when a pipeline is compiled. `kfp.local` ignores it, but for variables:
`pipelines.run` takes the number of attempts out, which mend a cluster's weather.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kfp import kubernetes
from kfp.dsl import PipelineTask

from components.image import IMAGE, TRAINER_IMAGE
from zeroskew.pod_resources import Resources
from zeroskew.steps.repeating import ATTEMPTS

CONFIG_MAP = "zeroskew-endpoints"
SECRET = "zeroskew-credentials"  # noqa: S105 (the name of a Secret)
ENDPOINTS = (
    "ZEROSKEW_HOME",
    "ZEROSKEW_DATA",
    "ZEROSKEW_REGISTRY",
    "ZEROSKEW_REDIS",
    "ZEROSKEW_MLFLOW",
    "ZEROSKEW_MLFLOW_ARTIFACTS",
    "ZEROSKEW_RAY",
    "ZEROSKEW_PREDICTION_LOG",
    "ZEROSKEW_GIT_REMOTE",
    "ZEROSKEW_GIT_BRANCH",
    "ZEROSKEW_GIT_AUTHOR",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "MLFLOW_S3_ENDPOINT_URL",
)
"""Keys of the ConfigMap; each becomes the variable of the same name. All must be there, even if
empty; manifests/endpoints.yaml is one to start from."""
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "RAY_AUTH_TOKEN",
    "ZEROSKEW_REDIS_PASSWORD",
)
"""Keys of the Secret. What a cluster does not need may be missing or empty."""
USER = 10001
"""The user of the platform's images; nothing in them needs root."""


@dataclass(frozen=True, slots=True)
class Images:
    """Where steps run: what needs torch or Evidently in `trainer`, the rest in `platform`."""

    platform: str = IMAGE
    trainer: str = TRAINER_IMAGE
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables baked into every step, such as the code's version."""


def place(
    task: PipelineTask,
    images: Images,
    resources: Resources,
    *,
    attempts: int = 4,
    minutes: int = 60,
) -> PipelineTask:
    """Give a task its pod, with what `resources` says of its step.

    `attempts`: the step itself repeats what failed of a network or a store, within `minutes`, and
    the pipeline's engine repeats nothing (see `zeroskew.steps.repeating`).
    """
    task.set_container_image(images.platform)
    amounts = resources.of(task.component_spec.name.replace("-", "_"))
    task.set_cpu_request(amounts.cpu).set_cpu_limit(amounts.cpu_limit)
    task.set_memory_request(amounts.memory).set_memory_limit(amounts.memory_limit)
    # KFP knows an input by its artifact, and whatever reads a table or a clock makes a new one.
    task.set_caching_options(False)
    task.set_env_variable(ATTEMPTS, str(attempts))
    for name, value in images.environment.items():
        task.set_env_variable(name, value)
    kubernetes.set_timeout(task, minutes * 60)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.use_config_map_as_env(task, CONFIG_MAP, {key: key for key in ENDPOINTS})
    kubernetes.use_secret_as_env(task, SECRET, {key: key for key in CREDENTIALS}, optional=True)
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "zeroskew")
    return task


def place_on_trainer(
    task: PipelineTask,
    images: Images,
    resources: Resources,
    *,
    gpu: int = 0,
    attempts: int = 4,
    minutes: int = 60,
) -> PipelineTask:
    """As `place`, in the trainer's image; with `gpu` GPUs of the type that model.yaml names."""
    place(task, images, resources, attempts=attempts, minutes=minutes)
    task.set_container_image(images.trainer)
    if gpu:
        task.set_accelerator_type(resources.gpu_type).set_accelerator_limit(gpu)
        kubernetes.add_toleration(
            task, key=resources.gpu_type, operator="Exists", effect="NoSchedule"
        )
    return task
