"""The container that serves one version: Triton's command line, its environment, probes, disks.

A pure function of the version and of the `serving` section of model.yaml.
"""

from __future__ import annotations

from typing import Any

from zeroskew.model_config import ModelConfig, Serving
from zeroskew.pod_resources import cores, mebibytes
from zeroskew.serving.request_identity import HEADER_PATTERN

HTTP, GRPC, METRICS = 8080, 9000, 8002
REPOSITORY = "/mnt/models"
"""Where KServe's storage initializer puts the repository, read-only."""
SPOOL = "/var/spool/zeroskew"
USER = 10001
CONFIG_MAP, SECRET = "zeroskew-endpoints", "zeroskew-credentials"
"""Those of the pipelines' steps, in the namespace of the InferenceService."""

DRAIN_SECONDS = 10
"""Between a pod's farewell and SIGTERM: gateways learn of its end later than the pod itself, and
Triton accepts nothing any more from SIGTERM on."""
EXIT_SECONDS = 30
"""What Triton waits for requests and for unloading, in which the front flushes its log."""
GRACE_SECONDS = DRAIN_SECONDS + EXIT_SECONDS + 20
"""Until SIGKILL. What the log could not send by then is in the spool, and lost with the pod."""
START_SECONDS = 600
"""Longest start, once the repository is there: two models to load, TensorRT to warm up."""


def triton_container(config: ModelConfig, version: int, image: str, role: str) -> dict[str, Any]:
    """`kserve-container` of a ServingRuntime that serves `version` and nothing else."""
    return {
        "name": "kserve-container",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["tritonserver"],
        "args": [
            f"--model-repository={REPOSITORY}",
            f"--http-port={HTTP}",
            f"--grpc-port={GRPC}",
            f"--metrics-port={METRICS}",
            f"--http-header-forward-pattern={HEADER_PATTERN}",
            f"--grpc-header-forward-pattern={HEADER_PATTERN}",
            "--strict-readiness=true",
            f"--exit-timeout-secs={EXIT_SECONDS}",
        ],
        # The first becomes port 80 of the Service, the others keep their numbers; `h2c` in a name
        # makes gateways speak HTTP/2 to it.
        "ports": [
            {"name": "http1", "containerPort": HTTP, "protocol": "TCP"},
            {"name": "h2c", "containerPort": GRPC, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS, "protocol": "TCP"},
        ],
        "env": _environment(config.serving, role),
        **_probes(config.name, version),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(DRAIN_SECONDS)]}}},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": name, "mountPath": path} for name, path, _ in _disks(config.serving)
        ],
    }


def volumes(serving: Serving) -> list[dict[str, Any]]:
    """What the container may write to: the rest of its file system is read-only."""
    return [{"name": name, "emptyDir": source} for name, _, source in _disks(serving)]


def resources(serving: Serving) -> dict[str, Any]:
    """Requests and limits as model.yaml says; the limits of disk are those of the volumes."""
    gpu = {serving.gpu_type: "1"} if serving.device == "gpu" else {}
    disk = _TMP_MIB + (spool_mib(serving) if serving.log.enabled else 0)
    requests = {"cpu": serving.cpu, "memory": serving.memory, "ephemeral-storage": f"{disk}Mi"}
    limits = {
        "cpu": max(serving.cpu_limit, serving.cpu, key=cores),
        "memory": max(serving.memory_limit, serving.memory, key=mebibytes),
    }
    return {"requests": requests | gpu, "limits": limits | gpu}


def tolerations(serving: Serving) -> list[dict[str, Any]]:
    """Nodes with GPUs are usually tainted with the resource's name."""
    if serving.device != "gpu":
        return []
    return [{"key": serving.gpu_type, "operator": "Exists", "effect": "NoSchedule"}]


def spool_mib(serving: Serving) -> int:
    """Size of the spool's volume: what the logs of all fronts let themselves use, and more.

    The kubelet evicts a pod whose volume outgrows its limit, so there is room beside the bounds for
    what each front has at hand at the moment: a segment and the Parquet file it becomes.
    """
    log = serving.log
    return serving.instances * (log.spool_mib + 2 * log.segment_mib) + 64


_TMP_MIB = 256


def _disks(serving: Serving) -> list[tuple[str, str, dict[str, Any]]]:
    disks: list[tuple[str, str, dict[str, Any]]] = [
        ("tmp", "/tmp", {"sizeLimit": f"{_TMP_MIB}Mi"}),  # noqa: S108 (a volume of the pod's own)
        # Triton and the front hand tensors over in shared memory, of which a container has 64 MiB.
        ("shm", "/dev/shm", {"medium": "Memory", "sizeLimit": f"{64 + 128 * serving.instances}Mi"}),  # noqa: S108
    ]
    if serving.log.enabled:
        disks.append(("spool", SPOOL, {"sizeLimit": f"{spool_mib(serving)}Mi"}))
    return disks


def _probes(model: str, version: int) -> dict[str, Any]:
    def ask(path: str, **patience: int) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": HTTP, "scheme": "HTTP"}, **patience}

    return {
        # Asks for this very version: a storageUri that holds another one never starts.
        "startupProbe": ask(
            f"/v2/models/{model}/versions/{version}/ready",
            periodSeconds=5, timeoutSeconds=2, failureThreshold=START_SECONDS // 5,
        ),
        # All models, the network included.
        "readinessProbe": ask(
            "/v2/health/ready", periodSeconds=5, timeoutSeconds=2, failureThreshold=2
        ),
        # Patient: a restart loses the spool, and a busy server is not a dead one.
        "livenessProbe": ask(
            "/v2/health/live", periodSeconds=10, timeoutSeconds=5, failureThreshold=6
        ),
    }  # fmt: skip


def _environment(serving: Serving, role: str) -> list[dict[str, Any]]:
    values = {
        "ZEROSKEW_ROLE": role,
        "ZEROSKEW_SPOOL": SPOOL,
        "HOME": "/tmp",  # noqa: S108 (a volume of the pod's own)
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if not serving.log.enabled:
        del values["ZEROSKEW_SPOOL"]
    keyed = "hash" in serving.log.redact.values()
    logged = ("ZEROSKEW_PREDICTION_LOG",) if serving.log.enabled else ()
    return [
        *({"name": name, "value": value} for name, value in values.items()),
        *(_from("configMapKeyRef", CONFIG_MAP, key) for key in ("ZEROSKEW_REDIS", *logged)),
        *(
            _from("configMapKeyRef", CONFIG_MAP, key, optional=True)
            for key in ("ZEROSKEW_REDIS_TYPE", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
        ),
        *(
            _from("secretKeyRef", SECRET, key, optional=True)
            for key in (
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
                "AWS_SESSION_TOKEN",
                "ZEROSKEW_REDIS_PASSWORD",
            )
        ),
        # Without its key, a log that promises digests must not start.
        _from("secretKeyRef", SECRET, "ZEROSKEW_LOG_KEY", optional=not keyed),
    ]


def _from(kind: str, source: str, key: str, *, optional: bool = False) -> dict[str, Any]:
    reference: dict[str, Any] = {"name": source, "key": key}
    return {
        "name": key,
        "valueFrom": {kind: reference | ({"optional": True} if optional else {})},
    }
