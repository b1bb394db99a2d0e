"""The same reads and writes against a server in cluster mode."""

from __future__ import annotations

import socket

import pyarrow as pa
import pytest
import redis

from zeroskew.embedded.process import ChildProcess
from zeroskew.embedded.valkey import answers, server_binary
from zeroskew.errors import OnlineStoreUnavailable
from zeroskew.features import redis_layout as layout
from zeroskew.features.online_reader import MISSING, PRESENT, OnlineReader, connect
from zeroskew.features.online_writer import OnlineWriter, ViewLayout
from zeroskew.features.read_plan import PlanFeature, PlanGroup, PlanKey, PlanView, ReadPlan

pytestmark = pytest.mark.integration


@pytest.fixture
def cluster(tmp_path):
    """One node that serves all slots: commands go the cluster's way all the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bus = port + 10_000 if port < 55_000 else port - 10_000
    command = [
        server_binary(), "--bind", "127.0.0.1", "--port", port, "--cluster-enabled", "yes",
        "--cluster-port", bus, "--dir", tmp_path, "--save", "", "--loglevel", "warning",
    ]  # fmt: skip
    with ChildProcess(command, log=tmp_path / "log", name="cluster") as child:
        address = f"127.0.0.1:{port}"
        child.wait_until(lambda: answers(address), seconds=20)
        node = redis.Redis(port=port)
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        child.wait_until(
            lambda: "cluster_state:ok" in str(node.execute_command("CLUSTER", "INFO")), seconds=20
        )
        yield address, child


def test_written_and_read_through_the_cluster_client(cluster):
    address, child = cluster
    client = connect(address, redis_type="redis_cluster")
    assert isinstance(client, redis.RedisCluster)
    view = ViewLayout("p", "v", {"id": "int64"}, {"a": "int64"})
    table = pa.table(
        {
            "id": pa.array(range(300), pa.int64()),
            "a": pa.array(range(300), pa.int64()),
            "ts": pa.array([10] * 300, pa.timestamp("us", "UTC")),
        }
    )
    writer = OnlineWriter(client)
    assert writer.write(view, table, event_time="ts").written == 300
    assert writer.write(view, table, event_time="ts").kept == 300
    plan = ReadPlan(
        "p",
        "s",
        "",
        (
            PlanGroup(
                (PlanKey("id", "id", "int64"),),
                (PlanView("v", layout.event_time_field("v"), 0),),
                (PlanFeature("a", layout.feature_field("v", "a"), "int64", 0),),
            ),
        ),
        ("a",),
    )
    reader = OnlineReader(client, plan)
    rows = reader.read({"id": [5, 299, 300, 5]})
    assert rows.to_dict() == {"a": [5, 299, None, 5]}
    assert rows.status["a"].tolist() == [PRESENT, PRESENT, MISSING, PRESENT]
    child.stop()
    with pytest.raises(OnlineStoreUnavailable):
        reader.read({"id": [5]})
    with pytest.raises(OnlineStoreUnavailable):
        writer.write(view, table, event_time="ts")
