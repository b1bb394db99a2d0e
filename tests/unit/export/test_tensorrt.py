"""Real TensorRT plans of the real module, built without a GPU, and what they compute in."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from zeroskew.errors import ExportError
from zeroskew.export import tensorrt_builder
from zeroskew.export.engine_layers import EngineLayer, int8_products, parse_layers, weights_in_plan
from zeroskew.export.matrix_products import find_products, quantized_products
from zeroskew.export.quantize import halve
from zeroskew.export.tensorrt_builder import Plan, build_plan, open_plan
from zeroskew.export.tensorrt_flavour import RTX, gpu_capability, load_flavour, resolve_target

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
without_gpu = pytest.mark.skipif(gpu_capability() is not None, reason="there is a GPU")


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@pytest.mark.parametrize("target", ["SM80", "SM86", "SM89", "SM120"])
def test_hidden_layers_multiply_in_int8_on(target: str, int8: Path, plans: Path) -> None:
    plan = build_plan(int8, target=target, cache=plans, flavour=RTX)
    model = onnx.load(int8)
    assert plan.target == target
    assert plan.int8_products == quantized_products(model)
    assert len(plan.int8_products) == 2
    for name in plan.int8_products:
        # Its scaling back to float may be a layer of its own, which names the node too.
        (layer,) = (x for x in plan.layers if name in x.nodes and x.multiplies_int8)
        assert layer.kind == "gemm"
        assert layer.inputs == ("Int8",)
    (head,) = find_products(model).heads
    assert not any(layer.multiplies_int8 for layer in plan.layers if head in layer.nodes)
    assert plan.weights_in_plan
    assert plan.path.read_bytes()[:8].strip(b"\0")


def test_a_float_graph_has_no_int8_layer(fp32: Path, plans: Path, tmp_path: Path) -> None:
    for graph in (fp32, halve(fp32, tmp_path / "half.onnx").path):
        plan = build_plan(graph, target="89", cache=plans, flavour=RTX)
        assert plan.int8_products == ()
        assert not any(layer.multiplies_int8 for layer in plan.layers)
        assert not plan.weights_in_plan
    assert any("Half" in layer.inputs for layer in plan.layers)


def test_the_weights_of_another_graph_are_not_in_the_plan(int8: Path, plans: Path) -> None:
    model = onnx.load(int8)
    content = build_plan(int8, target="SM89", cache=plans, flavour=RTX).path.read_bytes()
    assert weights_in_plan(model, quantized_products(model), content)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2:
            values = numpy_helper.to_array(tensor).copy()
            values[-1, -1] ^= 1
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    assert not weights_in_plan(model, quantized_products(model), content)


def test_a_plan_is_built_once_and_again_when_damaged(int8: Path, tmp_path: Path) -> None:
    first = build_plan(int8, target="SM86", cache=tmp_path, flavour=RTX)
    again = build_plan(int8, target="SM86", cache=tmp_path, flavour=RTX)
    assert not first.cached
    assert again.cached
    assert Plan.from_json(again.to_json(), tmp_path).layers == first.layers
    first.path.write_bytes(first.path.read_bytes()[:1000])
    assert not build_plan(int8, target="SM86", cache=tmp_path, flavour=RTX).cached
    first.path.with_suffix(".json").write_text(json.dumps({"key": first.key})[:-3])
    assert not build_plan(int8, target="SM86", cache=tmp_path, flavour=RTX).cached


def test_the_key_covers_what_the_plan_depends_on(int8: Path, fp32: Path, tmp_path: Path) -> None:
    keys = [
        build_plan(graph, target=target, cache=tmp_path, max_batch=batch, flavour=RTX).key
        for graph, target, batch in (
            (int8, "SM89", 1024),
            (int8, "SM89", 64),
            (int8, "SM86", 1024),
            (fp32, "SM89", 1024),
        )
    ]
    assert len(set(keys)) == 4


def test_two_builders_of_one_plan_take_turns(
    int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, original = [], tensorrt_builder._Build.serialize

    def counted(*arguments: object) -> bytes:
        built.append(1)
        return original(*arguments)

    monkeypatch.setattr(tensorrt_builder._Build, "serialize", counted)
    found: list[Plan] = []
    builders = [
        threading.Thread(
            target=lambda: found.append(
                build_plan(int8, target="SM89", cache=tmp_path, flavour=RTX)
            )
        )
        for _ in range(3)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert len(built) == 1
    assert sorted(plan.cached for plan in found) == [False, True, True]


def test_turing_cannot_and_says_which_operation(int8: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot build for SM75: .*FP32 GEMM is not supported"):
        build_plan(int8, target="SM75", cache=tmp_path, flavour=RTX)
    assert not list(tmp_path.glob("*.plan"))


@pytest.mark.parametrize("target", ["SM90", "sm42", "SM"])
def test_targets_that_are_not_offered(target: str, int8: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="it knows SM75, SM80, SM86, SM89, SM120"):
        build_plan(int8, target=target, cache=tmp_path, flavour=RTX)


@without_gpu
def test_without_a_gpu(int8: Path, plans: Path) -> None:
    with pytest.raises(ExportError, match="there is none"):
        build_plan(int8, target="current", cache=plans, flavour=RTX)
    plan = build_plan(int8, target="SM89", cache=plans, flavour=RTX)
    with pytest.raises(ExportError, match="needs an NVIDIA GPU and its driver"):
        open_plan(plan.path, RTX)


def test_a_flavour_that_is_not_installed() -> None:
    with pytest.raises(ExportError, match="is not installed"):
        load_flavour("tensorrt_of_another_world")


def test_the_datacentre_package_builds_for_its_own_gpu_only() -> None:
    datacentre = load_flavour(RTX).__class__("tensorrt", "11.4", object())
    with pytest.raises(ExportError, match="builds for the GPU at hand"):
        resolve_target(datacentre, "SM42")


def test_an_int32_bias_is_refused_by_node_and_operator(int8: Path, tmp_path: Path) -> None:
    """What ONNX Runtime's quantizer writes by default."""
    model = onnx.load(int8)
    node = next(n for n in model.graph.node if n.name == find_products(model).hidden[0])
    size = next(t.dims[0] for t in model.graph.initializer if t.name == node.input[2])
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.zeros(size, np.int32), "bias32"),
            numpy_helper.from_array(np.array(0.01, np.float32), "bias32_scale"),
        ]
    )
    bias = helper.make_node("DequantizeLinear", ["bias32", "bias32_scale"], ["bias"], "bias_dq")
    model.graph.node.insert(0, bias)
    node.input[2] = "bias"
    onnx.save(model, tmp_path / "bias.onnx")
    with pytest.raises(ExportError, match=r"node `bias_dq` \(DequantizeLinear\).*Int32") as error:
        build_plan(tmp_path / "bias.onnx", target="SM89", cache=tmp_path, flavour=RTX)
    assert "cuda" not in str(error.value).lower()


