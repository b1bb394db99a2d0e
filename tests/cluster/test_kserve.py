"""What KServe's own manager and webhooks make of our objects, and the operator of what they say."""

from __future__ import annotations

import asyncio
import json
import runpy
import time
from pathlib import Path

import pytest
from lightkube import AsyncClient, KubeConfig
from operator_stage import apply, manifest, register

from operators.cluster_client import FIELD_MANAGER, ClusterClient
from operators.diagnosis.kserve_warnings import KServeWarnings
from zeroskew.rollout.manifests import serving_manifests
from zeroskew.rollout.names import LONGEST_WITH_NAMESPACE

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]
ROOT = Path(__file__).parents[2]
_REGISTERED = runpy.run_path(str(ROOT / "tests/unit/rollout/registered.py"))
STEPS = ({"set_weight": 20}, {"pause": {}}, {"set_weight": 60})
LOG = """2026-11-30 08:00:00.123 1 kserve INFO [storage.py:download():42] Copying contents
2026-11-30 08:00:01.456 1 kserve ERROR [storage.py:download():57] first try failed
2026-11-30 08:00:02.789 1 kserve ERROR [storage.py:download():61] no object at s3://models/3
2026-11-30 08:00:02.790 1 kserve INFO [storage.py:main():12] bye
"""


def served(stage, space, *, rollout="flight-delay", version=3, serving="{}"):
    """The objects of `zeroskew serving manifests`, applied; name of the InferenceService."""
    documents = serving_manifests(
        _REGISTERED["version"](number=version), _REGISTERED["config"](serving=serving),
        **(_REGISTERED["PLACE"] | {"namespace": space}), rollout=rollout,
    )  # fmt: skip
    apply(stage.cluster, *documents)
    return f"{rollout}-{version}"


def until(good, seconds=90):
    """The first thing that `good` gives which is not empty."""
    deadline = time.monotonic() + seconds
    while True:
        if found := good():
            return found
        assert time.monotonic() < deadline
        time.sleep(0.2)


def ready(stage, space, name):
    def look():
        status = stage.cluster.get("inferenceservice", name, "-n", space).get("status", {})
        conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
        return status if conditions.get("Ready") == "True" else None

    return until(look)


def names(stage, space, kind):
    return [each["metadata"]["name"] for each in stage.cluster.get(kind, "-n", space)["items"]]


