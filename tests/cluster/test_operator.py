"""The operator before a real API server, with its own ServiceAccount's rights and a real MLflow."""

from __future__ import annotations

import json
import time
import urllib.request

import pytest
from operator_stage import QUICK, apply, manifest, register

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
SLOW = ({"set_weight": 5}, {"pause": {"duration": "1s"}}, {"set_weight": 50}, *QUICK[2:])
WAITS = ({"set_weight": 20}, {"pause": {}}, {"set_weight": 60})


@pytest.fixture
def model(stage, tmp_path, request):
    """A model of the test's own, with versions 1 to 4."""
    name = f"m_{abs(hash(request.node.name)) % 10**8}"
    register(stage.registry, tmp_path, name, versions=4)
    return name


@pytest.fixture
def space(stage):
    return stage.namespace()


def rollout_of(model):
    return model.replace("_", "-")


def weights(stage, space, model, version):
    name = f"{rollout_of(model)}-{version}"
    return [each.weights.get(name, 0) for each in stage.routes(space, rollout_of(model))]


def wait(stage, space, model, good, seconds=60):
    return stage.wait(space, good, seconds, rollout_of(model))


def test_a_version_reaches_the_users_step_by_step(stage, space, model):
    first = stage.serve(space, 1, model=model)
    assert first["stable"] == "1"
    assert stage.registry.champion(model) == 1
    stage.serve(space, 2, model=model, steps=SLOW)
    assert stage.registry.champion(model) == 2
    # The gateway says a moment later that it has taken the last route.
    wait(stage, space, model, lambda s: stage.conditions(s)["Ready"][0] == "True")
    steps = weights(stage, space, model, 2)
    assert [each for at, each in enumerate(steps) if not at or steps[at - 1] != each] == [
        0, 5, 50, 100,
    ]  # fmt: skip
    deadline = time.monotonic() + 20
    while [
        each["metadata"]["name"]
        for each in stage.cluster.get("inferenceservices", "-n", space)["items"]
    ] != [f"{rollout_of(model)}-2"]:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    events = stage.cluster.get("events", "-n", space)["items"]
    ours = "zeroskew-operator"
    reasons = {each["reason"] for each in events if each.get("source", {}).get("component") == ours}
    assert {"RolloutStarted", "ChallengerReady", "Promoted", "StepDone"} <= reasons
    assert not any(reason.endswith("Failed") for reason in reasons)
    with urllib.request.urlopen(stage.operator.health) as answer:
        assert answer.status == 200
    assert "forbidden" not in stage.operator.log.read_text().lower()
    described = stage.cluster.kubectl(
        "describe", "modelrollout", rollout_of(model), "-n", space
    ).stdout
    for text in ("version 2 answers all requests", "Stable:", "Promoted", "RouteAccepted"):
        assert text in described
    table = stage.cluster.kubectl("get", "mro", "-n", space).stdout.splitlines()
    assert table[0].split() == ["NAME", "PHASE", "WANTED", "STABLE", "WEIGHT", "MIRROR", "AGE"]
    assert table[1].split()[1:4] == ["Succeeded", "2", "2"]


def test_what_cannot_be_waits_with_a_reason_and_changes_nothing(stage, space, model):
    apply(stage.cluster, manifest(space, 9, model))
    found = wait(stage, space, model, lambda s: s.get("conditions"))
    assert f"{model} has no version 9 in the registry" in found["message"]
    other = stage.namespace()
    section = {"service": {"gateway_refs": [{"name": "nobody", "namespace": "default"}]}}
    apply(stage.cluster, manifest(other, 1, model, section=section))
    found = wait(stage, other, model, lambda s: s.get("conditions"))
    assert "nobody" in json.dumps(found)
    for each in (space, other):
        assert not stage.cluster.get("inferenceservices", "-n", each)["items"]
        assert not stage.cluster.get("httproutes", "-n", each)["items"]


def test_a_wrong_spec_is_named_by_its_field_and_a_canary_is_judged_on(stage, space, model):
    stage.serve(space, 1, model=model)
    apply(stage.cluster, manifest(space, 2, model, steps=WAITS))
    wait(stage, space, model, lambda s: s.get("run", {}).get("weight") == 20)
    wrong = manifest(space, 2, model, steps=WAITS)
    # The schema allows it: no rule of the CRD knows what there is to judge.
    wrong["spec"]["strategy"]["steps"] = [{"analysis": {}}, {"setWeight": 60}]
    apply(stage.cluster, wrong)
    found = wait(
        stage, space, model,
        lambda s: stage.conditions(s).get("Accepted", ("",))[0] == "False",
    )  # fmt: skip
    assert "spec.strategy.steps" in stage.conditions(found)["Accepted"][2]
    assert weights(stage, space, model, 2)[-1] == 20
    apply(stage.cluster, manifest(space, 2, model, steps=WAITS))
    found = wait(
        stage, space, model, lambda s: stage.conditions(s).get("Accepted", ("",))[0] == "True"
    )
    assert found["run"]["version"] == "2"


