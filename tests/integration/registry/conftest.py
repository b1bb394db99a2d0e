"""A real MLflow server over HTTP, with artifacts through its proxy; a record; some files."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zeroskew.record import Measure, VersionRecord

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow-server")


@pytest.fixture(scope="session")
def server(server_folder: Path) -> Iterator[str]:
    folder = server_folder
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
        )  # fmt: skip
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


@pytest.fixture
def record() -> Callable[..., VersionRecord]:
    def make(model: str = "flight_delay", data: str = "d1", **more) -> VersionRecord:
        return VersionRecord(
            **{
                "model": model,
                "data_hash": data,
                "feature_service": "flight_delay",
                "feature_schema_version": "f" * 64,
                "code_sha": "c" * 40,
                "metrics": {"auc": Measure(0.74, 0.73, 0.75)},
                "precision_reason": "x" * 12_000,
            }
            | more
        )

    return make


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "made"
    (folder / "triton/net/1").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(os.urandom(3_000_000))
    (folder / "triton/net/config.pbtxt").write_text("name: 'net'")
    (folder / "triton/net/1/model.onnx").write_bytes(b"graph")
    return {"export/model.onnx": folder / "model.onnx", "triton": folder / "triton"}


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """Start a Python child in an empty folder."""

    def start(code: str, *arguments: str, **more) -> subprocess.Popen:
        folder = tmp_path / "cwd"
        folder.mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, **more,
        )  # fmt: skip

    return start
