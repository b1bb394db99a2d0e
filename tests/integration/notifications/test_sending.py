"""Messages to a real HTTP server that receives, refuses, fails, is slow, or is not there."""

import asyncio
import contextlib
import ssl
import subprocess

import aiohttp.web
import pytest

from operators.notifications import Notifier
from operators.notifications.metrics import DROPPED, FAILED, SENT
from operators.notifications.notifier import LABEL, NOTIFIED
from zeroskew.notifications import NotificationSettings

pytestmark = pytest.mark.integration
SECRET_PATH = "/services/T0/B0/secret"


class Events:
    """The API server's part, as far as events go: what was created, marked and is listed."""

    def __init__(self):
        self.stored = {}

    def create(self, notifier, number, type_="Warning", reason="RolledBack"):
        name = f"flight_delay.{number:016x}"
        event = {
            "metadata": {"name": name, "namespace": "team"},
            "involvedObject": {"kind": "ModelRollout", "namespace": "team", "name": "flight_delay"},
            "type": type_, "reason": reason, "message": f"message {number}",
            "lastTimestamp": "2126-11-30T12:00:00Z",
        }  # fmt: skip
        event["metadata"]["labels"] = notifier.label(event)
        self.stored["team", name] = event
        notifier.told(event)
        return event

    async def list(self, kind, namespaces, label=None):
        return [each for each in self.stored.values() if label in each["metadata"]["labels"]]

    async def merge(self, kind, name, namespace, patch):
        metadata = self.stored[namespace, name]["metadata"]
        for field, values in patch["metadata"].items():
            metadata.setdefault(field, {}).update(values)


class Receiver:
    """Answers with the statuses it was given, then with 200; waits while `held`."""

    def __init__(self):
        self.statuses, self.got, self.headers, self.seen = [], [], [], 0
        self.free = asyncio.Event()
        self.free.set()
        self.url = ""

    async def handle(self, request):
        self.seen += 1
        await self.free.wait()
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.got.append(await request.json())
            self.headers.append(dict(request.headers))
        headers = {"Location": self.url} if status == 302 else {}
        return aiohttp.web.Response(status=status, headers=headers)


@contextlib.asynccontextmanager
async def receiving(context=None):
    receiver = Receiver()
    app = aiohttp.web.Application()
    app.router.add_post(SECRET_PATH, receiver.handle)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"{'https' if context else 'http'}://127.0.0.1:{port}{SECRET_PATH}"
    try:
        yield receiver
    finally:
        receiver.free.set()
        await runner.cleanup()


@contextlib.asynccontextmanager
async def telling(events, *destinations):
    chosen = [{"allow_http": True} | each for each in destinations]
    notifier = Notifier(events, NotificationSettings.model_validate({"destinations": chosen}))
    await notifier.begin(())
    try:
        yield notifier
    finally:
        await notifier.end()


async def until(what, seconds=60):
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.01)


def counted(metric, *labels):
    return metric.labels(*labels)._value.get()


@pytest.fixture
def quick(monkeypatch):
    """Pauses between attempts, a hundredth of what they are."""
    from zeroskew.notifications import delivery

    monkeypatch.setattr(delivery, "FIRST_SECONDS", 0.01)


def test_a_message_arrives_once_after_errors(quick, monkeypatch):
    async def story():
        events = Events()
        async with receiving() as receiver:
            monkeypatch.setenv("HOOK", receiver.url)
            monkeypatch.setenv("TOKEN", "hush")
            receiver.statuses = [500, 429, 503]
            hook = {"name": "after", "url_from": {"env": "HOOK"}, "token_from": {"env": "TOKEN"}}
            async with telling(events, hook) as notifier:
                event = events.create(notifier, 1)
                notifier.told(event)
                events.create(notifier, 2, type_="Normal")
                await until(lambda: event["metadata"]["labels"] == {LABEL: "done"})
            assert [each["message"] for each in receiver.got] == ["message 1"]
            assert receiver.headers[0]["Authorization"] == "Bearer hush"
            assert receiver.headers[0]["Idempotency-Key"] == receiver.got[0]["id"]
            assert event["metadata"]["annotations"] == {NOTIFIED: "after"}
            assert counted(SENT, "after") == 1

    asyncio.run(story())


