"""Batch prediction on a real Ray cluster of two CPUs, beside the same on this machine."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from zeroskew.errors import DataError, TrainingError
from zeroskew.features.row import FeatureRow

pytestmark = [pytest.mark.integration, pytest.mark.slow]
TICKETS = Path(__file__).parents[1] / "pipelines/models/tickets"
TOKEN = "0123456789abcdef" * 4
ROWS = 600


@pytest.fixture(scope="module")
def cluster():
    """Address of a Ray that somebody else started, and the folder its processes name."""
    from zeroskew.training.ray_session import QUIET

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scratch = tempfile.mkdtemp(prefix="zs-", dir="/tmp")  # sockets' paths must be short
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ZEROSKEW_")}
    head = subprocess.Popen(
        [
            Path(sys.executable).parent / "ray", "start", "--head", "--block", f"--port={port}",
            "--node-ip-address=127.0.0.1", "--num-cpus=2", "--include-dashboard=false",
            f"--temp-dir={scratch}", "--disable-usage-stats",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=clean | QUIET | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield SimpleNamespace(address=f"127.0.0.1:{port}", scratch=scratch)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if scratch.encode() in entry.read_bytes():
                os.kill(int(entry.parent.name), signal.SIGKILL)
    head.wait(30)
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    spec = importlib.util.spec_from_file_location("_batch_tickets", TICKETS / "data.py")
    data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(data)
    data.prepare(str(folder / "data"))
    rows = pl.read_parquet(folder / "data/tickets/entity_rows.parquet")
    rows.select("agent", "customer", "words", "event_timestamp").sample(
        ROWS, shuffle=True, seed=5
    ).write_parquet(folder / "rows.parquet")
    shutil.copytree(TICKETS, folder / "tickets", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def graph(home):
    """A network with numbers and a category, untrained: every row has a score of its own."""
    from zeroskew.export.onnx_graph import graph_bytes
    from zeroskew.training.optimise import Hyperparameters, make_network
    from zeroskew.training.vocabulary import learn_statistics

    row = FeatureRow(("agent_load", "log_words"), ("product",))
    random = np.random.default_rng(3)
    codes = row.encode(
        {
            "agent_load": random.normal(50, 20, 500),
            "log_words": random.normal(4, 1, 500),
            "product": random.choice(["mail", "phone", "shop"], 500),
        }
    )
    hyper = Hyperparameters((16,), 1e-3, 0.0, 0.0, 4)
    network = make_network(learn_statistics(*codes, 8), hyper, 7).eval()
    path = home / "model.onnx"
    path.write_bytes(graph_bytes(network, row, training_set=""))
    return path


def start(
    home, graph, out, address="", *, chunk=77, rows="rows.parquet", model="tickets", token=TOKEN
):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_AUTH", "ZEROSKEW_"))}
    kept |= {
        "ZEROSKEW_HOME": str(home),
        "ZEROSKEW_DATA": str(home / "data"),
        "ZEROSKEW_REGISTRY": str(home / "registry.db"),
        "ZEROSKEW_REDIS": "127.0.0.1:1",
    }
    driver = Path(__file__).with_name("driver.py")
    arguments = [driver, home / model, graph, home / rows, out, chunk, address]
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=kept | ({"RAY_AUTH_TOKEN": token} if token else {}), start_new_session=True,
    )  # fmt: skip


def finish(process, seconds=120):
    out, errors = process.communicate(timeout=seconds)
    assert "Traceback" not in errors, errors
    return SimpleNamespace(code=process.returncode, out=out, errors=" ".join(errors.split()))


@pytest.fixture(scope="module")
def here(home, graph):
    """What this machine makes of the rows by itself."""
    path = home / "here.parquet"
    done = finish(start(home, graph, path))
    assert done.code == 0, done.errors
    assert pl.read_parquet(path)["score"].n_unique() > ROWS / 2
    return path


def scoring_workers(scratch):
    """Processes in which a chunk is being scored."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            text = entry.read_bytes()
            if text.startswith(b"ray::_score"):
                yield int(entry.parent.name)


def test_the_file_is_the_one_that_this_machine_writes(cluster, home, graph, here, tmp_path):
    done = finish(start(home, graph, tmp_path / "out.parquet", cluster.address))
    assert done.code == 0, done.errors
    assert done.out.splitlines()[-1] == f"rows scored {ROWS} {ROWS}"
    assert (tmp_path / "out.parquet").read_bytes() == here.read_bytes()


