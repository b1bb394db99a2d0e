"""INT8 and FP16 graphs: which layers change, in which form, and always into the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zeroskew.errors import ExportError
from zeroskew.export.calibration_rows import CalibrationRows
from zeroskew.export.matrix_products import find_products, quantized_products
from zeroskew.export.onnx_graph import read_metadata
from zeroskew.export.quantize import BATCH, _Reader, halve, quantize_int8
from zeroskew.export.scoring import Scorer


def test_every_hidden_layer_is_int8_and_the_head_is_not(fp32: Path, int8: Path) -> None:
    before, after = onnx.load(fp32), onnx.load(int8)
    products = find_products(before)
    assert len(products.hidden) == 2
    assert len(products.heads) == 1
    assert find_products(after) == products
    assert quantized_products(after) == products.hidden
    assert quantized_products(before) == ()
    head = next(node for node in after.graph.node if node.name == products.heads[0])
    written = {node.output[0]: node.op_type for node in after.graph.node}
    assert all(written.get(name) != "DequantizeLinear" for name in head.input)


def test_only_products_differ_from_fp32(fp32: Path, int8: Path) -> None:
    def others(path: Path) -> list[tuple[str, str]]:
        pairs = ("QuantizeLinear", "DequantizeLinear")
        nodes = onnx.load(path).graph.node
        return sorted((node.op_type, node.name) for node in nodes if node.op_type not in pairs)

    assert others(fp32) == others(int8)


def test_quantization_is_per_channel_symmetric_and_leaves_biases_alone(int8: Path) -> None:
    model = onnx.load(int8)
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 2 * 3  # per layer: Q and DQ of the input, DQ of the weights
    for node in pairs:
        zero = tensors[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    weights = [tensors[n.input[0]] for n in pairs if n.input[0] in tensors]
    scales = [tensors[n.input[1]] for n in pairs if n.input[0] in tensors]
    for weight, scale in zip(weights, scales, strict=True):
        assert weight.dtype == np.int8
        assert scale.shape == (weight.shape[0],)
    assert not any(t.dtype == np.int32 and t.ndim == 1 and "bias" in n for n, t in tensors.items())


def test_same_rows_same_bytes_other_rows_other_hash(
    fp32: Path, int8: Path, calibration: CalibrationRows, tmp_path: Path
) -> None:
    again = quantize_int8(fp32, tmp_path / "again.onnx", calibration)
    assert (tmp_path / "again.onnx").read_bytes() == int8.read_bytes()
    assert read_metadata(onnx.load(again.path))["zeroskew.calibration"] == calibration.hash
    assert read_metadata(onnx.load(again.path))["zeroskew.precision"] == "int8"


def test_scores_stay_close(fp32: Path, int8: Path, calibration: CalibrationRows) -> None:
    rows = calibration.numeric, calibration.categorical
    reference, reduced = Scorer(fp32).score(*rows), Scorer(int8).score(*rows)
    difference = np.abs(reference - reduced)
    assert 0 < difference.max() < 0.05
    assert reference.std() > 10 * difference.std()


def test_rows_are_handed_over_in_bounded_batches(fp32: Path, calibration: CalibrationRows) -> None:
    reader = _Reader(onnx.load(fp32), calibration)
    sizes = []
    while (batch := reader.get_next()) is not None:
        assert set(batch) == {"numeric", "categorical"}
        sizes.append(len(batch["numeric"]))
    assert max(sizes) <= BATCH
    assert sum(sizes) == len(calibration)


def test_int8_stays_readable_for_older_runtimes(int8: Path) -> None:
    model = onnx.load(int8)
    assert model.ir_version == 8
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 18)}


def test_a_layer_that_is_always_silent(
    fp32: Path, tmp_path: Path, calibration: CalibrationRows
) -> None:
    """No activation, so no range to learn: the scale must still be a number."""
    model = onnx.load(fp32)
    first = next(n for n in model.graph.node if n.name == find_products(model).hidden[0])
    for tensor in model.graph.initializer:
        if tensor.name == first.input[2]:
            silent = np.full(list(tensor.dims), -1e4, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(silent, tensor.name))
    onnx.save(model, tmp_path / "silent.onnx")
    reduced = quantize_int8(tmp_path / "silent.onnx", tmp_path / "int8.onnx", calibration)
    rows = calibration.numeric, calibration.categorical
    expected = Scorer(tmp_path / "silent.onnx").score(*rows)
    np.testing.assert_allclose(Scorer(reduced.path).score(*rows), expected, atol=0.02)


def test_a_graph_without_hidden_layers_cannot_be_reduced(
    tmp_path: Path, calibration: CalibrationRows
) -> None:
    path = tmp_path / "linear.onnx"
    onnx.save(_linear(), path)
    for reduce in (lambda: quantize_int8(path, tmp_path / "o.onnx", calibration),
                   lambda: halve(path, tmp_path / "o.onnx")):  # fmt: skip
        with pytest.raises(ExportError, match="no hidden layer"):
            reduce()
    assert not (tmp_path / "o.onnx").exists()


def test_half_precision_multiplies_hidden_layers_only(
    fp32: Path, tmp_path: Path, calibration: CalibrationRows
) -> None:
    half = halve(fp32, tmp_path / "half.onnx")
    model = onnx.load(half.path)
    types = {t.name: t.data_type for t in model.graph.initializer}
    products = find_products(onnx.load(fp32))
    assert half.products == products.hidden
    for node in model.graph.node:
        if node.op_type == "Gemm":
            wanted = TensorProto.FLOAT16 if node.name in products.hidden else TensorProto.FLOAT
            assert types[node.input[1]] == wanted
    rows = calibration.numeric, calibration.categorical
    difference = np.abs(Scorer(fp32).score(*rows) - Scorer(half.path).score(*rows))
    assert 0 < difference.max() < 0.005


def test_a_weight_beyond_half_precision_is_refused(fp32: Path, tmp_path: Path) -> None:
    model = onnx.load(fp32)
    name = next(n.input[1] for n in model.graph.node if n.name in find_products(model).hidden)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            values = numpy_helper.to_array(tensor).copy()
            values[0, 0] = 1e6
            tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "large.onnx")
    with pytest.raises(ExportError, match="does not fit into FP16"):
        halve(tmp_path / "large.onnx", tmp_path / "half.onnx")


def _linear() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((3, 1), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["numeric", "w"], ["score"], name="only")],
        "linear",
        [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
