"""Asks an API server whether it would store an object, without storing it: milliseconds a time."""

import http.client
import json
import ssl
from dataclasses import dataclass

from api_server import TOKEN, Cluster


@dataclass(frozen=True)
class Refusal:
    message: str
    causes: tuple[tuple[str, str], ...]
    """Field and message of each."""


class DryRun:
    """One connection, kept open. `plural`: of a kind of ours."""

    def __init__(self, cluster: Cluster, plural: str, namespace: str) -> None:
        context = ssl._create_unverified_context()
        host = cluster.server.removeprefix("https://")
        self._connection = http.client.HTTPSConnection(host, timeout=60, context=context)
        self._path = (
            f"/apis/zeroskew.dev/v1alpha1/namespaces/{namespace}/{plural}"
            "?dryRun=All&fieldValidation=Strict"
        )

    def create(self, document: dict) -> Refusal | None:
        """None: the server would store it; unknown fields are refused."""
        self._connection.request(
            "POST", self._path, json.dumps(document),
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )  # fmt: skip
        with self._connection.getresponse() as answer:
            said = json.load(answer)
            assert answer.status in (201, 400, 422), said
        if answer.status == 201:
            return None
        causes = (said.get("details") or {}).get("causes") or ()
        return Refusal(
            said["message"], tuple((each.get("field", ""), each["message"]) for each in causes)
        )
