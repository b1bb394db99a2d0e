"""The compiled manifests, before a real API server with Kubeflow Pipelines' own CRDs."""

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from pipelines.compile import FACTORIES, Code, compile_models, model_folders
from pipelines.pod import Images

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
CODE = Code(sha="1f3a9c2d4e5f60718293a4b5c6d7e8f901234567", tree="ab" * 32)


@pytest.fixture(scope="session", autouse=True)
def schedules(cluster):
    """Our own kind among the compiled manifests."""
    path = ROOT / "manifests/crds/zeroskew.dev_pipelineschedules.yaml"
    cluster.install([yaml.safe_load(path.read_text())])


@functools.cache
def _compiled(image, code):
    """Compiling takes seconds, and is the same for the same."""
    folder = Path(tempfile.mkdtemp(prefix="compiled-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder, compile_models(model_folders(), folder, Images(platform=image), code)


def compiled(out, image="registry.test/zeroskew:1f3a9c2", code=CODE):
    folder, paths = _compiled(image, code)
    shutil.copytree(folder, out, dirs_exist_ok=True)
    return [out / path.relative_to(folder) for path in paths]


def names(paths, kind):
    documents = [d for path in paths for d in yaml.safe_load_all(path.read_text())]
    return {d["metadata"]["name"] for d in documents if d["kind"] == kind}


def in_cluster(cluster, namespace, kind):
    return {item["metadata"]["name"] for item in cluster.get(kind, "-n", namespace)["items"]}


def test_every_models_pipelines_are_accepted_and_kept_whole(cluster, namespace, tmp_path):
    paths = compiled(tmp_path)
    pipelines = [path for path in paths if path.stem != "schedules"]
    assert len(pipelines) == len(FACTORIES) * len(model_folders()) >= 6
    cluster.kubectl("apply", "-n", namespace, "--recursive", "-f", tmp_path)
    assert in_cluster(cluster, namespace, "psched") == names(paths, "PipelineSchedule")
    assert in_cluster(cluster, namespace, "pipelines") == names(paths, "Pipeline")
    stored = cluster.get("pipelineversions", "-n", namespace)["items"]
    assert {item["metadata"]["name"] for item in stored} == names(paths, "PipelineVersion")
    ours = {
        d["metadata"]["name"]: d["spec"]
        for path in paths
        for d in yaml.safe_load_all(path.read_text())
        if d["kind"] == "PipelineVersion"
    }
    # Nothing pruned, nothing defaulted: the server holds what was compiled.
    assert {item["metadata"]["name"]: item["spec"] for item in stored} == ours


def test_applying_the_same_code_again_changes_nothing(cluster, namespace, tmp_path):
    compiled(tmp_path / "a")
    compiled(tmp_path / "b")
    cluster.kubectl("apply", "-n", namespace, "--recursive", "-f", tmp_path / "a")
    again = cluster.kubectl("apply", "-n", namespace, "--recursive", "-f", tmp_path / "b").stdout
    assert again.count("unchanged") == len(again.splitlines()) >= 6


@pytest.mark.parametrize(
    "changes",
    [
        {"image": "registry.test/zeroskew:0000001"},
        {"code": Code(sha="0000001d4e5f60718293a4b5c6d7e8f901234567", tree="ab" * 32)},
        {"code": Code(sha=CODE.sha + "-dirty", tree="ab" * 32)},
    ],
)
def test_changed_code_is_a_new_version_beside_the_old_one(cluster, namespace, tmp_path, changes):
    before, after = compiled(tmp_path / "a"), compiled(tmp_path / "b", **changes)
    cluster.kubectl("apply", "-n", namespace, "--recursive", "-f", tmp_path / "a")
    cluster.kubectl("apply", "-n", namespace, "--recursive", "-f", tmp_path / "b")
    old, new = names(before, "PipelineVersion"), names(after, "PipelineVersion")
    assert not old & new
    assert in_cluster(cluster, namespace, "pipelineversions") == old | new
    assert in_cluster(cluster, namespace, "pipelines") == names(before, "Pipeline")


def test_the_command_writes_what_kubectl_takes(cluster, namespace, tmp_path):
    digest = f"sha256:{'0' * 64}"
    images = {f"registry.test/{name}@{digest}" for name in ("platform", "trainer")}
    platform, trainer = sorted(images)
    command = [
        sys.executable, "-m", "pipelines.compile", "--out", tmp_path,
        "--image", platform, "--trainer-image", trainer, "--namespace", namespace,
        "--multi-user",
        "--code-url", "https://git.test/zeroskew",
    ]  # fmt: skip
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT, capture_output=True)
    cluster.kubectl("create", "--recursive", "-f", tmp_path)
    used = set()
    for item in cluster.get("pipelineversions", "-n", namespace)["items"]:
        assert item["spec"]["codeSourceURL"] == "https://git.test/zeroskew"
        executors = item["spec"]["pipelineSpec"]["deploymentSpec"]["executors"].values()
        used |= {e["container"]["image"] for e in executors}
    assert used == images
    assert {
        item["metadata"]["namespace"] for item in cluster.get("psched", "-n", namespace)["items"]
    }


def test_the_server_would_have_refused_a_wrong_name(cluster, namespace, tmp_path):
    """That acceptance above means something."""
    path = compiled(tmp_path)[0]
    documents = list(yaml.safe_load_all(path.read_text()))
    documents[1]["spec"]["versionName"] = "Not_A_Version"
    refused = cluster.kubectl(
        "create", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(documents), check=False
    )
    assert refused.returncode
    assert "versionName" in refused.stderr
