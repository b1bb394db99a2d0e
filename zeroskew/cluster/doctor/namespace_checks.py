"""Checks of a namespace of models: endpoints, credentials, rights."""

from __future__ import annotations

from zeroskew.cluster.doctor.observations import Finding, NamespaceSeen, Seen
from zeroskew.cluster.doctor.requirements import CREDENTIALS, ENDPOINTS

__all__ = ["check_namespaces"]


def check_namespaces(seen: Seen) -> list[Finding]:
    """Of each that was asked for."""
    return [
        finding
        for each in seen.namespaces
        for finding in (*_endpoints(each), *_credentials(each), *_mine(each), *_operators(each))
    ]


def _endpoints(space: NamespaceSeen) -> list[Finding]:
    about = f"endpoints in {space.name}"
    look, mend = space.endpoints, f"kubectl apply -n {space.name} -k manifests/models"
    if look.forbidden:
        return [Finding(about, "not checkable", "the ConfigMap cannot be seen", look.forbidden)]
    if look.value is None:
        return [Finding(about, "problem", "there is no ConfigMap zeroskew-endpoints", mend)]
    if lacks := sorted(ENDPOINTS - look.value):
        text = f"zeroskew-endpoints lacks {', '.join(lacks)}"
        return [Finding(about, "problem", text, f"{mend}; a key may be empty, and must be there")]
    return [Finding(about, "ok", "zeroskew-endpoints has every key")]


def _credentials(space: NamespaceSeen) -> list[Finding]:
    about, look = f"credentials in {space.name}", space.credentials
    mend = "manifests/README.md shows the command that makes it"
    if look.forbidden:
        return [Finding(about, "not checkable", "the Secret cannot be seen", look.forbidden)]
    if look.value is None:
        return [Finding(about, "problem", "there is no Secret zeroskew-credentials", mend)]
    if lacks := sorted(CREDENTIALS - look.value):
        text = f"zeroskew-credentials lacks {', '.join(lacks)}"
        hint = f"{mend}; without a bucket of one's own nothing needs them"
        return [Finding(about, "warning", text, hint)]
    return [Finding(about, "ok", f"zeroskew-credentials has {', '.join(sorted(CREDENTIALS))}")]


def _mine(space: NamespaceSeen) -> list[Finding]:
    about = f"your rights in {space.name}"
    lacks = [right for right, there in space.mine.items() if not there]
    if not lacks:
        return [Finding(about, "ok", "rollouts and monitors may be looked at and asked for acts")]
    text = f"you may not {', '.join(right.text for right in lacks)}"
    role = "zeroskew-edit" if any(right.verb == "patch" for right in lacks) else "zeroskew-view"
    hint = f"Kubernetes' role edit (or {role}) in the namespace gives what the commands need"
    return [Finding(about, "warning", text, hint)]


def _operators(space: NamespaceSeen) -> list[Finding]:
    about, look = f"the operator's rights in {space.name}", space.operators
    if look.forbidden:
        return [Finding(about, "not checkable", "nobody tells", look.forbidden)]
    if look.value is None:
        return []
    lacks = [right.text for right, there in look.value.items() if not there]
    if not lacks:
        return [Finding(about, "ok", "it may do what it does there")]
    more = f" and {len(lacks) - 4} more" if len(lacks) > 4 else ""
    text = f"it may not {', '.join(lacks[:4])}{more}"
    hint = "apply manifests/base/operator, or components/operator-binding in the namespace"
    return [Finding(about, "problem", text, hint)]
