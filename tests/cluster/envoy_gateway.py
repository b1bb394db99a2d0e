"""Envoy Gateway as a process beside a test's control plane, with the Envoys that it starts.

It reads routes in the real API and programs a real Envoy (the one of the `embedded` extra), in its
mode for hosts: listeners are ports of its own network, see own_network.py.
"""

import base64
import json
import os
import re
import signal
import subprocess
import time
import urllib.parse
from pathlib import Path

import yaml
from api_server import Cluster
from own_network import OwnNetwork
from server_programs import program

from zeroskew.embedded.envoy import envoy_binary

PROGRAMS = ("envoy-gateway",)
CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
NAMESPACE = "envoy-gateway-system"


class EnvoyGateway:
    """Reconciles Gateways and HTTPRoutes while it is entered; the CRDs of both must be there.

    `folder`: an empty one; `addresses`: further ones inside, for servers. Raises
    `server_programs.MissingProgram` and `own_network.NotPermitted`.
    """

    def __init__(self, cluster: Cluster, folder: Path, *, addresses: tuple[str, ...] = ()) -> None:
        self.cluster, self._folder = cluster, folder
        self._program = program(PROGRAMS[0])
        self._certificates = folder / "certs"
        # With resources of Kubernetes it looks for its certificate at this very place.
        self.network = OwnNetwork(
            folder, addresses=addresses, mounts={"/certs": self._certificates}
        )
        self._process: subprocess.Popen | None = None
        self.log = folder / "log"

    def __enter__(self) -> "EnvoyGateway":
        try:
            self._certificates.mkdir()
            self.network.__enter__()
            server = urllib.parse.urlsplit(self.cluster.server)
            self.network.let_in(str(server.hostname), int(server.port or 0))
            self._make_certificates()
            self._link_envoy()
            self._configure()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.network.__exit__()

    def start(self) -> None:
        """Returns before it has looked at anything."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.network.command(
                    self._program, "server", "--config-path", self._folder / "config.yaml"
                ),
                env=self._environment(), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def freeze(self, frozen: bool = True) -> None:
        """It looks at nothing, and its Envoys go on by what they know; or it looks again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def tail(self) -> str:
        """The end of its log, for a test that fails."""
        return self.log.read_text()[-6000:] if self.log.is_file() else "it was not started"

    def wait_accepted(self, name: str, namespace: str, seconds: float = 120) -> dict:
        """Until the Gateway, or its class, is taken; returns it."""
        return self._wait("gateway", name, namespace, seconds)

    def wait_route(self, name: str, namespace: str, seconds: float = 120) -> dict:
        """Until it reported on the route as it stands, whatever it says; returns the route."""
        return self._wait("httproute", name, namespace, seconds)

    def _wait(self, kind: str, name: str, namespace: str, seconds: float) -> dict:
        deadline = time.monotonic() + seconds
        while True:
            found = self.cluster.get(kind, name, "-n", namespace)
            status, generation = found.get("status", {}), found["metadata"]["generation"]
            told = [
                condition
                for conditions in (
                    [status.get("conditions", ())]
                    + [each["conditions"] for each in status.get("parents", ())]
                )
                for condition in conditions
                if condition["type"] == "Accepted"
            ]
            if told and all(
                each.get("observedGeneration") == generation and each["reason"] != "Pending"
                for each in told
            ):
                return found
            assert self._process is not None
            assert self._process.poll() is None, self.tail()
            assert time.monotonic() < deadline, json.dumps(status, indent=1) + self.tail()
            time.sleep(0.1)

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "ENVOY_GATEWAY_NAMESPACE": NAMESPACE,
            "HOME": str(self._folder),
        }

    def _make_certificates(self) -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(namespace))
        done = subprocess.run(
            self.network.command(self._program, "certgen", "--disable-topology-injector"),
            env=self._environment(), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        for secret, folder in (
            ("envoy-gateway", self._certificates),
            ("envoy", self._folder / "config/certs/envoy"),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            data = self.cluster.get("secret", secret, "-n", NAMESPACE)["data"]
            for name in ("ca.crt", "tls.crt", "tls.key"):
                (folder / name).write_bytes(base64.b64decode(data[name]))

    def _link_envoy(self) -> None:
        """Where it looks for the version that it would fetch."""
        said = subprocess.run(
            [self._program, "version"], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        found = re.search(r"ENVOY_PROXY_VERSION: \D*([0-9.]+)", said)
        assert found, said
        place = self._folder / f"data/envoy-versions/{found[1]}/bin"
        place.mkdir(parents=True)
        (place / "envoy").symlink_to(envoy_binary())

    def _configure(self) -> None:
        homes = {
            f"{name}Home": str(self._folder / name) for name in ("config", "data", "state")
        } | {"runtimeDir": str(self._folder / "run")}
        config = {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "EnvoyGateway",
            "gateway": {"controllerName": CONTROLLER},
            "provider": {
                "type": "Custom",
                "custom": {
                    "resource": {
                        "type": "Kubernetes",
                        "kubernetes": {"leaderElection": {"disable": True}},
                    },
                    "infrastructure": {"type": "Host", "host": homes},
                },
            },
            "telemetry": {"metrics": {"prometheus": {"disable": True}}},
        }
        (self._folder / "config.yaml").write_text(yaml.safe_dump(config))
