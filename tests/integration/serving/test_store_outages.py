"""The online store slow, silent, gone and back, with a real Valkey behind a gate."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.request

import numpy as np
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Gate:
    """Forwards TCP to a server, until told to hold everything back or to hang up."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._open = threading.Event()
        self._open.set()
        self.delay = 0.0
        self._pairs: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.port = 0
        self.listen()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self.port, self._listener = listener.getsockname()[1], listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def hold(self) -> None:
        """Connections stay, nothing gets through any more."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def close(self) -> None:
        """Nobody listens, and who is connected is cut off."""
        assert self._listener is not None
        for one in (self._listener, *self._pairs):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = listener.accept()
                there = socket.create_connection(self._target)
                self._pairs += [here, there]
                for ends in ((here, there), (there, here)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                time.sleep(self.delay)
                self._open.wait()
                sink.sendall(data)


@pytest.fixture
def gate(tickets):
    made = Gate(tickets.redis)
    yield made
    made.release()
    made.close()


def timed(call):
    started = time.monotonic()
    try:
        return call(), time.monotonic() - started
    except Exception as error:
        return error, time.monotonic() - started


def until(answered, seconds=10.0):
    """Call until it raises no longer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return answered()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


LOOKUP = {"timeout_milliseconds": 100, "breaker_failures": 3, "breaker_seconds": 0.5}


@pytest.mark.parametrize("outage", ["hold", "close"])
def test_errors_are_fast_and_clear_and_end_with_the_outage(
    gate, serve, version_with, infer, columns, tickets, outage
):
    server = serve(version_with(features=LOOKUP), gate.address)
    row = columns([1], ["c1"], [10])
    expected = tickets.expected(1, "c1", 10)
    np.testing.assert_allclose(infer(server, row).score, [expected], rtol=1e-5)
    getattr(gate, outage)()
    times = []
    for _ in range(12):
        error, seconds = timed(lambda: infer(server, row))
        assert "the online store does not answer" in str(error)
        assert "\n" not in str(error)
        times.append(seconds)
    # The deadline at most three times, then the breaker; half a second later one tries again.
    assert sum(seconds > 0.09 for seconds in times) <= 6
    assert max(times) < 1.0
    gate.release() if outage == "hold" else gate.listen()
    answer = until(lambda: infer(server, row))
    np.testing.assert_allclose(answer.score, [expected], rtol=1e-5)
    assert answer.missing.tolist() == [b""]


@pytest.mark.parametrize("outage", ["hold", "close"])
def test_degraded_answers_say_so_and_end_with_the_outage(
    gate, serve, version_with, infer, columns, tickets, outage
):
    server = serve(version_with(features=LOOKUP | {"on_failure": "degrade"}), gate.address)
    row = columns([1], ["c1"], [10])
    getattr(gate, outage)()
    unknown = tickets.expected(999, "nobody", 10)
    for _ in range(8):
        answer = infer(server, row)
        assert answer.degraded.tolist() == [True]
        assert answer.missing.tolist() == [b"agent_load,agent_solved,seats,product"]
        np.testing.assert_allclose(answer.score, [unknown], rtol=1e-5)
    gate.release() if outage == "hold" else gate.listen()
    deadline = time.monotonic() + 10
    while infer(server, row).degraded[0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    answer = infer(server, row)
    np.testing.assert_allclose(answer.score, [tickets.expected(1, "c1", 10)], rtol=1e-5)


def test_a_server_starts_without_the_store_and_finds_it_later(
    gate, serve, version_with, infer, columns
):
    gate.close()
    server = serve(version_with(features=LOOKUP), gate.address)
    error, _ = timed(lambda: infer(server, columns([1], ["c1"], [10])))
    assert "the online store does not answer" in str(error)
    gate.listen()
    assert until(lambda: infer(server, columns([1], ["c1"], [10]))).missing.tolist() == [b""]


def test_answers_never_cross_after_a_late_reply(gate, serve, version_with, infer, columns, tickets):
    """A reply that comes after its deadline must not become the answer of the next request."""
    server = serve(
        version_with(features=LOOKUP | {"breaker_failures": 1000, "timeout_milliseconds": 40}),
        gate.address,
    )
    answered = 0
    for n in range(120):
        gate.delay = 0.03 if n % 3 == 0 else 0.0
        row = columns([n % 40], [f"c{n}"], [n])
        answer, _ = timed(lambda row=row: infer(server, row))
        if isinstance(answer, Exception):
            assert "the online store does not answer" in str(answer)
        else:
            answered += 1
            np.testing.assert_allclose(
                answer.score, [tickets.expected(n % 40, f"c{n}", n)], rtol=1e-5
            )
    assert 40 <= answered < 120


def test_the_breaker_is_on_the_metrics(gate, serve, version_with, infer, columns):
    server = serve(version_with(features=LOOKUP), gate.address)
    gate.close()
    for _ in range(5):
        timed(lambda: infer(server, columns([1], ["c1"], [10])))
    line = 'zeroskew_breaker_opened_total{model="tickets",version="1"} 1'
    deadline = time.monotonic() + 20
    while True:
        with urllib.request.urlopen(f"http://{server.metrics}/metrics") as page:
            lines = page.read().decode().splitlines()
        if line in lines or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert line in lines
    assert 'zeroskew_requests_total{model="tickets",outcome="failed",version="1"} 5' in lines
