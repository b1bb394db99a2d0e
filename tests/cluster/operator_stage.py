"""What the operator's tests and measurements stand on: CRDs, rights, a gateway, MLflow, models."""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml
from api_server import Cluster, free_ports
from envoy_gateway import CONTROLLER, EnvoyGateway
from kserve_process import KServe
from operator_process import OperatorProcess
from watch_record import RouteWritten, WatchRecord

from zeroskew.registry import Registry
from zeroskew.rollout.manifests import SECRET, SERVICE_ACCOUNT, serving_manifests
from zeroskew.rollout.rollout_config import RolloutSection, rollout_manifest, template_of

ROOT = Path(__file__).parents[2]
PROGRAMS = (
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "kserve-manager",
    "envoy-gateway",
)  # fmt: skip
_REGISTERED = runpy.run_path(str(ROOT / "tests/unit/rollout/registered.py"))
_GATEWAY_KINDS = ("httproutes.", "gateways.", "gatewayclasses.", "referencegrants.")
_GATEWAY = [
    {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "envoy"}, "spec": {"controllerName": CONTROLLER},
    },
    {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "ml", "namespace": "default"},
        "spec": {"gatewayClassName": "envoy",
                 "listeners": [{"name": "http", "port": 80, "protocol": "HTTP",
                                "allowedRoutes": {"namespaces": {"from": "All"}}}]},
    },
]  # fmt: skip
ROOM = {"cpu": "1k", "memory": "1Ti", "pods": "1M", "ephemeral-storage": "100Ti"}
"""Of a node: for the servers of hundreds of rollouts."""
QUICK = ({"set_weight": 5}, {"set_weight": 50}, {"pause": {"duration": "1s"}})
"""Steps without a judgement."""


def prepare(cluster: Cluster, crds: Path) -> None:
    """CRDs of KServe, Gateway API and our own, the operator's rights as installed, a gateway."""
    text = (crds / "gateway-api.yaml").read_text()
    wanted = [
        each
        for each in yaml.load_all(text, yaml.CSafeLoader)
        if each and each["kind"] == "CustomResourceDefinition"
        and each["metadata"]["name"].startswith(_GATEWAY_KINDS)
    ]  # fmt: skip
    wanted += KServe.crds()
    ours = sorted((ROOT / "manifests/crds").glob("zeroskew.dev_*.yaml"))
    wanted += [yaml.safe_load(each.read_text()) for each in ours]
    cluster.install(wanted)
    for file in ("roles.yaml", "gateway-roles.yaml", "role-binding.yaml"):
        cluster.kubectl("apply", "-f", ROOT / "manifests/base/operator" / file)
    cluster.kubectl("create", "-f", "-", input=_together(_GATEWAY))


@contextlib.contextmanager
def mlflow_server(folder: Path):
    """A real MLflow server on SQLite; its address, and the group of its processes."""
    (port,) = free_ports(1)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
             "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db",
             "--artifacts-destination", str(folder / "artifacts")],
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
            # Its six processes for jobs, which nothing here uses, take a core for ten seconds.
            env=os.environ | {
                "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
        )  # fmt: skip
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield url, process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def register(registry: Registry, folder: Path, model: str, versions: int = 2) -> None:
    """Versions 1, 2, … of a model, as training registers them."""
    graph = folder / "model.onnx"
    for number in range(1, versions + 1):
        graph.write_bytes(f"graph {model} {number}".encode())
        record = _REGISTERED["version"](model, number=number, code_sha=f"{number:040x}").record
        assert registry.register(model, record, {"model.onnx": graph}) == number


def manifest(namespace, version, model="flight_delay", steps=QUICK, *, section=None, **changes):
    """A ModelRollout. `section`: more of model.yaml's words; `changes`: of the spec itself."""
    documents = serving_manifests(
        _REGISTERED["version"](model, number=version), _REGISTERED["config"](model),
        **(_REGISTERED["PLACE"] | {
            "namespace": namespace, "storage_uri": f"s3://models/{model}/{version}"
        }),
    )  # fmt: skip
    said = {
        "service": {"gateway_refs": [{"name": "ml", "namespace": "default"}]},
        "strategy": {"steps": list(steps)},
        "rollback": {"scale_down_delay_seconds": 0},
    }
    made = rollout_manifest(
        RolloutSection.model_validate(said | (section or {})),
        model, version, template_of(documents), namespace=namespace,
    )  # fmt: skip
    made["spec"].update(changes)
    return made


def apply(cluster: Cluster, *documents) -> None:
    """What `kubectl apply` does, for many at a time."""
    cluster.kubectl("apply", "-f", "-", input=_together(documents))


def _together(documents) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})


