"""Online read of 50 features in 3 views: ours, Feast's SDK, and a bare HMGET of the same fields.

Run: python tests/benchmarks/bench_online_read.py [--small]

All variants run interleaved in one process against one Valkey on loopback; their values are
compared first. Like is compared with like: values with Feast's `to_dict()`, values with status and
event times with Feast's `to_dict(include_event_timestamps=True)`. Targets: 4× faster than Feast at
1 entity, 5× at 100, and at most 1.5× a bare HMGET through redis-py's pipeline.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import redis
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float32, Float64, Int64, String
from feast.value_type import ValueType
from rich.console import Console
from rich.table import Table

from zeroskew.embedded.valkey import EmbeddedValkey
from zeroskew.features.online_reader import OnlineReader, connect
from zeroskew.features.online_writer import OnlineWriter, ViewLayout
from zeroskew.features.read_plan_compiler import compile_plan, kind_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TYPES = [Float64] * 20 + [Int64] * 15 + [Float32] * 10 + [String] * 5


def definitions(folder: Path, address: str) -> tuple[FeatureStore, FeatureService]:
    """Three views (17, 17, 16 features) of one entity with a TTL of a day."""
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    fields = [Field(name=f"f{i:02}", dtype=t) for i, t in enumerate(TYPES)]
    random.Random(1).shuffle(fields)
    views = []
    for name, chosen in (("a", fields[:17]), ("b", fields[17:34]), ("c", fields[34:])):
        source = FileSource(name=name, path=str(folder / f"{name}.parquet"), timestamp_field="ts")
        schema = [Field(name="user_id", dtype=Int64), *chosen]
        views.append(
            FeatureView(
                name=name, entities=[user], ttl=timedelta(days=1), schema=schema, source=source
            )
        )
        pl.DataFrame({"user_id": [1], "ts": [NOW]}).write_parquet(folder / f"{name}.parquet")
    service = FeatureService(name="service", features=views)
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "redis", "connection_string": address},
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
    )
    store.apply([user, *views, service])
    return store, service


def fill(store: FeatureStore, client: Any, entities: int) -> None:
    """Write `entities` rows to every view, 2 % of the values null."""
    rng = np.random.default_rng(7)
    writer = OnlineWriter(client)
    for view in store.list_feature_views():
        kinds = {f.name: kind_of(f.dtype, f.name) for f in view.features}
        columns: dict[str, Any] = {"user_id": np.arange(entities)}
        for name, kind in kinds.items():
            if kind in ("float64", "float32"):
                columns[name] = rng.normal(size=entities).astype(kind)
            elif kind == "int64":
                columns[name] = rng.integers(-100, 10**6, entities)
            else:
                columns[name] = [f"value-{i % 97}" for i in range(entities)]
        frame = pl.DataFrame(columns).with_columns(
            [
                pl.when(pl.Series(rng.random(entities) < 0.02)).then(None).otherwise(pl.col(n))
                .alias(n) for n in kinds
            ]
        )  # fmt: skip
        seconds = pl.Series(rng.integers(0, 3600 * 10**6, entities))
        frame = frame.with_columns(
            ts=pl.lit(NOW).dt.cast_time_unit("us") - pl.duration(microseconds=seconds)
        )
        layout = ViewLayout("bench", view.name, {"user_id": "int64"}, kinds)
        writer.write(layout, frame.to_arrow(), event_time="ts")


def measure(
    variants: dict[str, Callable[[list[int]], Any]], entities: int, size: int, calls: int
) -> dict[str, np.ndarray]:
    """Milliseconds per call, every variant on the same entities, order rotating."""
    rng = random.Random(size)
    times: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for call in range(calls + calls // 10):
        ids = (
            [rng.randrange(entities) for _ in range(size)]
            if size == 1
            else rng.sample(range(entities), size)
        )
        for name in names[call % len(names) :] + names[: call % len(names)]:
            began = time.perf_counter()
            variants[name](ids)
            if call >= calls // 10:  # the first tenth warms up
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: np.array(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a smoke run of seconds")
    small = parser.parse_args().small
    entities, calls = (500, 50) if small else (10_000, 2000)
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as name, EmbeddedValkey(Path(name) / "valkey") as address:
        store, service = definitions(Path(name), address)
        client = connect(address)
        fill(store, client, entities)
        plan = compile_plan(store, service, name="service")
        reader = OnlineReader(client, plan)
        host, _, port = address.rpartition(":")
        bare = redis.Redis(host=host, port=int(port))
        group = plan.groups[0]
        fields = list(group.fields)
        head, tail = plan.key_head(group), b"bench"
        moment = NOW.timestamp()
        opening = b"\x04\x00\x00\x00\x08\x00\x00\x00"

        def feast(ids: list[int]) -> dict[str, list[Any]]:
            rows = [{"user_id": i} for i in ids]
            return store.get_online_features(features=service, entity_rows=rows).to_dict()

        def feast_times(ids: list[int]) -> dict[str, list[Any]]:
            rows = [{"user_id": i} for i in ids]
            answer = store.get_online_features(features=service, entity_rows=rows)
            return answer.to_dict(include_event_timestamps=True)

        def ours(ids: list[int]) -> Any:
            rows = reader.read({"user_id": ids}, now=moment)
            return rows.values, rows.status, rows.event_times

        def ours_python(ids: list[int]) -> dict[str, list[Any]]:
            return reader.read({"user_id": ids}).to_dict()

        def hmget(ids: list[int]) -> Any:
            pipeline = bare.pipeline(transaction=False)
            for i in ids:
                pipeline.hmget(head + opening + i.to_bytes(8, "little", signed=True) + tail, fields)
            return pipeline.execute()

        probe = [*range(100), entities + 5, 3]
        expected, found = feast(probe), ours_python(probe)
        assert found == {n: expected[n] for n in plan.names}, "values differ from Feast's"
        assert sum(v is None for c in found.values() for v in c) > 50
        assert store.list_feature_views()[0].ttl == timedelta(days=1)

        bare_name = "bare HMGET, redis-py pipeline"
        variants: dict[str, Callable[[list[int]], Any]] = {
            "Feast: to_dict()": feast,
            "Feast: to_dict() with event times": feast_times,
            "ours: to_dict()": ours_python,
            "ours: columns, status, event times": ours,
            bare_name: hmget,
        }
        peers = {
            "ours: to_dict()": "Feast: to_dict()",
            "ours: columns, status, event times": "Feast: to_dict() with event times",
        }
        worst: list[str] = []
        for size, floor in ((1, 4.0), (100, 5.0)):
            times = measure(variants, entities, size, calls if size == 1 else max(calls // 4, 20))
            table = Table(title=f"50 features, 3 views, {size} entities: values equal to Feast's")
            table.add_column("variant", no_wrap=True)
            for title in ("p50 ms", "p99 ms", "Feast ÷ this", "p99", "this ÷ bare"):
                table.add_column(title, justify="right", no_wrap=True)
            p50 = {n: float(np.median(t)) for n, t in times.items()}
            p99 = {n: float(np.percentile(t, 99)) for n, t in times.items()}
            for variant in variants:
                peer = peers.get(variant)
                table.add_row(
                    variant,
                    f"{p50[variant]:.3f}",
                    f"{p99[variant]:.3f}",
                    f"{p50[peer] / p50[variant]:.1f}×" if peer else "",
                    f"{p99[peer] / p99[variant]:.1f}×" if peer else "",
                    f"{p50[variant] / p50[bare_name]:.2f}×",
                )
            console.print(table)
            for variant, peer in peers.items():
                if p50[peer] / p50[variant] < floor:
                    worst.append(
                        f"{p50[peer] / p50[variant]:.1f}× of {floor}× over Feast at {size}"
                    )
                if p50[variant] / p50[bare_name] > 1.5:
                    worst.append(
                        f"{p50[variant] / p50[bare_name]:.2f}× a bare HMGET at {size}, at most 1.5×"
                    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"peak memory of this process {peak:.0f} MB")
    console.print("targets missed: " + "; ".join(worst) if worst else "all targets met")


if __name__ == "__main__":
    main()
