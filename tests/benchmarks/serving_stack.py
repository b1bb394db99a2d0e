"""The model that the serving benchmarks serve: 50 features in 3 views, one entity, one transform.

A whole folder is written to disk (Feast definitions, features in Valkey, a graph of the size of a
real one), and served by the real front in a real Triton. The graph is 51-256-128-1 with imputation
and scaling inside, its weights random: a benchmark of serving does not mind what it predicts.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import yaml
from onnx import TensorProto, helper

from zeroskew.embedded.triton import EmbeddedTriton
from zeroskew.embedded.valkey import EmbeddedValkey

ENTITIES = 10_000
VIEWS = {"a": 17, "b": 17, "c": 16}
NAMES = [f"{view}{i:02}" for view, count in VIEWS.items() for i in range(count)]
NUMERIC = [*NAMES, "log_amount"]
MAX_BATCH = 256

FEATURES = """
import os
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

from . import transforms

DATA = os.environ["ZEROSKEW_DATA"]
user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)


def view(name, count):
    return FeatureView(
        name=name, entities=[user], ttl=timedelta(days=7),
        schema=[Field(name=f"{name}{i:02}", dtype=Float64) for i in range(count)],
        source=FileSource(
            name=name, path=f"{DATA}/{name}.parquet", timestamp_field="event_timestamp"
        ),
    )


a, b, c = view("a", 17), view("b", 17), view("c", 16)
order = RequestSource(name="order", schema=[Field(name="amount", dtype=Float64)])
logs = on_demand_feature_view(
    sources=[order], schema=[Field(name="log_amount", dtype=Float64)], mode="python"
)(transforms.logs)
bench = FeatureService(name="bench", features=[a, b, c, logs])
"""
TRANSFORMS = """
def logs(inputs):
    import math

    return {"log_amount": [None if x is None else math.log1p(x) for x in inputs["amount"]]}
"""
STORE = """
project: bench
registry: ${ZEROSKEW_REGISTRY}
provider: local
offline_store:
  type: zeroskew.features.offline_store.PolarsOfflineStore
online_store:
  type: redis
  connection_string: ${ZEROSKEW_REDIS}
