"""The link in the menu of Kubeflow's dashboard."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "manifests/overlays/kubeflow/dashboard_link.py"
with_link = runpy.run_path(str(PROGRAM))["with_link"]
OTHER = {"type": "item", "link": "/jupyter/", "text": "Notebooks", "icon": "book"}


def config_map(menu):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "centraldashboard-config",
            "namespace": "kubeflow",
            "uid": "1",
            "resourceVersion": "7",
            "labels": {"app": "centraldashboard"},
        },
        "data": {
            "settings": "{}",
            "links": json.dumps({"menuLinks": menu, "quickLinks": ["kept"]}),
        },
    }


def menu_of(found):
    return json.loads(found["data"]["links"])["menuLinks"]


def test_the_link_comes_last_and_others_stay():
    before = config_map([OTHER])
    found = with_link(before)
    assert menu_of(found)[0] == OTHER
    assert menu_of(found)[1]["link"] == "/zeroskew/mlflow/"
    assert json.loads(found["data"]["links"])["quickLinks"] == ["kept"]
    assert found["data"]["settings"] == "{}"
    assert set(found["metadata"]) == {"name", "namespace", "labels"}


def test_to_do_so_again_changes_nothing():
    once = with_link(config_map([OTHER]))
    assert with_link(once) == once


def test_the_link_leads_to_the_route(kustomize):
    (route,) = (e for e in kustomize("overlays/kubeflow") if e["kind"] == "VirtualService")
    prefix = route["spec"]["http"][0]["match"][0]["uri"]["prefix"]
    assert menu_of(with_link(config_map([])))[0]["link"] == prefix


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"data": {"links": "no"}, "metadata": {}}'])
def test_anything_else_is_refused_in_a_line(text):
    done = subprocess.run(
        [sys.executable, PROGRAM], input=text, text=True, capture_output=True, timeout=30
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
