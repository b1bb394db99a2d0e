"""The operator before a real API server, with its own ServiceAccount's rights and a real MLflow."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from zeroskew.rollout.manifests import serving_manifests
from zeroskew.rollout.rollout_config import RolloutSection, rollout_manifest, template_of

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
_HERE = Path(__file__).parent
_REGISTERED = runpy.run_path(str(ROOT / "tests/unit/rollout/registered.py"))
STEPS = [
    {"set_weight": 5},
    {"pause": {"duration": "1s"}},
    {"set_weight": 50},
    {"pause": {"duration": "1s"}},
]


@pytest.fixture(scope="module")
def ready_cluster(cluster):
    """CRDs of KServe, Gateway API and our own, the operator's rights, a gateway."""
    crds = runpy.run_path(str(_HERE / "conftest.py"))["crd_folder"]()
    wanted = (
        "inferenceservices.",
        "servingruntimes.",
        "httproutes.",
        "gateways.",
        "gatewayclasses.",
    )
    documents = []
    for name in ("kserve.yaml", "gateway-api.yaml"):
        if not (crds / name).is_file():
            pytest.skip(f"no {name} in {crds}")
        documents += [
            each
            for each in yaml.safe_load_all((crds / name).read_text())
            if each and each["kind"] == "CustomResourceDefinition"
            and each["metadata"]["name"].startswith(wanted)
        ]  # fmt: skip
    documents.append(
        yaml.safe_load((ROOT / "manifests/crds/zeroskew.dev_modelrollouts.yaml").read_text())
    )
    for document in documents:
        name = document["metadata"]["name"]
        if cluster.kubectl("get", "crd", name, check=False).returncode:
            cluster.kubectl("create", "--validate=false", "-f", "-", input=json.dumps(document))
    cluster.kubectl("wait", "--for=condition=established", "crd", "--all", "--timeout=60s")
    for file in ("roles.yaml", "gateway-roles.yaml", "role-binding.yaml"):
        cluster.kubectl("apply", "-f", ROOT / "manifests/base/operator" / file)
    gateway = [
        {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "envoy"}, "spec": {"controllerName": "zeroskew.dev/stand-in"},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "ml", "namespace": "default"},
            "spec": {"gatewayClassName": "envoy",
                     "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
        },
    ]  # fmt: skip
    for document in gateway:
        cluster.kubectl("create", "--validate=false", "-f", "-", input=json.dumps(document))
    return cluster


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    """A real MLflow server with versions 1 to 4 of `flight_delay`."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
             "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db",
             "--artifacts-destination", str(folder / "artifacts")],
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
        )  # fmt: skip
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        from zeroskew.registry import Registry

        registry = Registry(url)
        graph = folder / "model.onnx"
        for number in range(1, 5):
            graph.write_bytes(b"graph %d" % number)
            record = _REGISTERED["version"](number=number, code_sha=f"{number:040x}").record
            assert registry.register("flight_delay", record, {"model.onnx": graph}) == number
        yield url, registry
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


@pytest.fixture(scope="module")
def stand_in(ready_cluster):
    made = runpy.run_path(str(_HERE / "kserve_stand_in.py"), run_name="kserve_stand_in")
    with made["StandIn"](str(ready_cluster.kubeconfig)) as running:
        yield running


@pytest.fixture(scope="module")
def operator(ready_cluster, mlflow, stand_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("operator")
    config = yaml.safe_load(ready_cluster.kubeconfig.read_text())
    token = runpy.run_path(str(_HERE / "conftest.py"))["OPERATOR_TOKEN"]
    config["users"] = [{"name": "test", "user": {"token": token}}]
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        health = probe.getsockname()[1]
    environment = {
        "KUBECONFIG": str(folder / "kubeconfig"),
        "ZEROSKEW_MLFLOW": mlflow[0],
        "ZEROSKEW_PREDICTION_LOG": str(folder / "predictions"),
        "ZEROSKEW_OPERATOR_HEALTH_PORT": str(health),
        "ZEROSKEW_OPERATOR_METRICS_PORT": "0",
        "ZEROSKEW_OPERATOR_RELIST_SECONDS": "5",
    }
    running = []

    def start():
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "operators"], cwd=ROOT, stdout=log, stderr=log,
                env=os.environ | environment,
            )  # fmt: skip
        running.append(process)
        return process

    start()
    start.log = folder / "log"
    start.health = f"http://127.0.0.1:{health}/healthz"
    start.running = running
    yield start
    for process in running:
        process.kill()
        process.wait(20)


def manifest(namespace, version, steps=STEPS, **changes):
    documents = serving_manifests(
        _REGISTERED["version"](number=version), _REGISTERED["config"](),
        **(_REGISTERED["PLACE"] | {"namespace": namespace}),
    )  # fmt: skip
    section = RolloutSection.model_validate(
        {
            "service": {"gateway_refs": [{"name": "ml", "namespace": "default"}]},
            "strategy": {"steps": steps},
            "rollback": {"scale_down_delay_seconds": 0},
        }
    )
    made = rollout_manifest(
        section, "flight_delay", version, template_of(documents), namespace=namespace
    )
    # The API server of the tests is too old to know policy/v1.
    del made["spec"]["template"]["podDisruptionBudget"]
    made["spec"].update(changes)
    return made


def wait(cluster, namespace, good, log, seconds=90):
    deadline = time.monotonic() + seconds
    while True:
        found = cluster.get("modelrollout", "flight-delay", "-n", namespace)
        if good(found.get("status", {})):
            return found
        if time.monotonic() > deadline:
            raise AssertionError(
                json.dumps(found.get("status"), indent=1) + log.read_text()[-6000:]
            )
        time.sleep(0.3)


def apply(cluster, document):
    cluster.kubectl("apply", "--validate=false", "-f", "-", input=json.dumps(document))


def test_a_version_reaches_the_users_step_by_step(
    ready_cluster, namespace, operator, mlflow, stand_in
):
    registry = mlflow[1]
    apply(ready_cluster, manifest(namespace, 1))
    first = wait(
        ready_cluster, namespace, lambda s: s.get("phase") == "Succeeded", operator.log
    )  # fmt: skip
    assert first["status"]["stable"] == "1"
    assert registry.champion("flight_delay") == 1
    apply(ready_cluster, manifest(namespace, 2))
    second = wait(
        ready_cluster, namespace,
        lambda s: s.get("phase") == "Succeeded" and s.get("stable") == "2", operator.log,
    )  # fmt: skip
    assert registry.champion("flight_delay") == 2
    conditions = {each["type"]: each["status"] for each in second["status"]["conditions"]}
    assert conditions["Ready"] == conditions["RouteAccepted"] == "True"
    weights = [
        each.weights.get("flight-delay-2-predictor", 0)
        for each in stand_in.routes
        if each.namespace == namespace
    ]
    assert weights == [0, 5, 50, 100, 100] or weights == [0, 5, 50, 100]
    services = ready_cluster.get("inferenceservices", "-n", namespace)["items"]
    deadline = time.monotonic() + 20
    while [each["metadata"]["name"] for each in services] != ["flight-delay-2"]:
        assert time.monotonic() < deadline
        time.sleep(0.5)
        services = ready_cluster.get("inferenceservices", "-n", namespace)["items"]
    assert stand_in.generations[namespace, "flight-delay-2"] == 1
    events = ready_cluster.get("events", "-n", namespace)["items"]
    reasons = {each["reason"] for each in events}
    assert {"RolloutStarted", "ChallengerReady", "Promoted", "StepDone"} <= reasons
    assert not any(reason.endswith("Failed") for reason in reasons)
    table = ready_cluster.kubectl("get", "modelrollouts", "-n", namespace).stdout
    assert "Succeeded" in table
    with urllib.request.urlopen(operator.health) as answer:
        assert answer.status == 200
    assert "forbidden" not in operator.log.read_text().lower()


def test_what_cannot_be_waits_with_a_reason_and_changes_nothing(ready_cluster, namespace, operator):
    apply(ready_cluster, manifest(namespace, 9))
    found = wait(
        ready_cluster, namespace, lambda s: s.get("phase") == "Waiting" or s.get("conditions"),
        operator.log,
    )  # fmt: skip
    assert "9" in json.dumps(found["status"])
    assert not ready_cluster.get("inferenceservices", "-n", namespace)["items"]
    assert not ready_cluster.get("httproutes", "-n", namespace)["items"]


def test_a_killed_operator_goes_on_where_it_was(ready_cluster, namespace, operator, stand_in):
    apply(ready_cluster, manifest(namespace, 3))
    wait(ready_cluster, namespace, lambda s: s.get("phase") == "Succeeded", operator.log)
    apply(ready_cluster, manifest(namespace, 4))
    until = time.monotonic() + 60
    kills = 0
    while time.monotonic() < until:
        time.sleep(1.0 + kills % 3)
        found = ready_cluster.get("modelrollout", "flight-delay", "-n", namespace)
        if found["status"].get("stable") == "4":
            break
        operator.running[-1].kill()
        operator.running[-1].wait()
        operator()
        kills += 1
        time.sleep(3.0)
    assert kills >= 2
    found = wait(ready_cluster, namespace, lambda s: s.get("stable") == "4", operator.log)
    written = [each for each in stand_in.routes if each.namespace == namespace]
    weights = [each.weights.get("flight-delay-4-predictor", 0) for each in written]
    assert weights == sorted(weights), "a killed operator took a step back"
    assert all(sum(each.weights.values()) == 100 for each in written)
    assert stand_in.generations[namespace, "flight-delay-4"] == 1


def test_deletion_lets_go(ready_cluster, namespace, operator):
    apply(ready_cluster, manifest(namespace, 1))
    wait(ready_cluster, namespace, lambda s: s.get("conditions"), operator.log)
    ready_cluster.kubectl(
        "delete", "modelrollout", "flight-delay", "-n", namespace, "--timeout=30s"
    )