entity_key_serialization_version: 3
"""


@dataclass(frozen=True)
class Stack:
    """Where everything is."""

    folder: Path
    model: Path
    version: Path
    redis: str
    environment: dict[str, str]


@contextmanager
def stack(folder: Path, **serving: Any) -> Iterator[Stack]:
    """Definitions, a filled Valkey and a version; `serving` goes into model.yaml."""
    model = folder / "bench"
    model.mkdir(parents=True)
    (model / "__init__.py").touch()
    (model / "features.py").write_text(FEATURES)
    (model / "transforms.py").write_text(TRANSFORMS)
    (model / "feature_store.yaml").write_text(STORE)
    config = {
        "name": "bench",
        "feature_service": "bench",
        "entity_rows": {"path": "rows.parquet", "label": "y"},
        "export": {"max_batch": MAX_BATCH},
        "serving": serving,
    }
    (model / "model.yaml").write_text(yaml.safe_dump(config))
    data = folder / "data"
    data.mkdir()
    random = np.random.default_rng(5)
    now = datetime.now(UTC) - timedelta(minutes=5)
    values = random.normal(size=(len(NAMES), ENTITIES))
    at = 0
    for view, count in VIEWS.items():
        columns = {f"{view}{i:02}": values[at + i] for i in range(count)}
        at += count
        pl.DataFrame(
            {"user_id": np.arange(ENTITIES), "event_timestamp": [now] * ENTITIES, **columns}
        ).write_parquet(data / f"{view}.parquet")
    with EmbeddedValkey(folder / "valkey") as address:
        environment = {
            "ZEROSKEW_HOME": str(folder),
            "ZEROSKEW_DATA": str(data),
            "ZEROSKEW_REGISTRY": str(folder / "registry.db"),
            "ZEROSKEW_REDIS": address,
        }
        os.environ.update(environment)
        _materialise_and_compile(model, folder / "version", values)
        yield Stack(folder, model, folder / "version", address, environment)


def _materialise_and_compile(model: Path, version: Path, values: Any) -> None:
    from zeroskew.export.atomic_files import sha256
    from zeroskew.export.export import ExportRecord
    from zeroskew.features.materialise import materialise
    from zeroskew.features.read_plan_compiler import compile_read_plan
    from zeroskew.features.repository import open_repository
    from zeroskew.features.row import FeatureRow
    from zeroskew.profiles import Profile

    repository = open_repository(model)
    end = datetime.now(UTC)
    materialise(repository, start=end - timedelta(days=1), end=end)
    (version / "export").mkdir(parents=True)
    graph = version / "export/model.onnx"
    onnx.save(network(), graph)
    record = ExportRecord(
        model="bench", row=FeatureRow(tuple(NUMERIC), ()), training_set="0" * 64,
        precision="fp32", precision_reason="", parity=0.0, calibration_hash="",
        onnx_sha256={"model.onnx": sha256(graph.read_bytes())}, calibration_rows=0,
        candidates=(), limits={}, device="CPUExecutionProvider", max_batch=MAX_BATCH, versions={},
    )  # fmt: skip
    (version / "export/export.json").write_text(json.dumps(record.to_json()))
    plan = compile_read_plan(repository, "bench")
    (version / "read_plan.json").write_text(json.dumps(plan.to_json()))
    for name in ("transforms.py", "model.yaml"):
        (version / name).write_text((model / name).read_text())
    reference = dict(zip(NAMES, values, strict=True))
    reference["log_amount"] = np.log1p(np.linspace(0, 100, ENTITIES))
    Profile.learn(reference).save(version / "profile.json")
    scores = Profile.learn({"score": np.linspace(0, 1, 1001, dtype=np.float32)})
    (version / "evaluation.json").write_text(json.dumps({"scores": scores.to_json()}))


def network() -> onnx.ModelProto:
    """51 numbers in, imputed and scaled, then 256 and 128 ReLU units and a sigmoid."""
    random = np.random.default_rng(7)
    sizes = [len(NUMERIC), 256, 128, 1]
    tensors = {"fill": np.zeros(sizes[0]), "scale": np.full(sizes[0], 0.9)}
    nodes = [
        helper.make_node("IsNaN", ["numeric"], ["gap"]),
        helper.make_node("Where", ["gap", "fill", "numeric"], ["full"]),
        helper.make_node("Mul", ["full", "scale"], ["x0"]),
    ]
    for layer, (wide, high) in enumerate(itertools.pairwise(sizes)):
        tensors[f"w{layer}"] = random.normal(size=(wide, high)) / np.sqrt(wide)
        tensors[f"b{layer}"] = np.zeros(high)
        last = layer == len(sizes) - 2
        nodes.append(
            helper.make_node("Gemm", [f"x{layer}", f"w{layer}", f"b{layer}"], [f"h{layer}"])
        )
        nodes.append(
            helper.make_node(
                "Sigmoid" if last else "Relu", [f"h{layer}"], ["score" if last else f"x{layer + 1}"]
            )
        )
    constants = [
        onnx.numpy_helper.from_array(array.astype(np.float32), name)
        for name, array in tensors.items()
    ]
    inputs = [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", sizes[0]])]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])
    graph = helper.make_graph(nodes, "bench", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = "zeroskew.row", json.dumps({"numeric": NUMERIC, "categorical": []})
    return model


def triton(made: Stack, name: str, *, log: bool) -> EmbeddedTriton:
    """A server over the version, started; `log`: with the prediction log (and its profiles)."""
    from zeroskew.export.front_repository import write_serving_repository

    folder = made.folder / name
    write_serving_repository(made.version, folder / "models", version=1)
    variables = {
        "ZEROSKEW_REDIS": made.redis,
        "ZEROSKEW_PREDICTION_LOG": str(folder / "predictions") if log else "",
        "ZEROSKEW_SPOOL": str(folder / "spool"),
    }
    return EmbeddedTriton(folder / "models", folder / "triton", environment=variables).start()


def questions(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Requests of one row: a user and the amount of an order."""
    random = np.random.default_rng(seed)
    users = random.integers(0, ENTITIES, count).tolist()
    amounts = random.uniform(1, 100, count).round(2).tolist()
    return [{"user_id": u, "amount": a} for u, a in zip(users, amounts, strict=True)]


def request_body(question: dict[str, Any], request_id: str = "") -> bytes:
    """The Open Inference Protocol's JSON for one question."""
    inputs = [
        {"name": "user_id", "shape": [1, 1], "datatype": "INT64", "data": [question["user_id"]]},
        {"name": "amount", "shape": [1, 1], "datatype": "FP64", "data": [question["amount"]]},
    ]
    body: dict[str, Any] = {"inputs": inputs, "outputs": [{"name": "score"}]}
    return json.dumps(body | ({"id": request_id} if request_id else {})).encode()


def network_body(row: Any) -> bytes:
    """The JSON that asks the bare network for one encoded row."""
    inputs = [{"name": "numeric", "shape": [1, len(row)], "datatype": "FP32", "data": row.tolist()}]
    return json.dumps({"inputs": inputs}).encode()
