"""`zeroskew doctor` against real API servers: empty, with kinds only, whole, and without rights."""

import json
from pathlib import Path

import pytest
import yaml
from api_server import Cluster
from command_line import user, zeroskew
from conftest import crd_folder
from our_kinds import install

from zeroskew.cluster.access import connect
from zeroskew.cluster.doctor.checks import check_all
from zeroskew.cluster.doctor.reading import read_cluster

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]


def examined(config, *arguments, code):
    lines = zeroskew(config, "doctor", *arguments, "-o", "json", code=code).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def states(findings):
    """The worst state of each thing that was looked at."""
    order = ["ok", "not checkable", "warning", "problem"]
    found = {}
    for each in findings:
        before = found.get(each["about"], "ok")
        found[each["about"]] = max(before, each["state"], key=order.index)
    return found


@pytest.fixture(scope="module")
def growing(cluster_parts, tmp_path_factory):
    """A cluster of the module's own."""
    kubectl, _ = cluster_parts
    with Cluster(kubectl, tmp_path_factory.mktemp("doctor")) as running:
        yield running


def deployment(name, namespace, image, *arguments, ready=True):
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": name,
                    "containers": [{"name": "main", "image": image, "args": list(arguments)}],
                },
            },
        },
    }  # fmt: skip


def put(cluster, *objects):
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))


def ready(cluster, name, namespace):
    """No controller runs here: what one would write."""
    status = {"status": {"replicas": 1, "readyReplicas": 1}}
    cluster.kubectl("patch", "deployment", name, "-n", namespace, "--subresource=status",
                    "--type=merge", "-p", json.dumps(status))  # fmt: skip


def node(cluster, name, cpu, memory):
    put(cluster, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    status = {"status": {
        "allocatable": {"cpu": cpu, "memory": memory, "pods": "10"},
        "conditions": [{"type": "Ready", "status": "True"}],
    }}  # fmt: skip
    cluster.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p",
                    json.dumps(status))  # fmt: skip
    cluster.kubectl("taint", "node", name, "node.kubernetes.io/not-ready-", check=False)


@pytest.mark.timeout(900)
def test_an_empty_cluster_then_kinds_then_all_of_it(growing, tmp_path):
    config = growing.kubeconfig
    empty = states(examined(config, code=1))
    assert empty["Kubernetes"] == "ok"
    lacking = ("CRD modelrollouts", "CRD driftmonitors", "operator", "KServe", "Gateway API",
               "endpoints in default", "credentials in default", "storage", "nodes")  # fmt: skip
    for about in lacking:
        assert empty[about] == "problem", about
    assert empty["KubeRay"] == "ok", "nobody needs it"

    install(growing, crd_folder() / "kserve.yaml", crd_folder() / "gateway-api.yaml")
    kinds = examined(config, code=1)
    assert states(kinds)["CRD modelrollouts"] == "ok", "the server keeps the schema as it was"
    assert states(kinds)["CRD driftmonitors"] == "ok"
    assert states(kinds)["CRD pipelineschedules"] == "ok"
    (manager,) = (each for each in kinds if each["about"] == "KServe")
    assert "no kserve-controller-manager" in manager["message"]

    for name in ("zeroskew", "kserve", "team"):
        growing.kubectl("create", "namespace", name)
    put(
        growing,
        deployment("zeroskew-operator", "zeroskew", "zeroskew-operator:0.1.0"),
        deployment("kserve-controller-manager", "kserve", "kserve/kserve-controller:v0.20.0"),
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
         "metadata": {"name": "envoy"},
         "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"}},
        {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
         "metadata": {"name": "standard",
                      "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
         "provisioner": "example.com/none"},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "zeroskew-credentials",
                                                            "namespace": "team"},
         "stringData": {"AWS_ACCESS_KEY_ID": "visible", "AWS_SECRET_ACCESS_KEY": "hidden-value"}},
    )  # fmt: skip
    accepted = {"status": {"conditions": [
        {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
         "lastTransitionTime": "2026-11-01T00:00:00Z"}]}}  # fmt: skip
    growing.kubectl("patch", "gatewayclass", "envoy", "--subresource=status", "--type=merge", "-p",
                    json.dumps(accepted))  # fmt: skip
    growing.kubectl("apply", "-n", "team", "-f", ROOT / "manifests/endpoints/endpoints.yaml")
    for file in ("roles.yaml", "role-binding.yaml"):
        growing.kubectl("apply", "-f", ROOT / "manifests/base/operator" / file)
    ready(growing, "kserve-controller-manager", "kserve")
    node(growing, "small", "200m", "256Mi")
    found = examined(config, "-n", "team", code=1)
    assert states(found)["operator"] == "problem", "deployed, and not ready"
    assert states(found)["nodes"] == "problem", "nothing fits"
    ready(growing, "zeroskew-operator", "zeroskew")
    node(growing, "large", "8", "32Gi")
    whole = examined(config, "-n", "team", code=0)
    found = states(whole)
    expected = {name: "ok" for name in found}
    expected |= {"Kubeflow Pipelines": "warning", "operator": "warning"}
    assert found == expected
    assert "hidden-value" not in json.dumps(whole)

    growing.kubectl("label", "namespace", "team", "pod-security.kubernetes.io/enforce=restricted")
    assert states(examined(config, "-n", "team", code=1))["storage initializer"] == "problem"
    growing.kubectl("label", "namespace", "team", "pod-security.kubernetes.io/enforce-")

    schema = growing.get("crd", "driftmonitors.zeroskew.dev")
    del schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"][
        "properties"]["suspend"]  # fmt: skip
    growing.kubectl("replace", "-f", "-", input=json.dumps(schema))
    older = examined(config, "-n", "team", code=1)
    assert states(older)["CRD driftmonitors"] == "problem"
    growing.kubectl("apply", "--server-side", "--force-conflicts", "-k", ROOT / "manifests/crds")

    text = zeroskew(config, "doctor", "-n", "team")
    assert "GatewayClass envoy" in text
    assert "→" in text


def test_who_has_no_rights_is_told_which_he_lacks(growing, tmp_path):
    growing.kubectl("create", "namespace", "outside")
    nobody = user(growing, "outside", "nobody", tmp_path)
    found = examined(nobody, "-n", "outside", code=None)
    seen = states(found)
    assert seen["Kubernetes"] == "ok"
    for about in ("nodes", "storage", "endpoints in outside", "credentials in outside"):
        assert seen[about] == "not checkable", about
    hints = {each["about"]: each["hint"] for each in found}
    assert 'cannot list resource "nodes"' in hints["nodes"]
    assert seen["your rights in outside"] == "warning"


def test_the_largest_step_is_compared_with_what_pods_leave_free(growing):
    growing.kubectl("create", "serviceaccount", "default", "-n", "default", check=False)
    node(growing, "busy", "2", "8Gi")
    cluster = connect(kubeconfig=growing.kubeconfig)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fills", "namespace": "default"},
           "spec": {"nodeName": "busy", "containers": [
               {"name": "a", "image": "a",
                "resources": {"requests": {"cpu": "1800m", "memory": "1Gi"}}}]}}  # fmt: skip
    put(growing, pod)
    seen = read_cluster(cluster, [])
    (busy,) = (each for each in seen.nodes.value if each.name == "busy")
    assert busy.free_cpu == pytest.approx(0.2)
    assert busy.free_memory == pytest.approx(7 * 1024)
    assert all(each.about for each in check_all(seen))
