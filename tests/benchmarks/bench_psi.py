"""PSI of a day's rows against a training profile: ours, Evidently's, and bare NumPy.

    python tests/benchmarks/bench_psi.py            # 1 M rows × 20 columns against 100 k
    python tests/benchmarks/bench_psi.py --small

Every contestant runs in a process of its own on the same Parquet files. Ours measures the current
rows with the frozen profile of the reference and compares; Evidently's DataDriftPreset takes both
frames, as it has no form in which a reference could be kept. Our counts must equal an independent
NumPy computation on the same bins, and our PSI its formula to the last few bits.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS, CATEGORIES = 18, 2


def make_data(folder: Path, rows: int, reference_rows: int) -> None:
    """Normal, skewed, heavy-tailed, tied and integer columns, two of text, 2 % nulls in half."""
    import polars as pl

    for name, count, seed, shift in (
        ("reference", reference_rows, 1, 0.0), ("current", rows, 2, 0.15),
    ):  # fmt: skip
        rng = np.random.default_rng(seed)
        makers: list[Callable[[], Any]] = [
            lambda r=rng, n=count, s=shift: r.normal(s, 1, n),
            lambda r=rng, n=count, s=shift: r.lognormal(s, 2, n),
            lambda r=rng, n=count, s=shift: r.gamma(2, 1 + s, n),
            lambda r=rng, n=count, s=shift: np.maximum(r.normal(s, 1, n), 0),
            lambda r=rng, n=count, s=shift: r.poisson(4 + s, n).astype(np.float64),
            lambda r=rng, n=count, s=shift: r.integers(0, 1000, n),
        ]
        columns: dict[str, Any] = {}
        for i in range(NUMBERS):
            values = makers[i % len(makers)]()
            if i % 2 == 0 and values.dtype.kind == "f":
                values[rng.random(count) < 0.02] = np.nan
            columns[f"n{i}"] = values
        for i in range(CATEGORIES):
            codes = np.minimum(rng.geometric(0.08 + shift / 10, count), 60)
            columns[f"c{i}"] = pl.Series(codes).cast(pl.String)
        pl.DataFrame(columns).write_parquet(folder / f"{name}.parquet")


def run_ours(folder: Path, repeat: int, container: str) -> dict[str, Any]:
    import polars as pl

    from zeroskew.profiles import Profile, compare

    reference_frame: Any = pl.read_parquet(folder / "reference.parquet")
    current: Any = pl.read_parquet(folder / "current.parquet")
    if container == "pandas":
        reference_frame, current = reference_frame.to_pandas(), current.to_pandas()
    started = time.perf_counter()
    reference = Profile.learn(reference_frame)
    learning = time.perf_counter() - started
    base = peak()
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        measured = reference.measure(current)
        drifts = compare(reference, measured)
        times.append(time.perf_counter() - started)
    ready = []
    for _ in range(300):
        started = time.perf_counter()
        compare(reference, measured)
        ready.append(time.perf_counter() - started)
    reference.save(folder / "reference.json")
    measured.save(folder / "measured.json")
    return {
        "times": times,
        "ready": ready,
        "learning": learning,
        "memory": peak() - base,
        "psi": {name: drift.psi for name, drift in drifts.items()},
    }


def run_numpy(folder: Path, repeat: int) -> dict[str, Any]:
    """The same bins by binary search; texts by pandas' value counts. No code shared with ours."""
    import pandas as pd

    raw = json.loads((folder / "reference.json").read_text())["columns"]
    measured = json.loads((folder / "measured.json").read_text())["columns"]
    current = pd.read_parquet(folder / "current.parquet")
    base, times, psi = peak(), [], {}
    for _ in range(repeat):
        started = time.perf_counter()
        counts = {}
        for name, column in raw.items():
            if column["kind"] == "numeric":
                values = current[name].to_numpy(np.float64)
                bins = np.searchsorted(np.array(column["edges"]), values, side="right")
                nulls = np.isnan(values)
                bins[nulls] = len(column["counts"])
                counts[name] = np.bincount(bins, minlength=len(column["counts"]) + 1)
            else:
                found = current[name].value_counts()
                seen = found.reindex(column["values"]).fillna(0).to_numpy(np.int64)
                counts[name] = np.append(seen, [len(current) - seen.sum(), 0])
        times.append(time.perf_counter() - started)
    for name, column in raw.items():
        mine = measured[name]
        if column["kind"] == "numeric":
            e = np.array([*column["counts"], column["nulls"]], float)
            assert [*mine["counts"], mine["nulls"]] == counts[name].tolist(), name
            a = counts[name].astype(float)
        else:
            assert [*mine["counts"], mine["unseen"], 0] == counts[name].tolist(), name
            before = np.array(column["counts"], float)
            often = before >= 0.01 * (before.sum() + column["unseen"] + column["nulls"])
            now = counts[name].astype(float)
            e = np.array([*before[often], before[~often].sum(), column["unseen"], column["nulls"]])
            a = np.array([*now[:-2][often], now[:-2][~often].sum(), now[-2], now[-1]])
        e, a = np.maximum(e / e.sum(), 1e-4), np.maximum(a / a.sum(), 1e-4)
        psi[name] = float(np.sum((a - e) * np.log(a / e)))
    return {"times": times, "memory": peak() - base, "psi": psi}


