"""The point-in-time join beside Feast's own stores and beside a bare Polars as-of join.

    python tests/benchmarks/bench_point_in_time_join.py            200 k × 2 M rows, Feast file too
    python tests/benchmarks/bench_point_in_time_join.py --small    20 k × 200 k, seconds
    python tests/benchmarks/bench_point_in_time_join.py --large    1 M × 10 M as well, TTL 1 day

Ten float64 features, 10,000 keys, 60 days, unsorted; 1 % of the rows are issued anew an hour later
(a tie in event time), 0.5 % of the questions ask for unknown keys. Every variant runs in processes
of its own; timed is the retrieval alone, reading the Parquet file included, imports and the entity
rows excluded. Results are compared bit by bit. Peers that ignore creation are compared with our
join with the filter off; the filter, our default, is compared with Feast's where Feast has it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

FEATURES = [f"f{i}" for i in range(10)]
KEYS, DAYS = 10_000, 60
COLUMNS = (
    "variant", "runs", "median s", "min s", "CPU s", "peak MB", "× bare", "× bare MB", "× store",
    "result",
)  # fmt: skip
FLOOR = "polars as-of join, bare"
JOIN = "zeroskew join"
JOIN_FILTERED = "zeroskew join, created filter"
STORE = "zeroskew store"
STORE_FILTERED = "zeroskew store, created filter"
DUCKDB = "feast duckdb"
DUCKDB_FILTERED = "feast duckdb, created filter"
FILE = "feast file"


def write_data(folder: Path, questions: int, rows: int) -> None:
    """Source and entity rows, the same for the same sizes."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(7)
    start, span = 1_700_000_000_000_000, DAYS * 86_400_000
    key = rng.integers(0, KEYS, rows)
    event = start + rng.integers(0, span, rows) * 1000
    late = rng.choice(rows, rows // 100, replace=False)
    early = rng.permutation(np.setdiff1d(np.arange(rows), late))[: len(late)]
    key[late], event[late] = key[early], event[early]
    created = event.copy()
    # A second or so apart, so that no two rows tie in everything: Feast takes either of such.
    created[late] += 3_600_000_000 + rng.permutation(len(late)) * 1000
    moment = pl.Datetime("us", "UTC")
    pl.DataFrame(
        {
            "driver_id": key,
            "event_timestamp": pl.Series(event).cast(moment),
            "created": pl.Series(created).cast(moment),
            **{name: rng.random(rows) for name in FEATURES},
        }
    ).unique(["driver_id", "event_timestamp", "created"], keep="first", maintain_order=True
    ).write_parquet(folder / "source.parquet", row_group_size=1 << 18)  # fmt: skip
    asked = rng.integers(0, KEYS, questions)
    asked[rng.random(questions) < 0.005] += 10 * KEYS
    when = start + rng.integers(0, span, questions) * 1000
    pl.DataFrame(
        {
            "row_id": np.arange(questions),
            "driver_id": asked,
            "event_timestamp": pl.Series(when).cast(moment),
        }
    ).write_parquet(folder / "entity.parquet")


# --- one variant, in its own process -------------------------------------------------------------


def floor(folder: Path, ttl: timedelta | None) -> Callable[[], Any]:
    import polars as pl

    rows = pl.read_parquet(folder / "entity.parquet")

    def run() -> pl.DataFrame:
        source = pl.scan_parquet(folder / "source.parquet").sort("event_timestamp", "created")
        return (
            rows.lazy()
            .sort("event_timestamp")
            .join_asof(
                source,
                on="event_timestamp",
                by="driver_id",
                strategy="backward",
                tolerance=ttl,
                check_sortedness=False,
            )
            .sort("row_id")
            .collect()
        )

    return run


def join(folder: Path, ttl: timedelta | None, filtered: bool) -> Callable[[], Any]:
    import polars as pl

    from zeroskew.features.join import JoinView, point_in_time_join
    from zeroskew.features.sources import scan_parquet

    rows = pl.read_parquet(folder / "entity.parquet")

    def run() -> pl.DataFrame:
        view = JoinView(
            "drivers",
            scan_parquet(str(folder / "source.parquet")),
            {"driver_id": "driver_id"},
            {name: name for name in FEATURES},
            "event_timestamp",
            "created",
            ttl,
        )
        return point_in_time_join(rows, [view], filter_by_created=filtered)

    return run


def feast(
    folder: Path, ttl: timedelta | None, offline: dict[str, Any], filtered: bool
) -> Callable[[], Any]:
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.repo_config import RepoConfig
    from feast.types import Float64

    scratch = tempfile.mkdtemp(dir=folder)
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=f"{scratch}/registry.db",
            offline_store=offline,
            online_store={"type": "sqlite", "path": f"{scratch}/online.db"},
            entity_key_serialization_version=3,
        )
    )
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="drivers",
        entities=[driver],
        ttl=ttl or timedelta(0),
        schema=[Field(name=name, dtype=Float64) for name in FEATURES],
        source=FileSource(
            name="source",
            path=str(folder / "source.parquet"),
            timestamp_field="event_timestamp",
            created_timestamp_column="created",
        ),
    )
    store.apply([driver, view])
    rows = pd.read_parquet(folder / "entity.parquet")
    references = [f"drivers:{name}" for name in FEATURES]
    options = {"filter_by_created_timestamp": True} if filtered else {}

    def run() -> Any:
        return store.get_historical_features(rows, references, **options).to_arrow()

    return run


