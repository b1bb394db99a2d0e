"""Who asks: the request's id, its role in a rollout and its place in a trace.

Ids come from the protocol, else from the header `x-request-id` (which a gateway gives the original
and its mirrored copy alike, so that champion and shadow rows meet again), else from us.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from itertools import count
from typing import Any

ROLES = ("champion", "canary", "shadow")
HEADERS = ("x-request-id", "traceparent", "x-zeroskew-role", "x-zeroskew-version")
"""Headers that Triton must forward: see `HEADER_PATTERN`."""
HEADER_PATTERN = "(?i)(" + "|".join(HEADERS) + ")"
"""For --http-header-forward-pattern and --grpc-header-forward-pattern (RE2, whole name)."""

LONGEST_ID = 256

_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$")
_START = os.urandom(6).hex()
_NUMBER = count()


@dataclass(frozen=True, slots=True)
class Identity:
    """Of one request."""

    request_id: str
    role: str
    trace_id: str | None = None
    """32 hex digits of a W3C traceparent."""


def identify(request_id: str, parameters: str, default_role: str, version: str = "") -> Identity:
    """Read the protocol's id and Triton's parameters (JSON text, headers among them).

    `version`: of the server. A request that a gateway addressed to another one is a mirrored copy,
    whatever role it names (see zeroskew/rollout/traffic_plan.py). What is malformed counts as
    absent: an id or a trace is no reason to refuse a request.
    """
    given: dict[str, Any] = {}
    if len(parameters) > 2:
        try:
            parsed = json.loads(parameters)
        except ValueError:
            parsed = None
        if isinstance(parsed, dict):
            given = {str(name).lower(): value for name, value in parsed.items()}
    named = request_id or given.get("x-request-id")
    role = given.get("x-zeroskew-role")
    addressed = given.get("x-zeroskew-version")
    if version and isinstance(addressed, str) and addressed not in ("", version):
        role = "shadow"
    trace = given.get("traceparent")
    found = _TRACEPARENT.match(trace) if isinstance(trace, str) else None
    if found is not None and (set(found[1]) == {"0"} or set(found[2]) == {"0"}):
        found = None
    generated = not isinstance(named, str) or not named
    return Identity(
        request_id=f"{_START}-{next(_NUMBER):x}" if generated else str(named)[:LONGEST_ID],
        role=role if role in ROLES else default_role,
        trace_id=found[1] if found else None,
    )
