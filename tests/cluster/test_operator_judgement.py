"""A bad challenger before the operator, judged by a real prediction log: off within an interval."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from operator_stage import apply, manifest, register

from zeroskew.serving.prediction_log import LogSchema, LogSettings, PredictionBatch, PredictionLog

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]
INTERVAL = 10.0
METRICS = [
    {"name": "disagreement", "type": "Disagreement", "threshold_range": {"max": 0.1},
     "min_samples": 200},
    {"name": "errors", "type": "ErrorRatio", "threshold_range": {"max": 1.5}, "min_samples": 200},
]  # fmt: skip
SECTION = {
    "analysis": {
        "interval": "10s", "failure_limit": 0, "metrics": METRICS, "min_pairs": 200,
    }
}  # fmt: skip


@contextmanager
def asked(stage, folder, model, roles, score, degraded=lambda version: False):
    """Forty requests a second in the log of each version, as long as it is entered."""
    schemas = {version: LogSchema(model, version, {"who": "int64"}, (), ()) for version in roles}
    logs = {
        version: PredictionLog(
            schema, LogSettings(flush_seconds=0.5), spool=folder / f"spool-{version}",
            sink=str(stage.operator.predictions),
        )
        for version, schema in schemas.items()
    }  # fmt: skip
    stop = threading.Event()

    def ask():
        count = 0
        while not stop.is_set():
            now = round(time.time() * 1e6)
            for version, log in logs.items():
                log.append(
                    PredictionBatch(
                        [f"r{count}"], [0], [now], {"who": [count]},
                        np.zeros((0, 1), np.uint8), np.zeros((0, 1), np.int64),
                        np.array([score(version, count)], np.float32), [roles[version]], [None],
                        500, degraded(version), answered_at=now,
                    )
                )  # fmt: skip
            count += 1
            stop.wait(0.025)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for log in logs.values():
            log.close()


def breach_to_zero(stage, space, model, began, what):
    """Seconds from when the challenger could first be told to be bad to its last request."""
    found = stage.wait(space, lambda s: "rejected" in s, seconds=90, name=model)
    assert what in found["rejected"]["message"]
    assert found["stable"] == "1"
    assert stage.registry.champion(model) == 1
    last = stage.routes(space, model)[-1]
    assert last.weights == {f"{model}-1": 100}
    assert not last.mirrored
    asked_for = [
        bool(route.mirrored or route.weights.get(f"{model}-2"))
        for route in stage.routes(space, model)
    ]
    off = stage.routes(space, model)[len(asked_for) - asked_for[::-1].index(True)]
    return off.at - began


def test_a_shadow_that_decides_otherwise_is_taken_off(stage, tmp_path):
    register(stage.registry, tmp_path, "shadowed")
    space = stage.namespace()
    stage.serve(space, 1, model="shadowed")
    steps = (
        {"set_mirror": {"percent": 100}},
        {"analysis": {"duration": "1h"}},
        {"set_mirror": {"percent": 0}},
        {"set_weight": 50},
    )
    roles = {"1": "champion", "2": "shadow"}
    with asked(stage, tmp_path, "shadowed", roles, lambda v, n: 0.1 if v == "1" else 0.9):
        apply(stage.cluster, manifest(space, 2, "shadowed", steps, section=SECTION))
        stage.wait(space, lambda s: s.get("run", {}).get("mirror") == 100, name="shadowed")
        # 200 pairs take five seconds; then an interval, and the time that an analysis takes.
        began = time.monotonic() + 5
        assert breach_to_zero(stage, space, "shadowed", began, "disagreement") < INTERVAL + 15
    assert all(not route.weights.get("shadowed-2") for route in stage.routes(space, "shadowed")), (
        "no user ever got an answer of it"
    )


def test_a_canary_that_cannot_read_its_features_is_taken_off(stage, tmp_path):
    register(stage.registry, tmp_path, "canaried")
    space = stage.namespace()
    stage.serve(space, 1, model="canaried")
    steps = ({"set_weight": 20}, {"analysis": {"duration": "1h"}}, {"set_weight": 60})
    roles = {"1": "champion", "2": "canary"}
    with asked(stage, tmp_path, "canaried", roles, lambda v, n: 0.3, degraded=lambda v: v == "2"):
        apply(stage.cluster, manifest(space, 2, "canaried", steps, section=SECTION))
        stage.wait(space, lambda s: s.get("run", {}).get("weight") == 20, name="canaried")
        began = time.monotonic() + 5
        # A manifest that the schema takes and the operator does not: the canary is judged on, also
        # by an operator that never saw another.
        wrong = manifest(space, 2, "canaried", steps, section=SECTION)
        wrong["spec"]["strategy"]["steps"] = [{"analysis": {}}, {"setWeight": 60}]
        stage.operator.kill()
        apply(stage.cluster, wrong)
        stage.operator.start()
        stage.operator.wait_healthy()
        began = max(began, time.monotonic())
        assert breach_to_zero(stage, space, "canaried", began, "errors") < INTERVAL + 15
