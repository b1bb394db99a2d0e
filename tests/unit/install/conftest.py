"""What kustomize and Helm make of manifests/ and charts/zeroskew/, for a session.

`ZEROSKEW_KUBE_TOOLS` names the folder whose bin/ has kubectl, helm and hadolint; by default it is
the one that scripts/install_kube_tools.sh makes.
"""

import copy
import functools
import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PROFILES = ("embedded", "gpu", "kubeflow")
MODELS = "team"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def tool(name):
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("ZEROSKEW_KUBE_TOOLS") or cache / "zeroskew/kube-tools")
    program = folder / "bin" / name
    if not program.is_file():
        pytest.skip(f"no {name} in {folder}/bin: run scripts/install_kube_tools.sh")
    return str(program)


def ran(*command, check=True):
    done = subprocess.run(
        [str(part) for part in command], text=True, capture_output=True, timeout=60, cwd=ROOT
    )
    assert not (check and done.returncode), done.stderr
    return done


@functools.cache
def _documents(*command):
    made = ran(*command).stdout
    return [document for document in yaml.load_all(made, Loader=LOADER) if document]


def kustomized(folder):
    made = _documents(tool("kubectl"), "kustomize", ROOT / "manifests" / folder)
    return copy.deepcopy(made)


def templated(profile=None, *settings):
    chosen = ("-f", ROOT / f"charts/zeroskew/profiles/{profile}.yaml") if profile else ()
    chosen = (*chosen, *(part for each in settings for part in ("--set", each)))
    chart = ROOT / "charts/zeroskew"
    return copy.deepcopy(
        _documents(tool("helm"), "template", "z", chart, "-n", "zeroskew", *chosen)
    )


@pytest.fixture
def kustomize():
    """Objects of a folder below manifests/."""
    return kustomized


@pytest.fixture
def overlay(tmp_path):
    """Objects of an overlay of one's own: a folder below manifests/ with components of it."""

    def rendered(folder, *components):
        where = os.path.relpath(ROOT / "manifests", tmp_path)
        named = ", ".join(f"{where}/{each}" for each in components)
        (tmp_path / "kustomization.yaml").write_text(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
            f"namespace: zeroskew\nresources: [{where}/{folder}]\ncomponents: [{named}]\n"
        )
        made = ran(tool("kubectl"), "kustomize", tmp_path).stdout
        return [each for each in yaml.load_all(made, Loader=LOADER) if each]

    return rendered


@pytest.fixture
def helm():
    """Objects of the chart: a profile's name (or None), then settings as `--set` takes them."""
    return templated


@pytest.fixture
def run_tool():
    """`run_tool("helm", …)`: the finished process, whatever its status."""
    return lambda name, *arguments: ran(tool(name), *arguments, check=False)


@pytest.fixture(
    scope="session",
    params=[f"{maker}-{profile}" for maker in ("kustomize", "helm") for profile in PROFILES],
)
def installed(request):
    """Everything that one choice installs, the models' namespace `team` included."""
    maker, _, profile = request.param.partition("-")
    if maker == "helm":
        return templated(profile, f"models.namespaces={{{MODELS}}}")
    own = f"overlays/{profile}/models"
    team = kustomized(own if (ROOT / "manifests" / own).is_dir() else "models")
    for each in team:
        each["metadata"]["namespace"] = MODELS
    return kustomized(f"overlays/{profile}") + team


def pods_of(objects):
    """(name, namespace, labels, pod spec) of every pod that the objects make."""
    for each in objects:
        kind, meta, spec = each["kind"], each["metadata"], each.get("spec", {})
        name, space = f"{kind}/{meta['name']}", meta.get("namespace")
        if kind == "Pod":
            yield name, space, meta["labels"], spec
        elif kind in ("Deployment", "StatefulSet", "Job"):
            template = spec["template"]
            yield name, space, template["metadata"]["labels"], template["spec"]
        elif kind == "RayCluster":
            for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
                template = group["template"]
                yield (
                    f"{name}/{group.get('groupName', 'head')}",
                    space,
                    template["metadata"]["labels"],
                    template["spec"],
                )


@pytest.fixture(scope="session")
def pods(installed):
    return list(pods_of(installed))
