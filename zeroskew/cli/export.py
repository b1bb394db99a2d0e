"""Export commands: ONNX, INT8, TensorRT plans, the Triton repository."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zeroskew.export.export import ExportRecord


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("export", rich_help_panel="Export")(export)
    app.command("plan", rich_help_panel="Export")(plan)
    app.command("triton", rich_help_panel="Export")(triton)


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the trained checkpoint.")],
    training_set: Annotated[Path, typer.Argument(help="Folder of the set it was trained on.")],
    model: Annotated[Path, typer.Option(help="Folder of the model, with model.yaml.")],
    out: Annotated[Path, typer.Option(help="Folder to write; replaced only if all goes well.")],
    plan_cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps TensorRT plans between exports.")
    ] = None,
) -> None:
    """Checkpoint → ONNX, quantized, gated, with a record of what was chosen and why.

    [dim]zeroskew export build/checkpoint build/training_set --model pipelines/flight_delay
    --out build/export[/]
    """
    from rich.console import Console

    from zeroskew.export.export import export_model
    from zeroskew.model_config import load_model_config

    config = load_model_config(model)
    with _progress_bar() as progress:
        record = export_model(
            checkpoint, training_set, config, out, progress, plan_cache=plan_cache
        )
    console = Console()
    console.print(_candidates(record))
    console.print(f"[bold]{record.precision}[/]: {record.precision_reason}")
    console.print(f"written to {out}", highlight=False)


def plan(
    onnx: Annotated[Path, typer.Argument(help="An exported ONNX file.")],
    target: Annotated[
        str, typer.Option(help="Compute capability such as SM89, or `current` for the GPU here.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of plans; what is there is not built again.")],
    max_batch: Annotated[int, typer.Option(min=1, help="Largest batch, in rows.")] = 1024,
    opt_batch: Annotated[int, typer.Option(min=1, help="Batch to be fastest for.")] = 32,
) -> None:
    """ONNX → TensorRT plan, on a machine without a GPU too (with TensorRT for RTX).

    [dim]zeroskew plan build/export/model.int8.onnx --target SM89 --out build/plans[/]
    """
    from rich.console import Console
    from rich.table import Table

    from zeroskew.export.tensorrt_builder import build_plan

    built = build_plan(
        onnx, target=target, cache=out, max_batch=max_batch, opt_batch=min(opt_batch, max_batch)
    )
    table = Table("engine layer", "kind", "inputs", "constants", "from", title=built.path.name)
    for layer in built.layers:
        nodes = ", ".join(layer.nodes)
        table.add_row(
            layer.name,
            layer.kind,
            " ".join(layer.inputs),
            " ".join(layer.constants),
            nodes if len(nodes) < 60 else f"{len(layer.nodes)} nodes",
            style="bold" if layer.multiplies_int8 else None,
        )
    console = Console()
    console.print(table)
    how = "found in the cache" if built.cached else f"built in {built.seconds:.1f} s"
    console.print(
        f"{built.flavour} {built.version} for {built.target}, {how}; in INT8: "
        f"{', '.join(built.int8_products) or 'nothing (the graph is not quantized)'}"
    )


def triton(
    export_dir: Annotated[Path, typer.Argument(help="Folder that `zeroskew export` wrote.")],
    out: Annotated[Path, typer.Option(help="Triton's model repository.")],
    backend: Annotated[str, typer.Option(help="tensorrt, onnxruntime or python.")] = "python",
    version: Annotated[int, typer.Option(min=1, help="Version directory.")] = 1,
    instances: Annotated[int, typer.Option(min=1, help="Copies that compute at once.")] = 1,
    target: Annotated[str | None, typer.Option(help="Which plan, if there are several.")] = None,
) -> None:
    """Export → `<model>_net` in a Triton model repository.

    [dim]zeroskew triton build/export --backend onnxruntime --out build/models[/]
    """
    from rich.console import Console

    from zeroskew.export.triton_repository import write_triton_repository

    folder = write_triton_repository(
        export_dir,
        out,
        backend,  # type: ignore[arg-type]  # the function names the known ones
        version=version,
        instances=instances,
        target=target,
    )
    Console().print(f"written to {folder}", highlight=False)


def _candidates(record: ExportRecord) -> Any:
    from rich.table import Table

    table = Table(
        "precision", "p50 ms", "p99 ms", "metric", "loss", "largest difference", "PSI",
        title=f"{record.model}: {record.limits['latency']['batch']} rows a batch",
    )  # fmt: skip
    for candidate in record.candidates:
        latency, quality = candidate["latency"], candidate["quality"]
        name = candidate["precision"]
        cells = [f"{latency['p50']:.3f}", f"{latency['p99']:.3f}"]
        if quality:
            cells += [
                f"{quality['metric']} {quality['value']:.4f}",
                f"{quality['metric_loss']:+.5f}",
                f"{quality['max_score_difference']:.4f}",
                f"{quality['psi']:.5f}",
            ]
        table.add_row(name, *cells, style="bold" if name == record.precision else None)
    return table


@contextmanager
def _progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("export")
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )
