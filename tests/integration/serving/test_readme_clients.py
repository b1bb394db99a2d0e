"""The client examples of README, run as they stand there against a served flight_delay.

Each runs in a process of its own: KServe's gRPC stubs and tritonclient's cannot be in one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]
NAMES = ("curl", "tritonclient", "kserve")


def examples() -> dict[str, tuple[str, str]]:
    """Language and code by name."""
    found = re.findall(
        r"<!-- client: (\w+) -->\n```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    return {name: (language, code) for name, language, code in found}


@pytest.fixture(scope="module")
def flights(_triton, tickets, tmp_path_factory):
    """The flight model's own features, transforms and model.yaml; a graph that answers 0.25."""
    from zeroskew.embedded.triton import EmbeddedTriton
    from zeroskew.endpoints import Endpoints
    from zeroskew.export.atomic_files import sha256
    from zeroskew.export.export import ExportRecord
    from zeroskew.export.front_repository import write_serving_repository
    from zeroskew.features.read_plan_compiler import compile_read_plan
    from zeroskew.features.repository import open_repository
    from zeroskew.features.row import FeatureRow

    home = tmp_path_factory.mktemp("flights")
    model, version = ROOT / "pipelines/flight_delay", home / "version"
    (version / "export").mkdir(parents=True)
    before = dict(os.environ)
    os.environ.update(
        Endpoints.from_environment(
            {"ZEROSKEW_HOME": str(home), "ZEROSKEW_REDIS": tickets.redis}
        ).environment()
    )
    try:
        plan = compile_read_plan(open_repository(model), "flight_delay")
    finally:
        os.environ.clear()
        os.environ.update(before)
    numeric = tuple(n for n, kind in plan.kinds.items() if kind in ("int64", "float64"))
    categorical = tuple(n for n, kind in plan.kinds.items() if kind == "string")
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["numeric", "zeros"], ["nothing"]),
            helper.make_node("IsNaN", ["nothing"], ["gaps"]),
            helper.make_node("Where", ["gaps", "zero", "nothing"], ["zeroed"]),
            helper.make_node("ReduceSum", ["zeroed", "axis"], ["sum"], keepdims=1),
            helper.make_node("Cast", ["categorical"], ["codes"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["codes", "zero"], ["more"]),
            helper.make_node("ReduceSum", ["more", "axis"], ["none"], keepdims=1),
            helper.make_node("Sum", ["sum", "none", "quarter"], ["score"]),
        ],
        "quarter",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["n", len(numeric)]),
            helper.make_tensor_value_info(
                "categorical", TensorProto.INT32, ["n", len(categorical)]
            ),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [
            helper.make_tensor("zeros", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("quarter", TensorProto.FLOAT, [1], [0.25]),
        ],
    )
    path = version / "export/model.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    record = ExportRecord(
        model="flight_delay", row=FeatureRow(numeric, categorical), training_set="0" * 64,
        precision="fp32", precision_reason="", parity=0.0, calibration_hash="",
        onnx_sha256={"model.onnx": sha256(path.read_bytes())}, calibration_rows=0,
        candidates=(), limits={}, device="CPUExecutionProvider", max_batch=64, versions={},
    )  # fmt: skip
    (version / "export/export.json").write_text(json.dumps(record.to_json()))
    (version / "read_plan.json").write_text(json.dumps(plan.to_json()))
    for name in ("transforms.py", "model.yaml"):
        (version / name).write_text((model / name).read_text())
    write_serving_repository(version, home / "models", version=2)
    with EmbeddedTriton(
        home / "models",
        home / "triton",
        environment={
            "ZEROSKEW_REDIS": tickets.redis,
            "ZEROSKEW_PREDICTION_LOG": str(home / "predictions"),
        },
    ) as server:
        yield server


def test_readme_has_them_all():
    assert set(examples()) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_runs_as_it_stands(flights, name):
    language, code = examples()[name]
    code = code.replace("localhost:8000", flights.http).replace("localhost:8001", flights.grpc)
    command = ["sh", "-c", code] if language == "sh" else [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    if name == "curl":
        answer = json.loads(done.stdout)
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        assert outputs["score"] == [0.25]
        assert outputs["request_id"] == ["flight-1"]
        assert answer["model_version"] == "2"
        assert "weekday" not in outputs["missing"][0].split(",")
        assert "temperature" in outputs["missing"][0].split(",")
    elif name == "tritonclient":
        assert "score [0.25 0.25]" in done.stdout
        assert "degraded [False False]" in done.stdout
    else:
        assert done.stdout.count("0.25") == 2
        assert "temperature" in done.stdout
