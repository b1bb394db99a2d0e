"""What an API server's no means, and what to do about it."""

from __future__ import annotations

import json
import re
from typing import Any

from zeroskew.errors import ClusterError

__all__ = ["explained", "unreachable"]

_FORBIDDEN = re.compile(r'cannot (\w+) resource "([^"]+)" in API group "([^"]*)"')
_OURS = "zeroskew.dev"


def explained(code: int, body: Any, reason: str | None, named: str) -> ClusterError:
    """The error for an answer of this HTTP status. `named`: the cluster."""
    text = _message(body) or reason or "no reason was given"
    if code == 401:
        return ClusterError(
            "the API server does not take the credentials", where=named, code=code,
            mend="log in again, or name another --context",
        )  # fmt: skip
    if code == 403:
        return ClusterError(text, where=named, code=code, mend=_right(text))
    if code in (429, 500, 502, 503, 504):
        return ClusterError(f"the API server says {code}: {text}", where=named, code=code)
    return ClusterError(text, where=named, code=code)


def unreachable(error: Exception, named: str, server: str) -> ClusterError:
    """The error for a connection that was not made, or broke off."""
    text = " ".join(str(getattr(error, "reason", "") or error).split())
    text = re.sub(r"^<[^>]*>: ", "", text)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return ClusterError(
            f"its certificate is not trusted: {text}", where=f"{named}, {server}",
            mend="the kubeconfig's certificate-authority belongs to another cluster",
        )  # fmt: skip
    return ClusterError(
        f"the API server cannot be reached: {text}", where=f"{named}, {server}",
        mend="is the cluster up, and is this the right --context?",
    )  # fmt: skip


def _message(body: Any) -> str:
    """Of a `Status`; what is none of Kubernetes' answers has no message."""
    try:
        status = json.loads(body)
    except (TypeError, ValueError):
        return ""
    return str(status.get("message") or "") if isinstance(status, dict) else ""


def _right(text: str) -> str:
    found = _FORBIDDEN.search(text)
    if found is None:
        return "ask for the right, or use other credentials"
    verb, resource, group = found.groups()
    if group == _OURS:
        role = "zeroskew-view" if verb in ("get", "list", "watch") else "zeroskew-edit"
        return (
            f"ask for the ClusterRole {role} in the namespace (Kubernetes' view and edit have it)"
        )
    within = f"{resource}.{group}" if group else resource
    return f"ask for the right to {verb} {within}"
