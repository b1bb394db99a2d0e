"""A process that owns a prediction log, to be killed: `python log_owner.py SPOOL SINK COMMANDS…`.

Writes the number of every row that is on the disk to standard output, one a line. Also loaded by
the tests (`runpy`), for the same schema and batches.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from zeroskew.profiles import Profile
from zeroskew.serving.prediction_log import LogSchema, LogSettings, PredictionBatch, PredictionLog

KINDS = {"who": "int64", "amount": "float64", "name": "string"}
HOUR = 3_600_000_000
NOON = 1_700_000_000_000_000 // HOUR * HOUR


def columns(first: int, count: int) -> dict:
    ids = range(first, first + count)
    return {
        "who": list(ids),
        "amount": [None if i % 5 == 0 else i / 4 for i in ids],
        "name": [f"n{i % 4}" for i in ids],
    }


def schema(model: str = "m") -> LogSchema:
    reference = Profile.learn({k: v for k, v in columns(0, 400).items() if k != "who"})
    scores = Profile.learn({"score": np.linspace(0, 1, 50, dtype=np.float32)})
    return LogSchema(
        model, "1", KINDS, ("amount", "name"), ("v",), reference.to_json(), scores.to_json()
    )


def batch(first: int, count: int = 1, *, micros: int | None = None) -> PredictionBatch:
    """Rows numbered from `first`; by default one second each, so that hours change."""
    times = [NOON + (first + i) * 1_000_000 if micros is None else micros for i in range(count)]
    values = columns(first, count)
    return PredictionBatch(
        [f"r{first + i}" for i in range(count)], [0] * count, times, values,
        np.array([[v is None for v in values[name]] for name in ("amount", "name")], np.uint8),
        np.array([times], np.int64) - 2_000_000,
        np.array([(first + i) % 50 / 50 for i in range(count)], np.float32),
        ["champion" if i % 2 else "shadow" for i in range(first, first + count)],
        [None] * count, 500, False,
    )  # fmt: skip


def settings(**options) -> LogSettings:
    return LogSettings(**{"flush_seconds": 0.3, **options})


def main() -> None:
    log = PredictionLog(schema(), settings(), spool=Path(sys.argv[1]), sink=sys.argv[2])
    print(log.folder, flush=True)
    number = 0
    while True:
        count = 1 + number % 5
        log.append(batch(number, count))
        number += count
        if number % 7 == 0:
            while log.counters().queued_bytes:
                time.sleep(0.0005)
            os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    main()
