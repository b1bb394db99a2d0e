"""Materialise 1 M entities × 10 features to Redis: ours beside Feast's own, contents compared.

Run: python tests/benchmarks/bench_materialise.py [--small] [--rows N]

Each run is a process of its own over the same Parquet file and an empty Valkey on loopback, so
that peak memory is its own. Afterwards every hash in the two stores is compared. Target: 5×
faster than `feast.FeatureStore.materialize`. CPU seconds are shown beside wall time, since they
mean the same on a machine that others use.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import redis
from rich.console import Console
from rich.table import Table

from zeroskew.embedded.valkey import EmbeddedValkey

END = datetime(2026, 3, 2, tzinfo=UTC)
FEATURES = """
import os
from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float32, Float64, Int64, String

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
source = FileSource(
    name="profile", path=os.environ["ZEROSKEW_DATA"] + "/profile.parquet", timestamp_field="ts"
)
profile = FeatureView(
    name="profile", entities=[user], ttl=timedelta(days=2),
    schema=[Field(name="user_id", dtype=Int64)]
    + [Field(name=f"f{i}", dtype=Float64) for i in range(4)]
    + [Field(name=f"g{i}", dtype=Float32) for i in range(1)]
    + [Field(name=f"n{i}", dtype=Int64) for i in range(4)]
    + [Field(name="word", dtype=String)],
    source=source,
)
"""
STORE = """
project: bench
provider: local
registry: {folder}/registry.db
offline_store: {{type: {offline}}}
online_store: {{type: redis, connection_string: "${{ZEROSKEW_REDIS}}"}}
materialization: {{online_write_batch_size: 50000}}
entity_key_serialization_version: 3
"""
OURS = "zeroskew.features.offline_store.PolarsOfflineStore"


def sources(data: Path, rows: int) -> None:
    """One row per entity, 1 % nulls."""
    rng = np.random.default_rng(3)
    columns: dict[str, Any] = {"user_id": rng.permutation(rows)}
    columns |= {f"f{i}": rng.normal(size=rows) for i in range(4)}
    columns |= {"g0": rng.normal(size=rows).astype(np.float32)}
    columns |= {f"n{i}": rng.integers(0, 10 ** (2 * i + 1), rows) for i in range(4)}
    frame = pl.DataFrame(columns).with_columns(
        word=pl.concat_str(pl.lit("word-"), (pl.col("n1") % 997).cast(pl.String)),
        ts=pl.lit(END).dt.cast_time_unit("us")
        - pl.duration(microseconds=pl.Series(rng.integers(1, 80_000_000_000, rows))),
    )
    holes = pl.Series(rng.random(rows) < 0.01)
    frame = frame.with_columns(
        [pl.when(holes).then(None).otherwise(pl.col(n)).alias(n) for n in ("f0", "word")]
    )
    frame.write_parquet(data / "profile.parquet")


def run_one(variant: str, folder: str) -> None:
    """In a process of its own: open, materialise, print seconds and peak memory."""
    from zeroskew.features.materialise import materialise
    from zeroskew.features.repository import open_repository

    repository = open_repository(folder)
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, used = time.perf_counter(), time.process_time()
    if variant == "ours":
        report = materialise(repository, start=END - timedelta(days=2), end=END)
        assert report.written == report.rows, report
    else:
        repository.store.materialize(END - timedelta(days=2), END)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak / 1024, "idle": idle / 1024}))


def contents(address: str) -> tuple[int, int]:
    """Number of hashes, and a digest of every key, field and value that knows no order."""
    host, _, port = address.rpartition(":")
    client = redis.Redis(host=host, port=int(port))
    digest = count = cursor = 0
    while True:
        cursor, keys = client.scan(cursor, count=5000)
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall(key)
        for key, row in zip(keys, pipeline.execute(), strict=True):
            text = repr((key, sorted(row.items()))).encode()
            digest ^= int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")
        count += len(keys)
        if cursor == 0:
            return count, digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a smoke run of seconds")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        run_one(*arguments.one)
        return
    rows = 5_000 if arguments.small else arguments.rows
    console = Console()
    found: dict[str, dict[str, Any]] = {}
    stores: dict[str, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        sources(home, rows)
        for title, variant, offline in (
            ("Feast materialize, Feast's file store", "feast", "file"),
            ("Feast materialize, Polars offline store", "feast", OURS),
            ("ours", "ours", OURS),
        ):
            model = home / title.replace("'", "").replace(" ", "_")
            model.mkdir()
            (model / "features.py").write_text(FEATURES)
            (model / "feature_store.yaml").write_text(STORE.format(folder=model, offline=offline))
            with EmbeddedValkey(model / "valkey") as address:
                done = subprocess.run(
                    [sys.executable, __file__, "--one", variant, str(model)],
                    env=os.environ | {"ZEROSKEW_DATA": name, "ZEROSKEW_REDIS": address},
                    capture_output=True, text=True,
                )  # fmt: skip
                if done.returncode:
                    raise SystemExit(done.stderr)
                found[title] = json.loads(done.stdout.splitlines()[-1])
                host, _, port = address.rpartition(":")
                server = redis.Redis(host=host, port=int(port)).info("cpu")
                found[title]["server"] = server["used_cpu_user"] + server["used_cpu_sys"]
                stores[title] = contents(address)
                console.print(f"{title}: {found[title]['seconds']:.1f} s")
    assert len(set(stores.values())) == 1, f"the stores differ: {stores}"
    assert next(iter(stores.values()))[0] == rows
    first = next(iter(found.values()))
    base, base_cpu = first["seconds"], first["cpu"] + first["server"]
    table = Table(title=f"{rows:,} entities × 10 features to Redis: contents equal")
    table.add_column("variant")
    for title in (
        "seconds",
        "CPU s",
        "server CPU s",
        "rows a second",
        "peak MB",
        "Feast ÷ this",
        "by CPU",
    ):
        table.add_column(title, justify="right")
    for title, one in found.items():
        table.add_row(
            title,
            f"{one['seconds']:.1f}",
            f"{one['cpu']:.1f}",
            f"{one['server']:.1f}",
            f"{rows / one['seconds']:,.0f}",
            f"{one['peak']:.0f}",
            f"{base / one['seconds']:.1f}×",
            f"{base_cpu / (one['cpu'] + one['server']):.1f}×",
        )
    console.print(table)
    ratio = base / found["ours"]["seconds"]
    console.print(f"target 5×: {ratio:.1f}× " + ("met" if ratio >= 5 else "missed"))


if __name__ == "__main__":
    main()