@pytest.mark.parametrize(("status", "attempts"), [(400, 1), (302, 1), (500, 3)])
def test_what_is_refused_is_given_up_and_counted(quick, caplog, status, attempts):
    async def story():
        events, name = Events(), f"refused-{status}"
        async with receiving() as receiver:
            receiver.statuses = [status] * 9
            hook = {"name": name, "url": receiver.url, "attempts": 3}
            async with telling(events, hook) as notifier:
                event = events.create(notifier, 1)
                await until(lambda: event["metadata"]["labels"] == {LABEL: "done"})
            assert receiver.seen == attempts
            assert counted(FAILED, name, str(status)) == 1

    asyncio.run(story())
    assert SECRET_PATH not in caplog.text, "an address may be a secret"


def test_a_slow_receiver_holds_up_nobody_else_and_what_is_too_much_is_dropped(quick):
    async def story():
        events = Events()
        async with receiving() as slow, receiving() as fast:
            slow.free.clear()
            both = (
                {"name": "slow", "url": slow.url, "queue": 3, "timeout_seconds": 60},
                {"name": "fast", "url": fast.url, "type": "slack"},
            )
            async with telling(events, *both) as notifier:
                made = [events.create(notifier, number) for number in range(1)]
                await until(lambda: slow.seen == 1)
                # Told from the operator's own loop: it returns at once, whoever is slow.
                made += [events.create(notifier, number) for number in range(1, 20)]
                await until(lambda: len(fast.got) == 20)
                assert counted(DROPPED, "slow") == 16
                slow.free.set()
                await until(lambda: len(slow.got) == 4)
            assert all(set(each) == {"text"} for each in fast.got)
            waiting = [each for each in made if each["metadata"]["labels"][LABEL] == "pending"]
            # Those that were dropped wait for the next operator.
            assert len(waiting) == 16

    asyncio.run(story())


def test_the_next_operator_tells_what_the_one_before_could_not(quick):
    async def story():
        events = Events()
        async with receiving() as down, receiving() as up:
            down.free.clear()
            both = ({"name": "down", "url": down.url}, {"name": "up", "url": up.url})
            async with telling(events, *both) as notifier:
                events.create(notifier, 1)
                await until(lambda: len(up.got) == 1 and down.seen == 1)
                await until(lambda: events.stored["team", f"flight_delay.{1:016x}"]["metadata"].get(
                    "annotations") == {NOTIFIED: "up"})  # fmt: skip
            down.free.set()
            before = len(down.got)
            for _ in range(2):
                async with telling(events, *both):
                    await until(lambda: all(
                        each["metadata"]["labels"] == {LABEL: "done"}
                        for each in events.stored.values()
                    ))  # fmt: skip
            # It may have taken the one that was cut off, too; the id tells.
            assert len({each["id"] for each in down.got}) == 1
            assert len(down.got) == before + 1
            assert len(up.got) == 1

    asyncio.run(story())


def test_nobody_there_and_a_missing_secret_are_counted(quick, tmp_path):
    async def story():
        events = Events()
        lost = {"name": "lost", "url": "http://127.0.0.1:9/x", "attempts": 2}
        mute = {"name": "mute", "url_from": {"file": str(tmp_path / "none")}}
        async with telling(events, lost, mute) as notifier:
            event = events.create(notifier, 1)
            await until(lambda: event["metadata"]["labels"] == {LABEL: "done"})
        assert counted(FAILED, "lost", "unreachable") == 1
        assert counted(FAILED, "mute", "ConfigError") == 1

    asyncio.run(story())


def test_tls_is_checked(quick, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def story():
        events = Events()
        async with receiving(context) as receiver:
            known = {"name": "known", "url": receiver.url, "ca_file": str(certificate)}
            unknown = {"name": "unknown", "url": receiver.url, "attempts": 1}
            async with telling(events, known, unknown) as notifier:
                event = events.create(notifier, 1)
                await until(lambda: event["metadata"]["labels"] == {LABEL: "done"})
            assert len(receiver.got) == 1
            assert counted(SENT, "known") == 1
            assert counted(FAILED, "unknown", "unreachable") == 1

    asyncio.run(story())
