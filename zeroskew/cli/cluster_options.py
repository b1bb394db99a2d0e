"""Options that all commands share which talk to a cluster."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zeroskew.cluster.access import Cluster

__all__ = ["Context", "Kubeconfig", "Namespace", "Output", "Outputs", "opened", "print_json"]

Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="Namespace; default: that of the context.")
]
Context = Annotated[
    str, typer.Option("--context", help="Context of the kubeconfig; default: the one in use.")
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="Default: KUBECONFIG or ~/.kube/config; in a pod, its ServiceAccount."),
]


class Outputs(enum.StrEnum):
    """For a person, or for a program."""

    text = "text"
    json = "json"


Output = Annotated[Outputs, typer.Option("--output", "-o", help="text or json.")]


def opened(context: str, kubeconfig: Path | None, namespace: str) -> tuple[Cluster, str]:
    """The cluster, and the namespace that is meant. Raises `ConfigError`."""
    from zeroskew.cluster.access import connect
    from zeroskew.rollout.names import check_namespace

    cluster = connect(context, kubeconfig or "")
    return cluster, check_namespace(namespace or cluster.namespace)


def print_json(value: Any) -> None:
    """A dataclass in camelCase, on a line of its own."""
    from zeroskew.rollout.rollout_state import to_json

    print(json.dumps(to_json(value), ensure_ascii=False), flush=True)
