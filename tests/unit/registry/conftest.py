"""A fresh embedded registry per test: one migrated SQLite file is made once and copied."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from zeroskew.record import Measure, VersionRecord
from zeroskew.registry import Registry

WRITES = frozenset(
    {
        "create_experiment", "create_run", "create_registered_model", "create_model_version",
        "log_param", "log_batch", "log_artifact", "set_terminated", "set_registered_model_alias",
        "delete_registered_model_alias", "set_model_version_tag", "set_registered_model_tag",
        "delete_model_version", "delete_run",
    }
)  # fmt: skip


class Killed(BaseException):
    """As Ctrl-C: nothing that catches `Exception` may swallow it."""


class Mortal:
    """MLflow's client, which dies before or after its n-th write and does nothing from then on."""

    def __init__(self, client, deadly: int, *, after: bool) -> None:
        self._client, self._left, self._after = client, deadly, after
        self.writes: list[str] = []

    def __getattr__(self, name: str):
        method = getattr(self._client, name)
        if name not in WRITES:
            return method

        def call(*args, **kwargs):
            if self._left <= 0:
                raise Killed(name)
            self._left -= 1
            self.writes.append(name)
            if self._left == 0 and not self._after:
                raise Killed(name)
            result = method(*args, **kwargs)
            if self._left == 0:
                raise Killed(name)
            return result

        return call


class Death:
    """Makes a registry's process die at its n-th write."""

    Killed = Killed

    @staticmethod
    def at(registry: Registry, deadly: int, *, after: bool = False) -> Mortal:
        mortal = Mortal(registry.backend.client, deadly, after=after)
        registry.backend._client = mortal
        return mortal


@pytest.fixture
def death() -> Death:
    return Death()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("migrated")
    assert Registry(f"sqlite:///{folder}/mlflow.db").models() == []
    return folder / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an empty registry, which is the working directory, too."""
    home = tmp_path / "home"
    (home / "mlflow").mkdir(parents=True)
    shutil.copy(migrated, home / "mlflow" / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def open_registry(home: Path) -> Callable[[], Registry]:
    return lambda: Registry(f"sqlite:///{home}/mlflow/mlflow.db", str(home / "mlflow/artifacts"))


@pytest.fixture
def registry(open_registry: Callable[[], Registry]) -> Registry:
    return open_registry()


def _record(data: str = "d1", **more) -> VersionRecord:
    return VersionRecord(
        **{
            "model": "flight_delay",
            "data_hash": data,
            "feature_service": "flight_delay",
            "feature_schema_version": "f" * 64,
            "code_sha": "c" * 40,
            "training_seconds": 41.5,
            "compute_cost": 0.0231,
            "currency": "EUR",
            "metrics": {"auc": Measure(0.74, 0.73, 0.75), "ece": Measure(0.01)},
            "precision": "int8",
            "onnx_sha256": {"model.onnx": "a" * 64},
            "verdict": "first",
        }
        | more
    )


@pytest.fixture
def record() -> Callable[..., VersionRecord]:
    return _record


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A graph, a profile and a Triton repository, with real bytes."""
    folder = tmp_path / "made"
    (folder / "triton/net/1").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(bytes(range(256)) * 40)
    (folder / "profile.json").write_text('{"rows": 3}')
    (folder / "triton/net/config.pbtxt").write_text("name: 'net'")
    (folder / "triton/net/1/model.onnx").write_bytes(b"graph")
    return {
        "model.onnx": folder / "model.onnx",
        "reference/profile.json": folder / "profile.json",
        "triton": folder / "triton",
    }
