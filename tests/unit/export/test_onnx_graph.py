"""The exported graph: torch's scores, always the same bytes, and nothing of where it was made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from zeroskew.errors import ExportError, TrainingError
from zeroskew.export.onnx_graph import (
    PARITY,
    awkward_rows,
    check_parity,
    export_onnx,
    graph_bytes,
    read_graph,
    read_metadata,
)
from zeroskew.export.scoring import Scorer
from zeroskew.features.row import FeatureRow
from zeroskew.features.training_set import TrainingSet
from zeroskew.training.module import Architecture, TabularNet

FUNCTION_FIXTURES = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_names_types_and_the_dynamic_batch(fp32: Path, row: FeatureRow) -> None:
    graph = onnx.load(fp32).graph
    found = {
        value.name: (
            value.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in (*graph.input, *graph.output)
    }
    assert found == {
        "numeric": (TensorProto.FLOAT, ["batch", len(row.numeric)]),
        "categorical": (TensorProto.INT32, ["batch", len(row.categorical)]),
        "score": (TensorProto.FLOAT, ["batch", 1]),
    }


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
def test_torch_and_onnx_agree_in_any_batch(
    network: torch.nn.Module, fp32: Path, row: FeatureRow, rows: int
) -> None:
    assert check_parity(network, fp32.read_bytes(), *awkward_rows(row, rows)) <= PARITY


@FUNCTION_FIXTURES
@given(data=st.data())
def test_torch_and_onnx_agree_on_any_value(
    network: torch.nn.Module, fp32: Path, row: FeatureRow, data: st.DataObject
) -> None:
    cell = st.floats(width=32, allow_infinity=False) | st.just(float("nan"))
    code = st.integers(-(2**31), 2**31 - 1)
    rows = data.draw(st.integers(1, 4))

    def table(values: st.SearchStrategy, width: int) -> list[list]:
        one = st.lists(values, min_size=width, max_size=width)
        return data.draw(st.lists(one, min_size=rows, max_size=rows))

    numeric = np.array(table(cell, len(row.numeric)), np.float32)
    categorical = np.array(table(code, len(row.categorical)), np.int32)
    assert check_parity(network, fp32.read_bytes(), numeric, categorical) <= PARITY


def test_an_altered_graph_is_caught(network: torch.nn.Module, fp32: Path, row: FeatureRow) -> None:
    model = onnx.load(fp32)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = numpy_helper.to_array(largest).copy()
    values[0] += 0.5
    largest.CopyFrom(numpy_helper.from_array(values, largest.name))
    with pytest.raises(ExportError, match=r"disagrees with torch by .* at row \d+"):
        check_parity(network, model.SerializeToString(), *awkward_rows(row))


def test_the_same_network_gives_the_same_bytes(
    network: torch.nn.Module,
    fp32: Path,
    row: FeatureRow,
    training_set: TrainingSet,
    capfd: pytest.CaptureFixture[str],
) -> None:
    content_hash = training_set.manifest.content_hash
    again = graph_bytes(network, row, training_set=content_hash)
    assert again == fp32.read_bytes()
    assert graph_bytes(network, row, training_set="other") != again
    assert capfd.readouterr() == ("", "")


def test_nothing_tells_where_it_was_made(
    fp32: Path, row: FeatureRow, training_set: TrainingSet
) -> None:
    content = fp32.read_bytes()
    for trace in (b"site-packages", b".py", b"torch.", b"/home", str(Path.cwd()).encode()):
        assert trace not in content
    model = onnx.load(fp32)
    assert (model.producer_name, model.producer_version) == ("zeroskew", "")
    assert model.ir_version == 8  # Triton 23.05, KServe's default, refuses 10
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert json.loads(read_metadata(model)["zeroskew.row"]) == row.to_json()
    assert read_metadata(model)["zeroskew.training_set"] == training_set.manifest.content_hash


def test_a_network_that_cannot_be_exported(row: FeatureRow) -> None:
    class Branches(torch.nn.Module):
        def forward(self, numeric: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
            if numeric.sum() > 0:
                return numeric[:, :1]
            return categorical[:, :1].float()

    with pytest.raises(ExportError, match="torch cannot export the network"):
        graph_bytes(Branches(), row, training_set="")


def test_a_row_without_columns() -> None:
    with pytest.raises(ExportError, match="no columns"):
        graph_bytes(torch.nn.Identity(), FeatureRow((), ()), training_set="")


@FUNCTION_FIXTURES
@given(share=st.floats(0, 0.999))
@example(share=0.99)
def test_a_file_cut_short_is_one_clear_error(fp32: Path, tmp_path: Path, share: float) -> None:
    content = fp32.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ExportError, match=r"cut\.onnx: (not a complete ONNX file|cannot)"):
        read_graph(path)
    with pytest.raises(ExportError, match=r"cut\.onnx"):
        Scorer(path)


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no ONNX file"):
        read_graph(tmp_path / "none.onnx")


def test_awkward_rows_are_awkward(row: FeatureRow) -> None:
    numeric, categorical = awkward_rows(row)
    assert np.isnan(numeric[0]).all()
    assert not categorical[0].any()
    assert 0.1 < np.isnan(numeric).mean() < 0.3
    assert np.nanmax(np.abs(numeric)) > 1e29
    assert (categorical < 0).any()
    assert (categorical > 0).any()


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_a_model_with_one_kind_of_column(kind: str) -> None:
    numeric = 4 if kind == "numeric" else 0
    vocabulary = () if numeric else (3, 5)
    row = FeatureRow(tuple("abcd")[:numeric], tuple("xy") if vocabulary else ())
    network = TabularNet(Architecture(numeric, vocabulary, (8,), 2)).eval()
    for embedded in network.categories:
        embedded.codes.copy_(torch.arange(1, 1 + len(embedded.codes)))
    content = graph_bytes(network, row, training_set="t")
    assert [value.name for value in onnx.ModelProto.FromString(content).graph.input] == [kind]
    assert check_parity(network, content, *awkward_rows(row)) <= PARITY
    assert Scorer(content).widths == (numeric, len(vocabulary))


def test_a_damaged_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(TrainingError, match="damaged"):
        export_onnx(broken, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
