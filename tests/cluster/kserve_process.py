"""KServe's own manager with its webhooks, as a process beside a test's control plane.

What it reads in the cluster is what its own manifests of that version put there, but for three
things: webhooks are reached by an address of this host, the default is Standard mode, and Istio,
which nobody has installed, is not asked for.
"""

import base64
import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import yaml
from api_server import Cluster, free_ports
from server_programs import built, program

KINDS = (
    "inferenceservices", "servingruntimes", "clusterservingruntimes", "clusterstoragecontainers",
    "trainedmodels", "inferencegraphs",
)  # fmt: skip
STORAGE_IMAGE = "kserve/storage-initializer:v0.20.0"


class KServe:
    """Reconciles InferenceServices while it is entered; `crds` must be there.

    `folder`: an empty one, for its certificate and its log. Raises
    `server_programs.MissingProgram`.
    """

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster, self._folder = cluster, folder
        self._program = program("kserve-manager")
        self._config, self._webhooks, self._storage = (
            built(f"kserve-{name}.yaml") for name in ("config", "webhooks", "storage")
        )
        self._webhook_port, self._health_port, self._metrics_port = free_ports(3)
        self._process: subprocess.Popen | None = None
        self.log = folder / "log"

    @staticmethod
    def crds() -> list[dict]:
        """CustomResourceDefinitions of its kinds. Raises as the class does."""
        files = (built(f"kserve-crd-{kind}.yaml") for kind in KINDS)
        return [yaml.load(each.read_text(), yaml.CSafeLoader) for each in files]

    def __enter__(self) -> "KServe":
        try:
            self._make_certificate()
            self._configure()
            self.start()
            self._register_webhooks()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "--kubeconfig", self._cluster.kubeconfig,
                 f"--metrics-addr=127.0.0.1:{self._metrics_port}",
                 f"--health-probe-addr=127.0.0.1:{self._health_port}",
                 f"--webhook-port={self._webhook_port}"],
                # Its webhook server looks for the certificate below the folder for what is
                # temporary.
                env=os.environ | {"TMPDIR": str(self._folder), "POD_NAMESPACE": "kserve"},
                stdout=log, stderr=log, preexec_fn=_die_with_parent,
            )  # fmt: skip
        self._wait_ready()

    def kill(self) -> None:
        """SIGKILL; `start` again."""
        self.__exit__()

    def tail(self) -> str:
        return self.log.read_text()[-6000:]

    def _wait_ready(self, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                url = f"http://127.0.0.1:{self._health_port}/readyz"
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                assert self._process is not None
                assert self._process.poll() is None, self.tail()
                assert time.monotonic() < deadline, self.tail()
                time.sleep(0.1)

    @property
    def _certificates(self) -> Path:
        return self._folder / "k8s-webhook-server/serving-certs"

    def _make_certificate(self) -> None:
        self._certificates.mkdir(parents=True)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=kserve-webhook", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", self._certificates / "tls.key", "-out", self._certificates / "tls.crt"],
            check=True, capture_output=True,
        )  # fmt: skip

    def _configure(self) -> None:
        config = yaml.safe_load(self._config.read_text())
        data = config["data"]
        del data["_example"]
        data["deploy"] = json.dumps({"defaultDeploymentMode": "Standard"})
        data["ingress"] = json.dumps(
            json.loads(data["ingress"]) | {"disableIstioVirtualHost": True}
        )
        storage = yaml.safe_load(self._storage.read_text())
        storage["spec"]["container"]["image"] = STORAGE_IMAGE
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}}
        self._apply(namespace, config, storage)

    def _register_webhooks(self) -> None:
        authority = base64.b64encode((self._certificates / "tls.crt").read_bytes()).decode()
        documents = [each for each in yaml.safe_load_all(self._webhooks.read_text()) if each]
        for webhook in (hook for each in documents for hook in each["webhooks"]):
            path = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {
                "url": f"https://127.0.0.1:{self._webhook_port}{path}",
                "caBundle": authority,
            }
        self._apply(*documents)

    def _apply(self, *documents: dict) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": documents}
        self._cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(listed))


def _die_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
