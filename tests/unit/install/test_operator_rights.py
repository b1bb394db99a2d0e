"""The operator may do what its code does, and not more than it says."""

import os
import re
from pathlib import Path

import pytest
import yaml

from operators.cluster_client import (
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    DRIFT_MONITOR,
    EVENT,
    GATEWAY,
    GATEWAY_CLASS,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    KINDS,
    MODEL_ROLLOUT,
    PIPELINE_SCHEDULE,
    SERVING_RUNTIME,
    WORKFLOW,
)
from operators.object_cache import SELECTORS

ROOT = Path(__file__).parents[3]
WATCH = {"list", "watch"}
APPLY = {"get", "create", "patch"}
NEEDS = {
    MODEL_ROLLOUT: {"get", "list", "watch", "patch"},
    DRIFT_MONITOR: {"get", "list", "watch"},
    PIPELINE_SCHEDULE: {"get", "list", "watch"},
    INFERENCE_SERVICE: WATCH | APPLY | {"delete"},
    SERVING_RUNTIME: APPLY | {"delete"},
    DISRUPTION_BUDGET: APPLY | {"delete"},
    HTTP_ROUTE: WATCH | APPLY | {"delete"},
    DEPLOYMENT: WATCH,
    GATEWAY: {"get"},
    GATEWAY_CLASS: {"get"},
    EVENT: {"create", "list"},
    WORKFLOW: {"list"},
}


def roles(installed):
    return {
        each["metadata"]["name"]: each["rules"]
        for each in installed
        if each["kind"] in ("ClusterRole", "Role")
    }


def verbs(rules, group, resource):
    return set().union(
        *(
            rule["verbs"]
            for rule in rules
            if group in rule["apiGroups"] and resource in rule["resources"]
        )
    )


def test_the_kinds_are_those_of_the_code():
    assert set(NEEDS) == set(KINDS.values())
    assert set(SELECTORS) <= {kind for kind, needed in NEEDS.items() if needed >= WATCH}


@pytest.mark.parametrize("kind", list(NEEDS), ids=lambda kind: kind.plural)
def test_what_the_code_does_is_allowed(kind, installed):
    rules = roles(installed)
    name = "zeroskew-operator-gateways" if kind in (GATEWAY, GATEWAY_CLASS) else "zeroskew-operator"
    assert NEEDS[kind] <= verbs(rules[name], kind.group, kind.plural)
    if not kind.namespaced:
        assert not verbs(rules["zeroskew-operator"], kind.group, kind.plural)


def test_the_status_is_the_operators_alone(installed):
    rules = roles(installed)
    for status in ("modelrollouts/status", "driftmonitors/status", "pipelineschedules/status"):
        assert "patch" in verbs(rules["zeroskew-operator"], "zeroskew.dev", status)
        for name in ("zeroskew-edit", "zeroskew-view"):
            assert not verbs(rules[name], "zeroskew.dev", status)


def test_it_has_no_right_that_its_code_has_no_use_for(installed):
    of_others = {"pipelines.kubeflow.org"}
    known = {(kind.group, kind.plural) for kind in NEEDS}
    for name in ("zeroskew-operator", "zeroskew-operator-gateways"):
        for rule in roles(installed)[name]:
            for group in set(rule["apiGroups"]) - of_others:
                for resource in rule["resources"]:
                    plain = resource.partition("/")[0]
                    assert (group, plain) in known or plain == "customresourcedefinitions", rule


def test_no_rule_has_a_star(installed):
    for name, rules in roles(installed).items():
        for rule in rules:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]], name
            assert "nonResourceURLs" not in rule
            assert not {"impersonate", "escalate", "bind"} & set(rule["verbs"])


def test_people_may_look_or_change_and_kubeflow_knows_it(kustomize):
    plain, inside = (
        {each["metadata"]["name"]: each for each in kustomize(folder) if "rules" in each}
        for folder in ("base", "overlays/kubeflow")
    )
    for word in ("view", "edit"):
        role = inside[f"zeroskew-{word}"]
        kubeflow = f"rbac.authorization.kubeflow.org/aggregate-to-kubeflow-{word}"
        assert role["metadata"]["labels"][kubeflow] == "true"
        assert kubeflow not in plain[f"zeroskew-{word}"]["metadata"]["labels"]
    assert verbs(inside["zeroskew-view"]["rules"], "zeroskew.dev", "modelrollouts") == {
        "get", "list", "watch",
    }  # fmt: skip


def test_the_operator_is_told_by_the_names_that_it_knows(installed):
    (operator,) = (
        each["spec"]["template"]["spec"]["containers"][0]
        for each in installed
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "zeroskew-operator"
    )
    text = (ROOT / "operators/operator_settings.py").read_text()
    known = set(re.findall(r"ZEROSKEW_[A-Z_]+", text))
    told = {e["name"] for e in operator["env"] if e["name"].startswith("ZEROSKEW_")}
    assert told <= known
    values = {e["name"]: e.get("value") for e in operator["env"]}
    ports = {p["name"]: str(p["containerPort"]) for p in operator["ports"]}
    assert values["ZEROSKEW_OPERATOR_HEALTH_PORT"] == ports["health"]
    assert values["ZEROSKEW_OPERATOR_METRICS_PORT"] == ports["metrics"]


def test_some_namespaces_only(run_tool, tmp_path):
    """The two components together: no right in the whole cluster but to look at gateways."""
    overlay = ROOT / "manifests/components/namespaced-operator"
    assert overlay.is_dir()
    folder = tmp_path / "overlay"
    folder.mkdir()
    # Kustomize takes folders by a path relative to the overlay's own.
    where = os.path.relpath(ROOT / "manifests", folder)
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: zeroskew\n"
        f"resources: [{where}/base]\ncomponents: [{where}/components/namespaced-operator]\n"
    )
    done = run_tool("kubectl", "kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    objects = list(yaml.safe_load_all(done.stdout))
    bound = [e["metadata"]["name"] for e in objects if e["kind"] == "ClusterRoleBinding"]
    assert bound == ["zeroskew-operator-gateways"]
    (operator,) = (e for e in objects if e["kind"] == "Deployment")
    env = operator["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "ZEROSKEW_NAMESPACES", "value": "models"} in env