def test_approval_suspension_and_a_new_version_in_between(stage, space, model):
    stage.serve(space, 1, model=model)
    apply(stage.cluster, manifest(space, 2, model, steps=WAITS))
    wait(stage, space, model, lambda s: s.get("phase") == "WaitingApproval")
    apply(stage.cluster, manifest(space, 2, model, steps=WAITS, suspend=True))
    wait(stage, space, model, lambda s: s.get("phase") == "Paused")
    stage.annotate(space, "zeroskew.dev/approve=2", rollout_of(model))
    time.sleep(1.5)
    assert weights(stage, space, model, 2)[-1] == 20, "suspended, weights stay"
    apply(stage.cluster, manifest(space, 3, model, steps=WAITS))
    found = wait(
        stage, space, model,
        lambda s: s.get("phase") == "WaitingApproval" and s["run"]["version"] == "3",
    )  # fmt: skip
    assert found["run"]["weight"] == 20
    assert weights(stage, space, model, 2)[-1] == 0
    assert stage.registry.champion(model) == 1
    stage.annotate(space, "zeroskew.dev/approve=3", rollout_of(model))
    wait(stage, space, model, lambda s: s.get("stable") == "3")
    assert stage.registry.champion(model) == 3


def test_a_version_that_never_gets_ready_is_given_up_and_comes_back_by_hand(stage, space, model):
    stage.serve(space, 1, model=model)
    section = {"progress_deadline_seconds": 30}
    stage.let_nodes_take_pods(False)
    try:
        apply(stage.cluster, manifest(space, 2, model, section=section))
        found = wait(stage, space, model, lambda s: s.get("phase") in ("RolledBack", "Failed"), 90)
    finally:
        stage.let_nodes_take_pods(True)
    assert found["stable"] == "1"
    assert max(weights(stage, space, model, 2)) == 0
    assert stage.registry.champion(model) == 1
    stage.annotate(space, "zeroskew.dev/retry=now", rollout_of(model))
    wait(stage, space, model, lambda s: s.get("stable") == "2")


def test_a_version_of_the_window_comes_back_without_steps(stage, space, model):
    stage.serve(space, 1, model=model)
    stage.serve(space, 2, model=model)
    before = len(stage.routes(space, rollout_of(model)))
    stage.serve(space, 1, model=model, steps=WAITS)
    assert stage.registry.champion(model) == 1
    steps = [
        each.weights.get(f"{rollout_of(model)}-1", 0)
        for each in stage.routes(space, rollout_of(model))[before:]
    ]
    assert set(steps) <= {0, 100}, "no canary for a version that is known to be good"


@pytest.mark.parametrize("revert", [True, False])
def test_deletion_in_a_canary_with_and_without_revert(stage, space, model, revert):
    stage.serve(space, 1, model=model)
    section = {"rollback": {"on_deletion": revert, "scale_down_delay_seconds": 0}}
    apply(stage.cluster, manifest(space, 2, model, steps=WAITS, section=section))
    wait(stage, space, model, lambda s: s.get("phase") == "WaitingApproval")
    # The objects outlive it, which is when a revert matters.
    stage.cluster.kubectl(
        "delete", "modelrollout", rollout_of(model), "-n", space, "--cascade=orphan", "--wait=false"
    )
    deadline = time.monotonic() + 60
    while stage.cluster.get("modelrollouts", "-n", space)["items"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert stage.cluster.get("httproute", rollout_of(model), "-n", space)
    assert weights(stage, space, model, 2)[-1] == (0 if revert else 20)


def test_a_route_changed_by_hand_is_set_right(stage, space, model):
    stage.serve(space, 1, model=model)
    apply(stage.cluster, manifest(space, 2, model, steps=WAITS))
    wait(stage, space, model, lambda s: s.get("phase") == "WaitingApproval")
    route = stage.cluster.get("httproute", rollout_of(model), "-n", space)
    for each in route["spec"]["rules"][0]["backendRefs"]:
        each["weight"] = 50
    patch = json.dumps({"spec": {"rules": route["spec"]["rules"]}})
    stage.cluster.kubectl(
        "patch", "httproute", rollout_of(model), "-n", space, "--type=merge", "-p", patch
    )
    deadline = time.monotonic() + 60
    while weights(stage, space, model, 2)[-2:] != [50, 20]:
        assert time.monotonic() < deadline, weights(stage, space, model, 2)
        time.sleep(0.2)