def variant(name: str, folder: Path, ttl: timedelta | None) -> Callable[[], Any]:
    ours = {"type": "zeroskew.features.offline_store.PolarsOfflineStore"}
    return {
        FLOOR: lambda: floor(folder, ttl),
        JOIN: lambda: join(folder, ttl, False),
        JOIN_FILTERED: lambda: join(folder, ttl, True),
        STORE: lambda: feast(folder, ttl, ours | {"filter_by_created_timestamp": False}, False),
        STORE_FILTERED: lambda: feast(folder, ttl, ours, False),
        DUCKDB: lambda: feast(folder, ttl, {"type": "duckdb"}, False),
        DUCKDB_FILTERED: lambda: feast(folder, ttl, {"type": "duckdb"}, True),
        FILE: lambda: feast(folder, ttl, {"type": "file"}, False),
    }[name]()


def measure(name: str, folder: Path, ttl: timedelta | None, runs: int, out: Path) -> None:
    """Run a variant, tell its seconds and peak memory as JSON, keep its result for comparison."""
    import polars as pl

    run = variant(name, folder, ttl)
    seconds, cpu = [], []
    result = None
    for _ in range(runs):
        result = None
        before = time.process_time()
        started = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - before)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    frame = result if isinstance(result, pl.DataFrame) else pl.DataFrame(result)
    frame.select("row_id", *FEATURES).sort("row_id").write_parquet(out, compression="lz4")
    print("MEASURED " + json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak}))


# --- all of them ---------------------------------------------------------------------------------