def evidently_psi(current: Any, reference: Any) -> dict[str, float]:
    """PSI by column of Evidently's preset; columns named c… are categorical."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(
        numerical_columns=[name for name in current.columns if not name.startswith("c")],
        categorical_columns=[name for name in current.columns if name.startswith("c")],
    )
    now, before = (
        Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference)
    )
    result = Report([DataDriftPreset(method="psi")]).run(now, before).dict()
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in result["metrics"]
        if "column" in metric.get("config", {})
    }


def run_evidently(folder: Path, repeat: int) -> dict[str, Any]:
    import warnings

    warnings.filterwarnings("ignore")
    import pandas as pd

    current, reference = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("current", "reference")
    )
    evidently_psi(current[:1000], reference[:1000])  # imports and first-call costs
    base, times, psi = peak(), [], {}
    for _ in range(repeat):
        started = time.perf_counter()
        psi = evidently_psi(current, reference)
        times.append(time.perf_counter() - started)
    return {"times": times, "memory": peak() - base, "psi": psi}


def run_shapes(rows: int) -> dict[str, Any]:
    """Where binning decides: the same shift as Evidently and as frozen quantiles see it."""
    import warnings

    warnings.filterwarnings("ignore")
    import pandas as pd

    from zeroskew.profiles import Profile, compare

    rng = np.random.default_rng(5)
    outlier = rng.gamma(2, 1.5, rows)
    outlier[0] = 1e8
    cases = {
        "normal, mean 0 → 0.5": (rng.normal(0, 1, rows), rng.normal(0.5, 1, rows)),
        "lognormal σ = 2, median × 2.7": (rng.lognormal(0, 2, rows), rng.lognormal(1, 2, rows)),
        "gamma × 1.5 and one 1e8": (rng.gamma(2, 1, rows), outlier),
        "flag, 5 % → 50 %": ((rng.random(rows) < 0.05) * 1.0, (rng.random(rows) < 0.5) * 1.0),
        "no shift": (rng.normal(0, 1, rows), rng.normal(0, 1, rows)),
    }
    before = {name: pair[0] for name, pair in cases.items()}
    now = {name: pair[1] for name, pair in cases.items()}
    reference = Profile.learn(before)
    ours = compare(reference, reference.measure(now))
    theirs = evidently_psi(pd.DataFrame(now), pd.DataFrame(before))
    return {name: [ours[name].psi, ours[name].verdict, theirs[name]] for name in cases}


def peak() -> float:
    """Largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(kind: str, folder: Path, repeat: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--child", kind, "--folder", folder, "--repeat", str(repeat)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="does it run?")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--repeat", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        runs: dict[str, Callable[[], dict[str, Any]]] = {
            "polars": lambda: run_ours(args.folder, args.repeat, "polars"),
            "pandas": lambda: run_ours(args.folder, args.repeat, "pandas"),
            "numpy": lambda: run_numpy(args.folder, args.repeat),
            "evidently": lambda: run_evidently(args.folder, args.repeat),
            "shapes": lambda: run_shapes(20_000 if args.repeat == 1 else 100_000),
        }
        print(json.dumps(runs[args.child]()))
        return
    report(*((20_000, 5_000, 2) if args.small else (1_000_000, 100_000, 3)), small=args.small)


def report(rows: int, reference_rows: int, repeat: int, *, small: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=112)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_data(folder, rows, reference_rows)
        ours = child("polars", folder, 7 * repeat)
        pandas = child("pandas", folder, 7 * repeat)
        bare = child("numpy", folder, repeat)
        evidently = child("evidently", folder, repeat)
        shapes = child("shapes", folder, 1 if small else 2)
    worst = max(abs(ours["psi"][name] - bare["psi"][name]) for name in ours["psi"])
    assert worst < 1e-12, worst
    assert ours["psi"] == pandas["psi"], "one answer whatever the container"
    assert set(evidently["psi"]) == set(ours["psi"]), "Evidently judged the same columns"

    table = Table(title=f"PSI of {rows:,} × {NUMBERS + CATEGORIES} against {reference_rows:,} rows")
    for name in ("", "p50", "p99", "memory on top", "against ours"):
        table.add_column(name, justify="left" if not name else "right")
    fastest = statistics.median(ours["times"])
    for name, result in (
        ("zeroskew, Polars in", ours),
        ("zeroskew, pandas in", pandas),
        ("NumPy, same bins by binary search", bare),
        ("Evidently DataDriftPreset(psi)", evidently),
    ):
        middle = statistics.median(result["times"])
        table.add_row(
            name,
            f"{1e3 * middle:,.1f} ms",
            f"{1e3 * float(np.quantile(result['times'], 0.99)):,.1f} ms",
            f"{result['memory']:,.0f} MiB",
            f"{middle / fastest:,.1f}×",
        )
    console.print(table)
    theirs = statistics.median(evidently["times"])
    console.print(
        f"on the same pandas frames {theirs / statistics.median(pandas['times']):,.0f}× as fast as "
        "Evidently\n"
        f"from ready profiles: p50 {1e6 * statistics.median(ours['ready']):,.0f} µs, "
        f"p99 {1e6 * float(np.quantile(ours['ready'], 0.99)):,.0f} µs\n"
        f"learning the reference, once: {1e3 * ours['learning']:,.0f} ms\n"
        f"counts equal NumPy's exactly; largest difference in PSI {worst:.1e}",
        highlight=False,
    )
    table = Table(title="What the bins make of a shift (numeric PSI)")
    for name in ("", "zeroskew", "verdict", "Evidently"):
        table.add_column(name, justify="left" if not name else "right")
    for name, (mine, verdict, other) in shapes.items():
        table.add_row(name, f"{mine:.4f}", verdict, f"{other:.4f}")
    console.print(table)
    console.print(
        "Evidently lays equal-width bins over both samples together: where most rows sit in one\n"
        "such bin, a shift inside it is not seen. Both agree on plain shapes and on flags."
    )


if __name__ == "__main__":
    main()
