"""A Kubernetes control plane as child processes: etcd and kube-apiserver, and what a test asks for.

The servers are those of tests/cluster/servers. Everything is on that a cluster has by default: TLS,
RBAC, service accounts and their tokens, admission with pod security levels. Nodes are kwok's: they
are ready at once and so is every pod on them, without a container.
"""

import base64
import contextlib
import json
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from server_programs import built, program

TOKEN = "zeroskew-test"
OPERATOR_TOKEN = "zeroskew-operator"
OPERATOR = "system:serviceaccount:zeroskew:zeroskew-operator"
"""The operator's ServiceAccount, as manifests/base names it."""
_USERS = {
    TOKEN: ("admin", "system:masters"),
    OPERATOR_TOKEN: (OPERATOR, "system:serviceaccounts"),
    "zeroskew-controllers": ("system:kube-controller-manager", ""),
    "zeroskew-scheduler": ("system:kube-scheduler", ""),
    "zeroskew-kwok": ("kwok", "system:masters"),
}

_STAGES = ("node-initialize", "pod-ready", "pod-complete", "pod-delete")
"""What becomes of kwok's nodes and pods: ready at once, a Job's pods done, gone when deleted."""

_NODE = {"cpu": "8", "memory": "32Gi", "ephemeral-storage": "200Gi", "pods": "110"}
"""Of a node, unless a test needs more."""


