"""The Triton model in three backends: the same tensors, whole files, only plans Triton can load."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from zeroskew.errors import ExportError
from zeroskew.export.export import ExportRecord
from zeroskew.export.triton_repository import BACKENDS, config_pbtxt, write_triton_repository
from zeroskew.features.row import FeatureRow


@pytest.mark.parametrize("backend", BACKENDS)
def test_files_of_each_backend(backend: str, exported: Path, tmp_path: Path) -> None:
    folder = write_triton_repository(exported, tmp_path / "models", backend, version=3)
    assert folder == tmp_path / "models" / "sample_net"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    model = {
        "tensorrt": ["3/model.plan"],
        "onnxruntime": ["3/model.onnx"],
        "python": ["3/model.onnx", "3/model.py"],
    }[backend]
    assert files == [*model, "config.pbtxt"]
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["sample_net"]


def test_all_backends_take_and_give_the_same_tensors(exported: Path, row: FeatureRow) -> None:
    record = ExportRecord.read(exported)

    def tensors(backend: str) -> list[str]:
        text = config_pbtxt("m", record, backend)
        return re.findall(r"^(?:input|output) \{\n.*?\n\}", text, re.S | re.M)

    expected = [
        f'{side} {{\n  name: "{name}"\n  data_type: TYPE_{kind}\n  dims: {width}\n}}'
        for side, name, kind, width in (
            ("input", "numeric", "FP32", len(row.numeric)),
            ("input", "categorical", "INT32", len(row.categorical)),
            ("output", "score", "FP32", 1),
        )
    ]
    for backend in BACKENDS:
        assert tensors(backend) == expected


def test_what_the_config_says(exported: Path) -> None:
    record = ExportRecord.read(exported)
    text = config_pbtxt("m", record, "tensorrt", versions=(4,), instances=2)
    for line in ("max_batch_size: 256", "versions: 4", "count: 2", "kind: KIND_GPU",
                 "max_queue_delay_microseconds: 100", "batch_size: 256", "zero_data: true",
                 'default_model_filename: "model.plan"'):  # fmt: skip
        assert line in text
    assert "KIND_CPU" in config_pbtxt("m", record, "python")
    assert 'key: "intra_op_thread_count"' in config_pbtxt("m", record, "onnxruntime")


def test_an_input_without_columns_is_left_out(exported: Path) -> None:
    record = replace(ExportRecord.read(exported), row=FeatureRow(("a",), ()))
    tensors, _, _ = config_pbtxt("m", record, "python").partition("parameters")
    assert 'key: "numeric"' in tensors
    assert "categorical" not in tensors


def test_strings_survive_protobuf_text(exported: Path) -> None:
    record = replace(
        ExportRecord.read(exported),
        row=FeatureRow(('quo"te', "back\\slash", "ümlaut", "line\nbreak"), ()),
        precision='"\\\n\x00é',
    )
    text = config_pbtxt("m", record, "python")
    assert text.isascii()
    assert 'string_value: "\\"\\\\\\012\\000\\303\\251"' in text


def test_the_plan_that_triton_can_load_is_chosen(exported: Path, tmp_path: Path) -> None:
    folder = write_triton_repository(exported, tmp_path / "models", "tensorrt")
    assert (folder / "1" / "model.plan").read_bytes() == b"plan of tensorrt"
    write_triton_repository(exported, tmp_path / "models", "tensorrt", target="90")


def test_an_rtx_plan_is_refused_with_the_reason(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="TensorRT for RTX only, and Triton's TensorRT backend"):
        write_triton_repository(exported, tmp_path / "models", "tensorrt", target="SM89")
    assert not (tmp_path / "models").exists()


def test_no_plan_at_all(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="exactly one is needed"):
        write_triton_repository(exported, tmp_path / "models", "tensorrt", target="SM70")


@pytest.mark.parametrize(
    ("file", "backend"), [("model.onnx", "python"), ("plans/SM90.plan", "tensorrt")]
)
def test_a_file_that_was_changed_since(
    exported: Path, tmp_path: Path, file: str, backend: str
) -> None:
    before = write_triton_repository(exported, tmp_path / "models", "python", version=1)
    (exported / file).write_bytes(b"something else")
    with pytest.raises(ExportError, match="is not the "):
        write_triton_repository(exported, tmp_path / "models", backend, version=2)
    assert (before / "1" / "model.onnx").exists()
    assert not (before / "2").exists()


@pytest.mark.parametrize(
    "options",
    [{"backend": "torch"}, {"version": 0}, {"instances": 0}, {"name": "a/b"},
     {"max_queue_delay_microseconds": -1}],
)  # fmt: skip
def test_impossible_options(exported: Path, tmp_path: Path, options: dict) -> None:
    with pytest.raises(ExportError):
        write_triton_repository(exported, tmp_path / "models", **options)
    assert not (tmp_path / "models").exists()


def test_a_folder_without_an_export(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="run `zeroskew export` first"):
        write_triton_repository(tmp_path, tmp_path / "models")
