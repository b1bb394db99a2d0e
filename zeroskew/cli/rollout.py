"""Rollout commands: run, analyse, manifest; the others are in rollout_gitops.py and
rollout_cluster.py."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from zeroskew.cli import rollout_cluster, rollout_gitops

rollout = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="How a new version reaches the users: judged beside the old one, step by step.",
)

FAILED, INCONCLUSIVE = 3, 4
TURN_SECONDS = 0.5


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    rollout_gitops.register(rollout)
    rollout_cluster.register(rollout)
    app.add_typer(rollout, name="rollout")


@rollout.command()
def run(
    model: Annotated[Path, typer.Argument(help="Folder of the model.", metavar="MODEL")],
    version: Annotated[
        str, typer.Option("--version", "-v", help="Number or alias: 3, challenger.")
    ] = "challenger",
    port: Annotated[int, typer.Option(help="Where users ask, HTTP.", min=1, max=65_535)] = 8000,
) -> None:
    """Bring a registered version to the users on this machine, until Ctrl-C.

    The champion and the new version in a Triton each, behind Envoy; steps and limits are those of
    `rollout` in model.yaml. Without requests a shadow has nothing to compare, and waits.

        zeroskew rollout run pipelines/flight_delay --version challenger
    """
    import signal

    from rich.console import Console

    from zeroskew.embedded.rollout import LocalRollout, judge_by_log
    from zeroskew.endpoints import Endpoints
    from zeroskew.model_config import load_model_config
    from zeroskew.registry import Registry

    config = load_model_config(model)
    endpoints = Endpoints.from_environment()
    registry = Registry.from_environment()
    wanted, champion = registry.resolve(config.name, version), registry.champion(config.name)
    home, console = Path(endpoints.home), Console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rollout = LocalRollout(
        config.name,
        config.rollout,
        home / "rollout" / config.name,
        judge=judge_by_log(
            endpoints.prediction_log, config.evaluation.threshold, home / "analyses"
        ),
        said=lambda event: console.print(f"{event.reason}: {event.message}"),
        port=port,
    )
    with contextlib.suppress(KeyboardInterrupt), rollout:
        console.print(f"http://{rollout.address}/v2/models/{config.name}/infer")
        if champion is not None and champion != wanted:
            rollout.want(champion)
            rollout.run(lambda status: status.stable == str(champion), seconds=300)
        rollout.want(wanted)
        said = ""
        while True:
            status = rollout.turn()
            if status.message != said:
                said = status.message
                console.print(f"[bold]{status.phase}[/] {said}")
            time.sleep(TURN_SECONDS)


@rollout.command()
def analyse(
    model: Annotated[Path, typer.Argument(help="Folder of the model.", metavar="MODEL")],
    champion: Annotated[int, typer.Option(help="Version that answered users.", min=1)],
    challenger: Annotated[int, typer.Option(help="Version that is judged.", min=1)],
    since: Annotated[datetime, typer.Option(help="First moment of an answer, UTC.")],
    until: Annotated[datetime | None, typer.Option(help="Last moment, UTC; default: now.")] = None,
    canary: Annotated[
        bool, typer.Option("--canary", help="The challenger answered users, no copies.")
    ] = False,
    mirror: Annotated[
        int, typer.Option(help="Percent of the requests that were copied.", min=1, max=100)
    ] = 100,
    log: Annotated[
        str, typer.Option(help="Prediction log; default: ZEROSKEW_PREDICTION_LOG.")
    ] = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="Page to write.")] = Path(
        "analysis.html"
    ),
) -> None:
    """Compare two versions by what they answered; `rollout.analysis` of model.yaml says how.

    Ends with 0 if the challenger passed, 3 if it failed, 4 if more requests are needed to tell.

        zeroskew rollout analyse pipelines/flight_delay --champion 1 --challenger 2
            --since 2026-03-01T12:00:00
    """
    from rich.console import Console
    from rich.table import Table

    from zeroskew.endpoints import Endpoints
    from zeroskew.model_config import load_model_config
    from zeroskew.rollout.analysis import Question
    from zeroskew.rollout.analysis import analyse as judge
    from zeroskew.rollout.analysis_page import analysis_page

    config = load_model_config(model)
    question = Question(
        log=log or Endpoints.from_environment().prediction_log,
        model=config.name,
        champion=str(champion),
        challenger=str(challenger),
        since=since.replace(tzinfo=UTC),
        until=until.replace(tzinfo=UTC) if until else datetime.now(UTC),
        mode="canary" if canary else "shadow",
        threshold=config.evaluation.threshold,
        mirror_percent=mirror,
    )
    found = judge(question, config.rollout.analysis.metrics)
    analysis_page(question, found).save(out)
    console = Console()
    table = Table("metric", "outcome", "what was seen")
    for each in found.metrics:
        outcome = f"{each.outcome} (dry run)" if each.dry_run else each.outcome
        table.add_row(f"{each.name} {each.slice}".strip(), outcome, each.message)
    console.print(table)
    console.print(f"{found.outcome}: {found.pairs:,} pairs; {out}")
    codes = {"Passed": 0, "Failed": FAILED, "Inconclusive": INCONCLUSIVE}
    raise typer.Exit(codes.get(found.outcome, 1))


@rollout.command()
def manifest(
    model: Annotated[Path, typer.Argument(help="Folder of the model.", metavar="MODEL")],
    storage_uri: Annotated[
        str, typer.Option(help="The version's Triton repository, as `serving repository` wrote it.")
    ],
    image: Annotated[str, typer.Option(help="Image of Triton with the front model.")],
    version: Annotated[
        str, typer.Option("--version", "-v", help="Number or alias: 3, challenger.")
    ] = "challenger",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace.")] = "default",
) -> None:
    """Print the ModelRollout that brings a registered version to the users.

    `rollout` of model.yaml says through which gateways and in which steps.

        zeroskew rollout manifest pipelines/flight_delay --storage-uri s3://models/flight_delay/2
            --image … | kubectl apply -f -
    """
    from zeroskew.model_config import load_model_config
    from zeroskew.registry import Registry
    from zeroskew.rollout.manifests import serving_manifests, to_yaml
    from zeroskew.rollout.rollout_config import rollout_manifest, template_of

    config = load_model_config(model)
    registry = Registry.from_environment()
    number = registry.resolve(config.name, version)
    documents = serving_manifests(
        registry.version(config.name, number), config,
        storage_uri=storage_uri, image=image, namespace=namespace,
    )  # fmt: skip
    made = rollout_manifest(
        config.rollout, config.name, number, template_of(documents), namespace=namespace
    )
    account = [each for each in documents if each["kind"] == "ServiceAccount"]
    print(to_yaml([*account, made]), end="")
