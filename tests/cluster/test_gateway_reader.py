"""What the operator makes of the Gateways and GatewayClasses that stand in a cluster."""

import asyncio
import json

import pytest
import yaml
from conftest import crd_folder
from lightkube import AsyncClient, KubeConfig

from operators.cluster_client import ClusterClient
from operators.gateway_reader import GatewayReader
from zeroskew.rollout.http_route import needed_features
from zeroskew.rollout.traffic_plan import GatewayRef

pytestmark = pytest.mark.cluster
GROUP = "gateway.networking.k8s.io"
BOTH = ["HTTPRouteRequestMirror", "HTTPRouteRequestPercentageMirror"]
CLASSES = {
    "envoy": ("gateway.envoyproxy.io/gatewayclass-controller", []),
    "contour": ("projectcontour.io/gateway-controller", []),
    "newer-contour": ("projectcontour.io/gateway-controller", BOTH),
    "stranger": ("example.com/gateway", []),
    "honest": ("example.com/gateway", BOTH[:1]),
}
"""Controller and listed features, by class; each has a Gateway of its name."""


@pytest.fixture(scope="module")
def gateways(api_server):
    crds = yaml.safe_load_all((crd_folder() / "gateway-api.yaml").read_text())
    names = (f"gateways.{GROUP}", f"gatewayclasses.{GROUP}")
    api_server.install([each for each in crds if each and each["metadata"]["name"] in names])
    made = []
    for name, (controller, _) in CLASSES.items():
        listener = {"name": "http", "port": 80, "protocol": "HTTP"}
        made += [
            {
                "apiVersion": f"{GROUP}/v1", "kind": "GatewayClass",
                "metadata": {"name": name}, "spec": {"controllerName": controller},
            },
            {
                "apiVersion": f"{GROUP}/v1", "kind": "Gateway",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"gatewayClassName": name, "listeners": [listener]},
            },
        ]  # fmt: skip
    together = {"apiVersion": "v1", "kind": "List", "items": made}
    api_server.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(together))
    for name, (_, features) in CLASSES.items():
        status = {"status": {"supportedFeatures": [{"name": each} for each in features]}}
        api_server.kubectl(
            "patch", "gatewayclass", name, "--subresource=status", "--type=merge",
            "-p", json.dumps(status),
        )  # fmt: skip
    return api_server


def look(cluster, percent, *names, namespace="default"):
    """What the operator sees of these Gateways, for a rollout that mirrors so much."""

    async def ask():
        config = KubeConfig.from_file(str(cluster.kubeconfig))
        client = ClusterClient(AsyncClient(config=config, trust_env=False))
        try:
            references = [GatewayRef(name) for name in names]
            reader = GatewayReader(client)
            return await reader.look(references, namespace, needed_features(percent))
        finally:
            await client.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("percent", "names", "mirrors", "said"),
    [
        (20, ["envoy"], True, ""),
        (20, ["contour"], False, "which copies every request"),
        (100, ["contour"], True, ""),
        (20, ["newer-contour"], True, ""),
        (20, ["stranger"], None, "'example.com/gateway' is not known"),
        (20, ["honest"], False, "does not say that it supports HTTPRouteRequestPercentageMirror"),
        (100, ["honest"], True, ""),
        (0, ["contour", "stranger"], True, ""),
        # One that cannot is enough to refuse, one that is not known enough to warn.
        (20, ["envoy", "stranger", "contour"], False, "of Contour"),
        (20, ["stranger", "envoy"], None, "is not known"),
    ],
)
def test_a_class_that_lists_features_decides_and_else_its_controller(
    gateways, percent, names, mirrors, said
):
    seen = look(gateways, percent, *names)
    assert seen.exists is True
    assert seen.mirrors is mirrors
    assert said in seen.message
    assert bool(said) is bool(seen.message)


def test_a_gateway_that_is_not_there_is_named(gateways):
    seen = look(gateways, 20, "envoy", "nobody")
    assert seen.exists is False
    assert "default/nobody" in seen.message
