"""A real Kubernetes API server (etcd and kube-apiserver) with Kubeflow's CRDs, for a session.

`KUBEBUILDER_ASSETS` names the folder with the two programs, `ZEROSKEW_CRDS` the one with the CRDs.
"""

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MAKER = "tests/cluster/api_server.sh"
TOKEN = "zeroskew-test"
OPERATOR_TOKEN = "zeroskew-operator"
OPERATOR = "system:serviceaccount:zeroskew:zeroskew-operator"
"""The operator's ServiceAccount, as manifests/base names it."""


@dataclass(frozen=True)
class Cluster:
    """`kubectl` against the API server; `server` and TOKEN for anything else."""

    server: str
    kubeconfig: Path
    kubectl_path: str

    def kubectl(self, *arguments, input=None, check=True):
        done = subprocess.run(
            [self.kubectl_path, "--kubeconfig", str(self.kubeconfig), *map(str, arguments)],
            input=input, text=True, capture_output=True, timeout=60,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(map(str, arguments))}\n{done.stderr}")
        return done

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)


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


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _die_with_parent():
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _wait(url, process, log, seconds=60):
    context = ssl._create_unverified_context()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(request, context=context, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def api_server(tmp_path_factory):
    """An empty cluster's API: no nodes, no controllers; RBAC on, one administrator."""
    assets, kubectl = _assets(), _kubectl()
    folder = tmp_path_factory.mktemp("cluster")
    client, peer, secure = _free_ports(3)
    subprocess.run(
        ["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True
    )
    (folder / "tokens.csv").write_text(
        f"{TOKEN},admin,admin,system:masters\n"
        f'{OPERATOR_TOKEN},{OPERATOR},operator,"system:serviceaccounts"\n'
    )
    etcd_url, server = f"http://127.0.0.1:{client}", f"https://127.0.0.1:{secure}"
    commands = {
        "etcd": [
            assets / "etcd", "--data-dir", folder / "etcd",
            "--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url,
            "--listen-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"default=http://127.0.0.1:{peer}",
        ],
        "kube-apiserver": [
            assets / "kube-apiserver", f"--etcd-servers={etcd_url}", f"--secure-port={secure}",
            "--bind-address=127.0.0.1", f"--cert-dir={folder / 'certs'}",
            f"--service-account-key-file={folder / 'sa.key'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC", f"--token-auth-file={folder / 'tokens.csv'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
        ],
    }  # fmt: skip
    processes = []
    try:
        for name, command in commands.items():
            log = folder / f"{name}.log"
            with log.open("wb") as output:
                processes.append(
                    subprocess.Popen(
                        [str(part) for part in command],
                        stdout=output,
                        stderr=output,
                        preexec_fn=_die_with_parent,
                    )
                )
            ready = f"{etcd_url}/health" if name == "etcd" else f"{server}/readyz"
            _wait(ready, processes[-1], log)
        config = folder / "kubeconfig"
        authority = base64.b64encode((folder / "certs/apiserver.crt").read_bytes()).decode()
        config.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [
                        {
                            "name": "test",
                            "cluster": {
                                "server": server,
                                "certificate-authority-data": authority,
                            },
                        }
                    ],
                    "users": [{"name": "test", "user": {"token": TOKEN}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                }
            )
        )
        yield Cluster(server, config, kubectl)
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in reversed(processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


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
