"""Commands of the pages, as they stand there, on a real control plane: a namespace for models, and
going from one overlay to another."""

import base64
import json
import os
import runpy
import subprocess
from pathlib import Path

import pytest
from api_server import Cluster
from server_programs import absent, program

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
pages = runpy.run_path(str(ROOT / "tests/unit/docs/conftest.py"))["pages"]
NO_PODS = "kubectl wait"
"""Nothing runs here that could become available."""


def block_with(page, text):
    """The one block of code of a page that has the text."""
    (found,) = (
        block.text
        for each in pages()
        if each.path == page
        for block in each.blocks()
        if text in block.text
    )
    return found


@pytest.fixture(scope="module")
def shell(cluster_parts, tmp_path_factory):
    """`shell(text)` in the checkout, with kubectl and a cluster; the finished process."""
    kubectl, _ = cluster_parts
    if reason := absent("kube-controller-manager", "ray.yaml"):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("documented")
    with Cluster(kubectl, folder, controllers=True) as cluster:
        cluster.kubectl("apply", "--server-side", "-f", program("ray.yaml"))

        def run(text, check=True):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=ROOT, text=True, capture_output=True, timeout=300,
                env=os.environ | {
                    "KUBECONFIG": str(cluster.kubeconfig),
                    "PATH": f"{Path(kubectl).parent}:{os.environ['PATH']}",
                },
            )  # fmt: skip
            assert not check or done.returncode == 0, done.stderr
            return done

        run.cluster = cluster
        first = block_with("docs/install.md", "overlays/embedded")
        run("\n".join(line for line in first.splitlines() if NO_PODS not in line))
        yield run


def secret(shell, namespace):
    found = shell.cluster.get("secret", "zeroskew-credentials", "-n", namespace)
    return {name: base64.b64decode(value).decode() for name, value in found["data"].items()}


def test_a_namespace_for_models_needs_no_secret_of_kuberays(shell):
    shell(block_with("docs/install.md", "kubectl create namespace team"))
    assert secret(shell, "team") == secret(shell, "zeroskew")
    assert len(secret(shell, "team")["AWS_SECRET_ACCESS_KEY"]) == 48
    told = shell.cluster.get("configmap", "zeroskew-endpoints", "-n", "team")["data"]
    assert told["AWS_ENDPOINT_URL"] == "http://bucket.zeroskew.svc:8333"
    assert not told["ZEROSKEW_RAY"]

    # Beside a Ray, with the token that KubeRay has made.
    token = "of KubeRay"
    shell.cluster.kubectl(
        "create", "secret", "generic", "zeroskew-ray", "-n", "zeroskew",
        f"--from-literal=auth_token={token}",
    )  # fmt: skip
    shell(block_with("manifests/README.md", "kubectl patch secret"))
    assert secret(shell, "team") == secret(shell, "zeroskew") | {"RAY_AUTH_TOKEN": token}


def test_the_way_from_one_overlay_to_another(shell, tmp_path):
    page = "docs/upgrade-and-remove.md"
    away, *_ = block_with(page, "--cascade=orphan").splitlines()
    overlay = ROOT / "manifests/overlays" / f"of-a-test-{tmp_path.name}"
    overlay.mkdir()
    try:
        text = block_with(page, "resources: [../gpu]")
        (overlay / "kustomization.yaml").write_text(text)
        apply = f"kubectl apply --server-side -k {overlay}"
        refused = shell(apply, check=False)
        assert refused.returncode
        assert "bucket" in refused.stderr
        before = shell.cluster.get("pvc", "mlflow", "-n", "zeroskew")
        shell(f"{away}\n{apply}")
        shell(apply)
    finally:
        (overlay / "kustomization.yaml").unlink()
        overlay.rmdir()
    (claim,) = shell.cluster.get("statefulset", "bucket", "-n", "zeroskew")["spec"][
        "volumeClaimTemplates"
    ]
    assert claim["spec"]["resources"]["requests"]["storage"] == "50Gi"
    after = shell.cluster.get("pvc", "mlflow", "-n", "zeroskew")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert json.dumps(after["spec"], sort_keys=True) == json.dumps(before["spec"], sort_keys=True)


@pytest.mark.parametrize(
    ("value", "lacks"),
    [
        ("prometheus.enabled", "the Prometheus operator"),
        ("kubeflow.enabled", "Kubeflow with its Istio"),
        ("kserve.restrictedStorageInitializer", "KServe"),
        ("raycluster.enabled", None),
    ],
)
def test_the_chart_says_what_a_cluster_lacks(shell, value, lacks):
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    helm = Path(os.environ.get("ZEROSKEW_KUBE_TOOLS") or cache / "zeroskew/kube-tools") / "bin/helm"
    if not helm.is_file():
        pytest.skip(f"no {helm}: run scripts/install_kube_tools.sh")
    asked = f"{helm} install z charts/zeroskew -n zeroskew --dry-run=server --set {value}=true"
    done = shell(asked, check=False)
    if lacks:
        assert done.returncode
        assert f"{value}: this cluster does not have the kind" in done.stderr
        assert f"install {lacks} first" in done.stderr
    else:
        # KubeRay's kind is there.
        assert "does not have the kind" not in done.stderr
