"""One attempt to bring one message to one destination over HTTP."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path
from typing import Any

import aiohttp

from zeroskew.errors import ConfigError
from zeroskew.notifications import Attempt, Destination, SecretSource

MOST_ANSWER = 4096

log = logging.getLogger(__name__)


def secret_of(source: SecretSource, where: str) -> str:
    """Raises `ConfigError` that names the variable or the file, and no value."""
    try:
        value = (
            Path(source.file).read_text(encoding="utf-8")
            if source.file
            else os.environ.get(source.env or "", "")
        ).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"{source.file} cannot be read: {reason}", where=where) from None
    if not value or "\n" in value or "\r" in value:
        named = source.file or source.env
        raise ConfigError(f"{named} must hold one line of text", where=where)
    return value


class HttpSender:
    """Keeps a connection pool; `close` ends it."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._session: aiohttp.ClientSession | None = None

    async def send(self, body: dict[str, Any], id_: str, number: int) -> Attempt:
        """Never raises for a receiver that is slow, wrong or not there; `ConfigError` for a secret
        that is missing."""
        to = self._destination
        where = f"notifications: {to.name}"
        url = to.url or (secret_of(to.url_from, where) if to.url_from else "")
        try:
            to.check_address(url)
        except ValueError as error:
            raise ConfigError(str(error), where=where) from None
        headers = {"User-Agent": "zeroskew-operator", "Idempotency-Key": id_}
        if to.token_from is not None:
            headers["Authorization"] = f"Bearer {secret_of(to.token_from, where)}"
        try:
            # A redirect would carry message and token to who knows where.
            async with self._opened().post(
                url, json=body, headers=headers, allow_redirects=False
            ) as answer:
                await answer.content.read(MOST_ANSWER)
                return Attempt(number, answer.status, _seconds(answer.headers.get("Retry-After")))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            # Only its kind: the text of some has the address.
            log.info("%s: attempt %d: %s", where, number, type(error).__name__)
            return Attempt(number, 0)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            to = self._destination
            context: ssl.SSLContext | bool = True
            if to.ca_file:
                context = ssl.create_default_context(cafile=to.ca_file)
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=to.timeout_seconds),
                connector=aiohttp.TCPConnector(ssl=context, limit=2),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,
            )
        return self._session


def _seconds(text: str | None) -> float | None:
    """Of a Retry-After in seconds; a date is not looked at."""
    return float(text) if text and text.isdigit() and len(text) < 7 else None
