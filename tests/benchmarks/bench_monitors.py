"""Many DriftMonitors on one operator: what they cost, and how soon drift becomes a run.

    ZEROSKEW_CRDS=… python tests/benchmarks/bench_monitors.py --count 1000

A real kube-apiserver, a real MLflow, the operator with its own ServiceAccount's rights; the run API
of Kubeflow Pipelines is the tests' stand-in. Every monitor watches a model of its own: 20 features,
24 hours of profiles as servers write them, the present hour's rewritten while it is measured, as
live servers do. First all are measured; then the operator is left alone for `--seconds`: its CPU
time over wall time, and its largest resident memory. Then, `--runs` times: from the moment that a
drifted profile is in the log to a run in Kubeflow Pipelines, of a monitor with an interval of 2 s.
"""

import argparse
import json
import os
import runpy
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

from bench_operator import cpu_seconds, make_champions, resident
from kfp_stand_in import KfpStandIn
from lightkube import Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from monitor_kills import PIPELINE, monitor
from operator_stage import PROGRAMS, Stage, apply, operator_stage
from rich.console import Console
from server_programs import absent

from zeroskew.profiles import Profile

MONITORS = create_namespaced_resource("zeroskew.dev", "v1alpha1", "DriftMonitor", "driftmonitors")
_FILES = runpy.run_path(str(Path(__file__).parents[1] / "unit/monitoring/profile_files.py"))
FEATURES, HOURS, ROWS = 20, 24, 5_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--interval", default="5m")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--runs", type=int, default=20)
    given = parser.parse_args()
    if "ZEROSKEW_CRDS" not in os.environ:
        print("not run: ZEROSKEW_CRDS must name the folder with the CRDs")
        return 0
    if reason := absent(*PROGRAMS):
        print(f"not run: {reason}")
        return 0
    beside = Path(sys.executable).parent / "kubectl"
    kubectl = str(beside) if beside.is_file() else shutil.which("kubectl")
    folder, console = Path(tempfile.mkdtemp(prefix="zeroskew-bench-")), Console()
    crds = Path(os.environ["ZEROSKEW_CRDS"])
    with (
        KfpStandIn(pipelines=(PIPELINE,)) as kfp,
        operator_stage(
            kubectl, crds, folder, serving=False,
            ZEROSKEW_OPERATOR_RELIST_SECONDS="", ZEROSKEW_KFP=kfp.url,
        ) as stage,
    ):  # fmt: skip
        served = Served(stage.operator.predictions)
        measure(stage, served, given.count, given.interval, given.seconds, console)
        waits = [until_run(stage, served, kfp, number) for number in range(given.runs)]
    if waits:
        console.print(
            f"from a drifted profile to a run, interval 2 s, {given.runs} times beside "
            f"{given.count} monitors: p50 {np.median(waits):.2f} s, at most {max(waits):.2f} s"
        )
    return 0


class Served:
    """Profiles in a log; all models were trained alike, so that one profile is made for all."""

    def __init__(self, log: Path) -> None:
        self.log = log
        random = np.random.default_rng(1)
        names = [f"feature_{number}" for number in range(FEATURES)]
        trained = {name: random.normal(size=50_000) for name in names}
        trained["score"] = random.beta(2, 5, 50_000).astype(np.float32)
        self.reference = Profile.learn(trained)

        def hour(shift: float) -> Profile:
            columns = {name: random.normal(shift, 1, ROWS) for name in names}
            columns["score"] = random.beta(2, 5, ROWS).astype(np.float32)
            return self.reference.measure(columns)

        self.good, self.bad = [hour(0.0) for _ in range(HOURS)], hour(4.0)

    def write(self, model: str, version: str = "1") -> None:
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        for ago in range(HOURS):
            changed = time.time() if ago == 0 else 1_700_000_000
            _FILES["write_hour"](
                self.log, now - timedelta(hours=ago), self.good[ago], model=model, version=version,
                changed=changed,
            )  # fmt: skip
        base = self.log / f"model={model}" / f"version={version}" / "_profiles/reference.json"
        base.write_text(json.dumps({
            "format": 1, "model": model, "version": version, "profile": self.reference.to_json()
        }))  # fmt: skip

    def touch(self, model: str) -> None:
        """The running hour, written anew as a server does every minute."""
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        _FILES["write_hour"](self.log, now, self.good[0], model=model, changed=time.time())

    def drift(self, model: str) -> None:
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        for ago in range(HOURS):
            _FILES["write_hour"](
                self.log, now - timedelta(hours=ago), self.bad, model=model, writer="x",
                changed=time.time(),
            )  # fmt: skip


def measure(
    stage: Stage, served: Served, count: int, interval: str, seconds: float, console: Console
) -> None:
    config = KubeConfig.from_file(str(stage.cluster.kubeconfig))
    client = Client(config=config, timeout=httpx2.Timeout(120), trust_env=False)
    models = [f"fleet_{number:04d}" for number in range(count)]
    make_champions(stage.mlflow, models)
    for model in models:
        served.write(model)
    space, began = stage.namespace(), time.monotonic()
    for start in range(0, count, 100):
        names = models[start : start + 100]
        apply(stage.cluster, *(monitor(m.replace("_", "-"), m, space, interval) for m in names))
    while True:
        time.sleep(5)
        phases = [
            (each.to_dict().get("status") or {}).get("phase")
            for each in client.list(MONITORS, namespace=space)
        ]
        if phases.count("Monitoring") == count:
            break
        if time.monotonic() - began > 900:
            raise SystemExit(f"only {phases.count('Monitoring')} of {count} are measured")
    console.print(f"{count} monitors measured after {time.monotonic() - began:.0f} s")
    time.sleep(15)
    cpu, wall = cpu_seconds(stage.operator.pid), time.monotonic()
    before = stage.operator.measured()["zeroskew_monitor_seconds_count"]
    for model in models:
        served.touch(model)
        time.sleep(max(0.0, seconds / count - 0.002))
    time.sleep(max(0.0, seconds - (time.monotonic() - wall)))
    lasted = time.monotonic() - wall
    share = (cpu_seconds(stage.operator.pid) - cpu) / lasted
    shown = stage.operator.measured()
    console.print(
        f"steady state, {lasted:.0f} s, interval {interval}, "
        f"{shown['zeroskew_monitor_seconds_count'] - before:.0f} measurements: {share:.3f} of a "
        f"core, {resident(stage.operator.pid, 'VmRSS'):.0f} MiB resident, at most "
        f"{resident(stage.operator.pid, 'VmHWM'):.0f} MiB"
    )


def until_run(stage: Stage, served: Served, kfp: KfpStandIn, number: int) -> float:
    """Seconds from a drifted profile in the log to a run of its monitor."""
    model = f"quick_{number:03d}"
    name = model.replace("_", "-")
    make_champions(stage.mlflow, [model])
    served.write(model)
    space = stage.namespace()
    apply(stage.cluster, monitor(name, model, space, "2s"))
    stage.wait(space, lambda s: s.get("phase") == "Monitoring", 60, name, "driftmonitor")
    time.sleep(number % 7 / 3)
    served.drift(model)
    written = time.perf_counter()
    while not kfp.named(f"{name}-"):
        time.sleep(0.01)
        if time.perf_counter() - written > 60:
            raise SystemExit(f"no run of {name} in a minute")
    waited = time.perf_counter() - written
    stage.cluster.kubectl("delete", "dm", name, "-n", space, "--wait=false")
    return waited


if __name__ == "__main__":
    sys.exit(main())
