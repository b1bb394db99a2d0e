"""Many ModelRollouts on one operator: what it costs when nothing happens, how soon it acts.

    ZEROSKEW_CRDS=… python tests/benchmarks/bench_operator.py --count 500

A real control plane with kwok's nodes, KServe's own manager, a real MLflow, the operator with its
own ServiceAccount's rights; only a gateway's answer to a route is played. First every rollout, each
of a model of its own, brings its first version to the users. Then the operator is left alone for
`--seconds`: its CPU time over wall time, and its largest resident memory. Then `--changes` specs
are changed, one after the other: the time from the API server's answer to the operator's first
write to that rollout's status.
"""

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import httpx2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

from lightkube import Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.types import PatchType
from operator_stage import PROGRAMS, Stage, apply, manifest, operator_stage
from rich.console import Console
from server_programs import absent

ROLLOUTS = create_namespaced_resource("zeroskew.dev", "v1alpha1", "ModelRollout", "modelrollouts")
TICK = os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--changes", type=int, default=200)
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
    with operator_stage(
        kubectl, Path(os.environ["ZEROSKEW_CRDS"]), folder,
        ZEROSKEW_OPERATOR_RELIST_SECONDS="",
    ) as stage:  # fmt: skip
        measure(stage, given.count, given.seconds, given.changes, console)
    return 0


def measure(stage: Stage, count: int, seconds: float, changes: int, console: Console) -> None:
    config = KubeConfig.from_file(str(stage.cluster.kubeconfig))
    client = Client(config=config, timeout=httpx2.Timeout(120), trust_env=False)
    models = [f"fleet_{number:03d}" for number in range(count)]
    make_champions(stage.mlflow, models)
    space = stage.namespace()
    names = [model.replace("_", "-") for model in models]
    began = time.monotonic()
    for start in range(0, count, 50):
        documents = [manifest(space, 1, model) for model in models[start : start + 50]]
        apply(stage.cluster, *documents)
    while True:
        # Seldom: a list of all is work for the API server, which shares the cores.
        time.sleep(5)
        phases = [
            (each.to_dict().get("status") or {}).get("phase")
            for each in client.list(ROLLOUTS, namespace=space)
        ]
        if phases.count("Succeeded") == count:
            break
        if time.monotonic() - began > 900:
            raise SystemExit(f"only {phases.count('Succeeded')} of {count} are served")
    console.print(f"{count} rollouts served after {time.monotonic() - began:.0f} s")
    time.sleep(30)
    cpu, wall = cpu_seconds(stage.operator.pid), time.monotonic()
    time.sleep(seconds)
    share = (cpu_seconds(stage.operator.pid) - cpu) / (time.monotonic() - wall)
    console.print(
        f"steady state, {seconds:.0f} s: {share:.3f} of a core, "
        f"{resident(stage.operator.pid, 'VmRSS'):.0f} MiB resident, at most "
        f"{resident(stage.operator.pid, 'VmHWM'):.0f} MiB"
    )
    dice, waits = random.Random(1), []
    for number in range(changes):
        name = dice.choice(names)
        patch = {"spec": {"progressDeadlineSeconds": 600 + number}}
        made = client.patch(
            ROLLOUTS, name, patch, namespace=space, patch_type=PatchType.MERGE
        ).to_dict()
        answered, generation = time.perf_counter(), made["metadata"]["generation"]
        while True:
            found = client.get(ROLLOUTS, name, namespace=space).to_dict()
            if (found.get("status") or {}).get("observedGeneration", 0) >= generation:
                break
            if time.perf_counter() - answered > 60:
                raise SystemExit(f"{name} was not looked at in a minute")
            time.sleep(0.005)
        waits.append(time.perf_counter() - answered)
        time.sleep(dice.uniform(0.0, 0.2))
    p50, p99 = np.percentile(waits, [50, 99])
    console.print(
        f"{changes} changes, until acted on: p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, "
        f"at most {max(waits) * 1000:.0f} ms"
    )


def make_champions(mlflow: str, models: list[str]) -> None:
    """Version 1 of each model, already the champion: the registry's part, without the training."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import logging

    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)

    client = MlflowClient(mlflow)
    for model in models:
        client.create_registered_model(model)
        client.create_model_version(model, f"s3://models/{model}/1")
        client.set_registered_model_alias(model, "champion", "1")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def resident(pid: int, which: str) -> float:
    """MiB."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{which}:"):
                return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    sys.exit(main())
