"""A rollout's route on Envoy Gateway and its Envoy: accepted, and requests go as it says.

Requests are counted at both ends; what chance does to the numbers is bounded exactly.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import crd_folder, missing, require
from envoy_gateway import CONTROLLER, PROGRAMS, EnvoyGateway
from own_network import NotPermitted
from scipy.stats import binom
from test_gateway_reader import look

from zeroskew.rollout.http_route import http_route, read_http_route
from zeroskew.rollout.names import service_name
from zeroskew.rollout.rollout_spec import parse_spec
from zeroskew.rollout.traffic_plan import ROLE_HEADER, VERSION_HEADER, TrafficPlan, shared

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
MODEL, NAMESPACE = "flight_delay", "models"
ADDRESSES = {"1": "10.77.0.1", "2": "10.77.0.2"}
REQUESTS = 1000
CHANCE = 1e-9
"""How often a sound gateway would fail a test."""
PORT, LISTENER = 8000, 10_000
_KINDS = ("gatewayclasses.", "gateways.", "httproutes.", "grpcroutes.", "referencegrants.")


class Traffic:
    """tests/cluster/gateway_traffic.py inside the gateway's network."""

    def __init__(self, gateway: EnvoyGateway) -> None:
        script = Path(__file__).with_name("gateway_traffic.py")
        self._servers = {f"{address}:{PORT}": v for v, address in ADDRESSES.items()}
        self._process = subprocess.Popen(
            gateway.network.command(sys.executable, script, *self._servers),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout.readline() == "ready\n"

    def ask(self, path: str, requests: int = REQUESTS, headers: dict | None = None):
        """What the client got, and the headers that each version was sent, by version."""
        url = f"http://127.0.0.1:{LISTENER}{path}/infer"
        asked = {"url": url, "requests": requests, "headers": headers or {}}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        answers = {self._servers.get(who, who): n for who, n in found["answers"].items()}
        return answers, {self._servers[who]: asked for who, asked in found["arrived"].items()}

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def gateway(api_server, tmp_path_factory):
    require(*PROGRAMS)
    crds = crd_folder() / "gateway-api.yaml"
    api_server.install(
        [
            each
            for each in yaml.safe_load_all(crds.read_text())
            if each and each["kind"] == "CustomResourceDefinition"
            and each["metadata"]["name"].startswith(_KINDS)
        ]
    )  # fmt: skip
    documents = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "envoy"}, "spec": {"controllerName": CONTROLLER},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "ml", "namespace": NAMESPACE},
            "spec": {
                "gatewayClassName": "envoy",
                "listeners": [{"name": "http", "port": LISTENER, "protocol": "HTTP"}],
            },
        },
        *(each for version in ADDRESSES for each in service_of(version)),
    ]  # fmt: skip
    apply(api_server, *documents)
    try:
        with EnvoyGateway(
            api_server, tmp_path_factory.mktemp("gateway"), addresses=tuple(ADDRESSES.values())
        ) as running:
            running.wait_accepted("ml", NAMESPACE)
            yield running
    except NotPermitted as reason:
        missing(str(reason))


@pytest.fixture(scope="module")
def traffic(gateway):
    running = Traffic(gateway)
    yield running
    running.close()


def apply(cluster, *documents) -> None:
    together = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(together)
    )


