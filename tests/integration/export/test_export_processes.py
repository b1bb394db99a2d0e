"""The export as a user runs it: another process, its words, its exit code, the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from zeroskew.export.export import ExportRecord

pytestmark = [pytest.mark.integration, pytest.mark.slow]

COMMAND = [sys.executable, "-c", "from zeroskew.cli import main; main()"]


@pytest.fixture(scope="module")
def model(sample_model: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    training_set = sample_model.make_training_set(folder / "training_set")
    network = sample_model.make_network(training_set)
    sample_model.make_checkpoint(folder / "checkpoint", training_set, network)
    (folder / "sample").mkdir()
    (folder / "sample" / "model.yaml").write_text(
        "name: sample\nfeature_service: sample\nentity_rows: {path: rows.parquet, label: late}\n"
    )
    return folder


def _zeroskew(*arguments: object, seed: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": str(seed), "COLUMNS": "200"},
        timeout=240,
    )


def _export(model: Path, out: Path, seed: int = 0) -> subprocess.CompletedProcess[str]:
    return _zeroskew(
        "export", model / "checkpoint", model / "training_set",
        "--model", model / "sample", "--out", out, seed=seed,
    )  # fmt: skip


def test_export_plan_triton(model: Path, tmp_path: Path) -> None:
    first = _export(model, tmp_path / "one")
    assert first.returncode == 0, first.stderr
    for word in ("fp32", "int8", "auc", "written to"):
        assert word in first.stdout
    # Torch's exporter, ONNX Runtime and TensorRT all like to talk; none of it is for the user.
    noise = [line for line in first.stderr.splitlines() if "warn" in line.lower() or "[" in line]
    assert noise == []

    second = _export(model, tmp_path / "two", seed=123)
    assert second.returncode == 0, second.stderr
    records = [ExportRecord.read(tmp_path / name) for name in ("one", "two")]
    assert records[0].onnx_sha256 == records[1].onnx_sha256
    assert records[0].calibration_hash == records[1].calibration_hash

    pytest.importorskip("tensorrt_rtx_bindings")
    plan = _zeroskew(
        "plan", tmp_path / "one" / "model.onnx", "--target", "SM89", "--out", tmp_path / "plans"
    )
    assert plan.returncode == 0, plan.stderr
    assert "in INT8: node_linear, node_linear_1" in plan.stdout
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 1

    triton = _zeroskew("triton", tmp_path / "one", "--out", tmp_path / "models")
    assert triton.returncode == 0, triton.stderr
    assert (tmp_path / "models" / "sample_net" / "1" / "model.py").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", "none.onnx", "--target", "SM89", "--out", "plans"), "there is no ONNX file"),
        (("triton", "nowhere", "--out", "models"), "there is no export here"),
        (
            ("export", "nowhere", "nothing", "--model", "absent", "--out", "out"),
            "there is no model.yaml",
        ),
    ],
)
def test_a_mistake_is_one_message(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing(model: Path, tmp_path: Path) -> None:
    """Interrupted as soon as the export has begun to write."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, "export", str(model / "checkpoint"), str(model / "training_set"),
         "--model", str(model / "sample"), "--out", str(out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not list(tmp_path.iterdir()) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
