"""Ten thousand requests of a hostile client: no crash, no leak, no other's answer.

Every few hundred, a good request must still get its own score; the server's processes must be the
same ones at the end, and no larger than after the first third. Shapes claim a million rows at most:
Triton 2.51 allocates what the shape of a JSON tensor claims before it looks at the data, and a
claim of terabytes ends the process inside its HTTP parser (README says so).
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.integration

REQUESTS = 12_000
KINDS = ["INT64", "INT32", "FP32", "FP64", "BYTES", "BOOL", "UINT8", "FP16", "nonsense", "", 7]
NAMES = ["agent", "customer", "words", "event_timestamp", "score", "", "x" * 300, "\u0000", None]
VALUES = [
    0, -1, 2**31, 2**63 - 1, -(2**63), 2**64, 1.5, 1e308, -1e308, True, None, "", "c1", "c299",
    "x" * 5_000, "\ud83d\ude00", "\u0000", [], [[1]], {}, "NaN", 1e999,
]  # fmt: skip


def tensor(dice: random.Random) -> dict:
    rows = dice.choice([0, 1, 1, 1, 2, 3, 300])
    return {
        "name": dice.choice(NAMES),
        "shape": dice.choice([[rows, 1], [rows], [1, rows], [-1, 1], [2**20, 1], [], "1", None]),
        "datatype": dice.choice(KINDS),
        "data": [dice.choice(VALUES) for _ in range(min(rows, 5))],
    }


def good(dice: random.Random) -> dict:
    return {
        "inputs": [
            {"name": "agent", "shape": [1, 1], "datatype": "INT64", "data": [dice.randrange(40)]},
            {"name": "customer", "shape": [1, 1], "datatype": "BYTES",
             "data": [f"c{dice.randrange(300)}"]},
            {"name": "words", "shape": [1, 1], "datatype": "INT64", "data": [dice.randrange(500)]},
        ]
    }  # fmt: skip


def hostile(dice: random.Random) -> tuple[bytes, bytes]:
    """Extra headers and a body."""
    kind = dice.randrange(8)
    if kind == 0:
        return b"", dice.randbytes(dice.randrange(400))
    if kind == 1:
        return b"", json.dumps(
            {"inputs": [tensor(dice) for _ in range(dice.randrange(6))]}
        ).encode()
    whole = good(dice)
    if kind == 2:  # one input spoilt
        dice.choice(whole["inputs"]).update(
            dice.choice(list({k: v} for k, v in tensor(dice).items()))
        )
    elif kind == 3:  # one more, one less, or one twice
        inputs = whole["inputs"]
        dice.choice([lambda: inputs.append(tensor(dice)), inputs.pop,
                     lambda: inputs.append(inputs[0])])()  # fmt: skip
    elif kind == 4:
        whole["outputs"] = [{"name": dice.choice(NAMES)} for _ in range(dice.randrange(1, 4))]
    elif kind == 5:
        whole["id"] = dice.choice(VALUES)
        whole["parameters"] = dice.choice([{"x-request-id": dice.choice(VALUES)}, 3, None, {}])
    elif kind == 6:  # binary tensors whose sizes lie
        header = json.dumps(
            {"inputs": [{"name": "customer", "shape": [dice.choice([1, 2, 50]), 1],
                         "datatype": "BYTES",
                         "parameters": {"binary_data_size": dice.choice([0, 4, 8, 9, 100, 2**40])}},
                        *[i for i in whole["inputs"] if i["name"] != "customer"]]}
        ).encode()  # fmt: skip
        length = dice.choice([0, 1, 4, 7, 2**31, 2**32 - 1])
        tail = struct.pack("<I", length) + dice.randbytes(dice.randrange(12))
        return b"Inference-Header-Content-Length: %d\r\n" % len(header), header + tail
    else:
        header = dice.choice(["traceparent", "x-zeroskew-role", "X-Request-Id"])
        value = "".join(
            dice.choice("0123456789abcdef-\t\"'{}\\") for _ in range(dice.randrange(90))
        )
        return f"{header}: {value}\r\n".encode(), json.dumps(whole).encode()
    return b"", json.dumps(whole).encode()


class Client:
    """Keeps a connection for as long as the server does."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    def post(self, headers: bytes, body: bytes) -> tuple[int, bytes]:
        """Status and body; 0 if the server hung up instead of answering."""
        if self._socket is None:
            host, _, port = self._address.rpartition(":")
            self._socket = socket.create_connection((host, int(port)), timeout=20)
        message = (
            f"POST /v2/models/tickets/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        ).encode() + headers
        try:
            self._socket.sendall(message + b"\r\n" + body)
            return self._read()
        except (ConnectionError, ValueError):
            self.close()
            return 0, b""

    def _read(self) -> tuple[int, bytes]:
        assert self._socket is not None
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._some()
        head, _, rest = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(rest) < int(fields[b"content-length"]):
            rest += self._some()
        return int(head[9:12]), rest

    def _some(self) -> bytes:
        assert self._socket is not None
        if not (data := self._socket.recv(1 << 16)):
            raise ConnectionError
        return data

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def family(pid: int) -> dict[int, int]:
    """Resident KiB of all processes below `pid`."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True
    ).stdout
    rows = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent, _ in rows if parent in found} - found
        found |= more
        grown = bool(more)
    # The log's shipper is short of nothing and starts Arrow threads as it needs them.
    return {child: rss for child, _, rss in rows if child in found and not _ships(child)}


def _ships(pid: int) -> bool:
    try:
        return b"log_shipper" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def test_ten_thousand_hostile_requests(serve, tickets, infer, columns):
    dice = random.Random(int(os.environ.get("ZEROSKEW_FUZZ_SEED", "20")))
    server = serve()
    client = Client(server.http)
    statuses: dict[int, int] = {}
    sizes: dict[int, int] = {}
    processes: set[int] = set()
    for number in range(REQUESTS):
        status, body = client.post(*hostile(dice))
        statuses[status] = statuses.get(status, 0) + 1
        assert status in (0, 200, 400, 404, 413, 500, 503), body
        if status >= 400:
            assert b"Traceback" not in body
            assert b"internal error" not in body, body
        if number % 400 == 0:
            row = number % 40, f"c{number % 300}", number % 90
            answer = infer(server, columns(*([value] for value in row)))
            np.testing.assert_allclose(answer.score, [tickets.expected(*row)], rtol=1e-5)
        if number == REQUESTS // 3:
            sizes = family(server.pid)
            processes = set(sizes)
    client.close()
    after = family(server.pid)
    assert set(after) == processes
    assert statuses[200] > REQUESTS / 20
    assert sum(statuses.values()) - statuses[200] > REQUESTS / 2
    assert sum(after.values()) < sum(sizes.values()) * 1.1 + 20_000
