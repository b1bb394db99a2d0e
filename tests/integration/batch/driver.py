"""A batch prediction in a process of its own: Ray reads its authentication once per process.

driver.py MODEL GRAPH ROWS OUT CHUNK_ROWS RAY_ADDRESS
"""

import sys

import polars as pl

from zeroskew.batch_prediction import score_entity_rows
from zeroskew.cli.shell import run
from zeroskew.features.repository import open_repository


def main(model: str, graph: str, rows: str, out: str, chunk_rows: int, address: str) -> None:
    repository = open_repository(model)
    print("opened", flush=True)
    if address.startswith("wait:"):
        sys.stdin.readline()
        address = address.removeprefix("wait:")
    score_entity_rows(
        repository, "tickets", graph, pl.scan_parquet(rows), out,
        event_timestamp="event_timestamp", version="3", chunk_rows=chunk_rows,
        on_progress=lambda *step: print(*step, flush=True), ray_address=address,
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
