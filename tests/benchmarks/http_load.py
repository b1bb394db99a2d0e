"""Load over HTTP/1.1 from one thread: closed loop (as fast as answers come) or at a steady rate.

Bodies are made beforehand and answers parsed afterwards, so that the generator, which shares the
machine with what it measures, takes as little of it as it can.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Load:
    """What came back."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    """Seconds from when the request was due to its last byte, in order of completion."""
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    """Number of the body and the answer's body."""
    errors: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def milliseconds(self, percent: float) -> float:
        return float(np.percentile(self.latencies, percent)) * 1000

    def scores(self, output: str = "score") -> dict[int, float]:
        """Score by number of the body."""
        found = {}
        for number, body in self.answers:
            outputs: list[dict[str, Any]] = json.loads(body)["outputs"]
            found[number] = next(o["data"][0] for o in outputs if o["name"] == output)
        return found


def run(
    address: str,
    path: str,
    bodies: list[bytes],
    *,
    clients: int = 1,
    count: int | None = None,
    seconds: float | None = None,
    rate: float | None = None,
    keep: bool = False,
) -> Load:
    """Send bodies round and round over `clients` connections, `count` of them or for `seconds`.

    `rate`: requests a second, evenly spaced, whoever is free sends the next; a request that could
    not be sent in time counts from when it was due. `keep`: keep the answers.
    """
    return asyncio.run(_run(address, path, bodies, clients, count, seconds, rate, keep))


async def _run(
    address: str,
    path: str,
    bodies: list[bytes],
    clients: int,
    count: int | None,
    seconds: float | None,
    rate: float | None,
    keep: bool,
) -> Load:
    head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
    messages = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    load = Load(0.0)
    sent = 0
    started = time.perf_counter()
    end = started + seconds if seconds is not None else None

    async def client() -> None:
        nonlocal sent
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        while (count is None or sent < count) and (end is None or time.perf_counter() < end):
            number, sent = sent, sent + 1
            due = time.perf_counter()
            if rate is not None:
                due = started + number / rate
                wait = due - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
            writer.write(messages[number % len(messages)])
            status, body = await _answer(reader)
            load.latencies.append(time.perf_counter() - due)
            if status != 200:
                load.errors.append(body[:200].decode("utf-8", "replace"))
            elif keep:
                load.answers.append((number % len(messages), body))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    load.seconds = time.perf_counter() - started
    return load


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    at = head.lower().find(b"content-length:")
    if at < 0:
        raise ValueError(f"an answer without Content-Length: {head!r}")
    length = int(head[at + 15 : head.index(b"\r", at)])
    return status, await reader.readexactly(length)
