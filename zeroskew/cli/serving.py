"""Serving commands: run, repository, manifests."""

from __future__ import annotations

import contextlib
import enum
from pathlib import Path
from typing import Annotated

import typer

serving = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Registered versions behind Triton: the manifests that serve them on KServe.",
)

Model = Annotated[
    Path,
    typer.Argument(
        help="Folder of the model; its model.yaml says replicas and resources.", metavar="MODEL"
    ),
]


class Backends(enum.StrEnum):
    """Triton's backends for the network."""

    tensorrt = "tensorrt"
    onnxruntime = "onnxruntime"
    python = "python"


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(serving, name="serving")


@serving.command()
def run(
    model: Model,
    version: Annotated[
        str, typer.Option("--version", "-v", help="Number or alias: 3, champion, challenger.")
    ] = "champion",
    http: Annotated[int, typer.Option(help="Port of HTTP.", min=1, max=65_535)] = 8000,
    grpc: Annotated[int, typer.Option(help="Port of gRPC.", min=1, max=65_535)] = 8001,
    metrics: Annotated[int, typer.Option(help="Port of /metrics.", min=1, max=65_535)] = 8002,
) -> None:
    """Serve a registered version on this machine, until Ctrl-C.

    Triton and, unless ZEROSKEW_REDIS names another, the embedded online store; predictions are
    logged below the home folder or to ZEROSKEW_PREDICTION_LOG.

        zeroskew serving run pipelines/flight_delay --version challenger
    """
    import signal

    from rich.console import Console

    from zeroskew.embedded.serving import serve_version
    from zeroskew.endpoints import Endpoints
    from zeroskew.model_config import load_model_config

    name = load_model_config(model).name
    console = Console(highlight=False)
    with console.status(f"loading {name} {version}"):
        server = serve_version(name, version, ports=(http, grpc, metrics))
    try:
        console.print(f"[bold]{name}[/] answers at http://{server.http}/v2/models/{name}/infer")
        console.print(f"gRPC {server.grpc}, metrics http://{server.metrics}/metrics")
        console.print(f"predictions: {Endpoints.from_environment().prediction_log}")
        console.print("[dim]Ctrl-C ends it[/]")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    finally:
        with console.status("flushing the prediction log"):
            server.stop()


@serving.command()
def repository(
    model: Model,
    out: Annotated[str, typer.Option("--out", "-o", help="New folder, or s3:// prefix.")],
    version: Annotated[
        str, typer.Option("--version", "-v", help="Number or alias: 3, champion, challenger.")
    ] = "champion",
    backend: Annotated[
        Backends, typer.Option(help="What computes the score in that server.")
    ] = Backends.onnxruntime,
    target: Annotated[
        str | None, typer.Option(help="Which TensorRT plan (SM89), if the version has several.")
    ] = None,
) -> None:
    """The Triton model repository of a registered version: what an InferenceService loads.

    zeroskew serving repository pipelines/flight_delay --version 3 --out s3://models/flights/3
    """
    from rich.console import Console

    from zeroskew.embedded.serving import registered_repository
    from zeroskew.model_config import load_model_config

    name = load_model_config(model).name
    number = registered_repository(name, version, out, backend.value, target=target)
    Console(highlight=False).print(f"{name} version {number} written to {out}")


@serving.command()
def manifests(
    model: Model,
    storage_uri: Annotated[
        str,
        typer.Option(
            "--storage-uri",
            help="Triton repository of the version: s3://…, gs://…, pvc://…, oci://…",
        ),
    ],
    image: Annotated[str, typer.Option("--image", help="Serving image (images/triton).")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace it runs in.")],
    version: Annotated[
        str, typer.Option("--version", "-v", help="Number or alias: 3, champion, challenger.")
    ] = "champion",
    rollout: Annotated[
        str | None, typer.Option("--rollout", help="Name of the rollout; default: the model's.")
    ] = None,
    role: Annotated[
        str,
        typer.Option("--role", help="What a request counts as that does not say: see the log."),
    ] = "champion",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default: standard output.")
    ] = None,
) -> None:
    """YAML that serves a registered version as an InferenceService of its own.

    ServiceAccount, ServingRuntime, InferenceService and PodDisruptionBudget, filled in from
    `serving` in model.yaml and from the version's lineage.

        zeroskew serving manifests pipelines/flight_delay --version champion -n models
        --storage-uri s3://models/flight_delay/3 --image registry/zeroskew-triton:1f3a9c2
        | kubectl apply -f -
    """
    from zeroskew.model_config import load_model_config
    from zeroskew.registry import Registry
    from zeroskew.rollout.manifests import serving_manifests, to_yaml

    config = load_model_config(model)
    text = to_yaml(
        serving_manifests(
            Registry.from_environment().version(config.name, version),
            config,
            storage_uri=storage_uri,
            image=image,
            namespace=namespace,
            rollout=rollout,
            role=role,
        )
    )
    if out is None:
        typer.echo(text, nl=False)
        return
    from zeroskew.steps.files import replacing

    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
