"""Judging a day of predictions from its profiles, at a thousand and at a hundred million.

    python tests/benchmarks/bench_drift.py            # 100 features × 24 hours × 4 servers
    python tests/benchmarks/bench_drift.py --small

A day's hour files are written as servers write them, for 1 k, 1 M and 100 M predictions; the counts
of each are drawn from the training set's distribution, so that nobody has to make 100 M rows. The
window is then read and all default metrics are judged, as a monitor does: by one that has just
started, by one that has read the day before but for the running hour, and by one that finds nothing
changed. The raw rows of the smallest day are judged as well.

PSI on the same counts must equal NumPy's to 1e-9. (Evidently at 1 M × 20 is in bench_psi.py.)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from zeroskew.monitoring.measuring import measure
from zeroskew.monitoring.metric_spec import default_metrics
from zeroskew.monitoring.served_profiles import ServedProfiles
from zeroskew.profiles import CategoricalProfile, NumericProfile, Profile, compare, paired_bins
from zeroskew.serving.log_profiles import FOLDER, FORMAT

DAY = datetime(2026, 3, 1, tzinfo=UTC)
LONG_AGO = 1_700_000_000


def training(features: int) -> Profile:
    """Nine in ten are numbers: normal, skewed, heavy-tailed, with nulls; the rest are texts."""
    rng = np.random.default_rng(1)
    columns: dict[str, Any] = {}
    for i in range(features):
        if i % 10 == 9:
            columns[f"f{i}"] = [f"c{code}" for code in rng.geometric(0.1, 50_000)]
            continue
        values = (rng.normal, rng.lognormal, rng.gumbel)[i % 3](0, 1, 50_000)
        if i % 2:
            values[rng.random(50_000) < 0.02] = np.nan
        columns[f"f{i}"] = values
    columns["score"] = rng.beta(2, 8, 50_000).astype(np.float32)
    return Profile.learn(columns)


def drawn(reference: Profile, rows: int, rng: np.random.Generator) -> Profile:
    """The profile of `rows` rows of the training set's distribution."""
    columns: dict[str, Any] = {}
    for name, column in reference.columns.items():
        if isinstance(column, NumericProfile):
            shares = np.array([*column.counts, column.nulls], float)
            *counts, nulls = rng.multinomial(rows, shares / shares.sum()).tolist()
            columns[name] = NumericProfile(
                column.edges, column.low, column.high, tuple(counts), nulls
            )
        else:
            shares = np.array([*column.counts, column.unseen, column.nulls], float)
            *counts, unseen, nulls = rng.multinomial(rows, shares / shares.sum()).tolist()
            columns[name] = CategoricalProfile(column.values, tuple(counts), unseen, nulls)
    return Profile(columns, rows)


def write_day(
    log: Path, reference: Profile, rows: int, servers: int, *, text: dict[str, Any] | None = None
) -> None:
    rng = np.random.default_rng(rows)
    base = log / "model=m" / "version=1" / FOLDER
    base.mkdir(parents=True)
    head = {"format": FORMAT, "model": "m", "version": "1", "role": "champion"}
    said = {**head, "profile": reference.to_json()}
    (base / "reference.json").write_text(json.dumps(said))
    for hour in range(24):
        folder = base / f"date={DAY:%Y-%m-%d}" / f"hour={hour:02d}"
        folder.mkdir(parents=True)
        for server in range(servers):
            profile = drawn(reference, rows // (24 * servers), rng)
            said = {
                **head, "writer": f"w{server}", "segments": list(range(120)), "rows": profile.rows,
                "start": DAY.isoformat(), "end": DAY.isoformat(), "degraded": 0,
                "missing": {name: 3 for name in reference.columns}, "stale": {},
                "feature_age": {"v": {"count": profile.rows, "mean": 3.0, "max": 9.0}},
                "profile": profile.to_json(),
            }  # fmt: skip
            path = folder / f"champion-w{server}.json"
            path.write_text(json.dumps(said))
            os.utime(path, (LONG_AGO, LONG_AGO))


def judged(log: ServedProfiles) -> tuple[Any, Any]:
    """What a monitor does at each measurement."""
    reference = log.reference("m", "1")
    assert reference is not None
    window = log.window("m", "1", DAY, DAY + timedelta(days=1), ("champion",), reference)
    return measure(default_metrics(), reference, window, 500), window


def timed(act: Callable[[], Any], repeat: int) -> list[float]:
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        act()
        times.append(1e3 * (time.perf_counter() - started))
    return times


def check_against_numpy(reference: Profile, current: Profile) -> float:
    """The largest difference from the formula, written down once more with NumPy."""
    worst = 0.0
    for name, drift in compare(reference, current).items():
        _, before, after = paired_bins(reference.columns[name], current.columns[name])
        e, a = np.array(before, float), np.array(after, float)
        e, a = np.maximum(e / e.sum(), 1e-4), np.maximum(a / a.sum(), 1e-4)
        worst = max(worst, abs(float(np.sum((a - e) * np.log(a / e))) - drift.psi))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="does it run?")
    args = parser.parse_args()
    features, servers, repeat = (10, 1, 3) if args.small else (100, 1, 30)
    from rich.console import Console
    from rich.table import Table

    console = Console(width=112)
    reference = training(features)
    table = Table(title=f"Judging 24 hours of {features} features from profiles")
    for name in (
        "predictions", "servers", "first reading", "one hour changed", "nothing changed", "p99",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    worst = 0.0
    for rows, servers in ((12_000, 1), (1_000_000, 1), (100_000_000, 1), (100_000_000, 8)):
        with tempfile.TemporaryDirectory() as folder:
            write_day(Path(folder), reference, rows, servers)
            metrics, window = judged(ServedProfiles(folder))
            assert {each.state for each in metrics} == {"Stable"}, metrics
            assert abs(window.rows - rows) <= 24 * servers, window.rows
            worst = max(worst, check_against_numpy(reference, window.profile))
            first = timed(lambda at=folder: judged(ServedProfiles(at)), repeat)
            log = ServedProfiles(folder)
            again = timed(lambda log=log: judged(log), repeat)
            running = sorted(Path(folder).glob("**/hour=23/*.json"))
            changed = []
            for turn in range(repeat):
                for path in running:
                    os.utime(path, (LONG_AGO + 1 + turn, LONG_AGO + 1 + turn))
                changed += timed(lambda log=log: judged(log), 1)
        table.add_row(
            f"{rows:,}", str(servers),
            *(f"{statistics.median(times):,.1f} ms" for times in (first, changed, again)),
            f"{float(np.quantile(again, 0.99)):,.1f} ms",
        )  # fmt: skip
    assert worst < 1e-9, worst
    console.print(table)
    console.print(f"PSI equals NumPy's on the same counts to {worst:.1e}", highlight=False)


if __name__ == "__main__":
    main()
