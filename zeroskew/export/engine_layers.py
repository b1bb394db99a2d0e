"""What an engine computes with: its layers, as TensorRT prints them when it has built it.

A plan can be opened only on a machine with a GPU driver, so its inspector cannot be asked where
plans are built. With profiling verbosity DETAILED and a verbose logger, though, the builder prints
the same table for the engine that it just serialized: every layer with the ONNX nodes it came from
and the data types of its inputs and constants. This module reads that table.

What it proves: the engine in the plan takes INT8 activations and INT8 weights into the layer made
from each hidden Gemm, after all of TensorRT's fusions. With `weights_in_plan`, also that the plan
file holds those weights, byte for byte. What it cannot prove without a GPU: that the plan runs
there, how fast, and with which scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), Inputs: \[(?P<inputs>.*)\], "
    r"Constants: \[(?P<constants>.*)\], Outputs: \[(?P<outputs>.*)\], TacticName:(?P<rest>.*)$"
)
_TYPE = re.compile(r"Datatype: (\w+)")
_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class EngineLayer:
    """One layer of a built engine."""

    name: str
    kind: str
    """TensorRT's word: `gemm`, `kgen` (a generated kernel), `runtime_fusion`, …"""
    inputs: tuple[str, ...]
    """Data types of the activations that enter, such as `Int8`."""
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]
    """Names of the ONNX nodes that were fused into it."""

    @property
    def multiplies_int8(self) -> bool:
        """Whether INT8 activations meet INT8 constants in it."""
        return "Int8" in self.inputs and "Int8" in self.constants

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "kind": self.kind,
            "inputs": list(self.inputs),
            "constants": list(self.constants),
            "outputs": list(self.outputs),
            "nodes": list(self.nodes),
        }


def parse_layers(messages: Iterable[str]) -> tuple[EngineLayer, ...]:
    """The layers in the builder's verbose messages, in the order in which the engine runs them."""
    layers = []
    for message in messages:
        for line in message.splitlines():
            if match := _LAYER.match(line.strip()):
                layers.append(
                    EngineLayer(
                        match["name"],
                        match["kind"],
                        tuple(_TYPE.findall(match["inputs"])),
                        tuple(_TYPE.findall(match["constants"])),
                        tuple(_TYPE.findall(match["outputs"])),
                        tuple(_ORIGIN.findall(match["rest"])),
                    )
                )
    return tuple(layers)


def int8_products(layers: Iterable[EngineLayer], products: Iterable[str]) -> tuple[str, ...]:
    """Which of `products` (ONNX node names) the engine computes from INT8 inputs and weights."""
    layers = tuple(layers)
    return tuple(
        name
        for name in products
        if any(layer.multiplies_int8 and name in layer.nodes for layer in layers)
    )


def weights_in_plan(model: onnx.ModelProto, products: Iterable[str], plan: bytes) -> bool:
    """Whether the INT8 weights of all `products` stand in `plan` byte for byte.

    TensorRT for RTX keeps the layout of a Gemm's weights; the datacentre builder may permute them
    for the tactic it timed, so that False means nothing there.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    sources = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    nodes = {node.name: node for node in model.graph.node}
    weights = [numpy_helper.to_array(tensors[sources[nodes[name].input[1]]]) for name in products]
    return bool(weights) and all(
        weight.tobytes() in plan or weight.T.tobytes() in plan for weight in weights
    )