def service_of(version: str) -> list[dict]:
    """The Service that KServe makes of a version, and its one pod's address."""
    name = f"{service_name(MODEL, int(version))}-predictor"
    metadata = {"name": name, "namespace": NAMESPACE}
    return [
        {
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": PORT}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": metadata | {"labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
            "endpoints": [{"addresses": [ADDRESSES[version]], "conditions": {"ready": True}}],
        },
    ]  # fmt: skip


def plan_of(name: str, *, weight: int, mirror: int) -> TrafficPlan:
    """Of a ModelRollout whose requests come in at a path of their own."""
    spec = parse_spec(
        {
            "modelRef": {"name": MODEL, "version": "2"},
            "template": {
                "inferenceService": {"predictor": {"model": {}}},
                "servingRuntime": {"containers": [{"name": "kserve-container"}]},
            },
            "service": {"gatewayRefs": [{"name": "ml"}], "modelPath": f"/v2/models/{name}"},
        }
    )
    return shared(spec.entrance, "1", "2", weight=weight, mirror=mirror)


def serve(gateway, traffic, plan: TrafficPlan) -> None:
    """Apply the route as the operator does, and wait until the gateway's Envoy works by it."""
    apply(gateway.cluster, http_route(plan, MODEL, NAMESPACE))
    found = gateway.wait_route(MODEL.replace("_", "-"), NAMESPACE)
    seen = read_http_route(found, MODEL)
    assert seen.live, seen
    assert seen.plan == plan
    deadline = time.monotonic() + 60
    while set(answers := traffic.ask(plan.entrance.path, 1)[0]) - set(ADDRESSES):
        # Accepted is said before Envoy knows; and this path was nobody's before.
        assert set(answers) == {"404"}, answers
        assert time.monotonic() < deadline, gateway.tail()


def between(share: float, count: int) -> bool:
    """Whether chance explains so many of `REQUESTS`."""
    low, high = binom.interval(1 - CHANCE, REQUESTS, share)
    return low <= count <= high


@pytest.mark.parametrize("percent", [10, 100])
def test_a_mirror_copies_the_percent_that_the_route_says(gateway, traffic, percent):
    plan = plan_of(f"mirror{percent}", weight=0, mirror=percent)
    serve(gateway, traffic, plan)
    answers, arrived = traffic.ask(plan.entrance.path)
    assert answers == {"1": REQUESTS}, "users are answered by the champion, without an error"
    assert len(arrived["1"]) == REQUESTS
    copies = len(arrived["2"])
    assert between(percent / 100, copies), copies
    # A copy is addressed as its original, by which a server knows it for one.
    assert {(*each[ROLE_HEADER], *each[VERSION_HEADER]) for each in arrived["2"]} == {
        ("champion", "1")
    }
    originals = {*(identity for each in arrived["1"] for identity in each["x-request-id"])}
    assert {*(identity for each in arrived["2"] for identity in each["x-request-id"])} <= originals


@pytest.mark.parametrize("percent", [10, 50])
def test_a_split_gives_the_canary_its_share(gateway, traffic, percent):
    plan = plan_of(f"split{percent}", weight=percent, mirror=0)
    serve(gateway, traffic, plan)
    answers, arrived = traffic.ask(plan.entrance.path)
    assert set(answers) == {"1", "2"}, answers
    assert {version: len(asked) for version, asked in arrived.items()} == answers
    assert sum(answers.values()) == REQUESTS
    assert between(percent / 100, answers["2"]), answers
    for version, role in (("1", "champion"), ("2", "canary")):
        assert {(*each[ROLE_HEADER], *each[VERSION_HEADER]) for each in arrived[version]} == {
            (role, version)
        }


def test_role_and_version_from_outside_are_overwritten(gateway, traffic):
    plan = plan_of("forged", weight=50, mirror=0)
    serve(gateway, traffic, plan)
    forged = {ROLE_HEADER: "shadow", VERSION_HEADER: "7"}
    answers, arrived = traffic.ask(plan.entrance.path, 200, forged)
    assert sum(answers.values()) == 200
    for version, role in (("1", "champion"), ("2", "canary")):
        assert arrived[version]
        for each in arrived[version]:
            assert (each[ROLE_HEADER], each[VERSION_HEADER]) == ([role], [version])


def test_a_clients_request_id_is_replaced_by_the_gateways(gateway, traffic):
    plan = plan_of("identity", weight=0, mirror=100)
    serve(gateway, traffic, plan)
    _, arrived = traffic.ask(plan.entrance.path, 100, {"x-request-id": "mine"})
    for asked in arrived.values():
        ids = [identity for each in asked for identity in each["x-request-id"]]
        assert len(set(ids)) == 100
        assert not [identity for identity in ids if identity.startswith("mine")]


def test_its_class_lists_no_features_and_it_is_known_all_the_same(gateway):
    status = gateway.cluster.get("gatewayclass", "envoy")["status"]
    assert [each["type"] for each in status["conditions"] if each["status"] == "True"] == [
        "Accepted"
    ]
    assert not status.get("supportedFeatures"), "then the list should be read, not guessed"
    seen = look(gateway.cluster, 10, "ml", namespace=NAMESPACE)
    assert (seen.exists, seen.mirrors) == (True, True)


def test_a_gateway_that_does_not_look_serves_by_what_it_knows(gateway, traffic):
    before = plan_of("before", weight=0, mirror=0)
    serve(gateway, traffic, before)
    after = plan_of("after", weight=100, mirror=0)
    gateway.freeze()
    try:
        apply(gateway.cluster, http_route(after, MODEL, NAMESPACE))
        route = gateway.cluster.get("httproute", MODEL.replace("_", "-"), "-n", NAMESPACE)
        seen = read_http_route(route, MODEL)
        assert seen.plan == after
        assert seen.accepted, "of the generation before"
        assert not seen.live
        assert traffic.ask(before.entrance.path, 50)[0] == {"1": 50}
    finally:
        gateway.freeze(False)
    serve(gateway, traffic, after)
    assert traffic.ask(after.entrance.path, 50)[0] == {"2": 50}


def test_a_route_to_a_version_without_a_service_is_not_resolved(gateway):
    plan = shared(plan_of("nobody", weight=0, mirror=0).entrance, "1", "9", weight=10, mirror=0)
    apply(gateway.cluster, http_route(plan, "nobody", NAMESPACE))
    seen = read_http_route(gateway.wait_route("nobody", NAMESPACE), "nobody")
    assert not seen.live
    assert "nobody-9-predictor" in seen.message
