"""`zeroskew rollout …` against a real API server; where it takes an operator, with one."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest
from api_server import Cluster
from command_line import as_json, start, user, zeroskew
from our_kinds import install

from zeroskew.cluster.access import MODEL_ROLLOUT, connect
from zeroskew.rollout.manifests import to_yaml

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
APPROVAL = ({"set_weight": 10}, {"pause": {}}, {"set_weight": 50}, {"pause": {"duration": "2s"}})


@pytest.fixture(scope="module")
def crds(cluster):
    """The session's API server, with our kinds and roles."""
    install(cluster)
    cluster.kubectl("apply", "-f", ROOT / "manifests/base/user-roles.yaml")
    return cluster


def rollout(namespace, version="2", **changes):
    return {
        "apiVersion": "zeroskew.dev/v1alpha1", "kind": "ModelRollout",
        "metadata": {"name": "flight-delay", "namespace": namespace},
        "spec": {
            "modelRef": {"name": "flight_delay", "version": version},
            "template": {
                "inferenceService": {"predictor": {"model": {"image": "a"}}},
                "servingRuntime": {"containers": [{"name": "kserve-container"}]},
            },
            "service": {"gatewayRefs": [{"name": "ml"}]},
            **changes,
        },
    }  # fmt: skip


def put(cluster, namespace, status, **changes):
    """A rollout whose status is this one."""
    manifest = to_yaml([rollout(namespace, **changes)])
    cluster.kubectl("apply", "-f", "-", input=manifest)
    set_status(cluster, namespace, status)


def set_status(cluster, namespace, status):
    body = {"status": {"observedGeneration": 1} | status}
    cluster.kubectl(
        "patch", "modelrollout", "flight-delay", "-n", namespace, "--subresource=status",
        "--type=merge", "-p", json.dumps(body),
    )  # fmt: skip


def running(**changes):
    return {
        "version": "2", "attempt": 2, "digest": "x", "template": "y", "generation": 1,
        "stepSince": "2026-11-01T00:00:00Z", "step": 0, "begun": True, "promoting": False,
        "knownGood": False, "weight": 0, "mirror": 0, "blockedOn": "", "fallback": False,
        "oldApproval": False, "tally": {
            "message": "", "pairs": 0, "failed": 0, "inconclusiveInARow": 0, "errorsInARow": 0,
            "metrics": [],
        },
    } | changes  # fmt: skip


def annotations(cluster, namespace):
    found = cluster.get("modelrollout", "flight-delay", "-n", namespace)
    return found["metadata"].get("annotations", {})


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_approval_to_abort_and_back_with_a_real_operator(stage, tmp_path):
    from operator_stage import apply, manifest, register

    namespace, config = stage.namespace(), stage.cluster.kubeconfig
    register(stage.registry, tmp_path, "command_line")
    mine = {"model": "command_line", "steps": APPROVAL}
    name, at = "command-line", ("-n", namespace)
    stage.serve(namespace, 1, **mine)
    apply(stage.cluster, manifest(namespace, 2, **mine))

    def phase(wanted):
        return stage.wait(namespace, lambda s: s.get("phase") == wanted, name=name)

    phase("WaitingApproval")
    seen = as_json(config, "rollout", "status", name, *at)
    assert [each["state"] for each in seen["steps"]] == ["done", "current", "ahead", "ahead"]
    shares = {each["version"]: (each["role"], each["weight"]) for each in seen["versions"]}
    assert shares == {"1": ("stable", 90), "2": ("challenger", 10)}
    assert {each["reason"] for each in seen["events"]} >= {"RolloutStarted", "StepDone"}
    text = zeroskew(config, "rollout", "status", name, *at)
    assert "WaitingApproval" in text
    assert "approval" in text

    said = zeroskew(config, "rollout", "approve", name, "--version", "3", *at, code=1)
    assert "version 3 does not wait for an approval" in said
    assert "retried" not in said

    zeroskew(config, "rollout", "pause", name, *at)
    phase("Paused")
    assert "paused already" in zeroskew(config, "rollout", "pause", name, *at, code=1)
    refused = zeroskew(config, "rollout", "approve", name, *at, code=1)
    assert "does not wait" in refused
    assert "Paused" in refused
    zeroskew(config, "rollout", "resume", name, *at)
    phase("WaitingApproval")

    asked = as_json(config, "rollout", "abort", name, *at)
    assert (asked["annotation"], asked["value"]) == ("zeroskew.dev/abort", "2.2")
    lines = zeroskew(config, "rollout", "watch", name, *at, "--timeout", "2m", code=3)
    assert "RolledBack" in lines
    assert "no version is under trial" in zeroskew(config, "rollout", "abort", name, *at, code=1)

    zeroskew(config, "rollout", "retry", name, *at)
    phase("WaitingApproval")
    assert "not taken off" in zeroskew(config, "rollout", "retry", name, *at, code=1)
    asked = as_json(config, "rollout", "approve", name, "--version", "2", *at)
    assert asked["value"] == "2.3", "this attempt, and none that comes"
    lines = zeroskew(config, "rollout", "watch", name, *at, "--timeout", "2m")
    assert lines.splitlines()[-1].startswith("Succeeded")


