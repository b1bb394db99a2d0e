"""A real Kubernetes API server (etcd and kube-apiserver) with Kubeflow's CRDs, for a session.

`KUBEBUILDER_ASSETS` names the folder with the two programs, `ZEROSKEW_CRDS` the one with the CRDs.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

# pytest's importlib mode finds no module beside a test.
sys.path.insert(0, str(Path(__file__).parent))

from api_server import Cluster

ROOT = Path(__file__).parents[2]
MAKER = "tests/cluster/api_server.sh"


def _assets() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = os.environ.get("KUBEBUILDER_ASSETS")
    folder = Path(named) if named else cache / "zeroskew/kube-1.20.2-1"
    for program in ("etcd", "kube-apiserver"):
        if not (folder / program).is_file():
            pytest.skip(
                f"no {program} in {folder}: set KUBEBUILDER_ASSETS, or run {MAKER}, which makes one"
            )
    return folder


def crd_folder() -> Path:
    folder = Path(os.environ.get("ZEROSKEW_CRDS") or ROOT / "../shared/crds").resolve()
    if not folder.is_dir():
        pytest.skip(f"no CRDs in {folder}: set ZEROSKEW_CRDS to a folder with kfp.yaml")
    return folder


def _kubectl() -> str:
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.is_file() else shutil.which("kubectl")
    if not found:
        pytest.skip("no kubectl: install the development dependencies")
    return found


@pytest.fixture(scope="session")
def api_server(tmp_path_factory):
    """An empty cluster's API: no nodes, no controllers; RBAC on, one administrator."""
    assets, kubectl = _assets(), _kubectl()
    with Cluster(assets, kubectl, tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def cluster(api_server):
    """The API server with Kubeflow Pipelines' CRDs."""
    crds = crd_folder() / "kfp.yaml"
    if not crds.is_file():
        pytest.skip(f"no {crds}")
    api_server.kubectl("create", "-f", crds)
    api_server.kubectl("wait", "--for=condition=established", "crd", "--all", "--timeout=30s")
    probe = {
        "apiVersion": "pipelines.kubeflow.org/v2beta1",
        "kind": "Pipeline",
        "metadata": {"name": "probe", "labels": {"of": "the-server"}},
    }
    stored = api_server.kubectl("create", "-f", "-", input=json.dumps(probe), check=False)
    if stored.returncode:
        if any(word in stored.stderr for word in ("INTERNAL_ERROR", "EOF", "refused")):
            # Kubernetes 1.20 compiled with Go 1.18 or later, unmended.
            pytest.skip(
                f"this kube-apiserver dies of any custom object: run {MAKER} for one "
                "that does not, and set KUBEBUILDER_ASSETS to what it prints"
            )
        raise AssertionError(stored.stderr)
    api_server.kubectl("delete", "pipelines.pipelines.kubeflow.org", "probe")
    return api_server


@pytest.fixture
def namespace(cluster, request):
    """A namespace of the test's own."""
    name = f"t-{os.urandom(4).hex()}"
    cluster.kubectl("create", "namespace", name)
    return name


@pytest.fixture(scope="session")
def cluster_parts():
    """What `operator_stage` needs: programs, kubectl, CRDs."""
    crds = crd_folder()
    for name in ("kserve.yaml", "gateway-api.yaml"):
        if not (crds / name).is_file():
            pytest.skip(f"no {name} in {crds}")
    return _assets(), _kubectl(), crds


@pytest.fixture(scope="session")
def stage(cluster_parts, tmp_path_factory):
    """The operator before an API server of its own; see operator_stage.Stage."""
    from operator_stage import operator_stage

    with operator_stage(*cluster_parts, tmp_path_factory.mktemp("stage")) as running:
        yield running
