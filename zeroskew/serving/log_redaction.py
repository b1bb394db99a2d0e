"""Columns that must not reach a disk as they are: left out, or replaced by a keyed digest.

The digest is BLAKE2b with a secret key, so that equal values stay equal (joins and counts work)
while nobody without the key can try out values, as a plain hash of a customer number would allow.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from zeroskew.errors import ConfigError
from zeroskew.profiles import text_of

KEY_VARIABLE = "ZEROSKEW_LOG_KEY"
_LONGEST_KEY = hashlib.blake2b.MAX_KEY_SIZE

Redact = Callable[[Any], list[str | None]]


def redactions(
    redact: Mapping[str, str],
    columns: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
) -> dict[str, Redact]:
    """One function per redacted column, from values to what may be written.

    Raises `ConfigError` for a column that is not in the log, a method that is none, or `hash`
    without a key in ZEROSKEW_LOG_KEY.
    """
    where = "serving.log.redact"
    if unknown := sorted(set(redact) - set(columns)):
        raise ConfigError(
            f"{', '.join(unknown)} is no column of the prediction log",
            where=where,
            mend=f"its columns are: {', '.join(columns)}",
        )
    if wrong := sorted(set(redact.values()) - {"drop", "hash"}):
        raise ConfigError(f"{', '.join(wrong)} is no way to redact: drop or hash", where=where)
    env = os.environ if environment is None else environment
    key = env.get(KEY_VARIABLE, "").encode("utf-8", "surrogateescape")
    if "hash" in redact.values() and not key:
        raise ConfigError(
            f"columns are to be hashed, but {KEY_VARIABLE} is not set",
            where=where,
            mend=f"set {KEY_VARIABLE} from a Secret, or redact them with `drop`",
        )
    if len(key) > _LONGEST_KEY:
        key = hashlib.blake2b(key).digest()
    hashing = _hashing(key) if key else _dropped
    return {name: _dropped if how == "drop" else hashing for name, how in redact.items()}


def redacted_kinds(columns: Mapping[str, str], redact: Mapping[str, str]) -> dict[str, str]:
    """Kinds of the columns as they are written: a digest is a text."""
    return {
        name: "string" if redact.get(name) == "hash" else kind for name, kind in columns.items()
    }


def _dropped(values: Any) -> list[str | None]:
    return [None] * len(values)


def _hashing(key: bytes) -> Redact:
    def digest(value: Any) -> str | None:
        if value is None or value != value:
            return None
        text = value if isinstance(value, bytes) else _text(value).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16, key=key).hexdigest()

    def redact(values: Any) -> list[str | None]:
        plain = values.tolist() if isinstance(values, np.ndarray) else values
        return [digest(value) for value in plain]

    return redact


def _text(value: Any) -> str:
    # A text is its own spelling, however long; of numbers, 3 and 3.0 are the same key.
    return value if isinstance(value, str) else text_of(value)