def test_what_is_missing_is_named_with_a_hint(crds, namespace, tmp_path):
    config = crds.kubeconfig
    put(crds, namespace, {"phase": "Succeeded"})
    said = zeroskew(config, "rollout", "status", "flight", "-n", namespace, code=1)
    assert "there are flight-delay" in said
    said = zeroskew(config, "rollout", "status", "x", "-n", "nowhere", code=1)
    assert "no namespace nowhere" in said
    said = zeroskew(config, "rollout", "status", "x", "--context", "other", code=2)
    assert "it has test" in said
    said = zeroskew(tmp_path / "none", "rollout", "status", "x", code=2)
    assert "--kubeconfig" in said


def test_a_right_that_is_missing_is_named_with_the_role_that_has_it(crds, namespace, tmp_path):
    put(crds, namespace, {"phase": "RolledBack", "rejected": {
        "version": "2", "digest": "x", "generation": 1, "reason": "Aborted", "message": "aborted",
        "at": "2026-11-01T00:00:00Z",
    }})  # fmt: skip
    reader = user(crds, namespace, "reader", tmp_path, "zeroskew-view")
    nobody = user(crds, namespace, "nobody", tmp_path)
    at = ("flight-delay", "-n", namespace)
    seen = as_json(reader, "rollout", "status", *at)
    assert seen["status"]["phase"] == "RolledBack"
    assert any(each.startswith("events: ") for each in seen["unseen"]), "may not be read by him"
    said = zeroskew(reader, "rollout", "retry", *at, code=1)
    assert "zeroskew-edit" in said
    assert "zeroskew-view" in zeroskew(nobody, "rollout", "status", *at, code=1)
    editor = user(crds, namespace, "editor", tmp_path, "zeroskew-edit")
    zeroskew(editor, "rollout", "retry", *at)
    assert annotations(crds, namespace)["zeroskew.dev/retry"]


def test_a_cluster_without_our_kinds_or_without_a_server_is_said_so(cluster_parts, tmp_path):
    kubectl, _ = cluster_parts
    with Cluster(kubectl, tmp_path) as empty:
        said = zeroskew(empty.kubeconfig, "rollout", "status", "x", code=1)
        assert "does not know the kind ModelRollout" in said
        empty.kill_server()
        said = zeroskew(empty.kubeconfig, "rollout", "status", "x", code=1)
        assert "cannot be reached" in said
        assert empty.server in said


