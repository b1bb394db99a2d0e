"""Checks of what serves: KServe and the Gateway API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from zeroskew.cluster.doctor.observations import Finding, Seen
from zeroskew.rollout.http_route import FEATURES_ALWAYS
from zeroskew.rollout.routes.gateway_controllers import MIRROR, PART_MIRROR, mirror_support

__all__ = ["check_gateway", "check_kserve"]

TRIED = ((0, 20), (0, 21))
"""Releases of KServe that this one was run with."""
_RESTRICTED = {"allowPrivilegeEscalation": False, "runAsNonRoot": True}


def check_kserve(seen: Seen) -> list[Finding]:
    about = "KServe"
    lacks = [
        f"{kind} ({version})"
        for version, kind in (
            ("serving.kserve.io/v1beta1", "inferenceservices"),
            ("serving.kserve.io/v1alpha1", "servingruntimes"),
        )
        if kind not in seen.served.get(version, ())
    ]
    if lacks:
        hint = "install KServe, in Standard mode: docs/install.md"
        return [Finding(about, "problem", f"does not serve {' and '.join(lacks)}", hint)]
    findings = []
    if seen.deployments.forbidden:
        text = "is served; its manager cannot be seen"
        findings.append(Finding(about, "not checkable", text, seen.deployments.forbidden))
    else:
        found = [e for e in seen.deployments.value or () if e.name == "kserve-controller-manager"]
        if not found:
            text = "its kinds are served, and no kserve-controller-manager is deployed"
            findings.append(Finding(about, "problem", text, "install KServe's manager"))
        for each in found:
            image = ", ".join(each.images)
            if not each.ready:
                hint = f"kubectl describe deployment -n {each.namespace} {each.name}"
                findings.append(Finding(about, "problem", f"its manager is not ready ({image})",
                                        hint))  # fmt: skip
                continue
            tag = re.search(r"kserve-controller:v?(\d+)\.(\d+)", image)
            tried = " and ".join(f"{major}.{minor}" for major, minor in TRIED)
            if tag is not None and (int(tag[1]), int(tag[2])) < TRIED[0]:
                text = f"{tag[1]}.{tag[2]} is older than what was tried, {tried} ({image})"
                findings.append(Finding(about, "warning", text, "update it"))
            else:
                findings.append(Finding(about, "ok", f"its manager is ready ({image})"))
    return findings + _storage_initializer(seen)


def _storage_initializer(seen: Seen) -> list[Finding]:
    """It is put into every server's pod, and namespaces of level `restricted` look at it."""
    strict = [each.name for each in seen.namespaces if each.enforced.value == "restricted"]
    if not strict:
        return []
    about, where = "storage initializer", ", ".join(strict)
    if seen.storage_containers.forbidden:
        text = f"cannot be seen, and {where} enforces Pod Security restricted"
        return [Finding(about, "not checkable", text, seen.storage_containers.forbidden)]
    containers = seen.storage_containers.value or ()
    if any(_is_restricted(each) for each in containers):
        return [Finding(about, "ok", f"has a securityContext, as {where} wants it")]
    return [Finding(
        about, "problem", f"has no securityContext: {where} refuses every server's pod",
        "add components/restricted-storage-initializer to your overlay",
    )]  # fmt: skip


def _is_restricted(container: Mapping[str, Any]) -> bool:
    context = container.get("securityContext") or {}
    return all(context.get(key) is value for key, value in _RESTRICTED.items())


def check_gateway(seen: Seen) -> list[Finding]:
    about = "Gateway API"
    if "httproutes" not in seen.served.get("gateway.networking.k8s.io/v1", ()):
        hint = "install its CRDs of the channel standard, and a controller: docs/install.md"
        return [Finding(about, "problem", "HTTPRoute is not served in v1", hint)]
    findings = []
    crd = (seen.crds.value or {}).get("httproutes.gateway.networking.k8s.io")
    if seen.crds.forbidden:
        text = "HTTPRoute is served; its version cannot be seen"
        findings.append(Finding(about, "not checkable", text, seen.crds.forbidden))
    else:
        said = crd.annotations if crd is not None else {}
        version = said.get("gateway.networking.k8s.io/bundle-version", "of an unknown version")
        channel = said.get("gateway.networking.k8s.io/channel", "unknown")
        findings.append(Finding(about, "ok", f"{version}, channel {channel}"))
    if seen.gateway_classes.forbidden:
        text = "GatewayClasses cannot be seen"
        return [*findings, Finding(about, "not checkable", text, seen.gateway_classes.forbidden)]
    if not seen.gateway_classes.value:
        hint = "install a controller (Envoy Gateway was tried) and its GatewayClass"
        return [*findings, Finding(about, "problem", "there is no GatewayClass", hint)]
    for each in seen.gateway_classes.value:
        name = f"GatewayClass {each.name}"
        if not each.accepted:
            hint = f"is the controller {each.controller} running?"
            findings.append(Finding(name, "warning", "no controller has accepted it", hint))
            continue
        support = mirror_support(each.name, each.controller, each.listed, {MIRROR, PART_MIRROR})
        lacks = sorted(FEATURES_ALWAYS - each.listed) if each.listed is not None else []
        if lacks:
            text = f"does not say that it supports {' and '.join(lacks)}"
            hint = "rollouts mark requests with headers by it: use another gateway"
            findings.append(Finding(name, "problem", text, hint))
        elif support.mirrors is None:
            hint = "a shadow of 100 percent shows by its pairs whether it mirrors"
            findings.append(Finding(name, "warning", support.message, hint))
        elif not support.mirrors:
            findings.append(Finding(name, "warning", support.message))
        else:
            findings.append(Finding(name, "ok", "mirrors, by percent as well"))
    return findings
