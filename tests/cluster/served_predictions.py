"""Predictions of a registered version in a prediction log, as its servers write them."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from zeroskew.profiles import Profile
from zeroskew.serving.prediction_log import LogSchema, LogSettings, PredictionBatch, PredictionLog

NAMES = tuple(f"feature_{i}" for i in range(5))


def serve(
    log: Path,
    spool: Path,
    model: str = "flight_delay",
    version: str = "1",
    *,
    shift: float = 0.0,
    rows: int = 1000,
    ago: timedelta = timedelta(minutes=5),
) -> None:
    """`shift`: of every feature, in standard deviations of the training set. The hour's profile is
    there when this returns."""
    training = np.random.default_rng(1)
    trained = {name: training.normal(size=20_000) for name in NAMES}
    scores = training.beta(2, 5, 20_000).astype(np.float32)
    random = np.random.default_rng(time.monotonic_ns())
    schema = LogSchema(
        model, version, {"who": "int64", **dict.fromkeys(NAMES, "float64")}, NAMES, ("orders",),
        Profile.learn(trained).to_json(), Profile.learn({"score": scores}).to_json(),
    )  # fmt: skip
    settings = LogSettings(flush_seconds=0.2)
    writer = PredictionLog(schema, settings, spool=spool, sink=str(log))
    at = round((datetime.now(UTC) - ago).timestamp() * 1e6)
    values = {name: random.normal(size=rows) + shift for name in NAMES}
    writer.append(
        PredictionBatch(
            [f"{at}-{i}" for i in range(rows)], [0] * rows, [at] * rows,
            {"who": [*range(rows)], **{name: each.tolist() for name, each in values.items()}},
            np.zeros((len(NAMES), rows), np.uint8),
            np.full((1, rows), at - 60_000_000, np.int64),
            random.beta(2, 5, rows).astype(np.float32), ["champion"] * rows, [None] * rows,
            500, False, answered_at=at,
        )
    )  # fmt: skip
    writer.close()
    assert writer.counters().written == rows