def test_nothing_is_written_over_what_somebody_else_has_just_changed(crds, namespace):
    put(crds, namespace, {"phase": "Progressing"})
    seen = []

    def decide(found):
        seen.append(found["metadata"].get("annotations", {}).get("turn"))
        if len(seen) < 4:
            crds.kubectl("annotate", "--overwrite", "modelrollout", "flight-delay", "-n", namespace,
                         f"turn={len(seen)}")  # fmt: skip
        return {"zeroskew.dev/pause": seen[-1]}

    connect(kubeconfig=crds.kubeconfig).annotate(MODEL_ROLLOUT, namespace, "flight-delay", decide)
    assert seen == [None, "1", "2", "3"]
    assert annotations(crds, namespace)["zeroskew.dev/pause"] == "3"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_watching_goes_on_after_the_api_server_was_away(cluster_parts, tmp_path):
    kubectl, _ = cluster_parts
    (tmp_path / "cluster").mkdir()
    with Cluster(kubectl, tmp_path / "cluster") as here:
        install(here)
        put(here, "default", {"phase": "Progressing", "message": "step 1", "stable": "1",
                              "run": running()})  # fmt: skip
        watching = start(
            here.kubeconfig, "rollout", "watch", "flight-delay", "--timeout", "4m",
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert watching.stdout.readline() == "Progressing: step 1\n"
            here.kill_server()
            assert "out of date" in watching.stdout.readline()
            here.start_server()
            set_status(here, "default", {"phase": "Succeeded", "message": "all requests",
                                         "stable": "2", "run": None})  # fmt: skip
            rest = watching.communicate(timeout=120)[0]
            assert rest.splitlines()[-1] == "Succeeded: all requests"
            assert watching.returncode == 0
        finally:
            watching.kill()


def test_a_live_view_is_drawn_on_a_terminal_and_left_cleanly(crds, namespace):
    put(crds, namespace, {"phase": "Shadowing", "message": "mirror 100 %", "stable": "1",
                          "run": running(mirror=100, step=1, tally=running()["tally"] | {
        "outcome": "Inconclusive", "pairs": 300, "metrics": [
            {"name": "disagreement", "outcome": "Inconclusive", "value": 0.021, "low": 0.015,
             "high": 0.029, "most": 0.05, "slice": "", "dryRun": False}]})})  # fmt: skip
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    watching = start(
        crds.kubeconfig, "rollout", "watch", "flight-delay", "-n", namespace,
        stdin=subprocess.DEVNULL, stdout=slave, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    try:
        screen = _until(master, "0.021 [0.015, 0.029]", "analysis\u00a0for\u00a010m", "Shadowing")
        assert "▶" in screen
        watching.send_signal(signal.SIGINT)
        end = _until(master, "\x1b[?25h")
        assert watching.wait(60) == 130
        assert "Traceback" not in end
    finally:
        watching.kill()
        os.close(master)
    assert "zeroskew.dev/abort" not in annotations(crds, namespace)


def _until(terminal, *texts, seconds=120):
    """What was written, up to the moment when all of the texts were."""
    seen, deadline = "", time.monotonic() + seconds
    while not all(text in seen for text in texts):
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                seen += os.read(terminal, 65536).decode("utf-8", "replace")
            except OSError:
                break
    assert all(text in seen for text in texts), seen
    return seen


def test_deletion_ends_watching(crds, namespace):
    put(crds, namespace, {"phase": "Progressing", "message": "step 1", "stable": "1",
                          "run": running()})  # fmt: skip
    watching = start(crds.kubeconfig, "rollout", "watch", "flight-delay", "-n", namespace,
                     stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert watching.stdout.readline() == "Progressing: step 1\n"
        crds.kubectl("delete", "modelrollout", "flight-delay", "-n", namespace)
        assert "deleted" in watching.communicate(timeout=60)[0]
        assert watching.returncode == 1
    finally:
        watching.kill()


def test_a_timeout_is_an_exit_code_of_its_own(crds, namespace):
    put(crds, namespace, {"phase": "Succeeded", "stable": "2", "message": "all is well"})
    at = ("flight-delay", "-n", namespace)
    assert "all is well" in zeroskew(crds.kubeconfig, "rollout", "watch", *at)
    zeroskew(crds.kubeconfig, "rollout", "watch", *at, "--version", "3", "--timeout", "3s", code=4)
