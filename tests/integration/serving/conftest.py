"""A served version of the tickets model: real Triton, real Valkey, and a graph with known scores.

The graph is made by hand, so that every score can be computed again from the features:
score = sigmoid(0.05 · load - 0.1 · log_words + 0.01 · solved + [product is chat]), with 10, 4 and
15 where load, log_words and solved are missing.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
import yaml
from onnx import TensorProto, helper

MODEL = Path(__file__).parents[1] / "pipelines/models/tickets"
MATERIALISED = datetime(2024, 2, 20, 12, tzinfo=UTC)
"""Up to when the store is filled."""
ASKED = int(MATERIALISED.timestamp() * 1e6)
"""The same in microseconds: what requests give as their moment."""
PATIENT = {"features": {"timeout_milliseconds": 10_000.0}}
"""`serving` of versions whose test is not about the look-up's deadline: on a busy machine a thread
may well wait longer for a processor than the default of 50 ms."""


@dataclass(frozen=True)
class Tickets:
    """The version's files and everything to judge answers by."""

    version_dir: Path
    data: Path
    tables: dict[str, pl.DataFrame]
    redis: str
    environment: dict[str, str]

    def expected(self, agent: int, customer: str, words: int | None) -> float:
        """The score that the hand-made graph gives for fresh features."""
        day = pl.col("event_timestamp") <= MATERIALISED
        load = self.tables["agents"].filter(pl.col("agent") == agent, day)
        who = self.tables["customers"].filter(pl.col("customer") == customer)
        newest = load.sort("event_timestamp").row(-1, named=True) if load.height else None
        return expected_score(
            newest["agent_load"] if newest else None,
            newest["agent_solved"] if newest else None,
            math.log1p(words) if words is not None else None,
            who["product"][0] if who.height else None,
        )


def expected_score(load: Any, solved: Any, log_words: Any, product: Any) -> float:
    load = 10.0 if load is None else load
    solved = 15.0 if solved is None else solved
    log_words = 4.0 if log_words is None else log_words
    z = 0.05 * load - 0.1 * log_words + 0.01 * solved + (product == "chat")
    return 1 / (1 + math.exp(-z))