@dataclass
class Stage:
    """An API server of one's own with everything on it, and an operator that can be killed."""

    cluster: Cluster
    registry: Registry
    record: WatchRecord
    kserve: KServe | None
    gateway: EnvoyGateway | None
    operator: OperatorProcess
    mlflow: str
    """Its address."""
    mlflow_pid: int

    def namespace(self, *more: dict) -> str:
        """One for models, with `more` in it. Without account and keys KServe lets no pod be."""
        name = f"t-{os.urandom(4).hex()}"
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        account = {
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": SERVICE_ACCOUNT, "namespace": name},
            "secrets": [{"name": SECRET}],
        }  # fmt: skip
        keys = {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": name},
            "stringData": {"AWS_ACCESS_KEY_ID": "zeroskew", "AWS_SECRET_ACCESS_KEY": "zeroskew"},
        }  # fmt: skip
        apply(self.cluster, space)
        apply(self.cluster, account, keys, *more)
        return name

    def pods(self, namespace: str, service: str) -> list[dict]:
        """Those of an InferenceService."""
        label = f"serving.kserve.io/inferenceservice={service}"
        return self.cluster.get("pods", "-n", namespace, "-l", label)["items"]

    def let_nodes_take_pods(self, taken: bool) -> None:
        """Whether pods that are made from now on find a node, or wait for one."""
        for node in self.cluster.get("nodes")["items"]:
            command = "uncordon" if taken else "cordon"
            self.cluster.kubectl(command, node["metadata"]["name"])

    def tell_pods(self, namespace: str, service: str, status: dict) -> None:
        """What a kubelet would say of the pods that there are."""
        for pod in self.pods(namespace, service):
            self.cluster.kubectl(
                "patch", "pod", pod["metadata"]["name"], "-n", namespace, "--subresource=status",
                "--type=strategic", "-p", json.dumps({"status": status}),
            )  # fmt: skip

    def status(
        self, namespace: str, name: str = "flight-delay", kind: str = "modelrollout"
    ) -> dict:
        return self.cluster.get(kind, name, "-n", namespace).get("status", {})

    def wait(self, namespace, good, seconds=90, name="flight-delay", kind="modelrollout") -> dict:
        """Until the status is as wished; returns it."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError):
                found = self.status(namespace, name, kind)
                if good(found):
                    return found
            if time.monotonic() > deadline:
                raise AssertionError(json.dumps(found, indent=1) + self.operator.tail())
            time.sleep(0.2)

    def serve(self, namespace: str, version: int, **changes) -> dict:
        """Apply a version, and wait until it answers everything."""
        apply(self.cluster, manifest(namespace, version, **changes))
        name = changes.get("model", "flight_delay").replace("_", "-")
        return self.wait(
            namespace,
            lambda s: s.get("phase") == "Succeeded" and s.get("stable") == str(version),
            name=name,
        )

    def routes(self, namespace: str, name: str = "flight-delay") -> list[RouteWritten]:
        """What was written of the route, in order."""
        return self.record.routes(namespace, name)

    def conditions(self, status: dict) -> dict[str, tuple[str, str, str]]:
        return {
            each["type"]: (each["status"], each["reason"], each["message"])
            for each in status.get("conditions", ())
        }

    def annotate(self, namespace: str, text: str, name: str = "flight-delay") -> None:
        self.cluster.kubectl("annotate", "--overwrite", "modelrollout", name, text, "-n", namespace)


@contextlib.contextmanager
def operator_stage(kubectl: str, crds: Path, folder: Path, *, serving=True, **environment: str):
    """A `Stage` whose operator runs; models are registered by the tests.

    `serving`: with KServe, nodes for its pods and a gateway, which monitors do without. Raises
    `own_network.NotPermitted` where a gateway cannot be.
    """
    for part in ("cluster", "mlflow", "operator", "kserve", "gateway"):
        (folder / part).mkdir()
    with contextlib.ExitStack() as running:
        enter = running.enter_context
        cluster = enter(
            Cluster(kubectl, folder / "cluster", controllers=serving, nodes=2 * serving, room=ROOM)
        )
        url, mlflow_pid = enter(mlflow_server(folder / "mlflow"))
        prepare(cluster, crds)
        record = enter(WatchRecord(str(cluster.kubeconfig)))
        kserve = gateway = None
        if serving:
            kserve = enter(KServe(cluster, folder / "kserve"))
            gateway = enter(EnvoyGateway(cluster, folder / "gateway"))
        operator = OperatorProcess(
            cluster, url, folder / "operator",
            **({"ZEROSKEW_OPERATOR_RELIST_SECONDS": "5"} | environment),
        )  # fmt: skip
        running.callback(operator.kill)
        operator.start()
        operator.wait_healthy()
        yield Stage(cluster, Registry(url), record, kserve, gateway, operator, url, mlflow_pid)
