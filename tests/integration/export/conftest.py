"""A real Triton: the server inside the wheel nvidia-pytriton, in an environment of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

HOW = "no Triton environment: run `make triton`"
TYPES = {"FP32": np.float32, "INT32": np.int32}


class Triton:
    """A running server, spoken to over HTTP with binary tensors (JSON has no NaN)."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(f"http://{self.address}/v2/{path}", timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body else {}

    def infer(self, model: str, **arrays: np.ndarray) -> np.ndarray:
        names = {np.dtype(kind): name for name, kind in TYPES.items()}
        header = json.dumps(
            {
                "inputs": [
                    {
                        "name": name,
                        "shape": list(array.shape),
                        "datatype": names[array.dtype],
                        "parameters": {"binary_data_size": array.nbytes},
                    }
                    for name, array in arrays.items()
                ],
                "outputs": [{"name": "score", "parameters": {"binary_data": True}}],
            }
        ).encode()
        body = header + b"".join(np.ascontiguousarray(a).tobytes() for a in arrays.values())
        request = urllib.request.Request(
            f"http://{self.address}/v2/models/{model}/infer",
            body,
            {
                "Inference-Header-Content-Length": str(len(header)),
                "Content-Type": "application/octet-stream",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                split = int(answer.headers["Inference-Header-Content-Length"])
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise ValueError(json.loads(error.read())["error"]) from None
        output = json.loads(content[:split])["outputs"][0]
        return np.frombuffer(content[split:], TYPES[output["datatype"]]).reshape(output["shape"])


@pytest.fixture(scope="session")
def sample_model() -> ModuleType:
    """The small trained model that the unit tests use, too."""
    path = Path(__file__).parents[2] / "unit" / "export" / "sample_model.py"
    spec = importlib.util.spec_from_file_location("export_sample_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def triton_python() -> Path:
    """Python of the environment that holds Triton."""
    default = Path(__file__).parents[3] / ".venv-triton"
    python = Path(os.environ.get("ZEROSKEW_TRITON_VENV") or default) / "bin" / "python"
    probe = "import onnxruntime, numpy, pytriton, sys; sys.exit(numpy.__version__[0] != '1')"
    if not python.exists() or subprocess.run([python, "-c", probe], capture_output=True).returncode:
        pytest.skip(HOW)
    return python


@pytest.fixture
def start_triton(triton_python: Path, tmp_path: Path) -> Iterator[Callable[[Path], Triton]]:
    """Start a server over a model repository; it is gone when the test ends."""
    with ExitStack() as running:
        yield lambda repository: running.enter_context(_server(triton_python, repository, tmp_path))


@contextmanager
def _server(python: Path, repository: Path, scratch: Path) -> Iterator[Triton]:
    ask = (
        "import sysconfig, os, pytriton; print(sysconfig.get_config_var('LIBDIR'));"
        "print(os.path.dirname(os.path.dirname(pytriton.__file__)))"
    )
    found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    library, site = (Path(line) for line in found.stdout.split("\n")[-3:-1])
    home = site / "pytriton" / "tritonserver"
    backends = scratch / "backends"
    shutil.copytree(home / "backends" / "python", backends / "python", dirs_exist_ok=True)
    shutil.copy(
        home / "python_backend_stubs" / "3.11" / "triton_python_backend_stub", backends / "python"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (scratch / "triton.log").open("wb")
    process = subprocess.Popen(
        [
            home / "bin" / "tritonserver",
            f"--model-repository={repository}",
            f"--backend-directory={backends}",
            "--http-address=127.0.0.1",
            f"--http-port={port}",
            "--allow-grpc=false",
            "--allow-metrics=false",
        ],
        stdout=log,
        stderr=log,
        env={
            **os.environ,
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{library}:{site / 'nvidia_pytriton.libs'}",
        },
    )
    try:
        server = Triton(f"127.0.0.1:{port}")
        _wait(server, process, scratch / "triton.log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _wait(server: Triton, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            server.get("health/ready")
            return
        except OSError:
            time.sleep(0.1)
    text = log.read_bytes().decode("utf-8", "replace")
    pytest.fail(f"tritonserver is not ready:\n{text[-4000:]}")
