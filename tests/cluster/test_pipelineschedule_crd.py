"""PipelineSchedule's CRD before a real API server: its rules, and tools that apply it again."""

import copy
import json
import random
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from dry_run import DryRun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.model_config import load_model_config
from zeroskew.rollout.rollout_state import to_json
from zeroskew.schedule.schedule_config import schedule_manifests
from zeroskew.schedule.schedule_spec import parse_schedule

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
World = runpy.run_path(str(ROOT / "tests/unit/schedule/schedule_world.py"))["World"]
_CHECKS = SimpleNamespace(**runpy.run_path(str(ROOT / "tests/unit/rollout/crd_checks.py")))
_LARGE = runpy.run_path(str(ROOT / "tests/unit/schedule/large_schedule.py"))["large_schedule"]
CRD = ROOT / "manifests/crds/zeroskew.dev_pipelineschedules.yaml"


@pytest.fixture(scope="session")
def schedules(cluster):
    cluster.install([yaml.safe_load(CRD.read_text())])
    return cluster


def made(namespace, **changes):
    spec = {"pipelineRef": {"name": "flight-delay-materialisation"}, "schedule": "5 * * * *"}
    return {
        "apiVersion": "zeroskew.dev/v1alpha1", "kind": "PipelineSchedule",
        "metadata": {"name": "materialisation", "namespace": namespace}, "spec": spec | changes,
    }  # fmt: skip


def create(cluster, manifest, check=True):
    return cluster.kubectl("create", "-f", "-", input=json.dumps(manifest), check=check)


def test_the_example_is_stored_whole_and_applied_again_nothing_changes(schedules, namespace):
    config = load_model_config(ROOT / "pipelines/flight_delay")
    manifests = schedule_manifests(config.schedules, config.name, namespace=namespace)
    text = yaml.safe_dump_all(manifests)
    first = schedules.kubectl("apply", "-f", "-", input=text)
    assert "Warning" not in first.stderr
    again = schedules.kubectl("apply", "-f", "-", input=text).stdout.splitlines()
    assert len(again) == len(manifests) == 3
    assert all(line.endswith("unchanged") for line in again)
    for each in manifests:
        found = schedules.get("psched", each["metadata"]["name"], "-n", namespace)
        assert found["spec"] == each["spec"]


def test_the_server_fills_in_what_a_small_manifest_leaves_out(schedules, namespace):
    create(schedules, made(namespace))
    found = schedules.get("psched", "materialisation", "-n", namespace)["spec"]
    assert found["timeZone"] == "Etc/UTC"
    assert found["missed"] == {"policy": "RunLatest"}
    assert parse_schedule(found) == parse_schedule(made(namespace)["spec"])


REFUSED = [
    ({"schedule": "60 * * * *"}, "field 1 is the minute: 0 to 59"),
    ({"schedule": "0 24 * * *"}, "field 2 is the hour: 0 to 23"),
    ({"schedule": "0 0 0 * *"}, "field 3 is the day of the month: 1 to 31"),
    ({"schedule": "0 0 * 13 *"}, "field 4 is the month: 1 to 12"),
    ({"schedule": "0 0 * * 8"}, "field 5 is the day of the week: 0 to 7"),
    ({"schedule": "@hourly"}, "spec.schedule"),
    ({"schedule": "TZ=UTC 0 0 * * *"}, "spec.schedule"),
    ({"schedule": "0," * 70 + "0 * * * *"}, "spec.schedule"),
    ({"timeZone": "Mars/Phobos"}, "spec.timeZone"),
    ({"timeZone": "Local"}, "must be a name of the time zone database"),
    ({"timeZone": "europe"}, "spec.timeZone"),
    ({"parameters": [{"name": "a"}]}, "exactly one of value and valueFrom"),
    (
        {"parameters": [{"name": "a", "value": "1", "valueFrom": "scheduledTime"}]},
        "exactly one of value and valueFrom",
    ),
    ({"parameters": [{"name": "a", "value": "1"}] * 2}, "Duplicate"),
    ({"missed": {"limit": 3}}, "limit is for policy RunAll alone"),
    ({"missed": {"startingDeadline": "1s"}}, "must be between 10s and 720h"),
    ({"missed": {"policy": "RunAll"}, "concurrencyPolicy": "Replace"}, "would end each run"),
    ({"concurrencyPolicy": "Allow"}, "spec.concurrencyPolicy"),
    ({"runDeadline": "721h"}, "must be between 1s and 720h"),
    ({"historyLimit": 0}, "spec.historyLimit"),
    ({"suspend": "yes"}, "spec.suspend"),
    ({"pipelineRef": {}}, "spec.pipelineRef.name"),
]
TAKEN = [
    {"schedule": "*/5 0-6,22 1,15 jan-mar mon-fri"},
    {"schedule": "59 23 31 12 7"},
    {"timeZone": "America/Argentina/Buenos_Aires"},
    {"timeZone": "Etc/GMT+5"},
    {"timeZone": "UTC"},
    {"parameters": [{"name": "a", "value": ""}, {"name": "b", "valueFrom": "previousTime"}]},
    {"missed": {"policy": "RunAll", "limit": 3, "startingDeadline": "10s"}},
    {"missed": {"policy": "Skip"}, "concurrencyPolicy": "Replace", "runDeadline": "720h"},
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=lambda each: str(each)[:40])
def test_what_cannot_be_is_refused_by_the_server_with_the_reason(
    schedules, namespace, changes, said
):
    refused = create(schedules, made(namespace, **changes), check=False)
    assert refused.returncode
    assert said in refused.stderr