def test_a_version_is_served_by_what_kserve_makes_of_its_manifests(stage):
    space = stage.namespace()
    name = served(stage, space, serving="{min_replicas: 2, max_replicas: 5}")
    status = ready(stage, space, name)
    assert status["deploymentMode"] == "Standard"
    assert status["modelStatus"]["transitionStatus"] == "UpToDate"
    predictor = f"{name}-predictor"
    scaler = stage.cluster.get("hpa", predictor, "-n", space)["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 5)
    service = stage.cluster.get("service", predictor, "-n", space)["spec"]
    assert (80, 8080) in [
        (each["port"], each["targetPort"])
        if isinstance(each["targetPort"], int)
        else (each["port"], 8080)
        for each in service["ports"]
    ]
    pods = until(lambda: len(found := stage.pods(space, name)) == 2 and found)
    for pod in pods:
        assert [each["name"] for each in pod["spec"]["initContainers"]] == ["storage-initializer"]
        (container,) = pod["spec"]["containers"]
        assert container["image"] == _REGISTERED["PLACE"]["image"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
    budget = until(lambda: stage.cluster.get("pdb", name, "-n", space).get("status"))
    assert until(lambda: stage.cluster.get("pdb", name, "-n", space)["status"]["expectedPods"] == 2)
    assert budget["disruptionsAllowed"] >= 0
    assert names(stage, space, "httproutes") == []
    assert names(stage, space, "ingresses") == []
    stage.cluster.kubectl("delete", "inferenceservice", name, "-n", space)
    for kind in ("deployments", "services", "hpa", "pods"):
        assert until(lambda kind=kind: names(stage, space, kind) == [])


def test_name_and_namespace_have_52_characters_together(stage):
    """As our check says it; one more, and KServe makes no Deployment."""
    space = stage.namespace()
    room = LONGEST_WITH_NAMESPACE - len(space) - len("-3")
    ready(stage, space, served(stage, space, rollout="r" * room))
    # No check of ours stands before KServe here.
    documents = stage.cluster.get("inferenceservice", f"{'r' * room}-3", "-n", space)
    long = f"{'r' * room}s-3"
    apply(
        stage.cluster,
        {
            "apiVersion": documents["apiVersion"], "kind": documents["kind"],
            "metadata": {
                "name": long, "namespace": space, "labels": documents["metadata"]["labels"],
            },
            "spec": documents["spec"],
        },
    )  # fmt: skip
    body = stage.cluster.get("inferenceservice", long, "-n", space)

    async def newest():
        config = KubeConfig.from_file(str(stage.cluster.kubeconfig))
        cluster = ClusterClient(
            AsyncClient(config=config, field_manager=FIELD_MANAGER, trust_env=False)
        )
        try:
            return await KServeWarnings(cluster).newest(body)
        finally:
            await cluster.close()

    warning = until(lambda: asyncio.run(newest()), 30)
    assert "63" in warning
    assert f"{long}-predictor-{space}" in warning
    assert f"{long}-predictor" not in names(stage, space, "deployments")


def test_an_annotation_replaces_the_pods_and_a_restart_of_the_deployment_does_not(stage):
    space = stage.namespace()
    name = served(stage, space)
    ready(stage, space, name)

    def uids():
        return {each["metadata"]["uid"] for each in stage.pods(space, name)}

    def templates():
        return {each["metadata"]["labels"]["pod-template-hash"] for each in stage.pods(space, name)}

    def digest():
        deployment = stage.cluster.get("deployment", f"{name}-predictor", "-n", space)
        return deployment["spec"]["template"]["metadata"].get("annotations", {})

    first = uids()
    stage.cluster.kubectl(
        "annotate", "inferenceservice", name, "-n", space, "example.org/restarted=now"
    )
    until(lambda: digest().get("example.org/restarted") == "now")
    until(lambda: not (found := uids()) & first and found)
    second = until(lambda: len(found := templates()) == 1 and found)
    stage.cluster.kubectl("rollout", "restart", f"deployment/{name}-predictor", "-n", space)
    until(lambda: "kubectl.kubernetes.io/restartedAt" not in digest(), 30)
    # Here a pod starts at once, so one of the restart may have been there for a moment.
    until(lambda: templates() == second)


@pytest.fixture
def canary(stage, tmp_path, request):
    """Namespace and model of a rollout whose version 2 has 20 % and waits."""
    model = f"c_{abs(hash(request.node.name)) % 10**8}"
    register(stage.registry, tmp_path, model)
    space = stage.namespace()
    stage.serve(space, 1, model=model)
    apply(stage.cluster, manifest(space, 2, model, STEPS))
    name = model.replace("_", "-")
    stage.wait(space, lambda s: s.get("phase") == "WaitingApproval", name=name)
    return space, name


def stays_on(stage, space, name, since, seconds=8.0):
    """Neither the route nor the time from which its answers count have changed."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = stage.status(space, name)
        assert found["run"]["trafficSince"] == since
        assert stage.conditions(found)["ChallengerReady"][0] == "True", found["conditions"]
        time.sleep(0.3)
    assert [each.weights.get(f"{name}-2", 0) for each in stage.routes(space, name)][-1] == 20


def scale(stage, space, name, replicas):
    stage.cluster.kubectl(
        "scale", f"deployment/{name}-2-predictor", "-n", space, f"--replicas={replicas}"
    )


def condition(stage, space, name, kind):
    deployment = stage.cluster.get("deployment", f"{name}-2-predictor", "-n", space)
    return {each["type"]: each for each in deployment["status"]["conditions"]}.get(kind, {})


def test_a_canary_stays_on_while_a_pod_more_finds_no_node(stage, canary):
    space, name = canary
    since = stage.status(space, name)["run"]["trafficSince"]
    generations = len(stage.routes(space, name))
    stage.let_nodes_take_pods(False)
    try:
        scale(stage, space, name, 4)
        until(lambda: condition(stage, space, name, "Available").get("status") == "False")
        stays_on(stage, space, name, since)
        stage.operator.kill()
        stage.operator.start()
        stage.operator.wait_healthy()
        stays_on(stage, space, name, since)
    finally:
        stage.let_nodes_take_pods(True)
    until(lambda: condition(stage, space, name, "Available").get("status") == "True")
    scale(stage, space, name, 2)
    stays_on(stage, space, name, since)
    assert len(stage.routes(space, name)) == generations, "the route was never written again"
    stage.annotate(space, "zeroskew.dev/approve=2", name)
    stage.wait(space, lambda s: s.get("stable") == "2", name=name)


def test_a_canary_stays_on_while_a_quota_forbids_a_pod_more(stage, canary):
    space, name = canary
    since = stage.status(space, name)["run"]["trafficSince"]
    pods = len(names(stage, space, "pods"))
    apply(
        stage.cluster,
        {
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "no-more", "namespace": space},
            "spec": {"hard": {"pods": str(pods)}},
        },
    )  # fmt: skip
    until(lambda: stage.cluster.get("quota", "no-more", "-n", space).get("status", {}).get("used"))
    scale(stage, space, name, 4)
    until(lambda: condition(stage, space, name, "ReplicaFailure").get("reason") == "FailedCreate")
    stays_on(stage, space, name, since)


def test_a_canary_whose_pods_stop_to_answer_is_taken_off(stage, canary):
    space, name = canary
    stage.tell_pods(space, f"{name}-2", {"conditions": [{"type": "Ready", "status": "False"}]})
    until(lambda: stage.routes(space, name)[-1].weights.get(f"{name}-2", 0) == 0)
    stage.tell_pods(space, f"{name}-2", {"conditions": [{"type": "Ready", "status": "True"}]})
    until(lambda: stage.routes(space, name)[-1].weights.get(f"{name}-2", 0) == 20)


def test_what_pod_security_refuses_is_said_at_once_and_the_component_mends_it(stage, tmp_path):
    register(stage.registry, tmp_path, "refused", versions=3)
    space = stage.namespace()
    stage.serve(space, 1, model="refused")
    # Of KServe's own storage initializer nothing says that it runs without rights.
    level = "pod-security.kubernetes.io/enforce=restricted"
    stage.cluster.kubectl("label", "namespace", space, level)
    apply(stage.cluster, manifest(space, 2, "refused", STEPS))
    found = stage.wait(space, lambda s: "PodSecurity" in s.get("message", ""), 60, "refused")
    assert "storage-initializer" in found["message"]
    assert found["stable"] == "1"
    container = stage.cluster.get("clusterstoragecontainer", "default")["spec"]["container"]
    stage.cluster.kubectl(
        "apply", "--server-side", "--field-manager=zeroskew",
        "-k", ROOT / "manifests/components/restricted-storage-initializer",
    )  # fmt: skip
    try:
        apply(stage.cluster, manifest(space, 3, "refused"))
        stage.wait(space, lambda s: s.get("stable") == "3", name="refused")
    finally:
        stage.cluster.kubectl(
            "patch", "clusterstoragecontainer", "default", "--type=merge",
            "-p", json.dumps({"spec": {"container": container | {"securityContext": None}}}),
        )  # fmt: skip


def test_of_a_failed_load_the_line_that_says_why(stage, tmp_path):
    register(stage.registry, tmp_path, "unloaded")
    space = stage.namespace()
    stage.serve(space, 1, model="unloaded")
    stage.let_nodes_take_pods(False)
    try:
        apply(stage.cluster, manifest(space, 2, "unloaded", STEPS))
        until(lambda: stage.pods(space, "unloaded-2"))
        ended = {"reason": "Error", "exitCode": 1, "message": LOG}
        stage.tell_pods(space, "unloaded-2", {
            "initContainerStatuses": [{
                "name": "storage-initializer", "image": "", "imageID": "", "ready": False,
                "restartCount": 0, "state": {"terminated": ended},
            }]
        })  # fmt: skip
        found = stage.wait(
            space, lambda s: "no object at s3://models/3" in s.get("message", ""), 60, "unloaded"
        )
    finally:
        stage.let_nodes_take_pods(True)
    assert "BlockedByFailedLoad" in found["message"]
    for other in ("Copying", "first try", "bye"):
        assert other not in json.dumps(found)
