"""The model server of a laptop: a Triton child process out of a wheel.

    with EmbeddedTriton(repository, folder, environment=endpoints.environment()) as server:
        server.http, server.grpc, server.metrics        # "127.0.0.1:40001", …

The wheel nvidia-pytriton carries the real `tritonserver` with the Python backend and no other. Its
environment is the one of images/triton (`make triton`); the front model runs in it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from zeroskew.embedded.process import ChildProcess
from zeroskew.errors import EmbeddedError
from zeroskew.serving.request_identity import HEADER_PATTERN

START_SECONDS = 90.0
STOP_SECONDS = 45.0
"""Longer than Triton's own --exit-timeout-secs, in which fronts flush their logs."""
_HOST = "127.0.0.1"
_CHECKOUT = Path(__file__).parents[2]
_ASK = (
    "import sysconfig, os, sys, pytriton, onnxruntime, hiredis, msgpack, pyarrow\n"
    "print(sysconfig.get_config_var('LIBDIR'))\n"
    "print(os.path.dirname(os.path.dirname(pytriton.__file__)))\n"
    "print('.'.join(map(str, sys.version_info[:2])))"
)


@dataclass(frozen=True, slots=True)
class TritonHome:
    """Where the wheel put its parts."""

    python: Path
    library: Path
    site: Path
    version: str
    """Of Python, such as `3.11`."""

    @property
    def binary(self) -> Path:
        return self.site / "pytriton" / "tritonserver" / "bin" / "tritonserver"


def triton_home() -> TritonHome:
    """Triton's environment: ZEROSKEW_TRITON_VENV, else `.venv-triton` of the checkout.

    Raises `EmbeddedError` if there is none, or one that lacks a part.
    """
    folder = Path(os.environ.get("ZEROSKEW_TRITON_VENV") or _CHECKOUT / ".venv-triton")
    python = folder / "bin" / "python"
    mend = "run `make triton`, or name another environment in ZEROSKEW_TRITON_VENV"
    if not python.exists():
        raise EmbeddedError("there is no Triton environment", where=str(folder), mend=mend)
    found = subprocess.run([python, "-c", _ASK], capture_output=True, text=True)
    if found.returncode:
        reason = (found.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise EmbeddedError(f"cannot be used: {reason}", where=str(folder), mend=mend)
    library, site, version = found.stdout.strip().split("\n")[-3:]
    return TritonHome(python, Path(library), Path(site), version)


class EmbeddedTriton:
    """A Triton server over a model repository; state (backends, log) goes into `folder`."""

    def __init__(
        self,
        repository: str | Path,
        folder: str | Path,
        *,
        environment: Mapping[str, str] | None = None,
        ports: tuple[int, int, int] | None = None,
        explicit: tuple[str, ...] = (),
        detached: bool = False,
    ) -> None:
        """`environment`: variables for the models (`ZEROSKEW_REDIS`, …) on top of this process's.

        `ports`: HTTP, gRPC, metrics; None: free ones. `explicit`: models to load at the start, the
        others only when a client says so (model control mode explicit, so that versions can be
        changed under load); empty: all, once.
        """
        self.repository, self.folder = Path(repository).absolute(), Path(folder).absolute()
        self._environment = dict(environment or {})
        self._ports, self._explicit, self._detached = ports, explicit, detached
        self._child: ChildProcess | None = None
        self.http = self.grpc = self.metrics = ""

    @property
    def log(self) -> Path:
        return self.folder / "triton.log"

    @property
    def pid(self) -> int:
        """Of the process that ends the server on SIGTERM."""
        if self._child is None:
            raise EmbeddedError("Triton has not been started")
        return self._child.pid

    def start(self) -> EmbeddedTriton:
        """Start it and wait until its models are ready.

        Raises `EmbeddedError` with the end of the log.
        """
        home = triton_home()
        backends = self._backends(home)
        http, grpc, metrics = self._ports or _free_ports()
        control = ["--model-control-mode=explicit"] if self._explicit else []
        control += [f"--load-model={name}" for name in self._explicit]
        child = ChildProcess(
            [
                home.binary,
                f"--model-repository={self.repository}",
                f"--backend-directory={backends}",
                f"--http-address={_HOST}", f"--http-port={http}",
                f"--grpc-address={_HOST}", f"--grpc-port={grpc}",
                f"--metrics-address={_HOST}", f"--metrics-port={metrics}",
                f"--http-header-forward-pattern={HEADER_PATTERN}",
                f"--grpc-header-forward-pattern={HEADER_PATTERN}",
                "--exit-timeout-secs=30",
                "--log-error=true", "--log-warning=true", "--log-info=false",
                *control,
            ],
            log=self.log, name="Triton", environment=self._variables(home),
            detached=self._detached, grace_seconds=STOP_SECONDS,
        )  # fmt: skip
        self.http, self.grpc = f"{_HOST}:{http}", f"{_HOST}:{grpc}"
        self.metrics = f"{_HOST}:{metrics}"
        child.start()
        try:
            child.wait_until(self.ready, seconds=START_SECONDS)
        except BaseException:
            child.stop()
            raise
        self._child = child
        return self

    def stop(self) -> None:
        """End it, logs flushed; safe to call twice."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def _variables(self, home: TritonHome) -> dict[str, str]:
        return {
            **os.environ,
            "ZEROSKEW_SPOOL": str(self.folder / "spool"),
            **self._environment,
            # The backend finds its packages through the `python3` that comes first.
            "PATH": f"{home.python.parent}:{os.environ.get('PATH', '')}",
            "LD_LIBRARY_PATH": f"{home.library}:{home.site / 'nvidia_pytriton.libs'}",
            "PYTHONPATH": "",
            "OMP_NUM_THREADS": "1",
        }

    def _backends(self, home: TritonHome) -> Path:
        """The Python backend with the stub of this Python beside it, as Triton wants it."""
        server = home.site / "pytriton" / "tritonserver"
        stub = server / "python_backend_stubs" / home.version / "triton_python_backend_stub"
        if not stub.exists():
            raise EmbeddedError(
                f"the wheel has no Python backend for Python {home.version}", where=str(home.site)
            )
        folder = self.folder / "backends"
        try:
            target = folder / "python"
            target.mkdir(parents=True, exist_ok=True)
            for file in (*(server / "backends" / "python").iterdir(), stub):
                if file.is_file() and not (target / file.name).exists():
                    shutil.copy(file, target / file.name)
        except OSError as error:
            raise EmbeddedError(f"cannot be written: {error}", where=str(folder)) from None
        return folder

    def ready(self) -> bool:
        """Whether it answers, with all of its models."""
        try:
            with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=1) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def __enter__(self) -> EmbeddedTriton:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _free_ports() -> tuple[int, int, int]:
    """Three that nobody listens on; held together, so that they differ."""
    sockets = [socket.socket() for _ in range(3)]
    try:
        for one in sockets:
            one.bind((_HOST, 0))
        first, second, third = (one.getsockname()[1] for one in sockets)
    finally:
        for one in sockets:
            one.close()
    return first, second, third
