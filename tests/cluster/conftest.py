"""A real Kubernetes control plane with Kubeflow's CRDs, for a session.

Servers come from tests/cluster/servers (`make servers` builds them) or `KUBEBUILDER_ASSETS`; the
folder with the CRDs is beside the checkout or named by `ZEROSKEW_CRDS`. A test whose servers are
missing is skipped with the reason; with `ZEROSKEW_REQUIRE_SERVERS=1`, as in CI, it fails.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

# pytest's importlib mode finds no module beside a test.
sys.path.insert(0, str(Path(__file__).parent))

from api_server import Cluster
from own_network import NotPermitted
from server_programs import absent

ROOT = Path(__file__).parents[2]


def missing(reason: str) -> None:
    """Skips the test, or fails it where everything must be there."""
    if os.environ.get("ZEROSKEW_REQUIRE_SERVERS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require(*names: str) -> None:
    """The programs of servers that a test is about to start."""
    if reason := absent(*names):
        missing(reason)


def crd_folder() -> Path:
    folder = Path(os.environ.get("ZEROSKEW_CRDS") or ROOT / "../shared/crds").resolve()
    if not folder.is_dir():
        missing(f"no CRDs in {folder}: set ZEROSKEW_CRDS to a folder with kfp.yaml")
    return folder


def _kubectl() -> str:
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.is_file() else shutil.which("kubectl")
    if not found:
        missing("no kubectl: install the development dependencies")
    return found


@pytest.fixture(scope="session")
def api_server(tmp_path_factory):
    """An empty cluster's API: no nodes, no controllers; RBAC on, one administrator."""
    require("etcd", "kube-apiserver")
    with Cluster(_kubectl(), tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory):
    """A cluster with controllers, a scheduler and two of kwok's nodes."""
    require("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
    folder = tmp_path_factory.mktemp("control-plane")
    with Cluster(_kubectl(), folder, controllers=True, nodes=2) as running:
        yield running


@pytest.fixture(scope="session")
def cluster(api_server):
    """The API server with Kubeflow Pipelines' CRDs."""
    crds = crd_folder() / "kfp.yaml"
    if not crds.is_file():
        missing(f"no {crds}")
    api_server.kubectl("create", "-f", crds)
    api_server.kubectl("wait", "--for=condition=established", "crd", "--all", "--timeout=30s")
    return api_server


@pytest.fixture
def namespace(cluster, request):
    """A namespace of the test's own."""
    name = f"t-{os.urandom(4).hex()}"
    cluster.kubectl("create", "namespace", name)
    return name


@pytest.fixture(scope="session")
def cluster_parts():
    """What `operator_stage` needs: kubectl, CRDs."""
    from operator_stage import PROGRAMS

    crds = crd_folder()
    if not (crds / "gateway-api.yaml").is_file():
        missing(f"no gateway-api.yaml in {crds}")
    require(*PROGRAMS)
    return _kubectl(), crds


@pytest.fixture(scope="session")
def stage(cluster_parts, tmp_path_factory):
    """The operator before an API server of its own; see operator_stage.Stage."""
    from operator_stage import operator_stage

    try:
        with operator_stage(*cluster_parts, tmp_path_factory.mktemp("stage")) as running:
            yield running
    except NotPermitted as reason:
        missing(str(reason))
