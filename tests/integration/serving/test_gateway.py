"""Two versions in two Tritons behind a real Envoy: who answered, who got a copy, what is logged."""

from __future__ import annotations

import collections
import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from zeroskew.rollout.analysis import Question, analyse
from zeroskew.rollout.rollout_judging import Metric, ThresholdRange
from zeroskew.rollout.traffic_plan import Entrance, alone, shared

pytestmark = pytest.mark.integration
ENTRANCE = Entrance(path="/v2/models/tickets", timeout="5s")


@pytest.fixture
def gateway(tmp_path):
    from zeroskew.embedded.envoy import EmbeddedEnvoy, envoy_binary
    from zeroskew.errors import EmbeddedError

    try:
        envoy_binary()
    except EmbeddedError as error:
        pytest.skip(str(error))
    with EmbeddedEnvoy(tmp_path / "envoy") as envoy:
        envoy.http = envoy.address
        yield envoy


def logged(folder):
    files = sorted(folder.glob("**/*.parquet"))
    return pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files])


@pytest.mark.slow
def test_weights_hold_and_every_request_is_mirrored_once(
    serve, version_with, gateway, infer, columns, tmp_path
):
    log = tmp_path / "log"
    quick = version_with(log={"flush_seconds": 0.5})
    servers = {
        str(number): serve(
            quick, name=f"v{number}", version=number,
            environment={"ZEROSKEW_PREDICTION_LOG": str(log)},
        )
        for number in (1, 2)
    }  # fmt: skip
    endpoints = {
        version: [("127.0.0.1", int(server.http.rpartition(":")[2]))]
        for version, server in servers.items()
    }
    began = datetime.now(UTC)
    asked: dict[str, list[str]] = {}

    def ask(step, count):
        ids = []
        for number in range(count):
            answer = infer(gateway, columns([number % 40], [f"c{number % 300}"], [number % 90]))
            ids.append(answer.request_id[0].decode())
        assert len(set(ids)) == count, "a request got the id of another"
        asked[step] = ids

    gateway.apply(alone(ENTRANCE, "1"), endpoints)
    ask("alone", 50)
    gateway.apply(shared(ENTRANCE, "1", "2", weight=0, mirror=100), endpoints)
    ask("mirror", 300)
    shares = (5, 25, 50)
    for weight in shares:
        gateway.apply(shared(ENTRANCE, "1", "2", weight=weight, mirror=0), endpoints)
        ask(f"weight {weight}", 300)
    gateway.apply(alone(ENTRANCE, "2", "canary"), endpoints)
    ask("promoted", 50)
    for server in servers.values():
        server.stop()
    rows = logged(log)
    where = collections.defaultdict(list)
    for request, version, role in rows.select("request_id", "model_version", "role").iter_rows():
        where[request].append((version, role))
    told = {
        step: collections.Counter(tuple(sorted(where[request])) for request in ids)
        for step, ids in asked.items()
    }
    champion, canary, shadow = (("1", "champion"),), (("2", "canary"),), ("2", "shadow")
    assert told["alone"] == {champion: 50}
    assert told["mirror"] == {(*champion, shadow): 300}
    assert told["promoted"] == {canary: 50}
    for weight in shares:
        found = told[f"weight {weight}"]
        assert set(found) == {champion, canary}
        expected, spread = 300 * weight / 100, math.sqrt(300 * weight / 100 * (1 - weight / 100))
        assert abs(found[canary] - expected) <= 3 * spread, (weight, found)
    assert rows.height == sum(map(len, asked.values())) + 300

    question = Question(
        str(log), "tickets", "1", "2", began, datetime.now(UTC) + timedelta(seconds=1)
    )
    same = Metric(
        name="scores",
        min_samples=200,
        type="ScoreDifference",
        threshold_range=ThresholdRange(max=0.0),
        quantile=0.9,
    )
    features = Metric(
        name="features",
        min_samples=200,
        type="FeatureMismatch",
        threshold_range=ThresholdRange(max=0.01),
    )
    result = analyse(question, (same, features))
    assert (result.outcome, result.pairs, result.ambiguous) == ("Passed", 300, 0)
