"""Questions of a model's own entity rows, sent to its server at a steady rate.

    sent = replay(server.http, "flight_delay", questions, rate=300, seconds=10)
    sent.milliseconds(99)

Plain HTTP and JSON over a few connections that stay open, one row to a request, each with the
moment it is asked at. A question that cannot be sent in time counts from when it was due.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

CONNECTIONS = 4


@dataclass
class Sent:
    """What came back, in order of the questions sent."""

    latencies: list[float] = field(default_factory=list)
    """Seconds from when a question was due to its answer."""
    scores: dict[int, float] = field(default_factory=dict)
    """By position of the question."""
    errors: list[str] = field(default_factory=list)

    def milliseconds(self, percent: float) -> float:
        return float(np.percentile(self.latencies, percent)) * 1000


def request_body(
    row: dict[str, Any], kinds: dict[str, str], asked: int, request_id: str = ""
) -> bytes:
    """One row in the Open Inference Protocol's JSON.

    `kinds`: kind of each entity and request column, as the read plan has it; `asked`: microseconds.
    A missing key is sent as the empty text, an entity that nobody is.
    """
    types = {"string": "BYTES", "float64": "FP64", "float32": "FP32", "int32": "INT32"}
    inputs = [
        {
            "name": name,
            "shape": [1, 1],
            "datatype": types.get(kind, "INT64"),
            "data": ["" if row[name] is None and kind == "string" else row[name]],
        }
        for name, kind in kinds.items()
    ]
    inputs.append(
        {"name": "event_timestamp", "shape": [1, 1], "datatype": "INT64", "data": [asked]}
    )
    body: dict[str, Any] = {"inputs": inputs, "outputs": [{"name": "score"}]}
    return json.dumps(body | ({"id": request_id} if request_id else {})).encode()


def replay(address: str, model: str, bodies: list[bytes], *, rate: float, seconds: float) -> Sent:
    """Send the bodies round and round, `rate` a second, for `seconds`."""
    total = int(rate * seconds)
    sent, lock = Sent(), threading.Lock()
    started = time.perf_counter() + 0.05
    upcoming = iter(range(total))

    def connection() -> None:
        host, _, port = address.rpartition(":")
        client = http.client.HTTPConnection(host, int(port), timeout=30)
        client.connect()
        while True:
            with lock:
                number = next(upcoming, None)
            if number is None:
                break
            due = started + number / rate
            if (wait := due - time.perf_counter()) > 0:
                time.sleep(wait)
            try:
                client.request("POST", f"/v2/models/{model}/infer", bodies[number % len(bodies)])
                answer = client.getresponse()
                body = answer.read()
            except OSError as error:
                sent.errors.append(str(error))
                client.close()
                continue
            sent.latencies.append(time.perf_counter() - due)
            if answer.status == 200:
                outputs = json.loads(body)["outputs"]
                sent.scores[number % len(bodies)] = outputs[0]["data"][0]
            else:
                sent.errors.append(body[:200].decode("utf-8", "replace"))
        client.close()

    threads = [threading.Thread(target=connection) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sent
