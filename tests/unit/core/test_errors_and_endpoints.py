"""Errors survive the way between processes; endpoints follow the environment."""

import pickle
from pathlib import Path

import pytest

from zeroskew import errors
from zeroskew.endpoints import Endpoints

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ZeroskewError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_keeps_its_text_between_processes(kind: type[errors.ZeroskewError]) -> None:
    error = kind("no such column `x`", where="rows.parquet", mend="rename it")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "rows.parquet: no such column `x`\n  → rename it"
    assert again.mend == "rename it"


def test_findings_survive_too() -> None:
    error = errors.ValidationFailed("2 gates failed", findings=(1, 2))
    assert pickle.loads(pickle.dumps(error)).findings == (1, 2)


def test_the_drawn_tree_names_every_error() -> None:
    assert errors.__doc__ is not None
    for kind in KINDS:
        assert kind.__name__ in errors.__doc__


def test_defaults_lie_below_home(tmp_path: Path) -> None:
    endpoints = Endpoints.from_environment({"ZEROSKEW_HOME": str(tmp_path)})
    assert endpoints.data == f"{tmp_path}/data"
    assert endpoints.mlflow == f"sqlite:///{tmp_path}/mlflow/mlflow.db"


def test_another_process_sees_the_same(tmp_path: Path) -> None:
    endpoints = Endpoints.from_environment(
        {"ZEROSKEW_HOME": str(tmp_path), "ZEROSKEW_DATA": "s3://bucket/features"}
    )
    assert Endpoints.from_environment(endpoints.environment()) == endpoints
    assert endpoints.data == "s3://bucket/features"
