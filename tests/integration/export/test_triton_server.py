"""The exported graph behind a real Triton: it loads, scores as here, judges requests alone."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from zeroskew.export.export import ExportRecord, export_model
from zeroskew.export.scoring import Scorer
from zeroskew.export.triton_repository import BACKENDS, config_pbtxt, write_triton_repository
from zeroskew.features.training_set import TrainingSet
from zeroskew.model_config import parse_model_config

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def exported(sample_model: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    training_set = sample_model.make_training_set(folder / "training_set")
    network = sample_model.make_network(training_set)
    checkpoint = sample_model.make_checkpoint(folder / "checkpoint", training_set, network)
    config = parse_model_config(
        json.dumps(
            {
                "name": "sample",
                "feature_service": "sample",
                "entity_rows": {"path": "rows.parquet", "label": "late"},
                "export": {"max_batch": 256},
            }
        )
    )
    export_model(checkpoint, training_set.folder, config, folder / "export")
    return folder / "export"


@pytest.fixture(scope="module")
def rows(exported: Path) -> tuple[np.ndarray, np.ndarray]:
    numeric, categorical, _ = TrainingSet.open(exported.parent / "training_set").encode("test")
    return numeric, categorical


def test_triton_scores_as_we_do(
    exported: Path,
    rows: tuple[np.ndarray, np.ndarray],
    start_triton: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    write_triton_repository(exported, tmp_path / "models", "python", version=7)
    triton = start_triton(tmp_path / "models")
    numeric, categorical = rows
    expected = Scorer(exported / "model.onnx").score(numeric, categorical)
    assert np.isnan(numeric).any()
    for size in (1, 3, 256):
        scores = triton.infer("sample_net", numeric=numeric[:size], categorical=categorical[:size])
        assert scores.shape == (size, 1)
        np.testing.assert_allclose(scores[:, 0], expected[:size], atol=1e-6)
    assert triton.get("models/sample_net")["versions"] == ["7"]
    described = triton.get("models/sample_net/config")
    assert described["max_batch_size"] == 256
    row = json.loads(described["parameters"]["zeroskew_row"]["string_value"])
    assert row == ExportRecord.read(exported).row.to_json()

    for wrong, message in (
        ({"numeric": numeric[:2, :-1], "categorical": categorical[:2]}, "unexpected shape"),
        ({"numeric": numeric[:2]}, "missing required input"),
        ({"numeric": numeric[:257], "categorical": categorical[:257]}, "batch-size must be <= 256"),
    ):
        with pytest.raises(ValueError, match=message):
            triton.infer("sample_net", **wrong)


def test_many_clients_get_their_own_rows_back(
    exported: Path,
    rows: tuple[np.ndarray, np.ndarray],
    start_triton: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    """Requests of different sizes share batches; every client must get the scores of its rows."""
    write_triton_repository(
        exported, tmp_path / "models", "python", max_queue_delay_microseconds=5000
    )
    triton = start_triton(tmp_path / "models")
    numeric, categorical = rows
    expected = Scorer(exported / "model.onnx").score(numeric, categorical)
    wrong: list[object] = []

    def client(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(25):
            at = random.integers(0, len(numeric), random.integers(1, 30))
            scores = triton.infer("sample_net", numeric=numeric[at], categorical=categorical[at])
            if np.abs(scores[:, 0] - expected[at]).max() > 1e-6:
                wrong.append(at)

    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert wrong == []
    (stats,) = triton.get("models/sample_net/stats")["model_stats"]
    # Fewer runs than requests: the dynamic batcher put several into one.
    assert stats["execution_count"] < 8 * 25
    assert stats["inference_stats"]["success"]["count"] >= 8 * 25


@pytest.mark.parametrize("backend", BACKENDS)
def test_tritons_own_parser_takes_the_config(
    backend: str, exported: Path, triton_python: Path
) -> None:
    """Triton's protobuf definition of a model's configuration, from its own client package."""
    text = config_pbtxt("sample_net", ExportRecord.read(exported), backend, versions=(2,))
    parse = (
        "import sys, json; from google.protobuf import text_format, json_format;"
        "from tritonclient.grpc import model_config_pb2 as m;"
        "c = text_format.Parse(sys.stdin.read(), m.ModelConfig());"
        "print(json.dumps(json_format.MessageToDict(c, preserving_proto_field_name=True)))"
    )
    done = subprocess.run(
        [triton_python, "-c", parse], input=text, capture_output=True, text=True, check=True
    )
    config = json.loads(done.stdout)
    assert config["backend"] == backend
    assert config["version_policy"] == {"specific": {"versions": ["2"]}}
    assert [tensor["name"] for tensor in config["input"]] == ["numeric", "categorical"]
    assert config["output"] == [{"name": "score", "data_type": "TYPE_FP32", "dims": ["1"]}]
    assert [sample["batch_size"] for sample in config["model_warmup"]] == [1, 256]
