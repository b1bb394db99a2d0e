"""The API server, through the official client: plain dictionaries in and out, one clear error.

    cluster = connect(context="", kubeconfig="")
    rollout = cluster.read(MODEL_ROLLOUT, "team", "flight-delay")

Objects are asked for by their path, whatever their kind, so that a server newer than the client is
no trouble.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from zeroskew.cluster.refusals import explained, unreachable
from zeroskew.errors import ClusterError, ConfigError

__all__ = ["DRIFT_MONITOR", "MODEL_ROLLOUT", "Cluster", "Kind", "connect"]

FIELD_MANAGER = "zeroskew-cli"
CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
MOST_CONFLICTS = 30
PAGE = 500
_IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object, as the API server's paths name it."""

    group: str
    version: str
    plural: str
    name: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "") -> str:
        """Of one object or, without a name, of all; without a namespace, in all of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{within}/{self.plural}" + (f"/{name}" if name else "")

    @property
    def resource(self) -> str:
        """As `kubectl` and roles name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


MODEL_ROLLOUT = Kind("zeroskew.dev", "v1alpha1", "modelrollouts", "ModelRollout")
DRIFT_MONITOR = Kind("zeroskew.dev", "v1alpha1", "driftmonitors", "DriftMonitor")


class Cluster:
    """One API server, with somebody's credentials."""

    def __init__(self, client: Any, namespace: str, named: str) -> None:
        """`client`: a `kubernetes.client.ApiClient`. `namespace`: the default one. `named`: what
        errors call the cluster."""
        self._client, self.namespace, self.named = client, namespace, named

    @property
    def server(self) -> str:
        """Its address."""
        return str(self._client.configuration.host)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Raises `ClusterError`."""
        found = self._call("GET", path, query)
        return found if isinstance(found, dict) else {}

    def read(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """One object. Raises `ClusterError` that says what is missing: object, namespace, CRD."""
        try:
            return self.get(kind.path(namespace, name))
        except ClusterError as error:
            if error.code != 404:
                raise
            raise self._missing(kind, namespace, name) from None

    def list(self, kind: Kind, namespace: str = "", **query: Any) -> list[dict[str, Any]]:
        """All of them, in pages. Raises `ClusterError`."""
        found: list[dict[str, Any]] = []
        page: dict[str, Any] = {"limit": PAGE}
        while True:
            part = self.get(kind.path(namespace), **query, **page)
            found += part.get("items") or []
            if not (goes_on := (part.get("metadata") or {}).get("continue")):
                return found
            page["continue"] = goes_on

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Raises `ClusterError`."""
        found = self._call("POST", path, {}, dict(body))
        return found if isinstance(found, dict) else {}

    def annotate(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        decide: Callable[[dict[str, Any]], Mapping[str, str | None]],
    ) -> dict[str, Any]:
        """Set (None: remove) what `decide` makes of the object as it is just now.

        Nothing is written over a change that `decide` has not seen: after a conflict it is asked
        again. What it raises goes through; else raises `ClusterError`.
        """
        for turn in range(MOST_CONFLICTS):
            found = self.read(kind, namespace, name)
            metadata = {
                "annotations": dict(decide(found)),
                "resourceVersion": found["metadata"]["resourceVersion"],
            }
            try:
                return self._patch(kind.path(namespace, name), {"metadata": metadata})
            except ClusterError as error:
                if error.code != 409:
                    raise
            time.sleep(random.uniform(0.0, min(0.5, 0.02 * 2**turn)))  # noqa: S311
        raise ClusterError(
            f"{MOST_CONFLICTS} others changed it first",
            where=f"{kind.name} {namespace}/{name}",
            mend="try again",
            code=409,
        )

    def watch(
        self, path: str, *, seconds: float, **query: Any
    ) -> Generator[dict[str, Any], None, None]:
        """Events (`type`, `object`) until the server ends the watch, `seconds` at the latest.

        Raises `ClusterError`; an event of type ERROR comes as one.
        """
        asked = query | {"watch": "true", "timeoutSeconds": max(1, round(seconds))}
        answer = self._call("GET", path, asked, stream=True)
        try:
            for line in _lines(answer):
                event = json.loads(line)
                if event.get("type") == "ERROR":
                    status = event.get("object") or {}
                    text = status.get("message") or "the watch has ended"
                    raise ClusterError(text, where=self.named, code=int(status.get("code") or 0))
                yield event
        except ValueError:
            raise ClusterError("the watch broke off", where=self.named) from None
        except OSError as error:
            raise unreachable(error, self.named, self.server) from None
        except Exception as error:
            if type(error).__module__.startswith("urllib3"):
                raise unreachable(error, self.named, self.server) from None
            raise
        finally:
            answer.release_conn()

    def _patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        query = {"fieldManager": FIELD_MANAGER}
        kind = "application/merge-patch+json"
        found = self._call("PATCH", path, query, dict(body), content_type=kind)
        return found if isinstance(found, dict) else {}

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Any = None,
        *,
        content_type: str = "application/json",
        stream: bool = False,
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            return self._client.call_api(
                path, method, query_params=list(query.items()), header_params=headers, body=body,
                response_type=None if stream else "object", auth_settings=["BearerToken"],
                _return_http_data_only=True, _preload_content=not stream,
                _request_timeout=(CONNECT_SECONDS, READ_SECONDS),
            )  # fmt: skip
        except ApiException as error:
            raise explained(error.status, error.body, error.reason, self.named) from None
        except (HTTPError, OSError) as error:
            raise unreachable(error, self.named, self.server) from None

    def _missing(self, kind: Kind, namespace: str, name: str) -> ClusterError:
        where = f"{kind.name} {namespace}/{name}"
        try:
            known = self.list(kind, namespace)
        except ClusterError as error:
            if error.code == 404:
                return ClusterError(
                    f"the cluster does not know the kind {kind.name}",
                    where=self.named,
                    mend="install Zeroskew there (manifests/README.md), or name another --context; "
                    "`zeroskew doctor` says what else is missing",
                    code=404,
                )
            known = []
        names = sorted(each["metadata"]["name"] for each in known)
        if names:
            more = ", …" if len(names) > 8 else ""
            mend = f"in {namespace} there are {', '.join(names[:8])}{more}"
            return ClusterError("there is none of this name", where=where, mend=mend, code=404)
        if self._lacks(namespace):
            return ClusterError(
                f"there is no namespace {namespace}",
                where=self.named, mend="name another with --namespace", code=404,
            )  # fmt: skip
        return ClusterError(
            f"namespace {namespace} has no {kind.name}",
            where=self.named,
            mend=f"name another with --namespace; `kubectl get {kind.plural} -A` lists all",
            code=404,
        )

    def _lacks(self, namespace: str) -> bool:
        """Whether it is known that there is no such namespace: not everybody may look."""
        try:
            self.get(f"/api/v1/namespaces/{namespace}")
        except ClusterError as error:
            return error.code == 404
        return False


