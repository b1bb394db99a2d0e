"""ModelRollout's CRD and the rollout's HTTPRoute before a real API server."""

import copy
import json
import runpy
from pathlib import Path

import pytest
import yaml

from zeroskew.rollout.http_route import http_route, read_http_route
from zeroskew.rollout.manifests import serving_manifests
from zeroskew.rollout.rollout_config import RolloutSection, rollout_manifest, template_of
from zeroskew.rollout.rollout_spec import parse_spec
from zeroskew.rollout.traffic_plan import alone, shared

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
_REGISTERED = runpy.run_path(str(ROOT / "tests/unit/rollout/registered.py"))
PLACE, config, version = (_REGISTERED[name] for name in ("PLACE", "config", "version"))
_WORLD = runpy.run_path(str(ROOT / "tests/unit/rollout/rollout_world.py"))
CRD = ROOT / "manifests/crds/zeroskew.dev_modelrollouts.yaml"
SECTION = RolloutSection.model_validate({"service": {"gateway_refs": [{"name": "ml"}]}})


@pytest.fixture(scope="session")
def rollouts(cluster):
    cluster.install([yaml.safe_load(CRD.read_text())])
    return cluster


@pytest.fixture(scope="session")
def gateways(cluster):
    crds = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["crd_folder"]()
    if not (crds / "gateway-api.yaml").is_file():
        pytest.skip(f"no gateway-api.yaml in {crds}")
    documents = [
        document
        for document in yaml.safe_load_all((crds / "gateway-api.yaml").read_text())
        if document and document["metadata"]["name"].startswith("httproutes.")
    ]
    cluster.install(documents)
    return cluster


def made(namespace):
    documents = serving_manifests(version(), config(), **(PLACE | {"namespace": namespace}))
    return rollout_manifest(SECTION, "flight_delay", 3, template_of(documents), namespace=namespace)


def create(cluster, manifest, check=True):
    return cluster.kubectl("create", "-f", "-", input=json.dumps(manifest), check=check)


def test_a_rendered_rollout_is_stored_whole(rollouts, namespace):
    manifest = made(namespace)
    create(rollouts, manifest)
    found = rollouts.get("mro", "flight-delay", "-n", namespace)
    assert found["spec"]["template"] == json.loads(json.dumps(manifest["spec"]["template"]))
    assert parse_spec(found["spec"]) == parse_spec(manifest["spec"])
    assert parse_spec(found["spec"]).run_digest == parse_spec(manifest["spec"]).run_digest


def test_the_server_fills_in_what_a_small_manifest_leaves_out(rollouts, namespace):
    manifest = made(namespace)
    kept = ("modelRef", "template", "service")
    small = {name: manifest["spec"][name] for name in kept}
    create(rollouts, manifest | {"spec": small})
    found = rollouts.get("mro", "flight-delay", "-n", namespace)
    assert len(found["spec"]["strategy"]["steps"]) == 10
    assert parse_spec(found["spec"]) == parse_spec(small)


def test_a_status_of_the_machine_is_stored_and_shown(rollouts, namespace):
    create(rollouts, made(namespace))
    world = _WORLD["World"](version="1")
    world.settle()
    world.change_spec(modelRef__version="2")
    for _ in range(6):
        world.turn()
        world.obey()
    found = rollouts.get("mro", "flight-delay", "-n", namespace)
    path = f"/apis/zeroskew.dev/v1alpha1/namespaces/{namespace}/modelrollouts/flight-delay/status"
    rollouts.kubectl(
        "replace", "--raw", path, "-f", "-", input=json.dumps(found | {"status": world.status})
    )
    after = rollouts.get("mro", "flight-delay", "-n", namespace)
    assert after["status"] == world.status
    table = rollouts.kubectl("get", "mro", "-n", namespace).stdout
    head, row = table.splitlines()
    assert head.split() == ["NAME", "PHASE", "WANTED", "STABLE", "WEIGHT", "MIRROR", "AGE"]
    assert row.split()[1:6] == ["Shadowing", "3", "1", "0", "100"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("modelRef.version", "champion", "spec.modelRef.version"),
        ("modelRef.version", 3, "spec.modelRef.version"),
        ("template.inferenceService", {}, "predictor"),
        ("service.gatewayRefs", [], "spec.service.gatewayRefs"),
        ("service.port", 0, "spec.service.port"),
        ("service.timeout", "soon", "spec.service.timeout"),
        ("strategy.steps", [{"setWeight": 101}], "setWeight"),
        ("strategy.steps", [{"setWeight": 5, "pause": {}}], "spec.strategy.steps"),
        ("strategy.steps", [{}], "spec.strategy.steps"),
        ("strategy.steps", [{"pause": {}}] * 33, "spec.strategy.steps"),
        ("analysis.metrics", [], "spec.analysis.metrics"),
        ("analysis.metrics", [{"name": "a", "type": "Luck", "thresholdRange": {"max": 1}}], "type"),
        (
            "analysis.metrics",
            [{"name": "a", "type": "AUC", "thresholdRange": {}}],
            "thresholdRange",
        ),
        ("progressDeadlineSeconds", 1, "spec.progressDeadlineSeconds"),
        ("rollback.window.revisions", -1, "spec.rollback.window.revisions"),
        ("revisionHistoryLimit", 0, "spec.revisionHistoryLimit"),
        ("suspend", "yes", "spec.suspend"),
    ],
)
def test_a_wrong_manifest_is_refused_by_the_field(rollouts, namespace, path, value, said):
    manifest = copy.deepcopy(made(namespace))
    *parents, last = path.split(".")
    here = manifest["spec"]
    for name in parents:
        here = here[name]
    here[last] = value
    refused = create(rollouts, manifest, check=False)
    assert refused.returncode
    assert said in refused.stderr


def test_routes_are_taken_and_replaced_server_side_and_read_back(gateways, namespace):
    entrance = parse_spec(made(namespace)["spec"]).entrance
    plans = [
        alone(entrance, "3"),
        shared(entrance, "3", "4", weight=0, mirror=100),
        shared(entrance, "3", "4", weight=0, mirror=10),
        shared(entrance, "3", "4", weight=25, mirror=0),
        shared(entrance, "3", "4", weight=100, mirror=0),
    ]
    for number, plan in enumerate(plans, start=1):
        gateways.kubectl(
            "apply", "--server-side", "--field-manager", "zeroskew", "-f", "-",
            input=json.dumps(http_route(plan, "flight_delay", namespace)),
        )  # fmt: skip
        found = gateways.get("httproute", "flight-delay", "-n", namespace)
        seen = read_http_route(found, "flight_delay")
        assert seen.plan == plan
        assert seen.generation == number
        assert not seen.live
