"""Whether a gateway can copy requests for a shadow, and as many of them as a step says.

A GatewayClass may list what its controller supports (`status.supportedFeatures`). That list decides
where it exists, because it is about the very version that runs. Some controllers publish none, and
one of those copies every request whatever percent a route asks for. For them this module keeps what
their source shows, by `spec.controllerName`. Of any other controller nothing is known beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "KNOWN_CONTROLLERS", "MIRROR", "PART_MIRROR", "KnownController", "MirrorSupport",
    "mirror_support",
]  # fmt: skip

MIRROR = "HTTPRouteRequestMirror"
"""Names of features are those of the Gateway API, as GatewayClass.status.supportedFeatures."""
PART_MIRROR = "HTTPRouteRequestPercentageMirror"


@dataclass(frozen=True, slots=True)
class KnownController:
    """What a version of a controller does with a mirror, as its source shows."""

    product: str
    version: str
    """The one that was looked at; later ones may do more, and then list it."""
    features: frozenset[str]
    """`MIRROR`, `PART_MIRROR`, both or none."""
    does: str
    """What comes of a percent, in words that follow the product's name."""


_BOTH = frozenset({MIRROR, PART_MIRROR})
_EXACT = "copies the percent that a route asks for"

KNOWN_CONTROLLERS: Mapping[str, KnownController] = MappingProxyType(
    {
        "gateway.envoyproxy.io/gatewayclass-controller": KnownController(
            "Envoy Gateway", "1.9.0", _BOTH, _EXACT
        ),
        "istio.io/gateway-controller": KnownController("Istio", "1.32", _BOTH, _EXACT),
        "io.cilium/gateway-controller": KnownController("Cilium", "1.20.2", _BOTH, _EXACT),
        "kgateway.dev/kgateway": KnownController("kgateway", "2.0", _BOTH, _EXACT),
        "gateway.nginx.org/nginx-gateway-controller": KnownController(
            "NGINX Gateway Fabric", "2.6.7", _BOTH, _EXACT
        ),
        "projectcontour.io/gateway-controller": KnownController(
            "Contour", "1.33.8", frozenset({MIRROR}),
            "copies every request, whatever percent a route asks for",
        ),
        "traefik.io/gateway-controller": KnownController(
            "Traefik", "3.7.13", frozenset(), "refuses an HTTPRoute with a mirror"
        ),
    }
)  # fmt: skip
"""By GatewayClass.spec.controllerName."""


@dataclass(frozen=True, slots=True)
class MirrorSupport:
    """The answer for one gateway."""

    mirrors: bool | None
    """None: neither its class nor `KNOWN_CONTROLLERS` says."""
    message: str = ""
    """Why not, or why it is not known; empty where it can."""


def mirror_support(
    class_name: str, controller: str, listed: Set[str] | None, needed: Set[str]
) -> MirrorSupport:
    """Whether a gateway of this class can do what is needed: `MIRROR`, `PART_MIRROR` or both.

    `listed`: the features that the class publishes; None: it publishes none.
    """
    if not needed:
        return MirrorSupport(True)
    if listed is not None:
        lacking = sorted(needed - listed)
        text = f"GatewayClass {class_name} does not say that it supports {' and '.join(lacking)}"
        return MirrorSupport(False, text + _mend(lacking)) if lacking else MirrorSupport(True)
    known = KNOWN_CONTROLLERS.get(controller)
    if known is None:
        text = f"GatewayClass {class_name} lists no features"
        return MirrorSupport(None, f"{text}, and its controller {controller!r} is not known")
    lacking = sorted(needed - known.features)
    text = f"GatewayClass {class_name} is of {known.product}, which {known.does}"
    return MirrorSupport(False, text + _mend(lacking)) if lacking else MirrorSupport(True)


def _mend(lacking: list[str]) -> str:
    if lacking == [PART_MIRROR]:
        return "; mirror 100 percent, or use another gateway"
    return "; use another gateway, or steps without setMirror"