def connect(context: str = "", kubeconfig: str | Path = "") -> Cluster:
    """By a kubeconfig or, in a pod that has none, by the pod's ServiceAccount.

    Empty: the context in use; `KUBECONFIG`, or `~/.kube/config`. Nothing is asked of the server
    yet. Raises `ConfigError` if that names no cluster.
    """
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    named = str(kubeconfig or os.environ.get("KUBECONFIG", ""))
    files = [each for each in named.split(os.pathsep) if each] or ["~/.kube/config"]
    there = any(Path(each).expanduser().is_file() for each in files)
    if not there and not (named or context) and os.environ.get("KUBERNETES_SERVICE_HOST"):
        settings = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=settings)
        except ConfigException as error:
            raise ConfigError(str(error), where="the pod's ServiceAccount") from None
        mine = _IN_CLUSTER / "namespace"
        namespace = mine.read_text().strip() if mine.is_file() else "default"
        return Cluster(client.ApiClient(_patient(settings)), namespace, "this cluster")
    if not there:
        raise ConfigError(
            f"there is no {' or '.join(files)}",
            where="kubeconfig",
            mend="name the file with --kubeconfig or in KUBECONFIG",
        )
    expanded = os.pathsep.join(str(Path(each).expanduser()) for each in files)
    settings = client.Configuration()
    try:
        contexts, active = config.list_kube_config_contexts(expanded)
        known = {each["name"]: each for each in contexts}
        chosen = known.get(context) if context else active
        if chosen is None:
            raise ConfigError(
                f"there is no context {context!r}",
                where=expanded, mend=f"it has {', '.join(sorted(known)) or 'none'}",
            )  # fmt: skip
        config.load_kube_config(expanded, chosen["name"], settings, persist_config=False)
    except ConfigException as error:
        raise ConfigError(
            str(error), where=expanded, mend="`kubectl config get-contexts` shows what it has"
        ) from None
    except (KeyError, TypeError, ValueError, AttributeError, OSError, yaml.YAMLError) as error:
        raise ConfigError(
            f"this file cannot be read as a kubeconfig: {' '.join(str(error).split())}",
            where=expanded,
            mend="`kubectl config view` shows whether kubectl can read it",
        ) from None
    namespace = (chosen.get("context") or {}).get("namespace") or "default"
    return Cluster(client.ApiClient(_patient(settings)), namespace, f"context {chosen['name']}")


def _patient(settings: Any) -> Any:
    """One try: whoever asks decides whether it is worth another."""
    settings.retries = False
    return settings


def _lines(answer: Any) -> Iterator[str]:
    rest = b""
    for chunk in answer.stream(amt=None, decode_content=False):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line.decode()
    if rest.strip():
        yield rest.decode()