@pytest.mark.parametrize("changes", TAKEN, ids=lambda each: str(each)[:40])
def test_what_can_be_is_taken_by_server_and_classes(schedules, namespace, changes):
    manifest = made(namespace, **changes)
    create(schedules, manifest)
    parse_schedule(manifest["spec"])


def test_every_rule_has_an_object_that_it_refuses():
    def rules(node):
        yield from (each["message"] for each in node.get("x-kubernetes-validations", ()))
        below = [
            *node.get("properties", {}).values(),
            *([node["items"]] if "items" in node else []),
        ]
        for child in below:
            yield from rules(child)

    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    told = [said for _, said in REFUSED]
    for message in rules(schema["properties"]["spec"]):
        assert any(said in message for said in told), message


def test_a_name_that_is_too_long_for_its_runs_is_refused(schedules, namespace):
    manifest = made(namespace)
    manifest["metadata"]["name"] = "a" * 64
    assert "63 characters" in create(schedules, manifest, check=False).stderr


def test_a_status_of_the_machine_is_stored_and_shown(schedules, namespace):
    create(schedules, made(namespace))
    world = World(parse_schedule(made(namespace)["spec"]), random.Random(1), lengths=(30,))
    world.go(70)
    assert world.status.active is not None
    found = schedules.get("psched", "materialisation", "-n", namespace)
    path = f"/apis/zeroskew.dev/v1alpha1/namespaces/{namespace}/pipelineschedules/materialisation"
    status = to_json(world.status)
    body = json.dumps(found | {"status": status})
    schedules.kubectl("replace", "--raw", f"{path}/status", "-f", "-", input=body)
    after = schedules.get("psched", "materialisation", "-n", namespace)
    assert after["status"] == status
    head, row = schedules.kubectl("get", "psched", "-n", namespace).stdout.splitlines()
    assert head.split() == [
        "NAME", "PIPELINE", "SCHEDULE", "LAST", "NEXT", "SUSPENDED", "ACTIVE", "AGE",
    ]  # fmt: skip
    assert status["nextScheduleTime"] in row
    assert status["active"]["name"] in row
    assert "<invalid>" not in row


def test_a_gitops_tool_and_the_operator_do_not_fight_over_it(schedules, namespace):
    """Argo CD and Flux apply server-side, each under its name; the operator writes the status."""
    manifest = made(namespace, suspend=False)

    def applied(document, manager):
        return schedules.kubectl(
            "apply", "--server-side", f"--field-manager={manager}", "-f", "-",
            input=json.dumps(document), check=False,
        )  # fmt: skip

    for manager in ("argocd-controller", "argocd-controller"):
        assert applied(manifest, manager).returncode == 0
    schedules.kubectl(
        "patch", "psched", "materialisation", "-n", namespace, "--subresource=status",
        "--type=merge", "--field-manager=zeroskew", "-p",
        json.dumps({"status": {"missed": 3, "clock": "5 * * * * Etc/UTC"}}),
    )  # fmt: skip
    before = schedules.get("psched", "materialisation", "-n", namespace)
    done = applied(manifest, "argocd-controller")
    assert done.returncode == 0, done.stderr
    after = schedules.get("psched", "materialisation", "-n", namespace)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["status"]["missed"] == 3
    # Somebody else who changes the spec is told whose it is.
    other = copy.deepcopy(manifest)
    other["spec"]["suspend"] = True
    assert "conflict" in applied(other, "somebody").stderr.lower()


VALUES = [
    True, "", "x", "1", -1, 0, 1, 2, 101, 10**12, 0.5, [], {}, [{}], "10s", "1m", "1ns", "999999h",
    "Nobody", "a" * 400, "a b", "Skip", "RunLatest", "RunAll", "Replace", "60 * * * *",
    "0 24 * * *", "0 0 * * 8", "* * * *", "0 0 1 jan *", "0 0 1 Jan *", "*/5 1-3,7 * * *",
    "@daily", "UTC", "Local", "america/new_york",
]  # fmt: skip
# Ranges the wrong way round and days that do not exist: the classes' alone.
ACROSS = re.compile("has no time")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_server_and_classes_refuse_the_same(schedules, data):
    spec = copy.deepcopy(_LARGE())
    where = data.draw(st.sampled_from([path for path in _CHECKS.paths(spec) if path]))
    *parents, last = where
    here = spec
    for part in parents:
        here = here[part]
    match data.draw(st.sampled_from(["value", "delete", "unknown"])):
        case "value":
            here[last] = copy.deepcopy(data.draw(st.sampled_from(VALUES)))
        case "delete":
            del here[last]
        case "unknown":
            if isinstance(here[last], dict):
                here[last]["nobodyKnows"] = 1
    document = made("default") | {"spec": spec}
    refusal = DryRun(schedules, "pipelineschedules", "default").create(document)
    try:
        parse_schedule(spec)
        said = None
    except ConfigError as error:
        said = str(error)
    if refusal is None:
        assert said is None or ACROSS.search(said), (where, said)
    else:
        assert said is not None, (where, refusal)
        assert "`spec" in said