def run_variant(name: str, folder: Path, ttl_days: int, processes: int, runs: int) -> dict | None:
    """Measure a variant in `processes` processes; None if one of them was killed or failed."""
    seconds, cpu, peaks = [], [], []
    out = folder / f"{name.replace(' ', '_').replace(',', '')}.parquet"
    for _ in range(processes):
        done = subprocess.run(
            [sys.executable, __file__, "--variant", name, "--folder", str(folder),
             "--ttl-days", str(ttl_days), "--runs", str(runs), "--out", str(out)],
            capture_output=True, text=True, env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        told = [line for line in done.stdout.splitlines() if line.startswith("MEASURED ")]
        if done.returncode or not told:
            print(f"{name}: ended with {done.returncode}\n{done.stderr[-500:]}", file=sys.stderr)
            return None
        measured = json.loads(told[-1].removeprefix("MEASURED "))
        seconds += measured["seconds"]
        cpu += measured["cpu"]
        peaks.append(measured["peak"])
    return {"seconds": seconds, "cpu": cpu, "peak": statistics.median(peaks), "out": out}


def differences(mine: Path, theirs: Path) -> str:
    """Bit-exact comparison of two results; what is missing or different is counted."""
    import polars as pl

    ours, other = pl.read_parquet(mine), pl.read_parquet(theirs)
    bits = [pl.col(n).reinterpret(signed=False) for n in FEATURES]
    lost = ours.height - other.height
    both = ours.with_columns(bits).join(other.with_columns(bits), on="row_id", suffix="_other")
    wrong = both.filter(
        pl.any_horizontal(pl.col(n).ne_missing(pl.col(f"{n}_other")) for n in FEATURES)
    ).height
    if not lost and not wrong:
        return "equal"
    return f"{lost:,} rows lost, {wrong:,} wrong"


def compare(
    title: str, questions: int, rows: int, ttl_days: int, plan: dict[str, tuple[int, int]]
) -> bool:
    """Run a size, print its table; False if one of our results differs from the floor's."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=140)
    ok = True
    with tempfile.TemporaryDirectory(prefix="bench_join_") as scratch:
        folder = Path(scratch)
        write_data(folder, questions, rows)
        results = {}
        for name, (processes, runs) in plan.items():
            console.print(f"[dim]{title}: {name}[/]")
            results[name] = run_variant(name, folder, ttl_days, processes, runs)
        table = Table(title=title)
        for column in COLUMNS:
            left = column in ("variant", "result")
            table.add_column(column, justify="left" if left else "right", no_wrap=True)
        bare, ours = results[FLOOR], results[STORE]
        assert bare is not None
        assert ours is not None
        for name, got in results.items():
            if got is None:
                table.add_row(name, *["–"] * 8, "killed or failed")
                continue
            filtered = name.endswith("created filter")
            reference = results[JOIN_FILTERED] if filtered else bare
            mate = results[STORE_FILTERED] if filtered else ours
            assert reference is not None
            assert mate is not None
            verdict = differences(reference["out"], got["out"])
            ok &= verdict == "equal" or name == FILE
            median = statistics.median(got["seconds"])
            table.add_row(
                name,
                str(len(got["seconds"])),
                f"{median:.2f}",
                f"{min(got['seconds']):.2f}",
                f"{statistics.median(got['cpu']):.2f}",
                f"{got['peak']:,.0f}",
                f"{median / statistics.median(bare['seconds']):.2f}",
                f"{got['peak'] / bare['peak']:.2f}",
                f"{median / statistics.median(mate['seconds']):.1f}",
                verdict,
            )
        console.print(table)
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="20 k × 200 k rows, for a smoke test")
    parser.add_argument("--large", action="store_true", help="1 M × 10 M rows as well")
    parser.add_argument("--only-large", action="store_true", help="1 M × 10 M rows alone")
    parser.add_argument("--without-file", action="store_true", help="skip Feast's file store")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ttl-days", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=3, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    said = parser.parse_args()
    warnings.simplefilter("ignore")
    if said.variant:
        ttl = timedelta(days=said.ttl_days) if said.ttl_days else None
        measure(said.variant, said.folder, ttl, said.runs, said.out)
        return 0
    often, once = (said.processes, 3), (1, 1)
    quick = {n: often for n in (FLOOR, JOIN, JOIN_FILTERED, STORE, STORE_FILTERED)}
    file = {} if said.without_file else {FILE: once}
    ok = True
    if said.small:
        slow = {DUCKDB: (1, 3), DUCKDB_FILTERED: (1, 1), **file}
        ok &= compare("20 k × 200 k rows, no TTL", 20_000, 200_000, 0, quick | slow)
        ok &= compare("20 k × 200 k rows, TTL 1 day", 20_000, 200_000, 1, quick | {DUCKDB: once})
        return 0 if ok else 1
    if not said.only_large:
        slow = {DUCKDB: (said.processes, 1), DUCKDB_FILTERED: once, **file}
        ok &= compare("200 k × 2 M rows, no TTL", 200_000, 2_000_000, 0, quick | slow)
    if said.large or said.only_large:
        slow = {DUCKDB: (1, 2)}
        ok &= compare("1 M × 10 M rows, TTL 1 day", 1_000_000, 10_000_000, 1, quick | slow)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
