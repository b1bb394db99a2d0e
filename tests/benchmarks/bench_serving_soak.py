"""An hour's worth of requests in one run: memory, and every request in the log exactly once.

Run: python tests/benchmarks/bench_serving_soak.py [--requests 500000]

Sixteen clients as fast as they get answers, each request with an id of its own. Resident memory of
every process of the server (Triton, front, network, log shipper) is read after the first tenth and
at the end; then the log is read back and its ids are counted.
"""

from __future__ import annotations

import argparse
import collections
import subprocess
import tempfile
from pathlib import Path

import http_load
import polars as pl
import serving_stack
from rich.console import Console
from rich.table import Table

PATH = "/v2/models/bench/infer"
PART = 25_000


def resident(pid: int) -> dict[str, float]:
    """MiB by process name below `pid`, the largest of each name."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid=,rss=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 3) for line in listed.splitlines()]
    found, grown = {pid}, True
    while grown:
        more = {int(p) for p, parent, *_ in rows if int(parent) in found} - found
        found |= more
        grown = bool(more)
    sizes: dict[str, float] = {}
    for process, _, rss, arguments in rows:
        if int(process) in found:
            name = process_name(arguments)
            sizes[name] = max(sizes.get(name, 0.0), int(rss) / 1024)
    return sizes


def process_name(arguments: str) -> str:
    if "log_shipper" in arguments:
        return "log shipper"
    if "triton_python_backend_stub" in arguments:
        return "network" if "bench_net" in arguments else "front"
    return "tritonserver" if "bin/tritonserver" in arguments else "tether"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=500_000)
    total = parser.parse_args().requests
    console = Console()
    questions = serving_stack.questions(PART)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving_stack.stack(Path(folder), log={"flush_seconds": 10}) as made,
    ):
        server = serving_stack.triton(made, "soak", log=True)
        sizes, rates = [], []
        try:
            for start in range(0, total, PART):
                count = min(PART, total - start)
                bodies = [
                    serving_stack.request_body(q, f"r{start + n}")
                    for n, q in enumerate(questions[:count])
                ]
                load = http_load.run(server.http, PATH, bodies, clients=16, count=count)
                assert not load.errors, load.errors[:3]
                assert len(load.latencies) == count
                rates.append(load.rate)
                sizes.append(resident(server.pid))
                console.print(
                    f"{start + count:>9,} requests, {load.rate:,.0f} a second, "
                    f"p99 {load.milliseconds(99):.1f} ms, "
                    + ", ".join(f"{name} {size:.0f} MiB" for name, size in sizes[-1].items())
                )
        finally:
            server.stop()
        log = pl.scan_parquet(made.folder / "soak/predictions/**/*.parquet")
        ids = collections.Counter(log.select("request_id").collect()["request_id"].to_list())
        wanted = {f"r{n}" for n in range(total)}
        missing, twice = len(wanted - ids.keys()), sum(n - 1 for n in ids.values())
        strangers = len(ids.keys() - wanted)
        after_warm_up = sizes[max(len(sizes) // 10, 1) - 1]
        table = Table("process", "MiB after a tenth", "MiB at the end", "ratio")
        for name, size in sizes[-1].items():
            before = after_warm_up.get(name, size)
            table.add_row(name, f"{before:.0f}", f"{size:.0f}", f"{size / before:.2f}")
        console.print(table)
        console.print(
            f"{total:,} requests: {missing} missing from the log, {twice} there more than once, "
            f"{strangers} strangers"
        )


if __name__ == "__main__":
    main()