def test_the_local_file_does_not_depend_on_chunks_either(home, graph, here, tmp_path):
    assert finish(start(home, graph, tmp_path / "out.parquet", chunk=10_000)).code == 0
    assert pl.read_parquet(tmp_path / "out.parquet").equals(pl.read_parquet(here))


def test_no_rows_make_a_file_without_rows(cluster, home, graph, tmp_path):
    pl.read_parquet(home / "rows.parquet").clear().write_parquet(home / "none.parquet")
    out = tmp_path / "out.parquet"
    done = finish(start(home, graph, out, cluster.address, rows="none.parquet"))
    assert done.code == 0, done.errors
    assert pl.read_parquet(out).height == 0


def test_a_killed_worker_costs_time_and_nothing_else(cluster, home, graph, here, tmp_path):
    process = start(home, graph, tmp_path / "out.parquet", cluster.address)
    deadline, killed = time.monotonic() + 60, 0
    while not killed and time.monotonic() < deadline and process.poll() is None:
        for worker in scoring_workers(cluster.scratch):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                killed += 1
        time.sleep(0.01)
    done = finish(process)
    assert killed
    assert done.code == 0, done.errors
    assert (tmp_path / "out.parquet").read_bytes() == here.read_bytes()


def test_workers_that_keep_dying_are_one_message(cluster, home, graph, tmp_path):
    process = start(home, graph, tmp_path / "out.parquet", cluster.address)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for worker in scoring_workers(cluster.scratch):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        time.sleep(0.01)
    done = finish(process)
    assert done.code == 1
    assert "(PipelineError)" in done.errors
    assert "memory" in done.errors
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing_half_written(cluster, home, graph, tmp_path):
    process = start(home, graph, tmp_path / "out.parquet", cluster.address, chunk=5)
    for line in process.stdout:
        if line.startswith("rows scored"):
            break
    os.kill(process.pid, signal.SIGINT)
    done = finish(process, 60)
    assert done.code == 130
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 30
    while list(scoring_workers(cluster.scratch)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not list(scoring_workers(cluster.scratch))


def test_a_worker_with_other_definitions_refuses(cluster, home, graph, tmp_path):
    shutil.copytree(home / "tickets", home / "edited")
    process = start(
        home, graph, tmp_path / "out.parquet", f"wait:{cluster.address}", model="edited"
    )
    assert process.stdout.readline() == "opened\n"
    before = (home / "registry.db").read_bytes()
    features = home / "edited/features.py"
    edited = features.read_text().replace("timedelta(days=2)", "timedelta(days=3)")
    assert edited != features.read_text()
    features.write_text(edited)
    process.stdin.write("go\n")
    process.stdin.flush()
    done = finish(process)
    assert done.code != 0
    assert "feature definitions" in done.errors
    assert f"Ray worker on {socket.gethostname()}" in done.errors
    assert list(tmp_path.iterdir()) == []
    assert (home / "registry.db").read_bytes() == before


def test_wrong_rows_are_the_same_error_as_here(cluster, home, graph, tmp_path):
    rows = pl.read_parquet(home / "rows.parquet")
    rows.drop("words").write_parquet(home / "wrong.parquet")
    out = tmp_path / "out.parquet"
    local = finish(start(home, graph, out, rows="wrong.parquet"))
    there = finish(start(home, graph, out, cluster.address, rows="wrong.parquet"))
    assert local.code == there.code == 1
    for done in (local, there):
        assert "(SchemaError)" in done.errors
        assert "lacks column 'words'" in done.errors
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_workers_do_not_have_is_named(tmp_path, monkeypatch):
    from zeroskew import batch_on_ray

    monkeypatch.setattr(batch_on_ray, "_OPEN", {})
    job = {"folder": str(tmp_path / "gone"), "service": "s", "definitions": "d", "graph": "g"}
    with pytest.raises(DataError, match="folder is not there") as caught:
        batch_on_ray._score(job, b"", pl.DataFrame())
    assert "Ray worker on" in caught.value.where


def test_a_cluster_that_does_not_answer_is_named_at_once(home, graph, tmp_path):
    began = time.monotonic()
    done = finish(start(home, graph, tmp_path / "out.parquet", "127.0.0.1:1"))
    assert done.code == TrainingError.exit_code
    assert "Ray does not answer" in done.errors
    assert "ZEROSKEW_RAY" in done.errors
    assert time.monotonic() - began < 60
    assert list(tmp_path.iterdir()) == []
