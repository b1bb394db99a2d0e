"""A new version in place of the old one, under load, without a request dropped."""

from __future__ import annotations

import json
import shutil
import threading
import time
import urllib.request

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.integration


def constant_version(version_dir, out, score):
    """The same tensors, another network: it always says `score`."""
    from zeroskew.export.atomic_files import sha256

    shutil.copytree(version_dir, out)
    graph = out / "export/model.onnx"
    model = onnx.load(graph)
    for node in model.graph.node:
        if node.op_type == "Sigmoid":
            node.output[0] = "old"
    helper = onnx.helper
    model.graph.initializer.append(helper.make_tensor("zero", onnx.TensorProto.FLOAT, [1], [0.0]))
    model.graph.initializer.append(helper.make_tensor("say", onnx.TensorProto.FLOAT, [1], [score]))
    model.graph.node.append(helper.make_node("Mul", ["old", "zero"], ["none"]))
    model.graph.node.append(helper.make_node("Add", ["none", "say"], ["score"]))
    onnx.save(model, graph)
    record = json.loads((out / "export/export.json").read_text())
    record["onnx_sha256"]["model.onnx"] = sha256(graph.read_bytes())
    (out / "export/export.json").write_text(json.dumps(record))
    return out


@pytest.mark.parametrize("network", ["inline", "triton"])
def test_a_new_version_takes_over_without_a_gap(
    serve, version_with, infer, columns, tickets, tmp_path, network
):
    from zeroskew.export.front_repository import load_order, write_serving_repository

    first = version_with(network=network)
    second = constant_version(first, tmp_path / "second", 0.125)
    server = serve(first, explicit=load_order("tickets"))
    row, old = columns([1], ["c1"], [10]), tickets.expected(1, "c1", 10)
    seen: list[tuple[str, float]] = []
    errors: list[str] = []
    stop = threading.Event()

    def load():
        while not stop.is_set():
            try:
                answer = infer(server, row)
                seen.append((answer.response["model_version"], float(answer.score[0])))
            except Exception as error:
                errors.append(str(error))

    def answers(count):
        # The test's own timeout ends what never comes.
        while len(seen) < count and not errors:
            time.sleep(0.02)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        answers(50)
        write_serving_repository(second, server.repository, version=2)
        for model in load_order("tickets"):
            url = f"http://{server.http}/v2/repository/models/{model}/load"
            urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=60)
        answers(len(seen) + 50)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors
    assert {version for version, _ in seen} == {"1", "2"}
    for version, score in seen:
        np.testing.assert_allclose(score, old if version == "1" else 0.125, rtol=1e-5)


def test_a_version_of_other_tensors_is_refused_and_nothing_changes(tickets, tmp_path):
    from zeroskew.errors import ExportError
    from zeroskew.export.front_repository import write_serving_repository

    out = write_serving_repository(tickets.version_dir, tmp_path / "models", version=1)
    before = sorted(str(p) for p in out.rglob("*"))
    other = shutil.copytree(tickets.version_dir, tmp_path / "other")
    record = json.loads((other / "export/export.json").read_text())
    record["row"] = {"numeric": ["agent_load", "agent_solved"], "categorical": ["product"]}
    (other / "export/export.json").write_text(json.dumps(record))
    with pytest.raises(ExportError, match="holds version 1, whose tensors are others"):
        write_serving_repository(other, out, version=2)
    assert sorted(str(p) for p in out.rglob("*")) == before
