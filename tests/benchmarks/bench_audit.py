"""The consistency audit of a million logged rows, beside Feast and pandas doing the same.

    python tests/benchmarks/bench_audit.py            1 M logged rows × 20 features
    python tests/benchmarks/bench_audit.py --small    50 k rows, seconds

Two views of ten float64 features each: 10,000 drivers with a value every six hours (TTL 1 day) and
500 shops with one a day. The log is what the server writes: Parquet by hour, ages, flags. In a row
of a thousand a feature was tampered with, and the store is an hour behind, so that rows differ in
life's way, too. Timed is the audit, reading log and sources included, imports excluded; each run is
a process of its own. The peer is `FeatureStore.get_historical_features` on the same rows, with
Feast's own file store, and a comparison column by column in pandas; it is given the largest size
that it does in memory, and both are compared there, outcome by outcome.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

START = datetime(2024, 3, 1, tzinfo=UTC)
DAYS, DRIVERS, SHOPS = 14, 10_000, 500
BEHIND = 3_600_000_000
DRIVER = [f"d{i}" for i in range(10)]
SHOP = [f"s{i}" for i in range(10)]
NAMES = [*DRIVER, *SHOP]

FEATURES = """
import os
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

DATA = os.environ["ZEROSKEW_DATA"]
driver = Entity(name="driver", join_keys=["driver"], value_type=ValueType.INT64)
shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.INT64)
def view(name, entity, ttl, letter):
    return FeatureView(
        name=name, entities=[entity], ttl=ttl,
        schema=[Field(name=f"{letter}{i}", dtype=Float64) for i in range(10)],
        source=FileSource(
            name=name, path=f"{DATA}/{name}.parquet", timestamp_field="event_timestamp"
        ),
    )
drivers = view("drivers", driver, timedelta(days=1), "d")
shops = view("shops", shop, timedelta(days=2), "s")
rides = FeatureService(name="rides", features=[drivers, shops])
"""


def write_data(folder: Path, rows: int) -> None:
    """Model folder, sources and log; the same for the same number of rows."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(3)
    model, data = folder / "rides", folder / "data"
    model.mkdir()
    data.mkdir()
    (model / "features.py").write_text(FEATURES)
    for name, store in (
        ("rides", "{type: zeroskew.features.offline_store.PolarsOfflineStore}"),
        ("peer", "{type: file}"),
    ):
        (model / f"{name}.yaml").write_text(
            f"project: {name}\nprovider: local\nregistry: {folder}/{name}.db\n"
            f"offline_store: {store}\nonline_store: {{type: redis, connection_string: x:1}}\n"
            "entity_key_serialization_version: 3\n"
        )
    (model / "rides.yaml").rename(model / "feature_store.yaml")
    base = round(START.timestamp() * 1e6)
    moment = pl.Datetime("us", "UTC")
    sources = {}
    for name, key, count, each, letter in (
        ("drivers", "driver", DRIVERS, 6, "d"), ("shops", "shop", SHOPS, 24, "s"),
    ):  # fmt: skip
        steps = DAYS * 24 // each
        who, step = np.tile(np.arange(count), steps), np.repeat(np.arange(steps), count)
        at = base + step * each * 3_600_000_000 + rng.integers(0, 600_000, len(who)) * 1000
        values = {f"{letter}{i}": rng.normal(0, 1, len(who)) for i in range(10)}
        sources[name] = (key, count, steps, each, at.reshape(steps, count), values)
        pl.DataFrame(
            {key: who, "event_timestamp": pl.Series(at).cast(moment), **values}
        ).write_parquet(data / f"{name}.parquet")
    event = np.sort(base + rng.integers(2 * 86_400_000, DAYS * 86_400_000, rows) * 1000)
    columns: dict[str, Any] = {}
    ages: dict[str, Any] = {}
    for name, (key, count, steps, each, at, values) in sources.items():
        who = rng.integers(0, count, rows)
        known = event - BEHIND
        step = np.clip((known - base) // (each * 3_600_000_000), 0, steps - 1)
        step = np.where(at[step, who] > known, step - 1, step)
        row = step * count + who
        columns[key] = who
        ages[f"age_{name}"] = (event - at[step, who]) // 1000
        for feature, column in values.items():
            columns[feature] = column[row]
    for at_row in np.flatnonzero(rng.random(rows) < 0.001):
        columns[NAMES[at_row % 20]][at_row] += 1
    log = pl.DataFrame(
        {
            "request_id": [f"q{i}" for i in range(rows)],
            "row": pl.Series(np.zeros(rows, np.int32)),
            "event_time": pl.Series(event).cast(moment),
            "model_version": "1",
            "role": "champion",
            "score": pl.Series(rng.random(rows), dtype=pl.Float32),
            "degraded": False,
            "answered_at": pl.Series(event + 5000).cast(moment),
            "latency_us": 900,
            "trace_id": pl.Series([None], dtype=pl.String).new_from_index(0, rows),
            **columns,
            "missing": pl.Series([[]], dtype=pl.List(pl.String)).new_from_index(0, rows),
            "stale": pl.Series([[]], dtype=pl.List(pl.String)).new_from_index(0, rows),
            **ages,
        }
    )
    for (hour,), part in log.group_by(pl.col("event_time").dt.truncate("1h"), maintain_order=True):
        assert isinstance(hour, datetime)
        target = folder / f"log/model=rides/version=1/date={hour:%Y-%m-%d}/hour={hour:%H}"
        target.mkdir(parents=True)
        part.write_parquet(target / "w-000001.parquet", compression="zstd")
    for path in data.iterdir():
        os.utime(path, (base / 1e6, base / 1e6))


# --- one variant, in its own process -------------------------------------------------------------


def ours(folder: Path) -> dict[str, Any]:
    from pyarrow import fs

    from zeroskew.features.audit import audit
    from zeroskew.features.audit_log import AuditLog, LoggedRows
    from zeroskew.features.repository import open_repository

    repository = open_repository(folder / "rides")
    started = time.perf_counter()
    log = AuditLog(fs.LocalFileSystem(), {"1": str(folder / "log/model=rides/version=1")})
    result = audit(repository, "rides", LoggedRows(log))
    seconds = time.perf_counter() - started
    counts = {f.feature: [f.match, f.mismatch, f.missing, f.extra] for f in result.features}
    told = {"rows": result.rows, "different": result.different, "causes": result.by_cause}
    return {"seconds": seconds, "counts": counts, **told}


def peer(folder: Path, rows: int) -> dict[str, Any]:
    """The first `rows` of the log by Feast and pandas."""
    import numpy as np
    import pandas as pd
    from feast import FeatureStore

    (folder / "feast").mkdir(exist_ok=True)
    for name, source in (("features.py", "features.py"), ("feature_store.yaml", "peer.yaml")):
        (folder / "feast" / name).write_text((folder / "rides" / source).read_text())
    store = FeatureStore(str(folder / "feast"))
    spaces: dict[str, Any] = {}
    exec((folder / "feast/features.py").read_text(), spaces)
    store.apply([spaces[n] for n in ("driver", "shop", "drivers", "shops", "rides")])
    started = time.perf_counter()
    files = sorted((folder / "log").rglob("*.parquet"))
    parts, height = [], 0
    for file in files:
        parts.append(pd.read_parquet(file, partitioning=None))
        height += len(parts[-1])
        if height >= rows:
            break
    log = pd.concat(parts, ignore_index=True).head(rows)
    questions = log[["driver", "shop"]].assign(
        event_timestamp=log["event_time"], number=np.arange(len(log))
    )
    joined = store.get_historical_features(questions, store.get_feature_service("rides")).to_df()
    joined = joined.drop_duplicates("number").set_index("number").reindex(np.arange(len(log)))
    counts, differs = {}, np.zeros(len(log), bool)
    for name in NAMES:
        a, b = log[name].to_numpy(), joined[name].to_numpy()
        gone, none = np.isnan(a), np.isnan(b)
        mismatch = ~gone & ~none & (a != b)
        counts[name] = [
            0,
            int(mismatch.sum()),
            int((gone & ~none).sum()),
            int((~gone & none).sum()),
        ]
        counts[name][0] = len(log) - sum(counts[name])
        differs |= mismatch | (gone != none)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds, "counts": counts, "rows": len(log), "different": int(differs.sum()),
    }  # fmt: skip


