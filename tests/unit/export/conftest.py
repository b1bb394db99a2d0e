"""An exported network of the real kind, made once for all tests of the export."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from zeroskew.export import onnx_graph
from zeroskew.export.calibration_rows import CalibrationRows, calibration_rows
from zeroskew.export.export import ExportRecord
from zeroskew.export.onnx_graph import export_onnx
from zeroskew.export.quantize import quantize_int8
from zeroskew.features.row import FeatureRow
from zeroskew.features.training_set import TrainingSet

if TYPE_CHECKING:
    from zeroskew.training.module import TabularNet


@pytest.fixture(scope="session", autouse=True)
def one_export_per_network() -> Iterator[None]:
    """Torch takes seconds to export; the same weights give the same bytes, which a test proves."""
    original, known = onnx_graph.graph_bytes, {}

    def remembered(network: TabularNet, row: FeatureRow, *, training_set: str) -> bytes:
        state = {name: value.numpy().tobytes() for name, value in network.state_dict().items()}
        key = (tuple(state.items()), row, training_set)
        if key not in known:
            known[key] = original(network, row, training_set=training_set)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_graph, "graph_bytes", remembered)
        yield


@pytest.fixture(scope="session")
def sample_model() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "export_sample_model", Path(__file__).with_name("sample_model.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def training_set(sample_model: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    return sample_model.make_training_set(tmp_path_factory.mktemp("sample") / "training_set")


@pytest.fixture(scope="session")
def row(training_set: TrainingSet) -> FeatureRow:
    return training_set.row


@pytest.fixture(scope="session")
def network(sample_model: ModuleType, training_set: TrainingSet) -> TabularNet:
    return sample_model.make_network(training_set)


@pytest.fixture(scope="session")
def checkpoint(sample_model: ModuleType, training_set: TrainingSet, network: TabularNet) -> Path:
    folder = training_set.folder.parent / "checkpoint"
    return sample_model.make_checkpoint(folder, training_set, network)


@pytest.fixture(scope="session")
def calibration(training_set: TrainingSet) -> CalibrationRows:
    return calibration_rows(training_set, 1000)


@pytest.fixture(scope="session")
def fp32(checkpoint: Path) -> Path:
    return export_onnx(checkpoint, checkpoint.parent / "model.fp32.onnx").path


@pytest.fixture(scope="session")
def int8(fp32: Path, calibration: CalibrationRows) -> Path:
    return quantize_int8(fp32, fp32.with_name("model.int8.onnx"), calibration).path


@pytest.fixture
def exported(int8: Path, row: FeatureRow, tmp_path: Path) -> Path:
    """An export's folder, with a stand-in for a plan that only a GPU could build."""
    folder = tmp_path / "export"
    (folder / "plans").mkdir(parents=True)
    shutil.copy(int8, folder / "model.onnx")
    plans = []
    for flavour, target in (("tensorrt", "SM90"), ("tensorrt_rtx", "SM89")):
        content = f"plan of {flavour}".encode()
        (folder / "plans" / f"{target}.plan").write_bytes(content)
        plans.append(
            {
                "file": f"{target}.plan",
                "flavour": flavour,
                "target": target,
                "key": target,
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )
    record = ExportRecord(
        model="sample",
        row=row,
        training_set="t",
        precision="int8",
        precision_reason="",
        onnx_sha256={"model.onnx": hashlib.sha256(int8.read_bytes()).hexdigest()},
        parity=0.0,
        calibration_hash="c",
        calibration_rows=1000,
        candidates=(),
        limits={},
        device="CPUExecutionProvider",
        max_batch=256,
        versions={},
        plan_files=tuple(plans),
    )
    (folder / "export.json").write_text(json.dumps(record.to_json()))
    return folder
