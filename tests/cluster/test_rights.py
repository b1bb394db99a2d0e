"""Who may do what once manifests/base is installed: the answers of a real API server.

The operator is asked about by its own account, people by Kubernetes' roles, into which a real
controller gathers ours.
"""

import json
import runpy
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
NEEDS = runpy.run_path(str(ROOT / "tests/unit/install/test_operator_rights.py"))["NEEDS"]
ACCOUNT = "system:serviceaccount:zeroskew:zeroskew-operator"
SPACE = "team"


@pytest.fixture(scope="module")
def installed(control_plane):
    """Base, and a namespace with an editor and a viewer, bound as an administrator binds them."""
    control_plane.kubectl("apply", "--server-side", "-k", ROOT / "manifests/base")
    bindings = [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": role, "namespace": SPACE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                        "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User",
                          "name": f"a-{role}"}],
        }
        for role in ("view", "edit", "admin")
    ]  # fmt: skip
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
    control_plane.kubectl(
        "apply", "--server-side", "-f", "-",
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [space, *bindings]}),
    )  # fmt: skip
    # Roles are gathered by a controller, in its own time.
    deadline = time.monotonic() + 60
    wanted = [("create", "modelrollouts.zeroskew.dev", SPACE)]
    while not allowed(control_plane, "a-admin", wanted):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return control_plane


def allowed(cluster, user, asked):
    """Those of (verb, resource.group/subresource, namespace) that the server allows."""
    groups = ["system:authenticated"]
    if user.startswith("system:serviceaccount:"):
        groups += ["system:serviceaccounts", "system:serviceaccounts:" + user.split(":")[2]]
    reviews = []
    for verb, what, namespace in asked:
        whole, _, part = what.partition("/")
        resource, _, group = whole.partition(".")
        about = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
        about |= {"subresource": part} if part else {}
        reviews.append(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {"user": user, "groups": groups, "resourceAttributes": about},
            }
        )
    documents = {"apiVersion": "v1", "kind": "List", "items": reviews}
    shown = r'jsonpath={.status.allowed}{"\n"}'
    done = cluster.kubectl("create", "-f", "-", "-o", shown, input=json.dumps(documents))
    answers = done.stdout.split()
    assert len(answers) == len(asked)
    return [each for each, answer in zip(asked, answers, strict=True) if answer == "true"]


def test_the_operator_may_what_its_code_does(installed):
    asked = [
        (verb, f"{kind.plural}.{kind.group}".rstrip("."), SPACE if kind.namespaced else "")
        for kind, verbs in NEEDS.items()
        for verb in sorted(verbs)
    ]
    asked += [
        ("patch", "modelrollouts.zeroskew.dev/status", SPACE),
        ("patch", "driftmonitors.zeroskew.dev/status", SPACE),
        ("update", "modelrollouts.zeroskew.dev/finalizers", SPACE),
        ("create", "runs.pipelines.kubeflow.org", SPACE),
        ("terminate", "runs.pipelines.kubeflow.org", SPACE),
        ("list", "pipelines.pipelines.kubeflow.org/versions", SPACE),
        ("watch", "customresourcedefinitions.apiextensions.k8s.io", ""),
    ]
    assert allowed(installed, ACCOUNT, asked) == asked


def test_the_operator_may_nothing_of_this(installed):
    asked = [
        ("get", "secrets"),
        ("list", "secrets"),
        ("list", "configmaps"),
        ("get", "pods/log"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("create", "serviceaccounts/token"),
        ("create", "deployments.apps"),
        ("patch", "deployments.apps"),
        ("delete", "deployments.apps"),
        ("create", "modelrollouts.zeroskew.dev"),
        ("delete", "modelrollouts.zeroskew.dev"),
        ("patch", "driftmonitors.zeroskew.dev"),
        ("patch", "clusterroles.rbac.authorization.k8s.io"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("patch", "gateways.gateway.networking.k8s.io"),
        ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
        ("patch", "nodes"),
        ("delete", "namespaces"),
        ("impersonate", "users"),
        ("*", "*"),
    ]
    for namespace in (SPACE, "zeroskew", ""):
        assert allowed(installed, ACCOUNT, [(*each, namespace) for each in asked]) == []


def test_a_real_token_of_the_account_works_and_ends_at_secrets(installed, tmp_path):
    token = installed.token("zeroskew", "zeroskew-operator")
    config = tmp_path / "config"
    installed.write_kubeconfig(config, token)
    own = ("--kubeconfig", config)
    assert ACCOUNT in installed.kubectl(*own, "auth", "whoami").stdout
    for each in ("modelrollouts", "driftmonitors", "deployments", "poddisruptionbudgets"):
        installed.kubectl(*own, "get", each, "-A")
    refused = installed.kubectl(*own, "get", "secrets", "-A", check=False)
    assert "forbidden" in refused.stderr.lower()


@pytest.mark.parametrize(
    ("who", "may", "may_not"),
    [
        ("a-view", ["get", "list", "watch"], ["create", "patch", "delete"]),
        ("a-edit", ["get", "list", "create", "update", "patch", "delete"], ["deletecollection"]),
        ("a-admin", ["get", "list", "create", "update", "patch", "delete"], ["deletecollection"]),
        ("a-stranger", [], ["get", "list", "create", "patch", "delete"]),
    ],
)
def test_people_have_it_by_kubernetes_own_roles(installed, who, may, may_not):
    kinds = [f"{kind}.zeroskew.dev" for kind in ("modelrollouts", "driftmonitors")]
    wanted = [(verb, kind, SPACE) for kind in kinds for verb in may]
    assert not may or allowed(installed, who, wanted) == wanted
    # The status is what the operator remembers.
    beyond = [("patch", f"{kind}/status", SPACE) for kind in kinds]
    beyond += [("get", kind, "another") for kind in kinds]
    beyond += [(verb, kind, SPACE) for kind in kinds for verb in may_not]
    assert allowed(installed, who, beyond) == []
