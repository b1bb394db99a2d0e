"""What the log says was served: equal to the join row by row, and there exactly once."""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import threading
import time
import urllib.request
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

pytestmark = pytest.mark.integration
GATHERED = 0.25
"""Seconds: 70 ms until a batch is recorded and its frame written, and a busy machine."""
FEATURES = ("agent_load", "agent_solved", "product", "seats", "log_words")


def read_log(folder):
    files = sorted(folder.glob("**/*.parquet"))
    return pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files])


@pytest.fixture
def join(tickets, monkeypatch):
    """The point-in-time join of any questions."""
    from zeroskew.features.repository import open_repository
    from zeroskew.features.service_join import join_service

    for name, value in tickets.environment.items():
        monkeypatch.setenv(name, value)
    repository = open_repository(__file__.rpartition("/serving/")[0] + "/pipelines/models/tickets")
    return lambda questions: join_service(repository, "tickets", questions)


def test_what_was_served_equals_the_join_row_by_row(serve, infer, columns, asked, join, tickets):
    """Known and unknown entities, fresh and stale moments, in batches of every size."""
    dice = random.Random(4)
    server = serve()
    questions: dict[tuple[str, int], dict] = {}
    answers: dict[tuple[str, int], float] = {}
    for number in range(250):
        size = dice.choice([1, 1, 1, 2, 5, 17, 64])
        agents = [dice.randrange(44) for _ in range(size)]
        customers = [f"c{dice.randrange(330)}" for _ in range(size)]
        words = [dice.randrange(500) for _ in range(size)]
        tensors = columns(agents, customers, words)
        # The store holds what was known at `asked`; later moments see the same, getting older.
        later = [dice.choice([0, 0, 1, 35, 36, 37, 400]) * 3_600_000_000 for _ in range(size)]
        tensors["event_timestamp"] += np.array(later, np.int64).reshape(-1, 1)
        found = infer(server, tensors, request_id=f"q{number}")
        for row in range(size):
            key = f"q{number}", row
            answers[key] = float(found.score[row])
            questions[key] = {
                "agent": agents[row],
                "customer": customers[row],
                "words": words[row],
                "event_timestamp": datetime.fromtimestamp((asked + later[row]) / 1e6, UTC),
                "missing": found.missing[row].decode(),
                "stale": found.stale[row].decode(),
            }
    server.stop()
    log = read_log(server.predictions)
    keys = list(zip(log["request_id"], log["row"], strict=True))
    assert collections.Counter(keys) == dict.fromkeys(questions, 1)
    asked_rows = pl.DataFrame([questions[key] for key in keys]).with_columns(
        pl.col("event_timestamp").dt.cast_time_unit("us")
    )
    # Values of after `asked` exist in the source but not yet in the store: leave them out of sight.
    fresh = asked_rows.with_columns(
        pl.lit(datetime.fromtimestamp(asked / 1e6, UTC)).dt.cast_time_unit("us")
        .alias("event_timestamp")
    )  # fmt: skip
    joined = join(fresh.select("agent", "customer", "words", "event_timestamp"))
    newest = (
        tickets.tables["agents"]
        .filter(pl.col("event_timestamp") <= datetime.fromtimestamp(asked / 1e6, UTC))
        .group_by("agent")
        .agg(pl.col("event_timestamp").max().alias("newest"))
    )
    ages = asked_rows.join(newest, on="agent", how="left", maintain_order="left")
    stale = ages.select(
        (pl.col("event_timestamp") - pl.col("newest") > pl.duration(days=2)).fill_null(False)
    ).to_series()
    assert 0 < stale.sum() < len(stale)
    for name in FEATURES:
        wanted = joined[name]
        if name.startswith("agent_"):
            wanted = pl.select(pl.when(stale).then(None).otherwise(wanted).alias(name)).to_series()
        assert log[name].cast(wanted.dtype).equals(wanted, null_equal=True), name
    for name in ("agent", "customer", "words", "event_time"):
        wanted = asked_rows["event_timestamp" if name == "event_time" else name]
        assert log[name].cast(wanted.dtype).equals(wanted), name
    assert log["score"].to_list() == [answers[key] for key in keys]
    assert [",".join(names) for names in log["missing"]] == asked_rows["missing"].to_list()
    assert [",".join(names) for names in log["stale"]] == asked_rows["stale"].to_list()
    assert set(log["role"]) == {"champion"}
    assert set(log["model_version"]) == {"1"}
    assert not log["degraded"].any()
    assert (log["latency_us"] > 0).all()


