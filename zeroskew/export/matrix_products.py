"""Which matrix products of a graph are hidden layers, and which one is the head.

Quantization, half precision and the check of a built engine must agree on this. A hidden layer is
a Gemm with constant weights whose result reaches another such Gemm; a Gemm that no other one
follows is a head and stays in float. MatMul nodes belong to the preprocessing (category code to
index), where eight bits would turn one category into another.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx


@dataclass(frozen=True, slots=True)
class Products:
    """Node names of the Gemms, in graph order."""

    hidden: tuple[str, ...]
    heads: tuple[str, ...]


def find_products(model: onnx.ModelProto) -> Products:
    """Hidden layers and heads of `model`; works on float and on quantized graphs."""
    constants = {tensor.name for tensor in model.graph.initializer}
    gemms = [
        node
        for node in model.graph.node
        if node.op_type == "Gemm" and _source(model, node.input[1]) in constants
    ]
    # One walk from the end: a tensor leads to a Gemm if any of its readers is or does.
    leads: set[str] = set()
    followed: dict[str, bool] = {}
    names = {node.name for node in gemms}
    for node in reversed(model.graph.node):
        onward = any(output in leads for output in node.output)
        if node.name in names:
            followed[node.name] = onward
        if onward or node.name in names:
            leads.update(node.input)
    return Products(
        hidden=tuple(node.name for node in gemms if followed[node.name]),
        heads=tuple(node.name for node in gemms if not followed[node.name]),
    )


def quantized_products(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the Gemms whose input and weights both come out of an INT8 DequantizeLinear."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    integers = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        and len(node.input) > 2
        and types.get(node.input[2]) == onnx.TensorProto.INT8
    }
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type == "Gemm" and node.input[0] in integers and node.input[1] in integers
    )


def _source(model: onnx.ModelProto, tensor: str) -> str:
    """The initializer behind a weight: itself, or what a DequantizeLinear or Cast reads."""
    for node in model.graph.node:
        if tensor in node.output and node.op_type in ("DequantizeLinear", "Cast"):
            return str(node.input[0])
    return tensor
