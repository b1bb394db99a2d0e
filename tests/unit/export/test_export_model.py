"""The whole export: what it writes, what stops it, and that nothing half-written stays."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
import torch

from zeroskew.errors import DataError, ExportError, GateFailed
from zeroskew.export import export as export_module
from zeroskew.export.atomic_files import new_folder, write_file
from zeroskew.export.export import ExportRecord, export_model
from zeroskew.export.scoring import Scorer
from zeroskew.features.training_set import TrainingSet
from zeroskew.model_config import ModelConfig, parse_model_config


def _config(**export: object) -> ModelConfig:
    return parse_model_config(
        json.dumps(
            {
                "name": "sample",
                "feature_service": "sample",
                "entity_rows": {"path": "rows.parquet", "label": "late"},
                "export": export,
            }
        )
    )


@pytest.fixture(scope="module")
def exported(
    checkpoint: Path, training_set: TrainingSet, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("export") / "out"
    seen: list[tuple[str, int, int]] = []
    export_model(
        checkpoint,
        training_set.folder,
        _config(calibration_rows=1000, tensorrt=["SM89", "120"], max_batch=256),
        out,
        lambda *step: seen.append(step),
    )
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1][1] == seen[-1][2]
    return out


def test_the_folder_holds_what_the_record_says(exported: Path) -> None:
    record = ExportRecord.read(exported)
    for name, digest in record.onnx_sha256.items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest
    assert set(record.onnx_sha256) == {"model.fp32.onnx", "model.int8.onnx", "model.onnx"}
    assert record.onnx_sha256["model.onnx"] == record.onnx_sha256["model.int8.onnx"]
    assert record.precision == "int8"
    assert "auc" in record.precision_reason
    assert record.calibration_rows == 1000
    assert Scorer(exported / "model.onnx").metadata["zeroskew.calibration"] == (
        record.calibration_hash
    )
    assert [plan["target"] for plan in record.plan_files] == ["SM89", "SM120"]
    for plan in record.plan_files:
        content = (exported / "plans" / plan["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == plan["sha256"] == record.plans[plan["key"]]
        assert len(plan["int8_products"]) == 2
    present = {path.name for path in exported.iterdir()}
    assert present == {*record.onnx_sha256, "export.json", "plans"}


def test_the_record_holds_the_gates_numbers(exported: Path) -> None:
    record = ExportRecord.read(exported)
    by_name = {candidate["precision"]: candidate for candidate in record.candidates}
    assert by_name["fp32"]["quality"] is None
    quality = by_name["int8"]["quality"]
    assert quality["rows"] == 1000
    assert 0.6 < quality["fp32"] < 1
    assert abs(quality["metric_loss"]) <= record.limits["max_metric_loss"]
    assert 0 < quality["max_score_difference"] <= record.limits["max_score_difference"]
    assert 0 <= quality["psi"] <= record.limits["max_psi"]
    assert by_name["int8"]["latency"]["p50"] > 0
    assert record.parity <= 1e-5
    assert ExportRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_exporting_again_gives_the_same_graphs(
    exported: Path, checkpoint: Path, training_set: TrainingSet, tmp_path: Path
) -> None:
    first = ExportRecord.read(exported)
    again = export_model(
        checkpoint, training_set.folder, _config(calibration_rows=1000), tmp_path / "out"
    )
    assert again.onnx_sha256 == first.onnx_sha256
    assert again.calibration_hash == first.calibration_hash


def test_fp32_makes_no_int8(checkpoint: Path, training_set: TrainingSet, tmp_path: Path) -> None:
    record = export_model(
        checkpoint, training_set.folder, _config(precision="fp32"), tmp_path / "out"
    )
    assert record.precision == "fp32"
    assert record.calibration_hash == ""
    assert not (tmp_path / "out" / "model.int8.onnx").exists()


def test_auto_keeps_the_fastest_that_passes(
    checkpoint: Path, training_set: TrainingSet, tmp_path: Path
) -> None:
    record = export_model(
        checkpoint, training_set.folder, _config(precision="auto"), tmp_path / "out"
    )
    times = {c["precision"]: c["latency"]["p50"] for c in record.candidates}
    assert set(times) == {"fp32", "int8"}
    wanted = "int8" if times["int8"] <= 0.95 * times["fp32"] else "fp32"
    assert record.precision == wanted
    assert record.onnx_sha256["model.onnx"] == record.onnx_sha256[f"model.{wanted}.onnx"]


@pytest.fixture(scope="module")
def hostile(
    sample_model: ModuleType, training_set: TrainingSet, network: torch.nn.Module,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:  # fmt: skip
    """A model whose calibration is worthless: its training rows lack every value that matters."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(training_set.folder, folder / "training_set")
    path = folder / "training_set" / "train.parquet"
    frame = pl.read_parquet(path)
    numbers = [name for name in frame.columns if name.startswith("n")]
    frame.with_columns(pl.lit(None, pl.Float32).alias(name) for name in numbers).write_parquet(path)
    opened = TrainingSet.open(folder / "training_set")
    return sample_model.make_checkpoint(folder / "checkpoint", opened, network), opened.folder


