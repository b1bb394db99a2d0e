"""Every object is one that Kubernetes takes.

Kinds of Kubernetes are checked against its own schemas, unknown fields included. Of KubeRay, Istio
and Kubeflow's PodDefault no schema is at hand: their pods are checked as pods, of the rest only the
shape that the platform relies on.
"""

import copy
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[3]
CRDS = ROOT / "manifests/crds"
VERSION = "1.37"
FOREIGN = {
    ("ray.io/v1", "RayCluster"): {"rayVersion", "headGroupSpec", "workerGroupSpecs"},
    ("networking.istio.io/v1", "VirtualService"): {"hosts", "gateways", "http"},
    ("kubeflow.org/v1alpha1", "PodDefault"): {"desc", "selector"},
}


def crds():
    return [path for path in sorted(CRDS.glob("*.yaml")) if path.name != "kustomization.yaml"]


def test_every_object_follows_its_schema(installed):
    for each in installed:
        kind = (each["apiVersion"], each["kind"])
        if kind in FOREIGN:
            assert FOREIGN[kind] <= set(each["spec"])
        elif each["kind"] != "CustomResourceDefinition":
            kubernetes_validate.validate(each, VERSION, strict=True)


@pytest.mark.parametrize("path", crds(), ids=lambda path: path.stem)
def test_every_crd_follows_its_schema(path):
    """A word that is none of a CRD's own is refused by kubectl, or dropped by the server."""
    crd = yaml.safe_load(path.read_text())
    try:
        kubernetes_validate.validate(crd, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        pytest.fail(f"{path.name}: {error.message}"[:300])


def test_every_pod_follows_its_schema(pods):
    for name, _, labels, spec in pods:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod", "labels": labels},
            "spec": spec,
        }
        try:
            kubernetes_validate.validate(pod, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            pytest.fail(f"{name}: {error.message}")


def test_the_check_sees_a_wrong_field(kustomize):
    (operator,) = (each for each in kustomize("base") if each["kind"] == "Deployment")
    wrong = copy.deepcopy(operator)
    wrong["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_every_crd_is_installed(installed):
    listed = set(yaml.safe_load((CRDS / "kustomization.yaml").read_text())["resources"])
    there = {path.name for path in crds()}
    assert listed == there, "manifests/crds/kustomization.yaml must list every CRD"
    found = {
        each["metadata"]["name"] for each in installed if each["kind"] == "CustomResourceDefinition"
    }
    assert found == {yaml.safe_load(path.read_text())["metadata"]["name"] for path in crds()}


def test_ray_runs_the_version_that_the_lock_names(overlay):
    lock = (ROOT / "requirements.lock").read_text()
    made = overlay("base", "components/raycluster")
    (ray,) = (each for each in made if each["kind"] == "RayCluster")
    assert f"ray=={ray['spec']['rayVersion']}\n" in lock
