"""The whole loop on real flights: trained on winter, serving spring, retrained by itself.

    make demo          (python -m pipelines.demo)

Runs the training pipeline through `kfp.local`, materialises the features into the embedded online
store, serves the champion with a real Triton and shows that what was served equals what would have
been joined. Then the clock runs through June: the weather leaves what the model was trained on, the
monitor's decision starts the training pipeline again, and its version goes through shadow and
canary while users go on asking; a version that was broken on purpose is taken off before any user
sees it. Labels say what it was worth. It ends with tables and pages.
"""

from __future__ import annotations

import os
import time
import warnings
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
    from pipelines.demo_serving import Served
    from pipelines.demo_story import Story
    from pipelines.run import LocalRun
    from zeroskew.export.export import ExportRecord
    from zeroskew.record import VersionRecord

MODEL = "pipelines/flight_delay"
PAGE = Path("build/demo.html")
TRAIN_FROM = "2013-01-01"
WINTER = (TRAIN_FROM, "2013-02-15")
SERVED_AT = "2013-05-31T19:00:00"
"""An afternoon in New York, in UTC, that no version has seen."""
LIVE_FROM = "2013-06-01T00:00:00"


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
    """Flights → champion → served → drifted → retrained → rolled out, without a cluster."""
    from pipelines.demo_page import write_page
    from zeroskew.embedded import valkey

    console = Console()
    started = time.monotonic()
    os.environ.setdefault("MPLBACKEND", "agg")
    # MLflow's own use of SQLAlchemy, nothing that a user of the demo could mend.
    warnings.filterwarnings("ignore", module="mlflow")
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
        "It takes six to ten minutes.\n"
    )
    first = _train(console, "1  train on winter", WINTER)
    _promote_first(console, first)
    consistency = _materialise_and_check(console, SERVED_AT, rows)
    served = _serve(console)
    story = _live(console, first)
    rounds = (first,) if story.retrained is None else (first, _retrained(story))

    console.print()
    console.print(_summary(rounds))
    _verdict(console, rounds[-1].record)
    seconds = time.monotonic() - started
    write_page(page, rounds, consistency, served, story, seconds)
    watched = _model_page(story, page.with_name(f"{Path(MODEL).name}.html"))
    console.print(f"\n{seconds:.0f} s in all.  The page: [bold]{page.absolute().as_uri()}[/]")
    console.print(f"Everything about the model: [bold]{watched.absolute().as_uri()}[/]")
    if story.retrained is not None and "drift-report" in story.retrained.steps:
        report = story.retrained.steps["drift-report"].artifacts["page"]
        shown = page.with_name(f"{Path(MODEL).name}-drift.html")
        shown.write_bytes(report.read_bytes())
        console.print(f"What the decision was about: [bold]{shown.absolute().as_uri()}[/]")
    console.print(
        "[dim]Lineage of a version: .venv/bin/zeroskew registry lineage flight_delay "
        f"{rounds[-1].version}[/]"
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

    console.print(f"\n[bold]2  materialise[/]  [dim]newest values before {end} into the store[/]")
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


def _serve(console: Console) -> Served:
    from pipelines.demo_serving import RATE, SECONDS, serve_later_flights

    moment = datetime.fromisoformat(SERVED_AT).replace(tzinfo=UTC)
    console.print(
        f"\n[bold]3  serve[/]  [dim]the champion in Triton, {RATE:.0f} requests a second for "
        f"{SECONDS:.0f} s, about flights of the next four hours[/]"
    )
    with console.status("Triton loads the champion and answers"):
        served = serve_later_flights(MODEL, moment)
    for error in served.sent.errors[:3]:
        console.print(f"  [red]{error}[/]")
    console.print(latency_table(served))
    colour = "green" if served.mismatches == 0 else "red"
    console.print(
        f"  {served.logged:,} predictions logged; of {served.compared:,} values in the log "
        f"[{colour}]{served.mismatches} differ[/] from the point-in-time join of that moment"
    )
    console.print(
        f"  of the tenth of these {served.flights} flights with the highest scores, "
        f"{served.late_among_top:.0%} were late; of all of them, {served.late_share:.0%}"
    )
    for one in served.explained:
        reasons = ", ".join(f"{n} {value_text(v)} ({by:+.2f})" for n, v, by in one.reasons)
        outcome = "was late" if one.late else "was on time"
        console.print(f"  [bold]{one.flight}[/] {one.score:.2f} because of {reasons}; it {outcome}")
    return served


def _live(console: Console, first: Round) -> Story:
    from pipelines.demo_live import utc
    from pipelines.demo_story import live
    from pipelines.progress import StepLines
    from zeroskew.registry import Registry

    champion = Registry.from_environment().resolve(Path(MODEL).name, "champion")
    console.print(
        f"\n[bold]4  live[/]  [dim]flights from {LIVE_FROM[:10]} on, through Envoy, while a "
        "monitor looks at what was served[/]"
    )
    with StepLines(console) as lines:
        story = live(
            MODEL, champion, utc(LIVE_FROM), TRAIN_FROM,
            said=lambda text: console.print(f"  {text[:150]}", style="dim", markup=False),
            on_step=lines,
        )  # fmt: skip
    if story.decision is None:
        console.print("  [yellow]no drift was found: nothing was retrained[/]")
    elif story.verdict != "wins":
        console.print("  the retrained version lost to the champion: its rollout does not begin")
    for each in story.rolled_out:
        colour = "green" if not each.traffic.errors else "red"
        console.print(
            f"  [bold]version {each.version}[/] {each.phase} after {each.seconds:.0f} s: "
            f"{each.traffic.requests:,} requests meanwhile, "
            f"[{colour}]{len(each.traffic.errors)} errors[/]"
        )
    if story.performance is not None:
        from zeroskew.cli.monitor_performance import performance_table

        console.print(f"\n[bold]5  look back[/]  [dim]labels known by {story.ended:%Y-%m-%d}[/]")
        console.print(performance_table(story.performance))
    for audit in story.audits:
        colour = "green" if not audit.different else "red"
        console.print(
            f"  served = joined?  {audit.values:,} values of {audit.rows:,} logged answers of "
            f"version {audit.versions[0]}: [{colour}]{audit.different} rows differ[/]"
        )
    return story


def _model_page(story: Story, path: Path) -> Path:
    """What `zeroskew monitor page` draws, of the demo's own prediction log."""
    from zeroskew.pages.model_page import model_page
    from zeroskew.steps.model_page import facts_of

    model_page(facts_of(MODEL, days=30, log=story.log)).save(path)
    return path


def _retrained(story: Story) -> Round:
    from zeroskew.export.export import ExportRecord
    from zeroskew.registry import Registry

    assert story.retrained is not None
    assert story.version is not None
    registered = Registry.from_environment().version(Path(MODEL).name, story.version)
    return Round(
        start=TRAIN_FROM,
        end=story.training_end[:10],
        version=story.version,
        record=registered.record,
        export=ExportRecord.read(story.retrained.steps["export"].artifacts["exported"]),
        run=story.retrained,
    )


def latency_table(served: Served) -> Table:
    """Milliseconds at p50 and p99: the whole request as a client sees it, and its stages."""
    from pipelines.demo_serving import STAGES

    table = Table(show_edge=False)
    table.add_column("milliseconds")
    table.add_column("p50", justify="right")
    table.add_column("p99", justify="right")
    p50, p99 = (served.sent.milliseconds(percent) for percent in (50, 99))
    table.add_row("whole request, at the client", f"{p50:.2f}", f"{p99:.2f}")
    for stage, label in STAGES.items():
        half, most = served.stages[stage]
        table.add_row(label, f"≤ {half:g}", f"≤ {most:g}")
    return table


def value_text(value: object) -> str:
    """A feature's value, short."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


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
