"""etcd and kube-apiserver as child processes: a cluster's API without nodes and controllers."""

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
from pathlib import Path

import yaml

TOKEN = "zeroskew-test"
OPERATOR_TOKEN = "zeroskew-operator"
OPERATOR = "system:serviceaccount:zeroskew:zeroskew-operator"
"""The operator's ServiceAccount, as manifests/base names it."""


class Cluster:
    """`kubectl` against the API server; `server` and a token for anything else.

    `assets`: folder with the two programs; `folder`: an empty one, for their data.
    """

    def __init__(self, assets: Path, kubectl: str, folder: Path) -> None:
        self.kubectl_path, self._folder = kubectl, folder
        client, peer, secure = free_ports(3)
        self._etcd_url = f"http://127.0.0.1:{client}"
        self.server = f"https://127.0.0.1:{secure}"
        self._commands = {
            "etcd": [
                assets / "etcd", "--data-dir", folder / "etcd",
                "--listen-client-urls", self._etcd_url,
                "--advertise-client-urls", self._etcd_url,
                "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-cluster", f"default=http://127.0.0.1:{peer}",
            ],
            "kube-apiserver": [
                assets / "kube-apiserver", f"--etcd-servers={self._etcd_url}",
                f"--secure-port={secure}",
                "--bind-address=127.0.0.1", f"--cert-dir={folder / 'certs'}",
                f"--service-account-key-file={folder / 'sa.key'}",
                f"--service-account-signing-key-file={folder / 'sa.key'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--authorization-mode=RBAC", f"--token-auth-file={folder / 'tokens.csv'}",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--disable-admission-plugins=ServiceAccount",
            ],
        }  # fmt: skip
        self._processes: dict[str, subprocess.Popen] = {}
        self.kubeconfig = folder / "kubeconfig"

    def __enter__(self) -> "Cluster":
        folder = self._folder
        subprocess.run(
            ["openssl", "genrsa", "-out", folder / "sa.key", "2048"],
            check=True, capture_output=True,
        )  # fmt: skip
        (folder / "tokens.csv").write_text(
            f"{TOKEN},admin,admin,system:masters\n"
            f'{OPERATOR_TOKEN},{OPERATOR},operator,"system:serviceaccounts"\n'
        )
        try:
            self._start("etcd")
            self.start_server()
        except BaseException:
            self.__exit__()
            raise
        self.write_kubeconfig(self.kubeconfig, TOKEN)
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
            input=input, text=True, capture_output=True, timeout=60,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(map(str, arguments))}\n{done.stderr}")
        return done

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def _start(self, name: str) -> None:
        log = self._folder / f"{name}.log"
        with log.open("ab") as output:
            self._processes[name] = subprocess.Popen(
                [str(part) for part in self._commands[name]],
                stdout=output, stderr=output, preexec_fn=_die_with_parent,
            )  # fmt: skip
        ready = f"{self._etcd_url}/health" if name == "etcd" else f"{self.server}/readyz"
        _wait(ready, self._processes[name], log)


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
