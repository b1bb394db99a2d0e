"""What is installed, before a real API server: taken as it is, and the operator's rights as judged
there."""

import json
import subprocess
import time
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
OPERATOR = "--as=system:serviceaccount:zeroskew:zeroskew-operator"


@pytest.fixture(scope="session")
def installed(cluster):
    """The overlay `embedded` on the server; its objects as they were sent."""
    rendered = subprocess.run(
        [cluster.kubectl_path, "kustomize", ROOT / "manifests/overlays/embedded"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    objects = list(yaml.safe_load_all(rendered))
    for each in objects:
        name = each["metadata"]["name"]
        if each["kind"] == "CustomResourceDefinition" and not (
            cluster.kubectl("get", "crd", name, check=False).returncode
        ):
            continue
        # Validation by the server's own decoder; the OpenAPI of 1.20 does not fit today's kubectl.
        cluster.kubectl("create", "--validate=false", "-f", "-", input=json.dumps(each))
    deadline = time.monotonic() + 30
    while cluster.kubectl("get", "modelrollouts", "-A", check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return objects


def contains(found, sent):
    """Whether everything that was sent is in what the server holds."""
    if isinstance(sent, dict):
        # The server leaves out what is empty.
        return isinstance(found, dict) and all(
            contains(found[name], value) if name in found else not value
            for name, value in sent.items()
        )
    if isinstance(sent, list):
        return len(found) == len(sent) and all(map(contains, found, sent))
    return str(found) == str(sent)


def test_every_object_is_stored_as_it_was_sent(cluster, installed):
    seen = 0
    for each in installed:
        if each["kind"] == "CustomResourceDefinition":
            continue
        meta = each["metadata"]
        space = ("-n", meta["namespace"]) if "namespace" in meta else ()
        found = cluster.get(each["kind"], meta["name"], *space)
        if each["kind"] == "Job":
            # It decides by itself when it is deleted, and about its own labels.
            assert found["spec"]["template"]["spec"]["containers"]
        else:
            sent = {name: value for name, value in each.items() if name not in ("spec", "status")}
            assert contains(found, sent), meta["name"]
            assert contains(found.get("spec", {}), each.get("spec", {})), meta["name"]
        seen += 1
    assert seen > 25


def allowed(cluster, namespace, verb, what):
    """The server's own answer, whether it knows the kind or not."""
    whole, _, part = what.partition("/")
    resource, _, group = whole.partition(".")
    about = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "system:serviceaccount:zeroskew:zeroskew-operator",
            "resourceAttributes": about | ({"subresource": part} if part else {}),
        },
    }
    done = cluster.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review))
    return json.loads(done.stdout)["status"]["allowed"]


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("list", "modelrollouts.zeroskew.dev"),
        ("watch", "modelrollouts.zeroskew.dev"),
        ("patch", "modelrollouts.zeroskew.dev/status"),
        ("patch", "inferenceservices.serving.kserve.io"),
        ("create", "servingruntimes.serving.kserve.io"),
        ("delete", "httproutes.gateway.networking.k8s.io"),
        ("get", "gateways.gateway.networking.k8s.io"),
        ("list", "deployments.apps"),
        ("patch", "poddisruptionbudgets.policy"),
        ("create", "events"),
    ],
)
def test_the_operator_may(verb, what, cluster, installed):
    assert allowed(cluster, "team", verb, what)


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("get", "secrets"),
        ("list", "configmaps"),
        ("create", "deployments.apps"),
        ("create", "pods"),
        ("create", "modelrollouts.zeroskew.dev"),
        ("delete", "modelrollouts.zeroskew.dev"),
        ("patch", "clusterroles.rbac.authorization.k8s.io"),
        ("patch", "gateways.gateway.networking.k8s.io"),
        ("delete", "namespaces"),
        ("*", "*"),
    ],
)
def test_the_operator_may_not(verb, what, cluster, installed):
    assert not allowed(cluster, "team", verb, what)


def test_it_lists_rollouts_of_all_namespaces(cluster, installed):
    assert cluster.kubectl("get", "modelrollouts", "-A", OPERATOR).returncode == 0
    refused = cluster.kubectl("get", "secrets", "-A", OPERATOR, check=False)
    assert "forbidden" in refused.stderr.lower()


def test_users_get_their_rights_by_aggregation_labels(cluster, installed):
    for word in ("view", "edit"):
        labels = cluster.get("clusterrole", f"zeroskew-{word}")["metadata"]["labels"]
        assert labels[f"rbac.authorization.k8s.io/aggregate-to-{word}"] == "true"
