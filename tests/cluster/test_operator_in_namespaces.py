"""An operator for some namespaces, with the rights of its component and no more: it sees at once,
and asks for nothing that it may not have."""

import time
import urllib.request
from pathlib import Path

import pytest
from api_server import Cluster
from operator_process import OperatorProcess
from operator_stage import apply, manifest, prepare

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
PROBES = 12


@pytest.fixture(scope="module")
def operator(cluster_parts, tmp_path_factory):
    """Of the namespace `team`, not of `other`; it lists once, and then watches alone tell it."""
    kubectl, crds = cluster_parts
    folder = tmp_path_factory.mktemp("namespaced")
    (folder / "operator").mkdir()
    with Cluster(kubectl, folder) as cluster:
        prepare(cluster, crds)
        cluster.kubectl("delete", "clusterrolebinding", "zeroskew-operator")
        for name in ("team", "other"):
            cluster.kubectl("create", "namespace", name)
        binding = ROOT / "manifests/components/operator-binding/role-binding.yaml"
        cluster.kubectl("apply", "-n", "team", "-f", binding)
        running = OperatorProcess(
            cluster, "http://127.0.0.1:9", folder / "operator",
            ZEROSKEW_NAMESPACES="team", ZEROSKEW_OPERATOR_RELIST_SECONDS="100000",
        )  # fmt: skip
        running.start()
        try:
            running.wait_healthy(180)
            running.cluster = cluster
            yield running
        finally:
            running.kill()


def lines(operator):
    return operator.log.read_text().splitlines()


def listed(operator):
    return operator.measured().get('zeroskew_operator_relists_total{outcome="done"}', 0)


def until(what, operator, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, operator.tail()
        time.sleep(0.2)
    return found


def test_a_rollout_is_seen_by_a_watch_and_nothing_is_asked_in_vain(operator):
    until(lambda: listed(operator), operator)
    apply(operator.cluster, manifest("team", 1), manifest("other", 1))

    def answered(space):
        found = operator.cluster.get("modelrollouts", "-n", space)["items"]
        return [each for each in found if each.get("status")]

    until(lambda: answered("team"), operator)
    # It lists once in a day here: what it saw, a watch told.
    assert listed(operator) == 1
    assert not answered("other")
    refused = [line for line in lines(operator) if "orbidden" in line or "403" in line]
    assert not refused, refused[:3]


def test_probes_leave_the_log_alone(operator):
    until(lambda: listed(operator), operator)
    before = len(lines(operator))
    for _ in range(PROBES):
        with urllib.request.urlopen(operator.health, timeout=30) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(operator.metrics, timeout=30) as answer:
            assert answer.status == 200
    # What it does by itself meanwhile may be told, but no line for each probe.
    assert len(lines(operator)) - before < PROBES
