"""Rollout commands that commit: deploy, rollback."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zeroskew.rollout.gitops_deploy import Delivered, Delivery


class Mode(StrEnum):
    """How a commit reaches the followed branch."""

    merge = "merge"
    branch = "branch"


class RequestKind(StrEnum):
    """Who is asked to merge."""

    none = "none"
    gitlab = "gitlab"
    github = "github"


Remote = Annotated[
    str, typer.Option(help="Address of the git repository; default: ZEROSKEW_GIT_REMOTE.")
]
Branch = Annotated[
    str, typer.Option(help="Branch that the cluster follows; default: ZEROSKEW_GIT_BRANCH or main.")
]
Folder = Annotated[
    str, typer.Option(help="The model's folder in the repository; default: models/MODEL.")
]
HowToMerge = Annotated[
    Mode, typer.Option(help="Push to the branch, or to one of its own that people merge.")
]
Asking = Annotated[
    RequestKind, typer.Option("--request", help="With `--mode branch`: open a merge request.")
]
Api = Annotated[str, typer.Option(help="Address of GitHub's API, if it is not the usual one.")]
Author = Annotated[
    str, typer.Option(help="`Name <mail>`; default: ZEROSKEW_GIT_AUTHOR, or git's configuration.")
]
SignOff = Annotated[bool, typer.Option("--sign-off", help="Add Signed-off-by.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a sentence.")]


def register(group: typer.Typer) -> None:
    """Add this module's commands to the group `rollout`."""
    group.command()(deploy)
    group.command()(rollback)


def deploy(
    model: Annotated[Path, typer.Argument(help="Folder of the model.", metavar="MODEL")],
    storage_uri: Annotated[
        str, typer.Option(help="The version's Triton repository, as `serving repository` wrote it.")
    ],
    image: Annotated[str, typer.Option(help="Image of Triton with the front model.")],
    version: Annotated[
        str, typer.Option("--version", "-v", help="Number or alias: 3, challenger.")
    ] = "challenger",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace.")] = "default",
    remote: Remote = "",
    branch: Branch = "",
    folder: Folder = "",
    mode: HowToMerge = Mode.merge,
    request: Asking = RequestKind.none,
    api: Api = "",
    author: Author = "",
    sign_off: SignOff = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also a version that was rolled back.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Commit a registered version to the repository that Argo CD or Flux follows.

    The commit message holds the lineage. Credentials come from the environment:
    ZEROSKEW_GIT_USERNAME and ZEROSKEW_GIT_TOKEN, or ZEROSKEW_GIT_SSH_KEY and
    ZEROSKEW_GIT_KNOWN_HOSTS.

        zeroskew rollout deploy pipelines/flight_delay --version 42 --image …
            --storage-uri s3://models/flight_delay/42 --remote https://git.example/models.git
    """
    from zeroskew.model_config import load_model_config
    from zeroskew.registry import Registry
    from zeroskew.rollout.gitops_deploy import deploy as commit_version
    from zeroskew.rollout.gitops_remote import GitRemote
    from zeroskew.rollout.version_manifest import version_manifest

    config = load_model_config(model)
    target = GitRemote.from_environment(remote, branch, author=author)
    delivery = _delivery(folder, mode, request, api, sign_off)
    registry = Registry.from_environment()
    found = registry.version(config.name, registry.resolve(config.name, version))
    made = version_manifest(
        found, config, storage_uri=storage_uri, image=image, namespace=namespace
    )
    _say(config.name, commit_version(made, found, target, delivery, again=again), as_json)


def rollback(
    model: Annotated[str, typer.Argument(help="Model, named after its folder.", metavar="MODEL")],
    to: Annotated[int, typer.Option("--to", help="Version to go back to.", min=1)],
    reason: Annotated[
        str, typer.Option("--reason", "-r", help="Why, in one sentence; the history keeps it.")
    ],
    remote: Remote = "",
    branch: Branch = "",
    folder: Folder = "",
    mode: HowToMerge = Mode.merge,
    request: Asking = RequestKind.none,
    api: Api = "",
    author: Author = "",
    sign_off: SignOff = False,
    as_json: AsJson = False,
) -> None:
    """Commit the way back to a version that the repository had before, as it had it.

    The registry is not asked. The version that is left cannot return by a repeated deployment.

        zeroskew rollout rollback flight_delay --to 41 --reason "answers are late since noon"
    """
    from zeroskew.rollout.gitops_deploy import rollback as commit_way_back
    from zeroskew.rollout.gitops_remote import GitRemote

    target = GitRemote.from_environment(remote, branch, author=author)
    delivery = _delivery(folder, mode, request, api, sign_off)
    _say(model, commit_way_back(model, to, reason, target, delivery), as_json)


def _delivery(folder: str, mode: Mode, request: RequestKind, api: str, sign_off: bool) -> Delivery:
    from zeroskew.rollout.gitops_deploy import Delivery

    return Delivery(
        mode=mode.value, request=request.value, api=api, folder=folder, sign_off=sign_off
    )


def _say(model: str, delivered: Delivered, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(delivered)))
        return
    short = delivered.commit[:12]
    words = {
        "merged": f"{model} version {delivered.version} is on {delivered.branch}: {short}",
        "branch": f"{model} version {delivered.version} waits on {delivered.branch}: {short}",
        "already": f"{delivered.branch} had {model} version {delivered.version} already: {short}",
    }
    print(words[delivered.outcome])
    if delivered.request:
        print(delivered.request)
