"""`python -m operators` as a child, with a kubeconfig of the operator's own ServiceAccount."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from api_server import OPERATOR_TOKEN, Cluster, free_ports

ROOT = Path(__file__).parents[2]


class OperatorProcess:
    """One at a time; `start` again after `kill`."""

    def __init__(self, cluster: Cluster, mlflow: str, folder: Path, **environment: str) -> None:
        """`environment`: more for it, over what is set here."""
        self._cluster, self._config = cluster, folder / "kubeconfig"
        self.reach(None)
        health, metrics = free_ports(2)
        self.health = f"http://127.0.0.1:{health}/healthz"
        self.metrics = f"http://127.0.0.1:{metrics}/metrics"
        self.log = folder / "log"
        self.predictions, self.pages = folder / "predictions", folder / "pages"
        self._process = None
        self._environment = os.environ | {
            "KUBECONFIG": str(self._config),
            "ZEROSKEW_MLFLOW": mlflow,
            "ZEROSKEW_PREDICTION_LOG": str(self.predictions),
            "ZEROSKEW_PAGES": str(self.pages),
            "ZEROSKEW_OPERATOR_HEALTH_PORT": str(health),
            "ZEROSKEW_OPERATOR_METRICS_PORT": str(metrics),
            "PYTHONFAULTHANDLER": "1",
        } | environment  # fmt: skip

    def reach(self, server: str | None) -> None:
        """The API server's address from the next start on; None: its own."""
        self._cluster.write_kubeconfig(self._config, OPERATOR_TOKEN, server)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "operators"],
                cwd=ROOT, stdout=log, stderr=log, env=self._environment,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_healthy(self, seconds: float = 60) -> None:
        """Until Kopf says that it lives."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(self.health, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                assert self.running, self.tail()
                assert time.monotonic() < deadline, self.tail()
                time.sleep(0.1)

    def measured(self) -> dict[str, float]:
        """What Prometheus would read, by name and labels."""
        with urllib.request.urlopen(self.metrics, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def kill(self) -> None:
        """SIGKILL, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self, seconds: float = 30) -> int:
        """SIGTERM, as Kubernetes does it; its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def tail(self) -> str:
        return self.log.read_text()[-6000:] if self.log.exists() else "it said nothing"
