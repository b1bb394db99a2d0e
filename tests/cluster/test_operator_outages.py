"""What the operator stands on goes away, or others write to the same objects: it recovers."""

from __future__ import annotations

import threading
import time

import pytest
from operator_stage import apply, manifest, register
from wire import Wire

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]
STEPS = (
    {"set_weight": 5},
    {"pause": {"duration": "4s"}},
    {"set_weight": 50},
    {"pause": {"duration": "4s"}},
)


def test_the_api_server_is_killed_and_comes_back(stage, tmp_path):
    """Every watch is cut with it; etcd and the addresses stay."""
    register(stage.registry, tmp_path, "outage")
    space = stage.namespace()
    stage.serve(space, 1, model="outage")
    apply(stage.cluster, manifest(space, 2, "outage", STEPS))
    stage.wait(space, lambda s: s.get("run", {}).get("weight") == 5, name="outage")
    stage.cluster.kill_server()
    time.sleep(10)
    stage.cluster.start_server()
    began = time.monotonic()
    stage.wait(space, lambda s: s.get("stable") == "2", seconds=90, name="outage")
    assert time.monotonic() - began < 90
    assert stage.operator.running
    weights = [route.weights.get("outage-2", 0) for route in stage.routes(space, "outage")]
    assert weights == sorted(weights)


@pytest.fixture
def wire(stage):
    """Between the operator and the API server."""
    with Wire(int(stage.cluster.server.rpartition(":")[2])) as wire:
        stage.operator.kill()
        stage.operator.reach(f"https://127.0.0.1:{wire.port}")
        stage.operator.start()
        stage.operator.wait_healthy()
        yield wire
        stage.operator.kill()
        stage.operator.reach(None)
        stage.operator.start()
        stage.operator.wait_healthy()


def test_connections_that_are_cut_or_go_silent_are_made_anew(stage, tmp_path, wire):
    """A silent one is the worse: no watch is told that it has ended."""
    register(stage.registry, tmp_path, "wired", versions=3)
    space = stage.namespace()
    stage.serve(space, 1, model="wired")
    assert wire.cut() >= 4, "a watch for each kind"
    began = time.monotonic()
    apply(stage.cluster, manifest(space, 2, "wired", STEPS[:1]))
    stage.wait(space, lambda s: s.get("stable") == "2", name="wired")
    assert time.monotonic() - began < 90
    wire.silence(True)
    apply(stage.cluster, manifest(space, 3, "wired", STEPS[:1]))
    time.sleep(10)
    assert stage.status(space, "wired").get("run") is None, "it cannot know"
    wire.silence(False)
    began = time.monotonic()
    stage.wait(space, lambda s: s.get("stable") == "3", name="wired")
    assert time.monotonic() - began < 90
    weights = [route.weights.get("wired-3", 0) for route in stage.routes(space, "wired")]
    assert weights == sorted(weights)


def test_somebody_who_keeps_writing_to_the_object_does_not_stop_it(stage, tmp_path):
    register(stage.registry, tmp_path, "rival")
    space = stage.namespace()
    stage.serve(space, 1, model="rival")
    stop = threading.Event()
    written = []

    def write():
        while not stop.is_set():
            stage.annotate(space, f"someone.example/at={len(written)}", "rival")
            written.append(1)

    rivals = [threading.Thread(target=write) for _ in range(2)]
    for rival in rivals:
        rival.start()
    try:
        began = time.monotonic()
        apply(stage.cluster, manifest(space, 2, "rival", STEPS))
        stage.wait(space, lambda s: s.get("stable") == "2", seconds=90, name="rival")
    finally:
        stop.set()
        for rival in rivals:
            rival.join()
    assert len(written) > 20
    assert time.monotonic() - began < 90


def test_a_registry_that_is_away_freezes_and_does_not_roll_back(stage, tmp_path):
    """MLflow is stopped for a while, as a whole group of processes."""
    import os
    import signal

    register(stage.registry, tmp_path, "frozen")
    space = stage.namespace()
    stage.serve(space, 1, model="frozen")
    os.killpg(stage.mlflow_pid, signal.SIGSTOP)
    try:
        apply(stage.cluster, manifest(space, 2, "frozen", STEPS))
        time.sleep(8)
        assert stage.status(space, "frozen")["stable"] == "1"
    finally:
        os.killpg(stage.mlflow_pid, signal.SIGCONT)
    stage.wait(space, lambda s: s.get("stable") == "2", seconds=90, name="frozen")
