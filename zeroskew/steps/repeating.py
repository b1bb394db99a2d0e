"""Attempts of a step: what a store's bad minute broke is tried again, a mistake is not.

This is the one place that repeats. Argo repeats nothing as it is installed (its policy looks at
pods that Kubernetes ended, not at exit statuses), and where somebody changed that it repeats every
level of a pipeline, which multiplies; so compiled pipelines ask it for nothing.

    ZEROSKEW_STEP_ATTEMPTS    how often a step is tried; unset: once
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from zeroskew.errors import (
    AliasConflict,
    ConfigError,
    GateFailed,
    OnlineStoreUnavailable,
    SchemaError,
    ValidationFailed,
)

__all__ = ["ATTEMPTS", "PAUSES", "allowed_attempts", "attempted", "worth_repeating"]

ATTEMPTS = "ZEROSKEW_STEP_ATTEMPTS"
PAUSES = (10.0, 30.0, 60.0, 120.0)
"""Seconds before the second attempt and so on, give or take a fifth; the last one holds on."""
MOST = 10

_MISTAKES = (ConfigError, SchemaError, ValidationFailed, GateFailed, AliasConflict)
_WEATHER = (ConnectionError, TimeoutError, OnlineStoreUnavailable)
_WEATHER_ELSEWHERE = {
    ("requests", "ConnectionError"),
    ("requests", "Timeout"),
    ("urllib3", "HTTPError"),
    ("botocore", "HTTPClientError"),
    ("botocore", "ConnectionError"),
    ("redis", "ConnectionError"),
    ("redis", "TimeoutError"),
    ("redis", "BusyLoadingError"),
    ("httpx", "TransportError"),
    ("aiohttp", "ClientConnectionError"),
    ("sqlalchemy", "DisconnectionError"),
}
"""Package and class, so that nothing is imported to look."""
_STATUSES = {408, 425, 429, 500, 502, 503, 504}
_WORDS = re.compile(
    r"AWS Error (NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT)"
    r"|connection (refused|reset|closed)|error sending request|timed out|timeout was reached"
    r"|temporary failure in name resolution|could not resolve host|service unavailable",
    re.IGNORECASE,
)
"""What libraries of native code say in an error without a class of its own."""
_VAGUE = {("builtins", "OSError"), ("polars", "ComputeError"), ("pyarrow", "ArrowException"),
          ("subprocess", "CalledProcessError")}  # fmt: skip

Result = TypeVar("Result")


def worth_repeating(error: BaseException) -> bool:
    """Whether the same may go well in a minute: a network, a timeout, a server's 5xx.

    An error of ours is judged by what it was raised from, unless it names a mistake.
    """
    return not isinstance(error, _MISTAKES) and any(_is_weather(each) for each in _chain(error))


def allowed_attempts() -> int:
    """Raises `ConfigError` if the variable is not a whole number from 1 to 10."""
    text = os.environ.get(ATTEMPTS, "") or "1"
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST:
        raise ConfigError(f"{text!r} is not a whole number from 1 to {MOST}", where=ATTEMPTS)
    return int(text)


def attempted(
    work: Callable[[], Result], outputs: Iterable[Path] = (), *, attempts: int | None = None
) -> Result:
    """What `work` returns. `outputs`: files or folders that a failed attempt may have begun; those
    that were not there before it are removed. Raises what the last attempt raised."""
    allowed = allowed_attempts() if attempts is None else attempts
    fresh = [path for path in outputs if not path.exists()]
    for number in range(1, allowed + 1):
        try:
            return work()
        except Exception as error:
            if number == allowed or not worth_repeating(error):
                raise
            for path in fresh:
                _remove(path)
            pause = PAUSES[min(number, len(PAUSES)) - 1] * random.uniform(0.8, 1.2)  # noqa: S311
            lines = str(error).splitlines() or [""]
            what = f"{type(error).__name__}: {lines[0]}".rstrip(": ")
            print(f"attempt {number} of {allowed} failed ({what}); the next one is in "
                  f"{pause:.0f} s", file=sys.stderr, flush=True)  # fmt: skip
        time.sleep(pause)
    raise AssertionError("unreachable")


def _is_weather(error: BaseException) -> bool:
    if isinstance(error, _WEATHER):
        return True
    names = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    if names & _WEATHER_ELSEWHERE or _status(error) in _STATUSES:
        return True
    return bool(names & _VAGUE and _WORDS.search(f"{error} {getattr(error, 'stderr', '') or ''}"))


def _status(error: BaseException) -> int:
    """HTTP's, as requests, MLflow and botocore keep it; 0 for none."""
    ask = getattr(error, "get_http_status_code", None)
    if callable(ask):
        return int(ask())
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):
        return int((answer.get("ResponseMetadata") or {}).get("HTTPStatusCode") or 0)
    return int(getattr(answer, "status_code", 0) or 0)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, also where `from None` hides that from people."""
    seen: set[int] = set()
    following: list[BaseException | None] = [error]
    while following:
        each = following.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            following += [each.__cause__, each.__context__]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
