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


class KfpRefused(Exception):
    """The request was certainly not carried out; the text says why."""


class KfpSilent(Exception):
    """Nobody knows whether the request was carried out."""


class KfpClient:
    """One server."""

    def __init__(self, url: str, *, multi_user: bool = False) -> None:
        """`multi_user`: runs belong to namespaces, which a server for one user cannot be asked
        for. Raises `ConfigError` if `url` is no address of a server."""
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"{url!r} is no server of Kubeflow Pipelines",
                where="ZEROSKEW_KFP",
                mend="name one that the operator can reach, such as http://ml-pipeline.kubeflow:8888",
            )
        self._url, self._multi_user = url.rstrip("/"), multi_user
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def runs(self, name: str, namespace: str) -> list[dict[str, Any]]:
        """All runs of this display name, in any state. Raises `KfpRefused` or `KfpSilent`."""
        found = await self._list("runs", "runs", name, namespace)
        return [each for each in found if each.get("display_name") == name]

    async def create_run(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """The run as the server has it. Raises `KfpRefused` only if there is none now."""
        return await self._ask("POST", "runs", body=run)

    async def terminate(self, run_id: str) -> None:
        """Raises `KfpRefused` or `KfpSilent`; one that has ended already is none of them."""
        try:
            await self._ask("POST", f"runs/{run_id}:terminate", body={})
        except KfpRefused:
            found = await self._ask("GET", f"runs/{run_id}")
            if found.get("state") in (None, "", "PENDING", "RUNNING", "PAUSED"):
                raise

    async def pipeline_id(self, name: str, namespace: str) -> str:
        """Raises `KfpRefused` if there is not exactly one."""
        found = await self._list("pipelines", "pipelines", name, namespace)
        if not found and self._multi_user:
            # Shared ones belong to no namespace.
            found = await self._list("pipelines", "pipelines", name, "")
        ids = {each["pipeline_id"] for each in found if name in _names(each)}
        return _only(ids, f"pipeline {name!r}")

    async def version(self, pipeline_id: str, name: str | None) -> dict[str, Any]:
        """A version with its `pipeline_spec`; name None: the newest. Raises `KfpRefused`."""
        path = f"pipelines/{pipeline_id}/versions"
        if name is None:
            answer = await self._ask("GET", path, page_size="1", sort_by="created_at desc")
            newest = answer.get("pipeline_versions") or []
            if not newest:
                raise KfpRefused("the pipeline has no version")
            return dict(newest[0])
        found = await self._list(path, "pipeline_versions", name, "")
        matching = {each["pipeline_version_id"]: each for each in found if name in _names(each)}
        return dict(matching[_only(set(matching), f"version {name!r} of the pipeline")])

    async def experiment_id(self, name: str, namespace: str) -> str:
        """Raises `KfpRefused` if there is not exactly one."""
        found = await self._list("experiments", "experiments", name, namespace)
        ids = {each["experiment_id"] for each in found if name in _names(each)}
        return _only(ids, f"experiment {name!r}")

    async def _list(self, path: str, field: str, name: str, namespace: str) -> list[dict[str, Any]]:
        query = {
            "page_size": str(PAGE),
            "filter": json.dumps(
                {
                    "predicates": [
                        {"key": "display_name", "operation": "EQUALS", "string_value": name}
                    ]
                }
            ),
        }
        if namespace and self._multi_user:
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
            raise KfpRefused(f"Kubeflow Pipelines says {answer.status}: {_said(content)}")
        if answer.status >= 300:
            raise KfpSilent(f"Kubeflow Pipelines says {answer.status}: {_said(content)}")
        try:
            found = json.loads(content or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise KfpSilent(f"Kubeflow Pipelines answered {content[:80]!r}, which is no object")
        return found


def _names(found: Mapping[str, Any]) -> set[str]:
    """Newer servers tell names from display names."""
    return {str(found.get("display_name", "")), str(found.get("name", ""))}


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
