"""The few calls to Kubeflow Pipelines' API that a trigger needs.

`/apis/v2beta1` of the API server (kubeflow/pipelines: backend/api/v2beta1/run.proto,
pipeline.proto, experiment.proto, filter.proto), as JSON. KFP's own client is not imported: for five
requests it brings the compiler and half of the operator's memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from zeroskew.errors import ConfigError

TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105
"""Where KFP's own clients look for the token of a ServiceAccount, too."""
TIMEOUT = aiohttp.ClientTimeout(total=15, connect=5)
PAGE, PAGES = 50, 4
LONGEST_ANSWER = 8 << 20
WAITING = (None, "", "RUNTIME_STATE_UNSPECIFIED", "PENDING")
"""States of a run that has not begun: none is told between the first report and Argo's start."""


class KfpRefused(Exception):
    """The request was certainly not carried out; the text says why."""

    def __init__(self, message: str, status: int = 0) -> None:
        """`status`: HTTP's, 0 if there was no answer."""
        super().__init__(message)
        self.status = status


class KfpSilent(Exception):
    """Nobody knows whether the request was carried out: it had no answer, or a 5xx, which this
    server also gives after it has begun a run."""


class KfpClient:
    """One server."""

    def __init__(self, url: str, *, multi_user: bool = False) -> None:
        """`multi_user`: pipelines, experiments and runs belong to namespaces; a server for one
        user ignores that there are any. Raises `ConfigError` if `url` is no address of a server."""
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"{url!r} is no server of Kubeflow Pipelines",
                where="ZEROSKEW_KFP",
                mend="name one that the operator can reach, such as http://ml-pipeline.kubeflow:8888",
            )
        self._url, self.multi_user = url.rstrip("/"), multi_user
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def runs(self, name: str, namespace: str) -> list[dict[str, Any]]:
        """All runs of this display name, in any state. Raises `KfpRefused` or `KfpSilent`."""
        found = await self._list("runs", "runs", "display_name", name, namespace)
        return [each for each in found if each.get("display_name") == name]

    async def create_run(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """The run as the server has it. Raises `KfpRefused` only if there is none now."""
        return await self._ask("POST", "runs", body=run)

    async def terminate(self, run_id: str) -> None:
        """Raises `KfpRefused` or `KfpSilent`, but not for a run that is ending or has ended.

        It is CANCELING at once, and FAILED when its pods are gone.
        """
        try:
            await self._ask("POST", f"runs/{run_id}:terminate", body={})
        except KfpRefused:
            found = await self._ask("GET", f"runs/{run_id}")
            if found.get("state") in WAITING or found.get("state") in ("RUNNING", "PAUSED"):
                raise

    async def pipeline_id(self, name: str, namespace: str) -> str:
        """Raises `KfpRefused` if there is not exactly one; with several users, in `namespace`."""
        found = await self._named("pipelines", "pipelines", name, namespace)
        ids = {each["pipeline_id"] for each in found if self._ours(each, namespace)}
        return _only(ids, f"pipeline {name!r}{self._where(namespace)}")

    async def version(self, pipeline_id: str, name: str | None) -> dict[str, Any]:
        """A version with its `pipeline_spec`; name None: the newest. Raises `KfpRefused`."""
        path = f"pipelines/{pipeline_id}/versions"
        if name is None:
            answer = await self._ask("GET", path, page_size="1", sort_by="created_at desc")
            newest = answer.get("pipeline_versions") or []
            if not newest:
                raise KfpRefused("the pipeline has no version")
            return dict(newest[0])
        found = await self._named(path, "pipeline_versions", name, "")
        matching = {each["pipeline_version_id"]: each for each in found}
        return dict(matching[_only(set(matching), f"version {name!r} of the pipeline")])

    async def experiment_id(self, name: str, namespace: str) -> str:
        """Raises `KfpRefused` if there is not exactly one."""
        found = await self._named("experiments", "experiments", name, namespace)
        ids = {each["experiment_id"] for each in found if self._ours(each, namespace)}
        return _only(ids, f"experiment {name!r}{self._where(namespace)}")

    async def has_version(self, pipeline_id: str, version_id: str) -> bool:
        """False only if the server says that there is none; `KfpSilent` if it says nothing."""
        try:
            await self._ask("GET", f"pipelines/{pipeline_id}/versions/{version_id}")
        except KfpRefused as error:
            return error.status != 404
        return True

    def _ours(self, found: Mapping[str, Any], namespace: str) -> bool:
        """A list may show what belongs to other namespaces (and, with pipelines as Kubernetes
        objects, does so even to users who may not read there)."""
        return not self.multi_user or found.get("namespace") == namespace

    def _where(self, namespace: str) -> str:
        return f" in namespace {namespace}" if self.multi_user else ""

    async def _named(
        self, path: str, field: str, name: str, namespace: str
    ) -> list[dict[str, Any]]:
        """Those of exactly this name, else of this display name: filters do not tell `a` from `A`,
        and one on `display_name` misses a Pipeline whose spec gives none."""
        for key in ("name", "display_name"):
            found = await self._list(path, field, key, name, namespace)
            if same := [each for each in found if _name(each, key) == name]:
                return same
        return []

    async def _list(
        self, path: str, field: str, key: str, name: str, namespace: str
    ) -> list[dict[str, Any]]:
        predicate = {"key": key, "operation": "EQUALS", "string_value": name}
        text = json.dumps({"predicates": [predicate]})
        # The server unescapes it once more than HTTP does.
        escaped = text.replace("%", "%25").replace("+", "%2B")
        query = {"page_size": str(PAGE), "filter": escaped}
        if namespace and self.multi_user:
            query["namespace"] = namespace
        found: list[dict[str, Any]] = []
        for _ in range(PAGES):
            answer = await self._ask("GET", path, None, **query)
            found += answer.get(field) or []
            if not (token := answer.get("next_page_token")):
                break
            query["page_token"] = token
        return found

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str
    ) -> dict[str, Any]:
        if self._session is None:
            # A connection that was kept may end just as a request goes out, which then may or may
            # not have been carried out.
            connector = aiohttp.TCPConnector(force_close=True)
            self._session = aiohttp.ClientSession(timeout=TIMEOUT, connector=connector)
        url = f"{self._url}/apis/v2beta1/{path}"
        try:
            async with self._session.request(
                method, url, params=query, json=body, headers=_token(), allow_redirects=False
            ) as answer:
                content = b""
                async for chunk in answer.content.iter_chunked(1 << 16):
                    content += chunk
                    if len(content) > LONGEST_ANSWER:
                        raise KfpSilent("Kubeflow Pipelines answered more than can be read")
        except aiohttp.ClientConnectorError as error:
            raise KfpRefused(f"Kubeflow Pipelines cannot be reached: {error}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or "no answer in time"
            raise KfpSilent(f"Kubeflow Pipelines did not answer: {reason}") from None
        if 300 <= answer.status < 500 and answer.status not in (408, 499):
            raise KfpRefused(
                f"Kubeflow Pipelines says {answer.status}: {_said(content)}", answer.status
            )
        if answer.status >= 300:
            raise KfpSilent(f"Kubeflow Pipelines says {answer.status}: {_said(content)}")
        try:
            found = json.loads(content or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise KfpSilent(f"Kubeflow Pipelines answered {content[:80]!r}, which is no object")
        return found


def _name(found: Mapping[str, Any], key: str) -> str:
    """Experiments have a display name only, which either filter finds."""
    return str(found.get(key) or found.get("display_name", ""))


def _only(ids: set[str], what: str) -> str:
    if len(ids) != 1:
        count = f"{len(ids)} of them" if ids else "none"
        raise KfpRefused(f"Kubeflow Pipelines has {count}: {what}")
    return ids.pop()


def _said(content: bytes) -> str:
    try:
        raw = json.loads(content)
        text = raw.get("error_message") or raw.get("message") or raw.get("error") or content
    except (ValueError, AttributeError):
        text = content
    shown = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return " ".join(shown.split())[:400]


def _token() -> dict[str, str]:
    """Read each time: Kubernetes renews it."""
    path = os.environ.get(TOKEN_FILE, "")
    if not path:
        return {}
    try:
        return {"Authorization": f"Bearer {Path(path).read_text().strip()}"}
    except OSError as error:
        raise KfpRefused(f"the token in {TOKEN_FILE} cannot be read: {error}") from None