def _graph(path: Path) -> None:
    from zeroskew.features.row import category_code

    def weights(name: str, values: list, kind: int = TensorProto.FLOAT, shape: list | None = None):
        return helper.make_tensor(name, kind, shape or [len(values)], values)

    inputs = [
        helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", 3]),
        helper.make_tensor_value_info("categorical", TensorProto.INT32, ["batch", 1]),
    ]
    nodes = [
        helper.make_node("IsNaN", ["numeric"], ["gap"]),
        helper.make_node("Where", ["gap", "fill", "numeric"], ["full"]),
        helper.make_node("MatMul", ["full", "w"], ["a"]),
        helper.make_node("Equal", ["categorical", "chat"], ["is"]),
        helper.make_node("Cast", ["is"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["a", "b"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["score"]),
    ]
    constants = [
        weights("fill", [10.0, 15.0, 4.0]),
        weights("w", [0.05, 0.01, -0.1], shape=[3, 1]),
        weights("chat", [category_code("chat")], TensorProto.INT32, [1]),
    ]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])
    graph = helper.make_graph(nodes, "tickets", inputs, [output], constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def _version(folder: Path, plan: Any, joined: pl.DataFrame) -> None:
    """Files as the registry keeps them."""
    from zeroskew.export.atomic_files import sha256
    from zeroskew.export.export import ExportRecord
    from zeroskew.features.row import FeatureRow
    from zeroskew.profiles import Profile

    export = folder / "export"
    export.mkdir(parents=True)
    _graph(export / "model.onnx")
    row = FeatureRow(("agent_load", "agent_solved", "log_words"), ("product",))
    record = ExportRecord(
        model="tickets", row=row, training_set="0" * 64, precision="fp32", precision_reason="",
        onnx_sha256={"model.onnx": sha256((export / "model.onnx").read_bytes())}, parity=0.0,
        calibration_hash="", calibration_rows=0, candidates=(), limits={},
        device="CPUExecutionProvider", max_batch=256, versions={},
    )  # fmt: skip
    (export / "export.json").write_text(json.dumps(record.to_json()))
    (folder / "read_plan.json").write_text(json.dumps(plan.to_json()))
    shutil.copy(MODEL / "transforms.py", folder)
    raw = yaml.safe_load((MODEL / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump(raw | {"serving": PATIENT}))
    features = joined.select("agent_load", "agent_solved", "log_words", "product", "seats")
    Profile.learn(features).save(folder / "profile.json")
    scores = [
        expected_score(r["agent_load"], r["agent_solved"], r["log_words"], r["product"])
        for r in joined.iter_rows(named=True)
    ]
    reference = Profile.learn({"score": np.array(scores, np.float32)}).to_json()
    (folder / "evaluation.json").write_text(json.dumps({"scores": reference}))


@pytest.fixture(scope="session")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tickets]:
    """The model's data, its store filled up to MATERIALISED, and a version to serve."""
    from zeroskew.embedded.valkey import EmbeddedValkey
    from zeroskew.endpoints import Endpoints
    from zeroskew.features.materialise import materialise
    from zeroskew.features.read_plan_compiler import compile_read_plan
    from zeroskew.features.repository import open_repository
    from zeroskew.features.service_join import join_service

    home = tmp_path_factory.mktemp("serving")
    spec = importlib.util.spec_from_file_location("_tickets_data", MODEL / "data.py")
    data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(data)
    data.prepare(str(home / "data"))
    tables = {p.stem: pl.read_parquet(p) for p in (home / "data/tickets").glob("*.parquet")}
    with EmbeddedValkey(home / "valkey") as address:
        environment = Endpoints.from_environment(
            {"ZEROSKEW_HOME": str(home), "ZEROSKEW_REDIS": address}
        ).environment()
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            repository = open_repository(MODEL)
            materialise(repository, start=datetime(2023, 12, 1, tzinfo=UTC), end=MATERIALISED)
            plan = compile_read_plan(repository, "tickets")
            asked = tables["entity_rows"].select("agent", "customer", "words", "event_timestamp")
            _version(home / "version", plan, join_service(repository, "tickets", asked))
        finally:
            os.environ.clear()
            os.environ.update(before)
        yield Tickets(home / "version", home / "data", tables, address, environment)


@pytest.fixture
def version_with(tickets: Tickets, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the version whose model.yaml says something else of serving."""

    def make(**serving: Any) -> Path:
        folder = tmp_path / "version"
        shutil.copytree(tickets.version_dir, folder, dirs_exist_ok=True)
        raw = yaml.safe_load((folder / "model.yaml").read_text())
        (folder / "model.yaml").write_text(yaml.safe_dump(raw | {"serving": PATIENT | serving}))
        return folder

    return make


@pytest.fixture(scope="session")
def _triton() -> None:
    from zeroskew.embedded.triton import triton_home
    from zeroskew.errors import EmbeddedError

    try:
        triton_home()
    except EmbeddedError:
        pytest.skip("no Triton environment: run `make triton`")


def start(version_dir: Path, folder: Path, redis: str, **options: Any) -> Any:
    """Write a repository of the version and start a Triton over it; the caller stops it."""
    from zeroskew.embedded.triton import EmbeddedTriton
    from zeroskew.export.front_repository import write_serving_repository

    environment = options.pop("environment", {})
    version = options.pop("version", 1)
    write_serving_repository(version_dir, folder / "models", version=version)
    server = EmbeddedTriton(
        folder / "models",
        folder / "triton",
        environment={
            "ZEROSKEW_REDIS": redis,
            "ZEROSKEW_PREDICTION_LOG": str(folder / "predictions"),
            **environment,
        },
        **options,
    )
    server.start()
    server.predictions = folder / "predictions"
    return server


@pytest.fixture
def serve(_triton: None, tickets: Tickets, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start servers that end with the test."""
    with ExitStack() as running:

        def begin(version_dir: Path | None = None, redis: str = "", **options: Any) -> Any:
            folder = tmp_path / options.pop("name", "")
            server = start(
                version_dir or tickets.version_dir, folder, redis or tickets.redis, **options
            )
            running.callback(server.stop)
            return server

        yield begin


@pytest.fixture(scope="session")
def server(_triton: None, tickets: Tickets, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """One server for all tests that do not hurt it."""
    running = start(tickets.version_dir, tmp_path_factory.mktemp("server"), tickets.redis)
    yield running
    running.stop()


def _columns(agents: list, customers: list, words: list, asked: int | None = ASKED) -> dict:
    """Tensors of a request, `[n, 1]`."""
    made = {
        "agent": np.array(agents, np.int64).reshape(-1, 1),
        "customer": np.array([c.encode() for c in customers], np.object_).reshape(-1, 1),
        "words": np.array(words, np.int64).reshape(-1, 1),
    }
    if asked is not None:
        made["event_timestamp"] = np.full((len(agents), 1), asked, np.int64)
    return made


def _infer(server: Any, tensors: dict, *, request_id: str = "", headers: dict | None = None) -> Any:
    """Ask over HTTP with tritonclient; score, missing, stale, degraded and the raw response."""
    import tritonclient.http as http
    from tritonclient.utils import np_to_triton_dtype

    with http.InferenceServerClient(server.http) as client:
        inputs = []
        for name, array in tensors.items():
            tensor = http.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        result = client.infer("tickets", inputs, request_id=request_id, headers=headers)
    outputs = ("score", "missing", "stale", "degraded", "request_id")
    named = {name: result.as_numpy(name)[:, 0] for name in outputs}
    return SimpleNamespace(**named, response=result.get_response())


@pytest.fixture(scope="session")
def columns() -> Callable[..., dict]:
    return _columns


@pytest.fixture(scope="session")
def infer() -> Callable[..., Any]:
    return _infer


@pytest.fixture(scope="session")
def asked() -> int:
    """The moment up to which the store is filled, microseconds."""
    return ASKED
