"""The platform's pods and what serves them, by real controllers, where `restricted` is enforced."""

import json
import os
import runpy
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
_SERVING = runpy.run_path(str(ROOT / "tests/unit/rollout/test_serving_manifests.py"))


@pytest.fixture
def team(control_plane):
    """A namespace of models that enforces `restricted`, with the account of its pods."""
    name = f"team-{os.urandom(3).hex()}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    documents = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
        {"apiVersion": "v1", "kind": "ServiceAccount",
         "metadata": {"name": "zeroskew-serving", "namespace": name}},
    ]  # fmt: skip
    apply(control_plane, *documents)
    return name


def apply(cluster, *documents):
    done = cluster.kubectl(
        "apply", "--server-side", "--warnings-as-errors", "-f", "-",
        input="\n---\n".join(map(json.dumps, documents)), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def until(found, good, seconds=90):
    deadline = time.monotonic() + seconds
    while not good(last := found()):
        assert time.monotonic() < deadline, json.dumps(last, indent=1)
        time.sleep(0.3)
    return last


def served(team, **changes):
    """A Deployment of the pods that serve a version, but for KServe's storage initializer."""
    pod = _SERVING["pod"](_SERVING["made"](**changes))
    labels = {"app": "served"}
    pod["metadata"]["labels"] = labels
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "served", "namespace": team},
        "spec": {"selector": {"matchLabels": labels}, "template": pod},
    }  # fmt: skip


def test_serving_pods_are_admitted_and_an_hpa_holds_their_number(control_plane, team):
    """KServe makes the Deployment without a number of replicas: the HPA raises it."""
    deployment = served(team)
    apply(control_plane, deployment)
    scaler = {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "served", "namespace": team},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "served"},
            "minReplicas": 2, "maxReplicas": 4,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}],
        },
    }  # fmt: skip
    apply(control_plane, scaler)

    def status():
        return control_plane.get("deployment", "served", "-n", team).get("status", {})

    until(status, lambda found: found.get("availableReplicas") == 2)


def test_a_pod_that_may_more_is_refused_by_the_controllers_event(control_plane, team):
    """That admission above means something."""
    deployment = served(team)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["securityContext"]["allowPrivilegeEscalation"] = True
    control_plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(deployment))

    def conditions():
        found = control_plane.get("deployment", "served", "-n", team).get("status", {})
        return [each["message"] for each in found.get("conditions", ())]

    until(conditions, lambda said: any('violates PodSecurity "restricted' in each for each in said))
