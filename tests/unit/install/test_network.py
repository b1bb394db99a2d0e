"""Policies, Services and addresses name what is there."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SPACE = "zeroskew"
CLIENT_LABELS = {
    "zeroskew.dev/clients", "zeroskew.dev/scrapes", "zeroskew.dev/gateways",
    "kubernetes.io/metadata.name",
}  # fmt: skip
BY_KUBERAY = {"zeroskew-ray-head-svc": 10001}


def matches(selector, labels):
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    for term in selector.get("matchExpressions", []):
        assert term["operator"] == "DoesNotExist"
        if term["key"] in labels:
            return False
    return True


@pytest.fixture(scope="session")
def served():
    """Labels of a server's pod: its InferenceService's, and KServe's own."""
    registered = runpy.run_path(str(ROOT / "tests/unit/rollout/registered.py"))
    from zeroskew.rollout.manifests import serving_manifests

    made = serving_manifests(registered["version"](), registered["config"](), **registered["PLACE"])
    (service,) = (each for each in made if each["kind"] == "InferenceService")
    (runtime,) = (each for each in made if each["kind"] == "ServingRuntime")
    (budget,) = (each for each in made if each["kind"] == "PodDisruptionBudget")
    labels = service["metadata"]["labels"] | budget["spec"]["selector"]["matchLabels"]
    return labels, runtime["spec"]["containers"][0]


@pytest.fixture
def everybody(pods, served):
    """(namespace, labels) of all pods, those of a server and of a pipeline's step included."""
    step = {"app.kubernetes.io/part-of": "zeroskew"}
    return [(space, labels) for _, space, labels, _ in pods] + [("team", served[0]), ("team", step)]


def policies(installed):
    return [each for each in installed if each["kind"] == "NetworkPolicy"]


def test_every_policy_has_pods(installed, everybody):
    found = policies(installed)
    assert len(found) >= 8
    for policy in found:
        space, selector = policy["metadata"]["namespace"], policy["spec"]["podSelector"]
        assert any(space == where and matches(selector, who) for where, who in everybody), policy


def test_peers_of_a_policy_are_pods_of_the_platform_or_namespaces_that_were_let_in(
    installed, everybody
):
    for policy in policies(installed):
        spec = policy["spec"]
        for rule in (*spec.get("ingress", []), *spec.get("egress", [])):
            for peer in (*rule.get("from", []), *rule.get("to", [])):
                if "namespaceSelector" in peer:
                    assert set(peer["namespaceSelector"]["matchLabels"]) <= CLIENT_LABELS
                else:
                    space = policy["metadata"]["namespace"]
                    assert any(
                        space == where and matches(peer["podSelector"], who)
                        for where, who in everybody
                    ), policy


def test_a_policy_opens_ports_that_its_pods_listen_on(installed, pods, served):
    listening = [
        (
            space,
            labels,
            {p["containerPort"] for c in spec["containers"] for p in c.get("ports", [])},
        )
        for _, space, labels, spec in pods
    ]
    listening.append(("team", served[0], {p["containerPort"] for p in served[1]["ports"]}))
    for policy in policies(installed):
        space, spec = policy["metadata"]["namespace"], policy["spec"]
        there = set().union(
            *(
                ports
                for where, labels, ports in listening
                if where == space and matches(spec["podSelector"], labels)
            )
        )
        for rule in spec.get("ingress", []):
            assert {port["port"] for port in rule.get("ports", [])} <= there, policy


def test_without_a_policy_of_its_own_nobody_talks(installed, pods):
    found = {policy["metadata"]["name"]: policy["spec"] for policy in policies(installed)}
    deny = found["default-deny"]
    assert deny["podSelector"] == {}
    assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
    assert not deny.get("ingress")
    assert not deny.get("egress")


def test_who_reads_endpoints_may_reach_them(installed, pods):
    """Pods with the ConfigMap of endpoints have a policy that lets them out."""
    for name, space, labels, spec in pods:
        reads = any(
            source.get("configMapRef", {}).get("name") == "zeroskew-endpoints"
            for container in spec["containers"]
            for source in container.get("envFrom", [])
        )
        ways = [
            policy
            for policy in policies(installed)
            if policy["metadata"]["namespace"] == space
            and policy["spec"]["podSelector"]
            and matches(policy["spec"]["podSelector"], labels)
            and policy["spec"].get("egress")
        ]
        assert bool(ways) or not reads, name


def test_services_lead_to_pods_and_their_ports(installed, pods):
    for service in (each for each in installed if each["kind"] == "Service"):
        behind = [
            spec for _, _, labels, spec in pods
            if matches({"matchLabels": service["spec"]["selector"]}, labels)
        ]  # fmt: skip
        assert len(behind) == 1, service
        names = {p["name"]: p for c in behind[0]["containers"] for p in c["ports"]}
        for port in service["spec"]["ports"]:
            assert names[port["targetPort"]]["containerPort"] == port["port"]


def test_endpoints_are_addresses_of_services(installed):
    services = BY_KUBERAY | {
        each["metadata"]["name"]: each["spec"]["ports"][0]["port"]
        for each in installed
        if each["kind"] == "Service"
    }
    maps = [
        each
        for each in installed
        if each["kind"] == "ConfigMap" and each["metadata"]["name"] == "zeroskew-endpoints"
    ]
    assert len(maps) == 2
    assert maps[0]["data"] == maps[1]["data"]
    found = re.findall(r"([\w-]+)\.zeroskew\.svc:(\d+)", " ".join(maps[0]["data"].values()))
    ray = set(BY_KUBERAY) if any(each["kind"] == "RayCluster" for each in installed) else set()
    assert {name for name, _ in found} == {"redis", "mlflow", "bucket"} | ray
    assert all(services[name] == int(port) for name, port in found)


def test_mlflow_takes_requests_for_every_name_it_goes_by(installed):
    (mlflow,) = (
        each["spec"]["template"]["spec"]["containers"][0]
        for each in installed
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "mlflow"
    )
    (hosts,) = (a for a in mlflow["args"] if a.startswith("--allowed-hosts="))
    (named,) = (
        each["data"]["ZEROSKEW_MLFLOW"].removeprefix("http://")
        for each in installed
        if each["kind"] == "ConfigMap" and each["metadata"]["name"] == "zeroskew-endpoints"
        and each["metadata"]["namespace"] == SPACE
    )  # fmt: skip
    assert named in hosts.partition("=")[2].split(",")
    routes = [each for each in installed if each["kind"] == "VirtualService"]
    for route in routes:
        assert route["spec"]["http"][0]["rewrite"]["authority"] in hosts
