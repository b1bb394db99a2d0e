"""What MLflow's registry says of a model: asked over its REST API, remembered for a moment.

MLflow's own client is not imported: it takes as much memory as the whole operator, for two reads
(https://mlflow.org/docs/latest/rest-api.html: model-versions/get, registered-models/alias). The one
change, a promotion, is the library's and is done by a process of its own (promoter.py).
"""

from __future__ import annotations

import os
import time
from typing import Any

import aiohttp

from zeroskew.errors import ConfigError
from zeroskew.rollout.rollout_observations import RegistrySeen

CHAMPION_ALIAS, PREVIOUS_ALIAS = "champion", "previous"
FRESH_SECONDS = 20.0
KNOWN_SECONDS = 600.0
"""A version that exists hardly ever stops to."""
UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


class RegistryReader:
    """One server; as many answers are remembered as there are models."""

    def __init__(self, url: str) -> None:
        """Raises `ConfigError` if `url` is no address of a server."""
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"{url!r} is no MLflow server",
                where="ZEROSKEW_MLFLOW",
                mend="name one that the operator can reach, http://… or https://…",
            )
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._aliased: dict[tuple[str, str], tuple[float, str | None]] = {}
        self._versions: dict[tuple[str, str], tuple[float, bool]] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def look(self, model: str, version: str) -> RegistrySeen:
        """Never raises: a registry that cannot be asked is an observation, too."""
        try:
            exists = await self._exists(model, version)
            champion = await self._version_of(model, CHAMPION_ALIAS)
        except UNREACHABLE as error:
            return RegistrySeen(message=_silent(error))
        return RegistrySeen(version_exists=exists, champion=champion)

    async def champions(self, model: str) -> tuple[str | None, str | None, str]:
        """The champion, the one before it, and why there is none; never raises."""
        try:
            champion = await self._version_of(model, CHAMPION_ALIAS)
            previous = await self._version_of(model, PREVIOUS_ALIAS)
        except UNREACHABLE as error:
            return None, None, _silent(error)
        return champion, previous, "" if champion else f"the registry has no champion of {model}"

    def forget(self, model: str) -> None:
        """Its champion may be another now."""
        for alias in (CHAMPION_ALIAS, PREVIOUS_ALIAS):
            self._aliased.pop((model, alias), None)

    async def _exists(self, model: str, version: str) -> bool:
        now = time.monotonic()
        until, known = self._versions.get((model, version), (0.0, False))
        if until < now:
            found = await self._ask("model-versions/get", name=model, version=version)
            known = found is not None
            lasts = KNOWN_SECONDS if known else FRESH_SECONDS / 4
            self._versions[model, version] = (now + lasts, known)
        return known

    async def _version_of(self, model: str, alias: str) -> str | None:
        now = time.monotonic()
        until, known = self._aliased.get((model, alias), (0.0, None))
        if until < now:
            found = await self._ask("registered-models/alias", name=model, alias=alias)
            known = str(found["model_version"]["version"]) if found else None
            self._aliased[model, alias] = (now + FRESH_SECONDS, known)
        return known

    async def _ask(self, path: str, **parameters: str) -> dict[str, Any] | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=10), headers=_credentials()
            )
        url = f"{self._url}/api/2.0/mlflow/{path}"
        async with self._session.get(url, params=parameters) as answer:
            if answer.status in (400, 404):
                # MLflow answers 400 where an alias is none, 404 where a model is.
                problem = await answer.json(content_type=None)
                if problem.get("error_code") in (
                    "RESOURCE_DOES_NOT_EXIST",
                    "INVALID_PARAMETER_VALUE",
                ):
                    return None
            answer.raise_for_status()
            found: dict[str, Any] = await answer.json(content_type=None)
            return found


def _silent(error: Exception) -> str:
    return f"the registry cannot be asked: {str(error) or type(error).__name__}"


def _credentials() -> dict[str, str]:
    """As MLflow's own client takes them from the environment."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user, password = (
        os.environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("USERNAME", "PASSWORD")
    )
    return {"Authorization": aiohttp.BasicAuth(user, password).encode()} if user else {}
