"""Monitors while the operator is killed at random moments: each decision is one run, no more."""

import random
import time
from pathlib import Path

from kfp_stand_in import KfpStandIn
from operator_stage import Stage, apply, register
from served_predictions import serve

PIPELINE = "retraining"


def monitor(name: str, model: str, space: str, interval: str = "2s") -> dict:
    """Acts on the first measurement that fails."""
    return {
        "apiVersion": "zeroskew.dev/v1alpha1", "kind": "DriftMonitor",
        "metadata": {"name": name, "namespace": space},
        "spec": {
            "modelRef": {"name": model},
            "interval": interval,
            "window": {"minSamples": 500},
            "metrics": [{"name": "feature-psi", "type": "PSI", "failureLimit": 1}],
            "trigger": {
                "pipelineRef": {"name": PIPELINE},
                "parameters": [{"name": "end_time", "valueFrom": "windowEnd"}],
                "cooldown": "1h",
            },
        },
    }  # fmt: skip


def retrain_while_killed(
    stage: Stage, kfp: KfpStandIn, folder: Path, *, kills: int, seed: int = 1, seconds: float = 600
) -> int:
    """Monitors of a drifted model are made, the operator is killed, again and again; then it goes
    on alone. The pipelines' server takes its time for each run, so that kills also hit that.

    Returns how many runs there were. Raises `AssertionError` if a decision has not become exactly
    one run of its name.
    """
    dice = random.Random(seed)
    space, model = stage.namespace(), "killed"
    register(stage.registry, folder, model, versions=1)
    stage.registry.promote(model, 1, "first")
    serve(stage.operator.predictions, folder / "spool", model, shift=1.0)
    kfp.slow_seconds = 0.4
    kfp.failures["m"] = ["slow"] * (kills * 10)
    names: list[str] = []
    deadline = time.monotonic() + seconds
    for number in range(kills):
        fresh = [f"m{number:04d}-{letter}" for letter in "ab"]
        apply(stage.cluster, *(monitor(name, model, space) for name in fresh))
        names += fresh
        # The operator needs about two seconds to begin, and less to measure and to act.
        time.sleep(dice.uniform(0.0, 6.0))
        stage.operator.kill()
        stage.operator.start()
        assert time.monotonic() < deadline, f"{number} kills in {seconds} s"
    stage.operator.wait_healthy()
    for name in names:
        # One that was killed between its note and its call is asked for after the time to settle.
        found = stage.wait(
            space, lambda s: (s.get("run") or {}).get("phase") == "Running", 240, name,
            "driftmonitor",
        )  # fmt: skip
        runs = kfp.named(f"{name}-")
        assert len(runs) == 1, f"{name}: {[run['display_name'] for run in runs]}"
        assert found["run"]["name"] == runs[0]["display_name"]
        assert found["run"]["id"] == runs[0]["run_id"]
        assert found["decision"]["checksum"].startswith(found["run"]["name"].rpartition("-")[2])
    for name in names:
        (run,) = kfp.named(f"{name}-")
        kfp.end(run["run_id"], dice.choice(["SUCCEEDED", "FAILED"]))
    for name in names:
        ended = stage.wait(
            space, lambda s: s.get("history") and not s.get("run"), 240, name, "driftmonitor"
        )
        assert len(ended["history"]) == 1
    assert len(kfp.named("m")) == len(names)
    stage.cluster.kubectl("delete", "dm", "--all", "-n", space, "--wait=false")
    return len(names)
