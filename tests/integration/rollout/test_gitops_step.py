"""From a version in a real registry to a commit: the command, the step and the component."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from components.deploy import deploy as component
from components.rollback import rollback as way_back
from zeroskew.errors import ConfigError, RegistryError
from zeroskew.registry import Registry
from zeroskew.steps.deploy import deploy_version
from zeroskew.steps.rollback import roll_back

pytestmark = pytest.mark.integration

HERE = Path(__file__)
git_world = SimpleNamespace(**runpy.run_path(str(HERE.with_name("git_world.py"))))
registered = runpy.run_path(str(HERE.with_name("deployments.py")))["registered"]
MODEL_YAML = """
name: flight_delay
feature_service: flights_v1
entity_rows: {path: rows.parquet, label: late}
rollout: {service: {gateway_refs: [{name: ml}]}}
"""
PLACE = ("s3://models/flight_delay/1", "registry.test/triton:1", "team")


@pytest.fixture
def model(repository, tmp_path, monkeypatch):
    """A model's folder, version 1 of it in a registry of its own, and the repository's address."""
    monkeypatch.setenv("ZEROSKEW_HOME", str(tmp_path / "zeroskew"))
    for name in ("MLFLOW", "MLFLOW_ARTIFACTS"):
        monkeypatch.delenv(f"ZEROSKEW_{name}", raising=False)
    monkeypatch.setenv("ZEROSKEW_GIT_REMOTE", repository.url)
    monkeypatch.setenv("ZEROSKEW_GIT_AUTHOR", git_world.AUTHOR)
    folder = tmp_path / "flight_delay"
    folder.mkdir()
    (folder / "model.yaml").write_text(MODEL_YAML)
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"graph")
    Registry.from_environment().register(
        "flight_delay", registered(1).record, {"model.onnx": graph}
    )
    return folder


def test_the_step_the_component_and_the_command_make_one_commit(model, repository, tmp_path):
    delivered = tmp_path / "delivered.json"
    made = deploy_version(str(model), 1, *PLACE, "", "", "merge", "none", delivered)
    assert json.loads(delivered.read_text()) == made
    assert (made["outcome"], made["commit"]) == ("merged", repository.tip())
    found = yaml.safe_load(repository.show("models/flight_delay/version.yaml"))
    assert found["spec"]["modelRef"] == {"name": "flight_delay", "version": "1"}
    version = Registry.from_environment().version("flight_delay", 1)
    assert repository.trailer("Training-Run") == version.run_id
    assert repository.trailer("Data-Hash") == version.record.data_hash

    output = SimpleNamespace(path=str(tmp_path / "again.json"), metadata={})
    commit, outcome = component.python_func(str(model), 1, *PLACE, output)
    assert (commit, outcome) == (made["commit"], "already")
    assert output.metadata["outcome"] == "already"

    command = [str(Path(sys.executable).with_name("zeroskew")), "rollout", "deploy", str(model)]
    command += ["--version", "1", "--storage-uri", PLACE[0], "--image", PLACE[1], "-n", PLACE[2]]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("main had flight_delay version 1 already: ")
    assert repository.log() == ["flight_delay: version 1", "First"]


def test_the_way_back_to_the_version_before_is_a_commit_too(model, repository, tmp_path):
    registry, out = Registry.from_environment(), tmp_path / "done.json"
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"graph 2")
    registry.register("flight_delay", registered(2).record, {"model.onnx": graph})
    for version in (1, 2):
        registry.promote("flight_delay", version, "test")
        deploy_version(str(model), version, *PLACE, "", "", "merge", "none", out)
    made = roll_back(str(model), "previous", "scores drifted", "", "", "merge", "none", out)
    assert json.loads(out.read_text()) == made
    assert (made["outcome"], made["version"], made["before"]) == ("merged", 1, 2)
    found = yaml.safe_load(repository.show("models/flight_delay/version.yaml"))
    assert found["spec"]["modelRef"]["version"] == "1"

    output = SimpleNamespace(path=str(tmp_path / "again.json"), metadata={})
    _, outcome = way_back.python_func(str(model), "1", "scores drifted", output)
    assert outcome == "already"
    with pytest.raises(RegistryError):
        roll_back(str(model), "nobody", "x", "", "", "merge", "none", out)
    with pytest.raises(ConfigError, match="needs a reason"):
        roll_back(str(model), "1", " ", "", "", "merge", "none", out)


def test_what_cannot_be_deployed_is_said_before_anything_is_fetched(model, repository, tmp_path):
    out = tmp_path / "delivered.json"
    with pytest.raises(RegistryError, match="7"):
        deploy_version(str(model), 7, *PLACE, "", "", "merge", "none", out)
    with pytest.raises(ConfigError, match=r"'rebase' is no mode.*\n.*merge, branch"):
        deploy_version(str(model), 1, *PLACE, "", "", "rebase", "none", out)
    with pytest.raises(ConfigError, match="credentials"):
        deploy_version(str(model), 1, *PLACE, "https://a:b@git.example/m", "", "merge", "none", out)
    assert not out.exists()
    assert repository.log() == ["First"]
