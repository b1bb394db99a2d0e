"""PipelineSchedules whose times have passed already, so that no test waits for an hour to come."""

import json
import time
from datetime import UTC, datetime, timedelta

from operator_stage import Stage, apply

PIPELINE = "nightly"


def schedule(space, name, minute=None, **changes):
    """Hourly; its next time is half an hour away."""
    at = (datetime.now(UTC).minute + 30) % 60 if minute is None else minute
    spec = {"pipelineRef": {"name": PIPELINE}, "schedule": f"{at} * * * *"}
    return {
        "apiVersion": "zeroskew.dev/v1alpha1", "kind": "PipelineSchedule",
        "metadata": {"name": name, "namespace": space}, "spec": spec | changes,
    }  # fmt: skip


def make_late(stage: Stage, manifest: dict, times: int) -> list[datetime]:
    """As if nobody had kept the object's clock for so many times; they are returned.

    Applies it first.
    """
    apply(stage.cluster, manifest)
    meta, spec = manifest["metadata"], manifest["spec"]
    minute = int(spec["schedule"].split()[0])
    last = datetime.now(UTC).replace(minute=minute, second=0, microsecond=0)
    if last > datetime.now(UTC):
        last -= timedelta(hours=1)
    passed = [last - timedelta(hours=back) for back in reversed(range(times))]
    since = passed[0] - timedelta(minutes=1)
    status = {"clock": f"{spec['schedule']} Etc/UTC", "countedUntil": f"{since:%Y-%m-%dT%H:%M:%SZ}"}
    stage.cluster.kubectl(
        "patch", "psched", meta["name"], "-n", meta["namespace"], "--subresource=status",
        "--type=merge", "-p", json.dumps({"status": status}),
    )  # fmt: skip
    return passed


def keep_while_killed(stage: Stage, kfp, *, kills: int, dice, seconds: float = 300) -> int:
    """Late schedules are made, the operator is killed, again and again; then it goes on alone. The
    pipelines' server takes its time for each run, so that kills also hit that.

    Returns how many runs there were. Raises `AssertionError` if a time has not become exactly one.
    """
    space = stage.namespace()
    kfp.slow_seconds = 0.4
    kfp.failures["k"] = ["slow"] * (kills * 10)
    names: list[str] = []
    deadline = time.monotonic() + seconds
    for number in range(kills):
        for letter in "ab":
            names.append(f"k{number:03d}-{letter}")
            make_late(stage, schedule(space, names[-1]), 1)
        time.sleep(dice.uniform(0.0, 5.0))
        stage.operator.kill()
        stage.operator.start()
        assert time.monotonic() < deadline, f"{number} kills in {seconds} s"
    stage.operator.wait_healthy()
    for name in names:
        found = stage.wait(
            space, lambda s: (s.get("active") or {}).get("phase") == "Running", 120, name, "psched"
        )
        runs = kfp.named(f"{name}-")
        assert len(runs) == 1, f"{name}: {[run['display_name'] for run in runs]}"
        assert found["active"]["id"] == runs[0]["run_id"]
        assert found["missed"] == 0
    for name in names:
        kfp.end(kfp.named(f"{name}-")[0]["run_id"], "SUCCEEDED")
    for name in names:
        stage.wait(space, lambda s: s.get("succeeded") == 1, 120, name, "psched")
    assert len(kfp.named("k")) == len(names)
    kfp.failures.clear()
    stage.cluster.kubectl("delete", "psched", "--all", "-n", space, "--wait=false")
    return len(names)