# --- all of them ---------------------------------------------------------------------------------


def measure(name: str, folder: Path, rows: int) -> dict[str, Any] | None:
    """Run a variant in a process; None if it was killed or failed."""
    done = subprocess.run(
        [sys.executable, __file__, "--variant", name, "--folder", str(folder), "--rows", str(rows)],
        capture_output=True, text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore", "ZEROSKEW_DATA": str(folder / "data")},
    )  # fmt: skip
    told = [line for line in done.stdout.splitlines() if line.startswith("MEASURED ")]
    if done.returncode or not told:
        print(f"{name}: ended with {done.returncode}\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(told[-1].removeprefix("MEASURED "))
    return found


def compare(rows: int, peer_rows: int, runs: int) -> bool:
    """Print the table of a size; False if the two do not count alike."""
    with tempfile.TemporaryDirectory(prefix="bench_audit_") as scratch:
        folder = Path(scratch) / "all"
        folder.mkdir()
        write_data(folder, rows)
        mine = [measure("ours", folder, rows) for _ in range(runs)]
        for each in mine:
            _tell(f"zeroskew audit, {rows:,} rows × 20", each)
        small = folder
        if peer_rows != rows:
            small = Path(scratch) / "part"
            small.mkdir()
            write_data(small, peer_rows)
        beside = measure("ours", small, peer_rows)
        _tell(f"zeroskew audit, {peer_rows:,} rows × 20", beside)
        other = measure("peer", small, peer_rows)
        _tell(f"feast + pandas, {peer_rows:,} rows × 20", other)
    if None in mine or beside is None or other is None:
        return False
    equal = beside["counts"] == other["counts"] and beside["different"] == other["different"]
    print("results", "equal" if equal else "DIFFERENT", beside.get("causes"))
    return equal


def _tell(what: str, found: dict[str, Any] | None) -> None:
    if found is None:
        print(f"{what}: failed")
        return
    print(
        f"{what}: {found['seconds']:.1f} s, peak {found['peak']:,.0f} MB, "
        f"{found['different']:,} of {found['rows']:,} rows differ",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="50 k rows, for a smoke test")
    parser.add_argument("--peer-rows", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=1_000_000)
    said = parser.parse_args()
    warnings.simplefilter("ignore")
    if said.variant:
        made = ours(said.folder) if said.variant == "ours" else peer(said.folder, said.rows)
        made["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print("MEASURED " + json.dumps(made))
        return 0
    if said.small:
        return 0 if compare(50_000, 50_000, 1) else 1
    return 0 if compare(said.rows, said.peer_rows, said.runs) else 1


if __name__ == "__main__":
    sys.exit(main())
