"""The loop on real flights: champion v1, then a challenger that has seen more of the year.

    make demo          (python -m pipelines.demo)

Runs the training pipeline twice through `kfp.local`, the second time with three more months,
materialises the features into the embedded online store, shows that what is served equals what was
joined, and ends with a table and a page.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from zeroskew.endpoints import Endpoints
from zeroskew.steps.evaluation_page import NAMES

if TYPE_CHECKING:
    from pipelines.consistency import Consistency
    from pipelines.run import LocalRun
    from zeroskew.export.export import ExportRecord
    from zeroskew.record import VersionRecord

MODEL = "pipelines/flight_delay"
PAGE = Path("build/demo.html")
CHAMPION_RANGE = ("2013-01-01", "2013-07-01")
CHALLENGER_RANGE = ("2013-01-01", "2013-10-01")


@dataclass(frozen=True)
class Round:
    """One run of the training pipeline and the version it registered."""

    start: str
    end: str
    version: int
    record: VersionRecord
    export: ExportRecord
    run: LocalRun


def demo(
    page: Annotated[Path, typer.Option(help="where the HTML page goes")] = PAGE,
    rows: Annotated[int, typer.Option(help="flights whose served features are compared")] = 2_000,
) -> None:
    """Flights → champion v1 → challenger v2, on this machine, without a cluster."""
    from pipelines.demo_page import write_page
    from zeroskew.embedded import valkey

    console = Console()
    started = time.monotonic()
    os.environ.setdefault("MPLBACKEND", "agg")
    endpoints = Endpoints.from_environment()
    if not endpoints.redis:
        address = valkey.ensure(Path(endpoints.home) / "valkey")
        endpoints = replace(endpoints, redis=address)
    endpoints.export()

    console.print(
        "[bold]Will this flight arrive more than 15 minutes late?[/]  336,776 flights out of New "
        "York, asked at their scheduled departure."
    )
    console.print(
        f"State goes below {_shown(endpoints.home)}, logs beside the runs there. "
        "Two training pipelines of about two minutes each follow.\n"
    )
    first = _train(console, "1  champion", CHAMPION_RANGE)
    _promote_first(console, first)
    second = _train(console, "2  challenger, three months later", CHALLENGER_RANGE)
    consistency = _materialise_and_check(console, second.end, rows)

    console.print()
    console.print(_summary((first, second)))
    _verdict(console, second.record)
    seconds = time.monotonic() - started
    write_page(page, (first, second), consistency, seconds)
    console.print(f"\n{seconds:.0f} s in all.  The page: [bold]{page.absolute().as_uri()}[/]")
    console.print(
        "[dim]Lineage of a version: .venv/bin/zeroskew registry lineage flight_delay "
        f"{second.version}[/]"
    )


def _train(console: Console, title: str, times: tuple[str, str]) -> Round:
    from pipelines.progress import StepLines
    from pipelines.run import run_locally
    from pipelines.training import training_pipeline
    from zeroskew.export.export import ExportRecord
    from zeroskew.registry import Registry

    start, end = times
    console.print(f"[bold]{title}[/]  [dim]{start} to {end}[/]")
    with StepLines(console) as lines:
        run = run_locally(
            training_pipeline(MODEL), {"start_time": start, "end_time": end}, on_event=lines
        )
    version = int(run.steps["register"].parameters["version"])
    registered = Registry.from_environment().version(Path(MODEL).name, version)
    return Round(
        start=start,
        end=end,
        version=version,
        record=registered.record,
        export=ExportRecord.read(run.steps["export"].artifacts["exported"]),
        run=run,
    )


def _promote_first(console: Console, first: Round) -> None:
    """The first version has nobody to beat and no traffic to shadow: it becomes champion here.

    Later versions reach that place only by way of shadow and canary.
    """
    from zeroskew.registry import Registry

    registry = Registry.from_environment()
    name = Path(MODEL).name
    if registry.champion(name) is None:
        registry.promote(name, first.version, reason="first version of this model")
        console.print(f"  version {first.version} is the champion: there was none\n")
    else:
        console.print(f"  the champion is still version {registry.champion(name)}\n")


def _materialise_and_check(console: Console, end: str, rows: int) -> Consistency:
    from pipelines.consistency import compare_served_with_joined
    from pipelines.materialisation import materialisation_pipeline
    from pipelines.progress import StepLines
    from pipelines.run import run_locally

    console.print(f"\n[bold]3  serve[/]  [dim]newest values before {end} into the store[/]")
    moment = datetime.fromisoformat(end).replace(tzinfo=UTC)
    with StepLines(console) as lines:
        run_locally(
            materialisation_pipeline(MODEL),
            {
                "start_time": (moment - timedelta(days=400)).date().isoformat(),
                "end_time": end,
            },
            on_event=lines,
        )
    consistency = compare_served_with_joined(MODEL, moment, rows)
    colour = "green" if consistency.mismatches == 0 else "red"
    console.print(
        f"  served = joined?  {consistency.values:,} values of {consistency.rows:,} flights read "
        f"back from the online store: [{colour}]{consistency.mismatches} differ[/] from the "
        "point-in-time join"
    )
    return consistency


def _summary(rounds: tuple[Round, ...]) -> Table:
    """The table that the demo ends with: one column a version."""
    table = Table(title="Will this flight be late?", title_justify="left", show_edge=False)
    table.add_column("")
    for item in rounds:
        table.add_column(f"version {item.version}", justify="right")
    for label, cells in summary_rows(rounds):
        table.add_row(label, *cells)
    return table


def summary_rows(rounds: tuple[Round, ...]) -> list[tuple[str, list[str]]]:
    """What there is to say of each version: label, then one text per round."""
    rows = [
        ("months", [f"{item.start} to {item.end}" for item in rounds]),
        ("rows joined", [f"{item.record.data_rows or 0:,}" for item in rounds]),
        ("held-out rows", [f"{item.record.held_out_rows or 0:,}" for item in rounds]),
        ("pipeline seconds", [f"{item.run.seconds:.0f}" for item in rounds]),
        ("of these training", [f"{item.record.training_seconds or 0:.0f}" for item in rounds]),
    ]
    for name in ("auc", "pr_auc", "log_loss", "brier", "ece"):
        cells = [str(item.record.metrics[name]) for item in rounds if name in item.record.metrics]
        if len(cells) == len(rounds):
            rows.append((NAMES.get(name, name), cells))
    rows += [
        ("the champion, on the same rows", [champion_beside(item.record) for item in rounds]),
        ("precision", [item.record.precision for item in rounds]),
        ("INT8 against FP32", [int8_against_fp32(item.export) for item in rounds]),
        ("verdict", [item.record.verdict for item in rounds]),
    ]
    return rows


def champion_beside(record: VersionRecord) -> str:
    """What the champion of that moment came to on this version's held-out rows."""
    if record.difference is None or record.compared_against is None:
        return "there was none"
    value = record.metrics[record.compared_by].value - record.difference.value
    return f"{NAMES.get(record.compared_by, record.compared_by)} {value:.4f}"


def int8_against_fp32(export: ExportRecord) -> str:
    """One line of what quantization cost and gained."""
    found = {candidate["precision"]: candidate for candidate in export.candidates}
    if "int8" not in found or found["int8"]["quality"] is None:
        return "not quantized"
    quality = found["int8"]["quality"]
    change = -quality["metric_loss"]
    times = [found[name]["latency"]["p50"] for name in ("int8", "fp32")]
    return (
        f"{NAMES.get(quality['metric'], quality['metric'])} {change:+.5f}, "
        f"scores within {quality['max_score_difference']:.3f}, PSI {quality['psi']:.5f}, "
        f"{times[0] / times[1]:.2f} × the time"
    )


def _verdict(console: Console, record: VersionRecord) -> None:
    colour = {"wins": "green", "first": "green"}.get(record.verdict, "yellow")
    console.print(f"\n[{colour}]{record.verdict_reason}[/]")


def _shown(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


if __name__ == "__main__":
    from zeroskew.cli.shell import run

    run(demo)