class Load:
    """Clients that ask until told to stop; when what was answered, and ids of what failed."""

    def __init__(self, server, infer, columns, clients=4):
        self.answered: dict[str, float] = {}
        self.failed: set[str] = set()
        self.slowest = 0.0
        self._stop = threading.Event()
        self._call = lambda rid: infer(server, columns([3], ["c3"], [3]), request_id=rid)
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, client):
        number = 0
        while not self._stop.is_set():
            rid, number = f"{client}-{number}", number + 1
            started = time.monotonic()
            try:
                self._call(rid)
            except Exception:
                self.failed.add(rid)
                time.sleep(0.01)
            else:
                self.answered[rid] = time.monotonic()
                self.slowest = max(self.slowest, time.monotonic() - started)

    def until(self, count, seconds=60):
        deadline = time.monotonic() + seconds
        while len(self.answered) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return self

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def wait_for_rows(folder, enough, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        files = list(folder.glob("**/*.parquet"))
        if files and enough(log := read_log(folder)):
            return log
        assert time.monotonic() < deadline, "the log does not get there"
        time.sleep(0.3)


def test_a_server_that_ends_has_logged_every_answer(serve, version_with, infer, columns):
    server = serve(version_with(log={"flush_seconds": 3600}))
    load = Load(server, infer, columns).until(400)
    server.stop()
    load.stop()
    ids = read_log(server.predictions)["request_id"].to_list()
    assert len(ids) == len(set(ids))
    assert load.answered.keys() <= set(ids)


@pytest.mark.slow
def test_a_killed_server_loses_next_to_nothing_and_nothing_twice(
    serve, version_with, infer, columns
):
    """SIGKILL to tritonserver and its stubs at once, then a new server over the same spool."""
    server = serve(version_with(log={"flush_seconds": 2}))
    load = Load(server, infer, columns).until(1500)
    listed = subprocess.run(
        ["ps", "-e", "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    mine = [
        int(line.split(None, 1)[0])
        for line in listed.splitlines()
        if str(server.folder.parent) in line and "tether" not in line
    ]
    assert mine
    killed = time.monotonic()
    for pid in mine:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)
    load.stop()
    server.stop()
    again = serve(version_with(log={"flush_seconds": 2}))
    infer(again, columns([3], ["c3"], [3]), request_id="after")
    safe = {rid for rid, when in load.answered.items() if when < killed - GATHERED}
    assert len(safe) > 1000
    wait_for_rows(server.predictions, lambda log: {"after", *safe} <= set(log["request_id"]))
    again.stop()
    ids = read_log(server.predictions)["request_id"].to_list()
    assert len(ids) == len(set(ids)), "a prediction is in the log twice"


def test_a_sink_that_is_gone_neither_slows_nor_loses(serve, version_with, infer, columns):
    server = serve(version_with(log={"flush_seconds": 0.5}))
    load = Load(server, infer, columns).until(300)
    sink = server.predictions
    wait_for_rows(sink, lambda log: log.height > 0)
    away = sink.with_name("away")
    sink.rename(away)
    sink.write_text("not a folder")
    gone = time.monotonic()
    before = len(load.answered)
    load.until(before + 1500)
    time.sleep(2)
    outage = time.monotonic() - gone
    sink.unlink()
    load.stop()
    assert not load.failed
    # A request that waited for the sink would have taken as long as the outage.
    assert load.slowest < outage
    server.stop()
    ids = [*read_log(away)["request_id"], *read_log(sink)["request_id"]]
    assert len(ids) == len(set(ids))
    assert set(ids) == load.answered.keys()


def test_headers_reach_the_log_and_the_log_reaches_the_metrics(
    serve, version_with, infer, columns, asked
):
    server = serve(version_with(log={"flush_seconds": 0.3}))
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {
        "traceparent": f"00-{trace}-b7ad6b7169203331-01",
        "X-Request-Id": "from-the-header",
        # Addressed to another version, so a mirrored copy.
        "x-zeroskew-role": "champion",
        "x-zeroskew-version": "7",
    }
    infer(server, columns([3, 4], ["c3", "c4"], [3, 4]), headers=headers)
    copied = {"traceparent": "00-nonsense", "x-zeroskew-role": "canary", "x-zeroskew-version": "1"}
    infer(server, columns([3], ["c3"], [3]), headers=copied)
    log = wait_for_rows(server.predictions, lambda log: log.height == 3)
    first = log.filter(pl.col("request_id") == "from-the-header").sort("row")
    assert first["row"].to_list() == [0, 1]
    assert set(first["trace_id"]) == {trace}
    assert set(first["role"]) == {"shadow"}
    other = log.filter(pl.col("request_id") != "from-the-header")
    assert (other["trace_id"].to_list(), other["role"].to_list()) == ([None], ["canary"])
    ages = log["age_agents"].drop_nulls()
    of = 'model="tickets"'
    wanted = {
        f'zeroskew_log_rows_total{{fate="written",{of},version="1"}} 3',
        f'zeroskew_log_rows_total{{fate="dropped",{of},version="1"}} 0',
        f'zeroskew_feature_rows_total{{feature="agent_load",{of},role="shadow",version="1"}} 2',
        f'zeroskew_feature_rows_total{{feature="score",{of},role="canary",version="1"}} 1',
        f'zeroskew_feature_age_seconds_count{{{of},version="1",view="agents"}} {len(ages)}',
    }
    deadline = time.monotonic() + 40
    while True:
        with urllib.request.urlopen(f"http://{server.metrics}/metrics") as page:
            lines = page.read().decode().splitlines()
        if wanted <= set(lines) or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert wanted <= set(lines), sorted(wanted - set(lines))
    total = next(
        float(line.split()[-1])
        for line in lines
        if line.startswith("zeroskew_feature_age_seconds_sum") and 'view="agents"' in line
    )
    assert total == pytest.approx(ages.sum() / 1000)
    bins = sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith("zeroskew_feature_bin_rows_total") and 'feature="agent_load"' in line
    )
    assert bins == 3
