"""The commands of `python -m pipelines.run`, one for each pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from kfp.dsl.graph_component import GraphComponent
from rich.console import Console

from pipelines.arguments import typed_arguments
from pipelines.batch_prediction import batch_prediction_pipeline
from pipelines.consistency_audit import consistency_audit_pipeline
from pipelines.live_performance import live_performance_pipeline
from pipelines.materialisation import materialisation_pipeline
from pipelines.progress import StepLines
from pipelines.run import LocalRun, run_locally
from pipelines.training import training_pipeline
from zeroskew.errors import ConfigError
from zeroskew.steps.model_folder import parse_moment, parse_range

app = typer.Typer(
    help="Run a model's pipeline on this machine.",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
_console = Console(highlight=False)
Folder = Annotated[Path, typer.Argument(help="The model's folder, as pipelines/flight_delay.")]


_PIPELINES: Mapping[str, Callable[[Path], GraphComponent]] = {
    "training": training_pipeline,
    "materialisation": materialisation_pipeline,
    "batch-prediction": batch_prediction_pipeline,
    "consistency-audit": consistency_audit_pipeline,
    "live-performance": live_performance_pipeline,
}


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


@app.command()
def consistency_audit(
    model: Folder,
    start: Annotated[str, typer.Option(help="First moment of the answers.")] = "now-1d",
    end: Annotated[str, typer.Option(help="Their end, excluded.")] = "now",
    version: Annotated[str, typer.Option(help="Alias or number in the registry.")] = "champion",
    limit: Annotated[int, typer.Option(min=0, help="About so many rows; 0: all.")] = 0,
) -> None:
    """Compare what was served with the join of the same moments, row by row.

    Example: python -m pipelines.run consistency-audit pipelines/flight_delay --start now-7d
    """
    parse_range(start, end)
    _go(
        consistency_audit_pipeline(model.absolute()),
        {"start_time": start, "end_time": end, "version": version, "limit": limit},
    )


@app.command()
def live_performance(
    model: Folder,
    version: Annotated[str, typer.Option(help="Alias or number in the registry.")] = "champion",
    days: Annotated[int, typer.Option(min=1, help="Answers of so many days.")] = 30,
) -> None:
    """Measure the answers whose labels have arrived, and draw the model's page.

    Example: python -m pipelines.run live-performance pipelines/flight_delay --days 7
    """
    _go(live_performance_pipeline(model.absolute()), {"version": version, "days": days})


@app.command("pipeline")
def any_pipeline(
    name: Annotated[str, typer.Argument(help="Which of the model's pipelines.")],
    model: Folder,
    parameter: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, as KFP names it; numbers as JSON.")
    ] = None,
) -> None:
    """Run a pipeline with its own parameters, as a schedule does.

    Example: python -m pipelines.run pipeline live-performance pipelines/flight_delay
    --parameter days=7
    """
    if name not in _PIPELINES:
        raise ConfigError(
            f"there is no pipeline {name!r}",
            where="NAME",
            mend=f"it is one of {', '.join(_PIPELINES)}",
        )
    given = {}
    for text in parameter or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r} is not NAME=VALUE", where="--parameter")
        given[key] = value
    pipeline = _PIPELINES[name](model.absolute())
    _go(pipeline, typed_arguments(pipeline, given, where="--parameter"))
