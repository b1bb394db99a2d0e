"""What each check of `zeroskew doctor` makes of what was seen; reading has its own tests."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from zeroskew.cluster.doctor.checks import (
    check_all,
    check_kubernetes,
    check_operator,
    check_own_crds,
    check_pipelines,
    check_storage,
    own_crds,
)
from zeroskew.cluster.doctor.namespace_checks import check_namespaces
from zeroskew.cluster.doctor.node_checks import check_nodes, largest_request
from zeroskew.cluster.doctor.node_reading import quantity, used_by
from zeroskew.cluster.doctor.observations import (
    Cr,
    Deployed,
    GatewayClass,
    Look,
    NamespaceSeen,
    Node,
    Seen,
    Wanted,
)
from zeroskew.cluster.doctor.requirements import CREDENTIALS, ENDPOINTS, MINE, OPERATORS
from zeroskew.cluster.doctor.serving_checks import check_gateway, check_kserve

ROOT = Path(__file__).parents[3]
EMPTY = Seen("v1.36.2", {})


def states(findings):
    return [each.state for each in findings]


def deployed(name, image, arguments="", ready=1):
    return Deployed("somewhere", name, (image,), 1, ready, "default", arguments)


def test_what_is_required_is_what_the_manifests_have():
    text = (ROOT / "manifests/endpoints/endpoints.yaml").read_text()
    assert set(yaml.safe_load(text)["data"]) == ENDPOINTS
    granted = set()
    for role in yaml.safe_load_all((ROOT / "manifests/base/operator/roles.yaml").read_text()):
        for rule in role["rules"]:
            granted |= {
                Wanted(verb, group, resource)
                for verb in rule["verbs"]
                for group in rule["apiGroups"]
                for resource in rule["resources"]
            }
    assert set(OPERATORS) <= granted
    optional = {"argoproj.io", "pipelines.kubeflow.org"}
    rest = {
        each for each in granted - set(OPERATORS)
        if each.group not in optional and not each.resource.endswith("/finalizers")
    }  # fmt: skip
    assert not rest, "rights that the operator has, and doctor does not ask about"
    people = yaml.safe_load_all((ROOT / "manifests/base/user-roles.yaml").read_text())
    (edit,) = (each for each in people if each["metadata"]["name"] == "zeroskew-edit")
    ours = {(verb, name) for rule in edit["rules"] for verb in rule["verbs"]
            for name in rule["resources"]}  # fmt: skip
    assert {(e.verb, e.resource) for e in MINE if e.group == "zeroskew.dev"} <= ours


@pytest.mark.parametrize(
    ("version", "state"),
    [("v1.36.2", "ok"), ("v1.29.0-eks-1", "ok"), ("v1.28.9", "problem"), ("main", "warning")],
)
def test_kubernetes_by_its_version(version, state):
    assert states(check_kubernetes(replace(EMPTY, version=version))) == [state]


def test_kinds_are_those_of_this_release():
    served = {"zeroskew.dev/v1alpha1": frozenset(name.partition(".")[0] for name in own_crds())}
    crds = {name: Cr(schema, {}) for name, schema in own_crds().items()}
    seen = replace(EMPTY, served=served, crds=Look(crds))
    assert set(states(check_own_crds(seen))) == {"ok"}
    first = next(iter(crds))
    other = dict(crds[first].schema) | {"description": "of another release"}
    changed = replace(seen, crds=Look(crds | {first: Cr(other, {})}))
    assert states(check_own_crds(changed)).count("problem") == 1
    forbidden = replace(seen, crds=Look(forbidden="list customresourcedefinitions"))
    assert set(states(check_own_crds(forbidden))) == {"not checkable"}
    assert set(states(check_own_crds(EMPTY))) == {"problem"}


def test_the_operator_is_there_once_ready_and_of_this_release():
    def found(*deployments):
        return check_operator(replace(EMPTY, deployments=Look(deployments)))

    kfp = "ZEROSKEW_KFP=http://ml-pipeline.kubeflow:8888 ZEROSKEW_KFP_MULTI_USER=false"
    assert states(found(deployed("zeroskew-operator", "r/zeroskew-operator:0.1.0", kfp))) == ["ok"]
    assert states(found(deployed("zeroskew-operator", "r/operator:0.0.9", kfp))) == ["warning"]
    assert states(found(deployed("zeroskew-operator", "r/operator:0.1.0", kfp, 0))) == ["problem"]
    alone = "ZEROSKEW_KFP= ZEROSKEW_KFP_MULTI_USER=false"
    without = found(deployed("zeroskew-operator", "operator:0.1.0", alone))
    assert states(without) == ["ok", "warning"]
    assert "ZEROSKEW_KFP" in without[1].hint
    twice = deployed("zeroskew-operator", "operator:0.1.0", kfp)
    assert "warning" in states(found(twice, replace(twice, namespace="other")))
    assert states(found()) == ["problem"]


def test_kserve_needs_a_manager_that_is_ready_and_not_too_old():
    served = {
        "serving.kserve.io/v1beta1": frozenset({"inferenceservices"}),
        "serving.kserve.io/v1alpha1": frozenset({"servingruntimes"}),
    }
    name = "kserve-controller-manager"

    def found(*deployments, **more):
        return check_kserve(replace(EMPTY, served=served, deployments=Look(deployments), **more))

    assert states(check_kserve(EMPTY)) == ["problem"]
    assert states(found()) == ["problem"]
    assert states(found(deployed(name, "kserve/kserve-controller:v0.20.1"))) == ["ok"]
    assert states(found(deployed(name, "kserve/kserve-controller:v0.15.0"))) == ["warning"]
    assert states(found(deployed(name, "kserve/kserve-controller:v0.20.1", ready=0))) == ["problem"]
    strict = (NamespaceSeen("team", enforced=Look("restricted")),)
    manager = deployed(name, "kserve/kserve-controller:v0.20.1")
    bare = found(manager, namespaces=strict, storage_containers=Look(({"name": "c"},)))
    assert states(bare) == ["ok", "problem"]
    context = {"allowPrivilegeEscalation": False, "runAsNonRoot": True}
    safe = found(
        manager, namespaces=strict, storage_containers=Look(({"securityContext": context},))
    )
    assert states(safe) == ["ok", "ok"]


def test_gateways_by_what_they_publish_or_by_their_controller():
    served = {"gateway.networking.k8s.io/v1": frozenset({"httproutes"})}
    base = replace(EMPTY, served=served, crds=Look({}))

    def found(*classes):
        return states(check_gateway(replace(base, gateway_classes=Look(classes))))[1:]

    envoy = "gateway.envoyproxy.io/gatewayclass-controller"
    assert found(GatewayClass("a", envoy, True, None)) == ["ok"]
    contour = "projectcontour.io/gateway-controller"
    assert found(GatewayClass("a", contour, True, None)) == ["warning"]
    assert found(GatewayClass("a", "nobody.knows/it", True, None)) == ["warning"]
    assert found(GatewayClass("a", envoy, False, None)) == ["warning"]
    few = frozenset({"HTTPRouteRequestMirror"})
    assert found(GatewayClass("a", envoy, True, few)) == ["problem"]
    assert found() == ["problem"]
    assert states(check_gateway(EMPTY)) == ["problem"]


def test_pipelines_and_how_they_are_kept():
    kinds = {"pipelines.kubeflow.org/v2beta1": frozenset({"pipelines", "pipelineversions"})}

    def found(arguments, served=kinds):
        server = deployed("ml-pipeline", "api-server:2.17.0", arguments)
        return check_pipelines(replace(EMPTY, served=served, deployments=Look((server,))))

    good = found("--pipelinesStoreKubernetes=true MULTIUSER=true")
    assert states(good) == ["ok"]
    assert "several users" in good[0].message
    assert "one user" in found("--pipelinesStoreKubernetes=true")[0].message
    assert "problem" in states(found(""))
    assert "problem" in states(found("--pipelinesStoreKubernetes=true", served={}))
    assert states(check_pipelines(replace(EMPTY, deployments=Look(())))) == ["warning"]


def test_a_namespace_by_its_keys_and_rights():
    def found(**seen):
        return check_namespaces(replace(EMPTY, namespaces=(NamespaceSeen("team", **seen),)))

    whole = {"endpoints": Look(ENDPOINTS), "credentials": Look(CREDENTIALS)}
    assert states(found(**whole)) == ["ok", "ok", "ok"]
    short = found(**whole | {"endpoints": Look(ENDPOINTS - {"ZEROSKEW_RAY"})})
    assert states(short)[0] == "problem"
    assert "ZEROSKEW_RAY" in short[0].message
    assert states(found())[:2] == ["problem", "problem"]
    hidden = found(endpoints=Look(forbidden="get configmaps"), credentials=Look(forbidden="x"))
    assert states(hidden)[:2] == ["not checkable", "not checkable"]
    assert hidden[0].hint == "get configmaps"
    rights = found(**whole, mine=dict.fromkeys(MINE, False), operators=Look(
        dict.fromkeys(OPERATORS, True) | {OPERATORS[0]: False}
    ))  # fmt: skip
    assert states(rights)[2:] == ["warning", "problem"]
    assert OPERATORS[0].text in rights[3].message


def test_the_largest_step_and_the_nodes():
    step, cpu, memory = largest_request()
    small = Node("small", True, cpu / 2, memory, 0, cpu / 2, memory)
    fits = Node("fits", True, cpu, memory, 0, cpu, memory)

    def found(*nodes):
        return check_nodes(replace(EMPTY, nodes=Look(nodes)))

    assert states(found(fits, small)) == ["ok"]
    assert states(found(small)) == ["problem"]
    assert step in found(small)[0].message
    full = replace(fits, free_cpu=0.01)
    assert states(found(full, small)) == ["warning"]
    assert "Pending" in found(full)[0].hint
    assert states(found(replace(fits, schedulable=False))) == ["problem"]
    assert states(found(replace(fits, free_cpu=None, free_memory=None))) == ["not checkable"]


def test_storage_needs_a_default_class():
    def found(**more):
        return states(check_storage(replace(EMPTY, **more)))

    assert found(storage_classes=Look({"a": True, "b": False})) == ["ok"]
    assert found(storage_classes=Look({"a": False})) == ["problem"]
    assert found(storage_classes=Look({"a": True}), pending_claims=Look(("redis",))) == [
        "ok", "problem",
    ]  # fmt: skip


def test_every_problem_has_a_hint():
    for each in check_all(replace(EMPTY, namespaces=(NamespaceSeen("team"),))):
        assert each.state != "problem" or each.hint, each


@pytest.mark.parametrize(
    ("text", "amount"),
    [("500m", 0.5), ("2", 2.0), ("2Gi", 2**31), ("1e3", 1000.0), ("128974848", 128974848.0)],
)
def test_quantities_of_kubernetes(text, amount):
    assert quantity(text) == pytest.approx(amount)


def test_pods_that_are_over_hold_nothing():
    def pod(phase, node="n"):
        requests = {"cpu": "250m", "memory": "1Gi"}
        return {"spec": {"nodeName": node, "containers": [{"resources": {"requests": requests}}]},
                "status": {"phase": phase}}  # fmt: skip

    pods = [pod("Running"), pod("Pending"), pod("Succeeded"), pod("Failed"), pod("Pending", None)]
    assert used_by(pods) == {"n": (0.5, 2048.0)}
