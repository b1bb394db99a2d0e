"""Serving commands: manifests."""

from __future__ import annotations

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


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(serving, name="serving")


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
