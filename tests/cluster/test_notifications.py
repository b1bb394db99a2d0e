"""Events on a real API server, with the operator's own rights: told once, and remembered there."""

import asyncio
import contextlib
import os

import aiohttp.web
import pytest
from api_server import OPERATOR_TOKEN, Cluster
from lightkube import AsyncClient, KubeConfig
from operator_stage import apply, manifest, prepare

from operators.cluster_client import MODEL_ROLLOUT, ClusterClient
from operators.notifications import Notifier
from operators.notifications.notifier import LABEL, NOTIFIED
from operators.object_cache import ObjectCache
from operators.object_writer import ObjectWriter
from zeroskew.notifications import NotificationSettings

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster_and_config(cluster_parts, tmp_path_factory):
    kubectl, crds = cluster_parts
    folder = tmp_path_factory.mktemp("notifications")
    with Cluster(kubectl, folder) as cluster:
        prepare(cluster, crds)
        cluster.kubectl("create", "namespace", "team")
        apply(cluster, manifest("team", 1))
        config = folder / "operator.kubeconfig"
        cluster.write_kubeconfig(config, OPERATOR_TOKEN)
        yield cluster, config


class Receiver:
    def __init__(self):
        self.got, self.well = [], True

    async def handle(self, request):
        if not self.well:
            # As a server does that is killed: the connection ends without an answer.
            request.transport.abort()
        self.got.append(await request.json())
        return aiohttp.web.Response()


@contextlib.asynccontextmanager
async def receiving():
    receiver, app = Receiver(), aiohttp.web.Application()
    app.router.add_post("/", receiver.handle)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def connected(config):
    connection = AsyncClient(config=KubeConfig.from_file(config), field_manager="zeroskew")
    client = ClusterClient(connection)
    try:
        yield client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def operator(client, url):
    """What of an operator writes events and tells of them; it knows nothing of one before it."""
    chosen = {"name": "hook", "url": url, "allow_http": True, "reasons": ["RolledBack"]}
    settings = NotificationSettings.model_validate({"destinations": [chosen]})
    notifier = Notifier(client, settings)
    await notifier.begin(())
    cache = ObjectCache(lambda key: None, lambda key: None, lambda key: None)
    try:
        yield ObjectWriter(client, cache, MODEL_ROLLOUT, notifier)
    finally:
        await notifier.end()


def test_an_event_is_told_once_whoever_ends_in_between(cluster_and_config):
    cluster, config = cluster_and_config
    (body,) = cluster.get("modelrollouts", "-n", "team")["items"]
    key = ("team", body["metadata"]["name"])
    since = os.urandom(4).hex()

    def events():
        return {
            each["reason"]: each["metadata"]
            for each in cluster.get("events", "-n", "team")["items"]
        }

    async def story():
        async with receiving() as receiver, connected(config) as client:
            receiver.well = False
            async with operator(client, receiver.url) as writer:
                await writer.event(key, body, since, "Normal", "Promoted", "nobody is told")
                for _ in range(2):
                    await writer.event(key, body, since, "Warning", "RolledBack", "p99")
                found = await asyncio.to_thread(events)
                assert LABEL not in (found["Promoted"].get("labels") or {})
                assert found["RolledBack"]["labels"] == {LABEL: "pending"}
            receiver.got.clear()
            receiver.well = True
            for _ in range(2):
                async with operator(client, receiver.url) as writer:
                    # The turn that was cut off says it again.
                    await writer.event(key, body, since, "Warning", "RolledBack", "p99")
                    done = {LABEL: "done"}
                    async with asyncio.timeout(60):
                        while (await asyncio.to_thread(events))["RolledBack"]["labels"] != done:
                            await asyncio.sleep(0.2)
            assert [each["message"] for each in receiver.got] == ["p99"]
            assert receiver.got[0]["kind"] == "ModelRollout"
            found = await asyncio.to_thread(events)
            assert found["RolledBack"]["annotations"] == {NOTIFIED: "hook"}

    asyncio.run(story())
