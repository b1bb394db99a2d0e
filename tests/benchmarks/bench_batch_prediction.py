"""Batch prediction against online serving: rows a second on the same cores.

Run: python tests/benchmarks/bench_batch_prediction.py [--small]

The model of bench_serving: 50 features in 3 views, one transform, a 51-256-128-1 graph. Online: one
row to a request, 16 clients as fast as they get answers, in a real Triton. Batch: a million entity
rows, joined point in time and scored. The scores of the questions that were asked online are
compared first. Target: 50 times the rows a second.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import http_load
import polars as pl
import serving_stack
from rich.console import Console

from zeroskew.batch_prediction import score_entity_rows
from zeroskew.features.repository import open_repository


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="a quick look, not a measurement")
    small = parser.parse_args().small
    rows, rounds, seconds = (100_000, 1, 3) if small else (1_000_000, 5, 8)
    console = Console()
    questions = serving_stack.questions(2_000)
    with tempfile.TemporaryDirectory() as folder, serving_stack.stack(Path(folder)) as made:
        bodies = [serving_stack.request_body(q) for q in questions]
        path = "/v2/models/bench/infer"
        online = []
        server = serving_stack.triton(made, "online", log=True)
        try:
            load = http_load.run(server.http, path, bodies, count=2_000, clients=8, keep=True)
            scores = load.scores()
            for _ in range(rounds):
                online.append(
                    http_load.run(server.http, path, bodies, clients=16, seconds=seconds).rate
                )
        finally:
            server.stop()
        repository = open_repository(made.model)
        graph = made.version / "export/model.onnx"
        # As fresh as what was served: a moment after the features' own.
        asked = datetime.now(UTC) - timedelta(minutes=1)
        table = pl.DataFrame(serving_stack.questions(rows, seed=2)).vstack(
            pl.DataFrame(questions)
        ).with_columns(pl.lit(asked).dt.cast_time_unit("us").alias("event_timestamp"))  # fmt: skip
        out = made.folder / "scores.parquet"
        batch = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            score_entity_rows(
                repository, "bench", graph, table.lazy(), out, event_timestamp="event_timestamp"
            )
            batch.append(table.height / (time.perf_counter() - started))
        tail = pl.read_parquet(out)["score"].tail(len(questions)).to_list()
    worst = max(abs(tail[n] - score) for n, score in scores.items())
    console.print(f"{len(scores):,} scores, online and batch: at most {worst:.1e} apart")
    a, b = statistics.median(batch[1:]), statistics.median(online)
    console.print(
        f"batch {a:,.0f} rows a second, online {b:,.0f}: {a / b:.0f} times as many "
        f"(medians of {rounds} runs)"
    )


if __name__ == "__main__":
    main()
