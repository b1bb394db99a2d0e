"""The commands of `python -m pipelines.run`, one for each pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from kfp.dsl.graph_component import GraphComponent
from rich.console import Console

from pipelines.batch_prediction import batch_prediction_pipeline
from pipelines.materialisation import materialisation_pipeline
from pipelines.progress import StepLines
from pipelines.run import LocalRun, run_locally
from pipelines.training import training_pipeline
from zeroskew.steps.model_folder import parse_moment, parse_range

app = typer.Typer(
    help="Run a model's pipeline on this machine.",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
_console = Console(highlight=False)
Folder = Annotated[Path, typer.Argument(help="The model's folder, as pipelines/flight_delay.")]


def _go(pipeline: GraphComponent, arguments: Mapping[str, Any]) -> LocalRun:
    _console.print(f"[bold]{pipeline.pipeline_spec.pipeline_info.name}[/]")
    with StepLines(_console) as lines:
        done = run_locally(pipeline, arguments, on_event=lines)
    _console.print(f"done in {done.seconds:.0f} s; artifacts and log in {done.folder}")
    return done


@app.command()
def training(
    model: Folder,
    start: Annotated[str, typer.Option(help="First moment: 2013-01-01, or now-90d.")],
    end: Annotated[str, typer.Option(help="End, excluded: 2013-07-01, or now.")],
    decision: Annotated[
        str, typer.Option(help="Checksum of the monitor's decision that asks for it.")
    ] = "",
) -> None:
    """Train, evaluate and register a version.

    Example: python -m pipelines.run training pipelines/flight_delay
    --start 2013-01-01 --end 2013-07-01
    """
    parse_range(start, end)
    arguments = {"start_time": start, "end_time": end, "decision": decision}
    said = _go(training_pipeline(model.absolute()), arguments).steps["register"].parameters
    _console.print(f"{model.name} version {said['version']}: {said['verdict']}")


@app.command()
def materialisation(
    model: Folder,
    end: Annotated[str, typer.Option(help="Values known up to this moment.")] = "now",
    start: Annotated[str, typer.Option(help="First moment; else where the last run ended.")] = "",
    view: Annotated[list[str] | None, typer.Option(help="A feature view; else all.")] = None,
) -> None:
    """Write the newest feature values to the online store.

    Example: python -m pipelines.run materialisation pipelines/flight_delay --end 2013-07-01
    """
    for text, name in ((end, "--end"), (start, "--start")):
        if text:
            parse_moment(text, field=name)
    _go(
        materialisation_pipeline(model.absolute()),
        {"start_time": start, "end_time": end, "views": view or []},
    )


@app.command()
def batch_prediction(
    model: Folder,
    entity_rows: Annotated[Path, typer.Option(help="Parquet with keys, event time and request.")],
    output: Annotated[Path, typer.Option(help="Parquet file for the predictions.")],
    version: Annotated[str, typer.Option(help="Alias or number in the registry.")] = "champion",
) -> None:
    """Score a Parquet of entity rows, point-in-time correct.

    Example: python -m pipelines.run batch-prediction pipelines/flight_delay
    --entity-rows july.parquet --output scores.parquet
    """
    rows = str(entity_rows.absolute()) if entity_rows.exists() else str(entity_rows)
    _go(
        batch_prediction_pipeline(model.absolute()),
        {"entity_rows": rows, "version": version, "output": str(output.absolute())},
    )
    _console.print(f"predictions in {output}")