def test_bad_calibration_is_stopped_by_the_gate(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "before").write_text("kept")
    with pytest.raises(GateFailed) as failed:
        export_model(*hostile, _config(), tmp_path / "out")
    text = str(failed.value)
    assert "int8: largest score difference" in text
    assert "is above 0.1" in text
    assert "PSI of the scores" in text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["before"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_auto_survives_bad_calibration(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    record = export_model(*hostile, _config(precision="auto"), tmp_path / "out")
    assert record.precision == "fp32"
    assert "int8" in record.precision_reason
    assert "is above" in record.precision_reason
    assert [c["precision"] for c in record.candidates if c["breaches"]] == ["int8"]


def test_an_activation_outlier_is_stopped_by_the_gate(
    sample_model: ModuleType, training_set: TrainingSet, network: torch.nn.Module, tmp_path: Path
) -> None:
    """One unit that dwarfs all others takes the whole INT8 range of its layer for itself."""
    from copy import deepcopy

    spoilt = deepcopy(network)
    with torch.no_grad():
        spoilt.body[0].weight[0] *= 3e4
        spoilt.body[0].bias[0] = 3e4
        spoilt.body[3].weight[:, 0] = 0
    checkpoint = sample_model.make_checkpoint(tmp_path / "checkpoint", training_set, spoilt)
    with pytest.raises(GateFailed, match="largest score difference"):
        export_model(checkpoint, training_set.folder, _config(), tmp_path / "out")


def test_the_latency_gate(checkpoint: Path, training_set: TrainingSet, tmp_path: Path) -> None:
    config = _config(precision="fp32", latency={"batch": 8, "max_milliseconds": 1e-6})
    with pytest.raises(GateFailed, match="p99 of 8 rows in milliseconds"):
        export_model(checkpoint, training_set.folder, config, tmp_path / "out")


def test_another_training_set_is_refused(
    sample_model: ModuleType, checkpoint: Path, tmp_path: Path
) -> None:
    other = sample_model.make_training_set(tmp_path / "other", rows=1200)
    with pytest.raises(ExportError, match="was trained on training set"):
        export_model(checkpoint, other.folder, _config(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_training_set(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        export_model(checkpoint, tmp_path, _config(), tmp_path / "out")


def test_a_target_that_cannot_be_built_is_known_at_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    with pytest.raises(ExportError, match="cannot build for SM61"):
        export_model(tmp_path / "no", tmp_path / "no", _config(tensorrt=["SM61"]), tmp_path / "out")


def test_a_place_that_is_a_file(
    checkpoint: Path, training_set: TrainingSet, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="cannot be written"):
        export_model(
            checkpoint, training_set.folder, _config(precision="fp32"), tmp_path / "file" / "out"
        )
    assert (tmp_path / "file").read_text() == "mine"


@contextmanager
def _files_up_to(size: int) -> Iterator[None]:
    """The system itself refuses to write more, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills(checkpoint: Path, training_set: TrainingSet, tmp_path: Path) -> None:
    with _files_up_to(10_000), pytest.raises(ExportError, match="cannot be written") as error:
        export_model(checkpoint, training_set.folder, _config(precision="fp32"), tmp_path / "out")
    assert "free some space" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_old_or_new_never_in_between(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    with _files_up_to(1000), pytest.raises(ExportError):
        write_file(path, b"x" * 5000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_the_old_folder(tmp_path: Path, stop: type[BaseException]) -> None:
    with new_folder(tmp_path / "out") as folder:
        (folder / "one").write_text("1")

    def interrupted() -> None:
        with new_folder(tmp_path / "out") as folder:
            (folder / "two").write_text("2")
            raise stop

    with pytest.raises(stop):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one"]


def test_an_interrupted_export_leaves_nothing(
    checkpoint: Path, training_set: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, "race", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_model(checkpoint, training_set.folder, _config(precision="fp32"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 9}', b'{"format": 1}'])
def test_a_damaged_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "export.json").write_bytes(content)
    with pytest.raises(ExportError, match=r"export\.json"):
        ExportRecord.read(tmp_path)


def test_missing_values_and_unknown_categories_score_alike(
    exported: Path, network: torch.nn.Module, training_set: TrainingSet
) -> None:
    """From raw rows on: the same encoder, then the graph, against torch."""
    row = training_set.row
    raw = {name: [None, 1.5, float("nan"), float("inf")] for name in row.numeric}
    raw |= {"airport": [None, "Newark", "nowhere", ""], "carrier": ["carrier 1", "", None, "x"]}
    numeric, categorical = row.encode(raw)
    scores = Scorer(exported / "model.fp32.onnx").score(numeric, categorical)
    with torch.inference_mode():
        expected = network(torch.from_numpy(numeric), torch.from_numpy(categorical))[:, 0]
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)
