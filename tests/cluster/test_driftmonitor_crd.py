"""DriftMonitor's CRD before a real API server."""

import copy
import json
import random
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from zeroskew.monitoring.monitor_config import MonitoringSection, monitor_manifest
from zeroskew.monitoring.monitor_spec import parse_monitor
from zeroskew.rollout.rollout_state import to_json

pytestmark = pytest.mark.cluster
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_OTHER = SimpleNamespace(**runpy.run_path(str(HERE / "test_modelrollout_crd.py")))
World = runpy.run_path(str(ROOT / "tests/unit/monitoring/monitor_world.py"))["World"]
CRD = ROOT / "manifests/crds/zeroskew.dev_driftmonitors.yaml"
SECTION = MonitoringSection.model_validate({"interval": "1m", "trigger": {"cooldown": "1h"}})


@pytest.fixture(scope="session")
def monitors(cluster):
    cluster.install([yaml.safe_load(CRD.read_text())])
    return cluster


def made(namespace):
    return monitor_manifest(SECTION, "flight_delay", namespace=namespace)


def test_the_manifest_of_a_model_is_stored_whole(monitors, namespace):
    manifest = made(namespace)
    _OTHER.create(monitors, manifest)
    found = monitors.get("dm", "flight-delay", "-n", namespace)
    assert parse_monitor(found["spec"]) == parse_monitor(manifest["spec"])


def test_the_server_fills_in_what_a_small_manifest_leaves_out(monitors, namespace):
    small = {"modelRef": {"name": "fraud"}, "trigger": {"pipelineRef": {"name": "p"}}}
    _OTHER.create(monitors, made(namespace) | {"spec": small})
    found = monitors.get("dm", "flight-delay", "-n", namespace)
    assert len(found["spec"]["metrics"]) == 4
    assert parse_monitor(found["spec"]) == parse_monitor(small)


def test_a_status_of_the_machine_is_stored_and_shown(monitors, namespace):
    manifest = made(namespace)
    _OTHER.create(monitors, manifest)
    world = World(parse_monitor(manifest["spec"]), random.Random(1))
    for _ in range(200):
        world.turn()
        world.wait(30)
        if world.status.run is not None:
            break
    found = monitors.get("dm", "flight-delay", "-n", namespace)
    path = f"/apis/zeroskew.dev/v1alpha1/namespaces/{namespace}/driftmonitors/flight-delay/status"
    status = to_json(world.status)
    monitors.kubectl(
        "replace", "--raw", path, "-f", "-", input=json.dumps(found | {"status": status})
    )
    after = monitors.get("dm", "flight-delay", "-n", namespace)
    assert after["status"] == status
    head, row = monitors.kubectl("get", "dm", "-n", namespace).stdout.splitlines()
    assert head.split() == ["NAME", "PHASE", "DRIFTED", "VERSION", "SAMPLES", "MEASURED", "AGE"]
    assert row.split()[1:4] == ["Retraining", "True", "1"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("modelRef.name", "Fraud!", "spec.modelRef.name"),
        ("interval", "soon", "spec.interval"),
        ("window.minSamples", 10, "spec.window.minSamples"),
        ("source", {"type": "Guesses"}, "spec.source.type"),
        ("roles", [], "spec.roles"),
        ("metrics", [], "spec.metrics"),
        ("metrics", [{"name": "a", "type": "Luck"}], "type"),
        ("metrics", [{"name": "a", "type": "PSI"}] * 2, "Duplicate"),
        ("trigger.policy", "Sometimes", "spec.trigger.policy"),
        ("trigger.maxRunsPerWeek", 0, "spec.trigger.maxRunsPerWeek"),
        ("trigger.parameters", [{"name": "a", "valueFrom": "luck"}], "valueFrom"),
        ("trigger.labels", {"minFraction": 2}, "minFraction"),
        ("suspend", "yes", "spec.suspend"),
    ],
)
def test_a_wrong_manifest_is_refused_by_the_field(monitors, namespace, path, value, said):
    manifest = copy.deepcopy(made(namespace))
    *parents, last = path.split(".")
    here = manifest["spec"]
    for name in parents:
        here = here[name]
    here[last] = value
    refused = _OTHER.create(monitors, manifest, check=False)
    assert refused.returncode
    assert said in refused.stderr