class Cluster:
    """`kubectl` against the API server; `server` and a token for anything else.

    `kubectl`: path of the program; `folder`: an empty one, for data and logs. `controllers`: with
    kube-controller-manager (garbage collection, Deployments, HPA, service accounts of namespaces,
    ...). `nodes`: so many fake ones, with kube-scheduler and kwok; they need `controllers` for
    anything but bare pods. `room`: what a node has. Raises `server_programs.MissingProgram`.
    """

    def __init__(
        self,
        kubectl: str,
        folder: Path,
        *,
        controllers: bool = False,
        nodes: int = 0,
        room: Mapping[str, str] = _NODE,
    ) -> None:
        self.kubectl_path, self._folder, self._nodes = kubectl, folder, nodes
        self._room = dict(room)
        client, peer, secure, managing, scheduling, kwok = free_ports(6)
        self._etcd_url = f"http://127.0.0.1:{client}"
        self.server = f"https://127.0.0.1:{secure}"
        self._after_server: list[str] = []
        self._ready = {
            "etcd": f"{self._etcd_url}/health",
            "kube-apiserver": f"{self.server}/readyz",
            "kube-controller-manager": f"https://127.0.0.1:{managing}/healthz",
            "kube-scheduler": f"https://127.0.0.1:{scheduling}/healthz",
            "kwok": f"http://127.0.0.1:{kwok}/healthz",
        }
        self._commands: dict[str, list[object]] = {
            "etcd": [
                program("etcd"), "--data-dir", folder / "etcd", "--unsafe-no-fsync",
                "--listen-client-urls", self._etcd_url,
                "--advertise-client-urls", self._etcd_url,
                "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-cluster", f"default=http://127.0.0.1:{peer}",
            ],
            "kube-apiserver": [
                program("kube-apiserver"), f"--etcd-servers={self._etcd_url}",
                f"--secure-port={secure}",
                "--bind-address=127.0.0.1", f"--cert-dir={folder / 'certs'}",
                f"--service-account-key-file={folder / 'sa.key'}",
                f"--service-account-signing-key-file={folder / 'sa.key'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--authorization-mode=RBAC", f"--token-auth-file={folder / 'tokens.csv'}",
                "--service-cluster-ip-range=10.0.0.0/24",
            ],
        }  # fmt: skip
        if controllers:
            self._after_server.append("kube-controller-manager")
            self._commands["kube-controller-manager"] = [
                program("kube-controller-manager"), "--bind-address=127.0.0.1",
                f"--secure-port={managing}", "--leader-elect=false",
                f"--cert-dir={folder / 'controllers'}",
                f"--kubeconfig={folder / 'kube-controller-manager.config'}",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={folder / 'sa.key'}",
                f"--root-ca-file={folder / 'certs/apiserver.crt'}",
                "--horizontal-pod-autoscaler-sync-period=2s",
                # kwok's nodes say once that they are ready.
                "--node-monitor-grace-period=24h",
            ]  # fmt: skip
        if nodes:
            self._after_server += ["kube-scheduler", "kwok"]
            self._commands["kube-scheduler"] = [
                program("kube-scheduler"), "--bind-address=127.0.0.1",
                f"--secure-port={scheduling}", "--leader-elect=false",
                f"--kubeconfig={folder / 'kube-scheduler.config'}",
            ]  # fmt: skip
            self._commands["kwok"] = [
                program("kwok"), "--manage-all-nodes", f"--server-address=127.0.0.1:{kwok}",
                f"--kubeconfig={folder / 'kwok.config'}", "--node-ip=127.0.0.1",
                "--node-lease-duration-seconds=40",
                *(f"--config={built(f'{stage}.yaml')}" for stage in _STAGES),
            ]  # fmt: skip
        self._processes: dict[str, subprocess.Popen] = {}
        self.kubeconfig = folder / "kubeconfig"

    def __enter__(self) -> "Cluster":
        folder = self._folder
        subprocess.run(
            ["openssl", "genrsa", "-out", folder / "sa.key", "2048"],
            check=True, capture_output=True,
        )  # fmt: skip
        (folder / "tokens.csv").write_text(
            "".join(f'{token},{user},{user},"{of}"\n' for token, (user, of) in _USERS.items())
        )
        try:
            self._start("etcd")
            self.start_server()
            self.write_kubeconfig(self.kubeconfig, TOKEN)
            for name, token in (
                ("kube-controller-manager", "zeroskew-controllers"),
                ("kube-scheduler", "zeroskew-scheduler"),
                ("kwok", "zeroskew-kwok"),
            ):
                self.write_kubeconfig(folder / f"{name}.config", token)
            for name in self._after_server:
                self._start(name)
            if self._nodes:
                self._add_nodes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in reversed(self._processes.values()):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start_server(self) -> None:
        """On the port and the etcd that it had before, if it ran before."""
        self._start("kube-apiserver")

    def kill_server(self) -> None:
        """SIGKILL; etcd stays."""
        process = self._processes.pop("kube-apiserver")
        process.kill()
        process.wait()

    def write_kubeconfig(self, path: Path, token: str, server: str | None = None) -> None:
        """`server`: another address, of what passes on to it."""
        authority = base64.b64encode((self._folder / "certs/apiserver.crt").read_bytes()).decode()
        about = {"server": server or self.server, "certificate-authority-data": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": about}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(yaml.safe_dump(config))

    def kubectl(self, *arguments, input=None, check=True):
        done = subprocess.run(
            [self.kubectl_path, "--kubeconfig", str(self.kubeconfig), *map(str, arguments)],
            input=input, text=True, capture_output=True, timeout=180,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(map(str, arguments))}\n{done.stderr}")
        return done

    def install(self, crds: Sequence[dict], seconds: float = 60) -> None:
        """CustomResourceDefinitions, until the server serves them; what is there stays."""
        names = [each["metadata"]["name"] for each in crds]
        documents = {"apiVersion": "v1", "kind": "List", "items": crds}
        self.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(documents))
        deadline = time.monotonic() + seconds
        # `kubectl wait` takes it for an error that a new CRD has no conditions yet.
        while (done := self.kubectl("get", ",".join(names), "-A", check=False)).returncode:
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.2)

    def token(self, namespace: str, account: str) -> str:
        """A bound token of a ServiceAccount, as its pods get one."""
        return self.kubectl("create", "token", account, "-n", namespace).stdout.strip()

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def _start(self, name: str) -> None:
        log = self._folder / f"{name}.log"
        with log.open("ab") as output:
            self._processes[name] = subprocess.Popen(
                [str(part) for part in self._commands[name]],
                stdout=output, stderr=output, preexec_fn=_die_with_parent,
            )  # fmt: skip
        _wait(self._ready[name], self._processes[name], log)

    def _add_nodes(self) -> None:
        nodes = [
            {
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}"},
                "status": {"allocatable": self._room, "capacity": self._room},
            }
            for number in range(self._nodes)
        ]  # fmt: skip
        documents = {"apiVersion": "v1", "kind": "List", "items": nodes}
        self.kubectl("create", "-f", "-", input=json.dumps(documents))
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")


def free_ports(count):
    """Ports that nobody listened on a moment ago."""
    with contextlib.ExitStack() as open_ones:
        sockets = [open_ones.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


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
