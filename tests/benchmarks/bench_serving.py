"""Serving: the whole request beside the usual build and beside the bare network.

Run: python tests/benchmarks/bench_serving.py [--small]

One Valkey, one Triton, one graph (51-256-128-1). Ours is the front model; the usual build is
KServe's Python transformer with Feast's SDK in front of the same `bench_net` of the same Triton
(peer_transformer.py); the bare network is `bench_net` itself, asked with a row that is encoded
already. The load generator shares the two cores. All speak HTTP with JSON; scores of ours and the
usual build are compared for equality first, and the three are measured in turns.

Targets: p99 of lookup, model and whole request 5, 10 and 20 ms at 300 requests a second (aim: 5 ms
for the whole); a third of the usual build's p50 and p99 and three times its throughput; at most
twice the p50 of the bare network; within 5 % of the throughput without log and profiles.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import http_load
import numpy as np
import serving_stack
from rich.console import Console
from rich.table import Table

from pipelines.demo_serving import stage_latencies
from zeroskew.export.scoring import Scorer

OURS, BARE = "/v2/models/bench/infer", "/v2/models/bench_net/infer"
PEER = Path(__file__).with_name("peer_transformer.py")


@contextmanager
def usual_build(made: serving_stack.Stack, predictor: str) -> Iterator[str]:
    """Address of the running transformer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, PEER, "--repo", made.model, "--predictor_host", predictor]
    with (made.folder / "peer.log").open("wb") as log:
        process = subprocess.Popen(
            [*map(str, command), "--http_port", str(port)],
            env=os.environ | made.environment, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((made.folder / "peer.log").read_text()[-2000:]) from None
                time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def middle(loads: list[http_load.Load], percent: float) -> float:
    return statistics.median(load.milliseconds(percent) for load in loads)


def compare(console: Console, made: serving_stack.Stack, rounds: int, count: int) -> None:
    bodies = [serving_stack.request_body(q) for q in serving_stack.questions(2_000)]
    encoded = np.random.default_rng(3).normal(size=(500, 51)).astype(np.float32)
    bare = [serving_stack.network_body(row) for row in encoded]
    server = serving_stack.triton(made, "ours", log=True)
    try:
        with usual_build(made, server.grpc) as peer:
            ours = http_load.run(server.http, OURS, bodies, count=2_000, keep=True)
            theirs = http_load.run(peer, OURS, bodies, count=2_000, keep=True)
            http_load.run(server.http, BARE, bare, count=1_000)
            assert not ours.errors
            assert not theirs.errors
            scores, expected = ours.scores(), theirs.scores()
            assert all(scores[n] == expected[n] for n in expected), "the scores differ"
            console.print(f"{len(expected):,} scores of both builds are equal")
            loads: dict[str, list[http_load.Load]] = {"ours": [], "usual": [], "bare": []}
            full: dict[str, list[float]] = {"ours": [], "usual": [], "bare": []}
            ways = {
                "ours": (server.http, OURS, bodies),
                "usual": (peer, OURS, bodies),
                "bare": (server.http, BARE, bare),
            }
            for _ in range(rounds):
                for name, way in ways.items():
                    loads[name].append(http_load.run(*way, count=count))
            for _ in range(rounds):
                for name, way in ways.items():
                    full[name].append(http_load.run(*way, clients=16, seconds=4).rate)
        steady = [
            http_load.run(server.http, OURS, bodies, clients=8, rate=300, seconds=count / 100)
            for _ in range(rounds)
        ]
        stages = stage_latencies(f"http://{server.metrics}/metrics")
    finally:
        server.stop()
    table = Table("", "ours", "usual build", "bare network", "to the usual", "to the bare")
    for percent in (50, 99):
        a, b, c = (middle(loads[n], percent) for n in ("ours", "usual", "bare"))
        table.add_row(
            f"ms, p{percent}, one client", f"{a:.2f}", f"{b:.2f}", f"{c:.2f}",
            f"{a / b:.2f}", f"{a / c:.2f}",
        )  # fmt: skip
    a, b, c = (statistics.median(full[n]) for n in ("ours", "usual", "bare"))
    table.add_row(
        "requests a second, 16 clients", f"{a:.0f}", f"{b:.0f}", f"{c:.0f}",
        f"{a / b:.1f}", f"{a / c:.2f}",
    )  # fmt: skip
    console.print(table)
    budget = Table("at 300 requests a second", "p50 ms", "p99 ms", "allowed p99")
    budget.add_row(
        "whole request", f"{middle(steady, 50):.2f}", f"{middle(steady, 99):.2f}", "20 (aim 5)"
    )
    for stage, allowed in (("lookup", "5"), ("model", "10")):
        half, most = stages[stage]
        budget.add_row(f"{stage} (bucket, all loads)", f"≤ {half:g}", f"≤ {most:g}", allowed)
    console.print(budget)


def log_and_profiles(console: Console, made: serving_stack.Stack, rounds: int) -> None:
    """Two servers side by side, with and without the log, loaded in turns."""
    bodies = [serving_stack.request_body(q) for q in serving_stack.questions(2_000)]
    servers = {on: serving_stack.triton(made, f"log-{on}", log=on) for on in (True, False)}
    try:
        rates: dict[bool, list[float]] = {True: [], False: []}
        for server in servers.values():
            http_load.run(server.http, OURS, bodies, clients=16, seconds=3)
        for number in range(rounds):
            for on in (True, False) if number % 2 else (False, True):
                load = http_load.run(servers[on].http, OURS, bodies, clients=16, seconds=2)
                assert not load.errors
                rates[on].append(load.rate)
    finally:
        for server in servers.values():
            server.stop()
    ratios = sorted(a / b for a, b in zip(rates[True], rates[False], strict=True))
    console.print(
        f"throughput with log and profiles to without: {statistics.median(ratios):.3f} "
        f"(median of {rounds} pairs, {ratios[0]:.3f} to {ratios[-1]:.3f})"
    )


def precision(console: Console, folder: Path) -> None:
    """INT8 against FP32 of the same network, ONNX Runtime on this CPU, one thread."""
    import onnx

    from zeroskew.export.calibration_rows import CalibrationRows
    from zeroskew.export.quantize import quantize_int8

    rows = np.random.default_rng(1).normal(size=(2_000, 51)).astype(np.float32)
    path = folder / "fp32.onnx"
    onnx.save(serving_stack.network(), path)
    calibration = CalibrationRows(rows, np.empty((2_000, 0), np.int32), "bench")
    quantize_int8(path, folder / "int8.onnx", calibration)
    scorers = {name: Scorer(folder / f"{name}.onnx") for name in ("fp32", "int8")}
    table = Table("rows", "FP32 µs", "INT8 µs", "INT8 / FP32")
    for batch in (1, 8, 32):
        part, none = rows[:batch], np.empty((batch, 0), np.int32)
        times: dict[str, list[float]] = {"fp32": [], "int8": []}
        for _ in range(3_000):
            for name, scorer in scorers.items():
                started = time.perf_counter()
                scorer.score(part, none)
                times[name].append(time.perf_counter() - started)
        a, b = (statistics.median(times[name]) * 1e6 for name in ("fp32", "int8"))
        table.add_row(str(batch), f"{a:.0f}", f"{b:.0f}", f"{b / a:.2f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="a quick look, not a measurement")
    parser.add_argument("--only", choices=("compare", "log", "precision"), help="one part")
    arguments = parser.parse_args()
    console = Console()
    rounds, count = (2, 300) if arguments.small else (7, 2_000)
    with tempfile.TemporaryDirectory() as folder, serving_stack.stack(Path(folder)) as made:
        if arguments.only in (None, "compare"):
            compare(console, made, rounds, count)
        if arguments.only in (None, "log"):
            log_and_profiles(console, made, rounds if arguments.small else 40)
        if arguments.only in (None, "precision"):
            precision(console, made.folder)


if __name__ == "__main__":
    main()
