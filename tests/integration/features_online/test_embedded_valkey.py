"""A real Valkey: found again, ended with its parent however that dies, data kept."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from zeroskew.embedded import valkey
from zeroskew.errors import EmbeddedError

pytestmark = pytest.mark.integration


def client(address: str) -> redis.Redis:
    host, _, port = address.rpartition(":")
    return redis.Redis(host=host, port=int(port))


def gone(address: str, seconds: float = 12.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not valkey.answers(address):
            return True
        time.sleep(0.05)
    return False


def processes_over(folder: Path) -> list[str]:
    """Servers whose working folder it is, and tethers that name it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                serves = "valkey" in line and os.readlink(entry / "cwd") == str(folder)
                if serves or ("tether.py" in line and str(folder) in line):
                    found.append(line)
            except OSError:
                continue
    return found


def test_data_outlives_the_server_and_nothing_else_does(tmp_path):
    with valkey.EmbeddedValkey(tmp_path) as first:
        client(first).set("a", "1")
        assert len(processes_over(tmp_path)) == 2  # the server and its tether
    assert gone(first)
    assert processes_over(tmp_path) == []
    with valkey.EmbeddedValkey(tmp_path) as second:
        assert client(second).get("a") == b"1"
        assert second == first  # the port of last time, so that open configurations stay right


def test_only_loopback(tmp_path):
    with valkey.EmbeddedValkey(tmp_path) as address:
        assert client(address).config_get("bind") == {"bind": "127.0.0.1"}
        port = int(address.rpartition(":")[2])
        other = socket.gethostbyname(socket.gethostname())
        if not other.startswith("127."):
            with pytest.raises(OSError):
                socket.create_connection((other, port), timeout=1)


def test_ensure_finds_the_one_that_runs(tmp_path):
    with valkey.EmbeddedValkey(tmp_path) as address:
        assert valkey.ensure(tmp_path) == address
        assert valkey.find(tmp_path).address == address
        with pytest.raises(EmbeddedError, match="already runs"):
            valkey.EmbeddedValkey(tmp_path).start()
    assert valkey.find(tmp_path) is None
    assert not valkey.shut_down(tmp_path)


def test_two_threads_ensure_one_server(tmp_path):
    script = (
        "import sys, threading\n"
        "from zeroskew.embedded import valkey\n"
        "found = []\n"
        "jobs = [threading.Thread(target=lambda: found.append(valkey.ensure(sys.argv[1])))"
        " for _ in range(4)]\n"
        "[j.start() for j in jobs]; [j.join() for j in jobs]\n"
        "print(len(set(found)), len(found), valkey.answers(found[0]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["1", "4", "True"], done.stderr
    assert processes_over(tmp_path) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_dies_with_its_parent(tmp_path, how):
    script = (
        "import sys, time\n"
        "from zeroskew.embedded import valkey\n"
        "print(valkey.ensure(sys.argv[1]), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    address = parent.stdout.readline().strip()
    assert valkey.answers(address)
    client(address).set("kept", "yes")
    parent.send_signal(how)
    parent.wait(timeout=30)
    parent.stdout.close()
    assert gone(address)
    deadline = time.monotonic() + 10
    while processes_over(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_over(tmp_path) == []
    with valkey.EmbeddedValkey(tmp_path) as again:
        assert client(again).get("kept") == b"yes"


def test_it_outlives_the_thread_that_started_it(tmp_path):
    servers = [valkey.EmbeddedValkey(tmp_path)]
    starter = threading.Thread(target=servers[0].start)
    starter.start()
    starter.join()
    time.sleep(0.6)
    assert valkey.answers(servers[0].address)
    servers[0].stop()


def test_a_killed_tether_takes_the_server_with_it(tmp_path):
    server = valkey.EmbeddedValkey(tmp_path)
    address = server.start()
    os.kill(valkey.find(tmp_path).pid, signal.SIGKILL)
    assert gone(address)
    server.stop()
    with valkey.EmbeddedValkey(tmp_path) as again:
        assert valkey.answers(again)


def test_a_detached_one_stays_until_it_is_told(tmp_path):
    script = (
        "import sys; from zeroskew.embedded import valkey\n"
        "print(valkey.ensure(sys.argv[1], detached=True))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    address = done.stdout.strip()
    time.sleep(0.6)
    assert valkey.answers(address), done.stderr
    assert valkey.shut_down(tmp_path)
    assert gone(address)
    assert processes_over(tmp_path) == []


def test_a_server_that_cannot_start_says_why(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError) as caught:
            valkey.EmbeddedValkey(tmp_path, port=port).start()
    assert "in use" in str(caught.value)
    assert "valkey.log" in str(caught.value)
    assert processes_over(tmp_path) == []
    (tmp_path / "valkey.rdb").write_bytes(b"REDIS0011 this is no database")
    with pytest.raises(EmbeddedError, match="ended at once"):
        valkey.EmbeddedValkey(tmp_path).start()
