"""INT8 and half-precision versions of an exported graph, in the form that TensorRT accepts.

INT8 is explicit: a QuantizeLinear/DequantizeLinear pair on the input of every hidden layer and a
DequantizeLinear behind its INT8 weights, one scale per output channel, all zero points 0. Heads,
biases and everything that is not a matrix product stay in float. ONNX Runtime's quantizer does the
work, with the options under which TensorRT parses its output (by default it writes INT32 biases,
which TensorRT refuses).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from zeroskew.errors import ExportError
from zeroskew.export.atomic_files import write_file
from zeroskew.export.calibration_rows import CalibrationRows
from zeroskew.export.matrix_products import find_products, quantized_products
from zeroskew.export.onnx_graph import canonical_bytes, read_graph, read_metadata

BATCH = 256
"""Calibration rows per run; only the ranges of each run are kept, so memory stays flat."""

OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "DedicatedQDQPair": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": ["Gemm"],
}
"""Zero points of 0 and float biases: TensorRT refuses others. Outputs of a product are left alone,
so that bias and activation are not rounded twice."""


@dataclass(frozen=True, slots=True)
class ReducedGraph:
    """A graph of lower precision and the node names of its reduced matrix products."""

    path: Path
    sha256: str
    products: tuple[str, ...]


def quantize_int8(graph: str | Path, out: str | Path, rows: CalibrationRows) -> ReducedGraph:
    """Write the INT8 version of the FP32 `graph` to `out`, its ranges learnt from `rows`.

    The same graph and rows give the same bytes. Raises `ExportError` if the graph has no hidden
    layer, or if a range cannot be learnt.
    """
    source = read_graph(graph)
    hidden = _hidden(source, str(graph))
    with tempfile.TemporaryDirectory(prefix="zeroskew-int8-") as scratch, _quiet():
        prepared, raw = Path(scratch) / "prepared.onnx", Path(scratch) / "int8.onnx"
        # Shapes only: with its optimizations the two graphs would differ by more than Q/DQ.
        quant_pre_process(source, str(prepared), skip_symbolic_shape=True, skip_optimization=True)
        try:
            quantize_static(
                str(prepared),
                str(raw),
                _Reader(source, rows),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Gemm"],
                nodes_to_quantize=list(hidden),
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options=OPTIONS,
            )
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ExportError(f"cannot be quantized: {reason}", where=str(graph)) from None
        quantized = onnx.load(raw)
    _check(quantized, hidden, str(graph))
    metadata = read_metadata(source) | {
        "zeroskew.precision": "int8",
        "zeroskew.calibration": rows.hash,
    }
    path = Path(out)
    return ReducedGraph(path, write_file(path, canonical_bytes(quantized, metadata)), hidden)


def halve(graph: str | Path, out: str | Path) -> ReducedGraph:
    """Write a version of `graph` whose hidden layers multiply in FP16, for the race on a GPU.

    Only the products: preprocessing in FP16 would round category indices above 2048. Raises
    `ExportError` if a weight does not fit into FP16.
    """
    model = read_graph(graph)
    hidden = _hidden(model, str(graph))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.name not in hidden:
            nodes.append(node)
            continue
        name = node.name
        reduced = onnx.NodeProto()
        reduced.CopyFrom(node)
        nodes.append(_cast(node.input[0], f"{name}_half_in", TensorProto.FLOAT16))
        reduced.input[0] = f"{name}_half_in"
        for position in range(1, len(node.input)):
            weight = numpy_helper.to_array(tensors[node.input[position]])
            with np.errstate(over="ignore"):
                half = weight.astype(np.float16)
            if not np.isfinite(half).all():
                raise ExportError(
                    f"`{node.input[position]}` of `{name}` does not fit into FP16", where=str(graph)
                )
            reduced.input[position] = f"{node.input[position]}_half"
            model.graph.initializer.append(numpy_helper.from_array(half, reduced.input[position]))
        reduced.output[0] = f"{name}_half_out"
        nodes += [reduced, _cast(f"{name}_half_out", node.output[0], TensorProto.FLOAT)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {tensor for node in nodes for tensor in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    metadata = read_metadata(model) | {"zeroskew.precision": "fp16"}
    path = Path(out)
    return ReducedGraph(path, write_file(path, canonical_bytes(model, metadata)), hidden)


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}_cast", to=kind)


def _hidden(model: onnx.ModelProto, where: str) -> tuple[str, ...]:
    hidden = find_products(model).hidden
    if not hidden:
        raise ExportError(
            "there is no hidden layer whose precision could be reduced",
            where=where,
            mend="set `export.precision: fp32`",
        )
    return hidden


def _check(model: onnx.ModelProto, hidden: tuple[str, ...], where: str) -> None:
    """What TensorRT and the design ask of the result, whatever the quantizer's version did."""
    quantized = quantized_products(model)
    if quantized != hidden:
        raise ExportError(
            f"layers {sorted(set(hidden) ^ set(quantized))} were not quantized as asked",
            where=where,
            mend="the installed onnxruntime's quantizer behaves differently; use the locked one",
        )
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = (numpy_helper.to_array(tensors[name]) for name in node.input[1:3])
        if zero.dtype != np.int8 or zero.any() or not (np.isfinite(scale) & (scale > 0)).all():
            raise ExportError(
                f"`{node.name}` has a scale or zero point that TensorRT refuses", where=where
            )


class _Reader(CalibrationDataReader):
    """Hands the calibration rows to ONNX Runtime, `BATCH` at a time."""

    def __init__(self, model: onnx.ModelProto, rows: CalibrationRows) -> None:
        self._names = {value.name for value in model.graph.input}
        self._rows = rows
        self._start = 0

    def get_next(self) -> dict[str, Any] | None:
        part = slice(self._start, self._start + BATCH)
        if self._start >= len(self._rows):
            return None
        self._start += BATCH
        feed = {"numeric": self._rows.numeric[part], "categorical": self._rows.categorical[part]}
        return {name: array for name, array in feed.items() if name in self._names}


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer logs advice on the root logger that is not for the user."""
    root = logging.getLogger()
    level = root.level
    try:
        root.setLevel(logging.ERROR)
        yield
    finally:
        root.setLevel(level)