def test_an_engine_that_stays_in_float_is_not_kept(
    int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_builder, "parse_layers", lambda messages: ())
    with pytest.raises(ExportError, match="in float although the graph is quantized"):
        build_plan(int8, target="SM89", cache=tmp_path, flavour=RTX)
    assert not list(tmp_path.glob("*.plan"))


@pytest.mark.parametrize(("opt", "most"), [(0, 8), (9, 8)])
def test_impossible_batches(int8: Path, tmp_path: Path, opt: int, most: int) -> None:
    with pytest.raises(ExportError, match="must be between 1 and max_batch"):
        build_plan(int8, target="SM89", cache=tmp_path, opt_batch=opt, max_batch=most)


def test_layers_are_read_from_the_builders_words() -> None:
    line = (
        "Name: node_linear_myl0_8, LayerType: gemm, Inputs: [ { Name: a, Dimensions: [-1,48], "
        "Datatype: Int8, Format: x }], Constants: [ { Name: w, Datatype: Int8 }, { Name: s, "
        "Datatype: Float }], Outputs: [ { Name: o, Datatype: Float }], TacticName: t, StreamId: 0, "
        "Metadata: [ONNX Layer: node_linear][ONNX Layer: relu]"
    )
    (layer,) = parse_layers(["nothing", f"Layers:\n{line}\n"])
    assert layer == EngineLayer(
        "node_linear_myl0_8", "gemm", ("Int8",), ("Int8", "Float"), ("Float",),
        ("node_linear", "relu"),
    )  # fmt: skip
    assert int8_products([layer], ["node_linear", "node_linear_1"]) == ("node_linear",)
