"""`zeroskew registry …` as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from zeroskew.cli import registry as cli
from zeroskew.errors import AliasConflict, ConfigError, RegistryError, ZeroskewError
from zeroskew.record import Measure
from zeroskew.registry import Registry

pytestmark = pytest.mark.integration

NAME = "flight_delay"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def zeroskew(home, monkeypatch):
    """Run a command in this process: importing MLflow once is enough. Returns what it printed."""
    for name in [name for name in os.environ if name.startswith("ZEROSKEW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ZEROSKEW_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()
    cli.register(app)

    def run(*arguments: str, fails: type[ZeroskewError] | None = None) -> str:
        result = CliRunner().invoke(app, ["registry", *arguments])
        if fails is None:
            assert result.exit_code == 0, (result.output, result.exception)
            return result.stdout
        assert type(result.exception) is fails, (result.output, result.exception)
        return str(result.exception)

    return run


def test_a_life_of_versions_on_the_command_line(zeroskew, home, record, files, tmp_path) -> None:
    assert "no model is registered yet" in zeroskew("list")
    error = zeroskew("lineage", NAME, fails=RegistryError)
    assert "there is no model 'flight_delay'" in error

    registry = Registry(f"sqlite:///{home}/mlflow/mlflow.db", str(home / "mlflow/artifacts"))
    registry.register(NAME, record(verdict="first", compute_cost=0.0231, currency="EUR"), files)
    registry.register(
        NAME,
        record(
            data="d2", verdict="wins", compared_against=1, margin=0.002, compared_by="auc",
            difference=Measure(0.004, 0.001, 0.007), verdict_reason="AUC 0.744 against 0.740",
        ),
        files,
    )  # fmt: skip

    assert "version 1 of flight_delay is champion (#1)" in zeroskew(
        "promote", NAME, "1", "--reason", "the first", "--expect", "none"
    )
    error = zeroskew("promote", NAME, "2", "-r", "late", "--expect", "7", fails=AliasConflict)
    assert "`champion` points to version 1, not to version 7" in error
    registry.set_alias(NAME, "challenger", 2)
    zeroskew("promote", NAME, "challenger", "-r", "better by 0.004 [AUC]", "--expect", "1")

    listed = zeroskew("list")
    assert "auc 0.7400" in listed
    assert "wins against 1" in listed
    assert json.loads(zeroskew("list", "--json"))[NAME][0]["aliases"] == ["champion"]

    tree = zeroskew("lineage", NAME, "2")
    for words in ("d2", "c" * 40, "0.0040 [0.0010, 0.0070] auc", "version 1", "wins", "0.7400"):
        assert words in tree
    assert "0.0231 EUR" in zeroskew("lineage", NAME, "previous")
    assert "data_hash" in zeroskew("show", NAME)

    assert "champion again instead of version 2" in zeroskew(
        "rollback", NAME, "-r", "alerts", "--expect", "2"
    )
    assert "#3" in zeroskew("rollback", NAME, "-r", "alerts", "--expect", "2")
    told = zeroskew("history", NAME)
    assert "better by 0.004 [AUC]" in told
    assert [e["version"] for e in json.loads(zeroskew("history", NAME, "--json"))] == [
        1,
        2,
        1,
    ]

    out = tmp_path / "out"
    zeroskew("download", NAME, "champion", str(out), "--only", "export/model.onnx")
    assert (out / "export/model.onnx").read_bytes() == files["export/model.onnx"].read_bytes()
    error = zeroskew("show", NAME, "9", fails=RegistryError)
    assert "it has: 1, 2" in error
    error = zeroskew("promote", NAME, "1", "-r", "x", "--expect", "v1", fails=ConfigError)
    assert "'v1' is not a version" in error


def test_help_teaches_with_an_example(zeroskew) -> None:
    for command in ("list", "show", "lineage", "history", "promote", "rollback", "download"):
        assert f"zeroskew registry {command}" in zeroskew(command, "--help")


def test_a_mistake_is_one_message_and_an_exit_code(home) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("zeroskew")), "registry", "show", "nobody"],
        capture_output=True, text=True, timeout=200,
        env=os.environ | {"ZEROSKEW_HOME": str(home), "ZEROSKEW_MLFLOW": ""},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert "error (RegistryError)" in done.stderr
    assert "there is no model 'nobody'" in done.stderr
    assert "Traceback" not in done.stderr
