"""The rollout's one HTTPRoute (gateway.networking.k8s.io/v1): written from a plan, and read back.

    kubectl apply --server-side --field-manager zeroskew

A version without weight is not in the route: a backend that does not exist yet would make the whole
route unresolved. Headers are set by each backend's own filter and not removed by the rule's: Envoy
applies the narrower filter first, so that a removal further out would undo it.

Every filter here is one that a gateway may lack: `HTTPRouteBackendRequestHeaderModification`,
`HTTPRouteRequestMirror` and, below 100 percent, `HTTPRouteRequestPercentageMirror`
(`FEATURES_*`, names of GatewayClass.status.supportedFeatures). Whether a client's `x-request-id`
is kept is a setting of the gateway, not of a route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zeroskew.rollout.names import PREFIX, label_value, rollout_name, service_name
from zeroskew.rollout.rollout_observations import RouteSeen
from zeroskew.rollout.routes.gateway_controllers import MIRROR, PART_MIRROR
from zeroskew.rollout.traffic_plan import (
    ROLE_HEADER,
    VERSION_HEADER,
    Backend,
    Entrance,
    GatewayRef,
    Mirror,
    TrafficPlan,
)

FEATURES_ALWAYS = frozenset({"HTTPRouteBackendRequestHeaderModification"})
FEATURES_MIRROR = frozenset({MIRROR})
FEATURES_PART_MIRROR = frozenset({PART_MIRROR})

_GROUP = "gateway.networking.k8s.io"


def http_route(
    plan: TrafficPlan, rollout: str, namespace: str, *, owner: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The manifest. `owner`: an owner reference to the ModelRollout.

    Raises `ConfigError` if a version's Service could not have its name.
    """
    entrance = plan.entrance
    metadata: dict[str, Any] = {
        "name": rollout_name(rollout),
        "namespace": namespace,
        "labels": {
            "app.kubernetes.io/part-of": "zeroskew",
            PREFIX + "rollout": label_value(rollout_name(rollout)),
        },
    }
    if owner is not None:
        metadata["ownerReferences"] = [dict(owner)]
    spec: dict[str, Any] = {"parentRefs": [_parent(each) for each in entrance.gateways]}
    if entrance.hosts:
        spec["hostnames"] = list(entrance.hosts)
    rule: dict[str, Any] = {
        "matches": [{"path": {"type": "PathPrefix", "value": entrance.path}}],
        "backendRefs": [
            _service(rollout, each.version, entrance.port)
            | {"weight": each.weight, "filters": [_addressed(each)]}
            for each in plan.backends
        ],
        "timeouts": {"request": entrance.timeout},
    }
    if plan.mirror is not None:
        copy: dict[str, Any] = {
            "backendRef": _service(rollout, plan.mirror.version, entrance.port),
        }
        # All is the default, and what gateways can that know no share.
        if plan.mirror.percent != 100:
            copy["percent"] = plan.mirror.percent
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": copy}]
    spec["rules"] = [rule]
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "HTTPRoute",
        "metadata": metadata,
        "spec": spec,
    }


def needed_features(*mirror_percents: int) -> frozenset[str]:
    """Extended features that a gateway's class must support for a strategy with these mirrors."""
    needed = FEATURES_ALWAYS
    if any(mirror_percents):
        needed |= FEATURES_MIRROR
    if any(0 < percent < 100 for percent in mirror_percents):
        needed |= FEATURES_PART_MIRROR
    return needed


def read_http_route(found: Mapping[str, Any] | None, rollout: str) -> RouteSeen:
    """What a route says and whether its gateways took it. None: there is none.

    `plan` is None if the route says anything that `http_route` would not have written.
    """
    if found is None:
        return RouteSeen()
    generation = int(found.get("metadata", {}).get("generation", 0))
    parents = found.get("spec", {}).get("parentRefs") or []
    reports = found.get("status", {}).get("parents") or []
    accepted, resolved, oldest, problems = bool(parents), bool(parents), generation, []
    for parent in parents:
        mine = [
            each.get("conditions") or []
            for each in reports
            if _same_parent(each.get("parentRef", {}), parent, found)
        ]
        states = [_parent_state(each) for each in mine]
        if not states:
            accepted, resolved, oldest = False, False, 0
            problems.append(f"gateway {parent.get('name')} has not looked at the route")
            continue
        # Where several controllers report on one gateway, the most content one serves it.
        took, refs, seen, message = max(states, key=lambda state: state[:3])
        accepted, resolved, oldest = accepted and took, resolved and refs, min(oldest, seen)
        if message:
            problems.append(f"gateway {parent.get('name')}: {message}")
    return RouteSeen(
        exists=True,
        plan=_plan(found, rollout),
        generation=generation,
        observed_generation=oldest,
        accepted=accepted,
        resolved_refs=resolved,
        message="; ".join(problems),
    )


def _parent(gateway: GatewayRef) -> dict[str, Any]:
    found = {"group": _GROUP, "kind": "Gateway", "name": gateway.name}
    if gateway.namespace is not None:
        found["namespace"] = gateway.namespace
    if gateway.section_name is not None:
        found["sectionName"] = gateway.section_name
    return found


def _service(rollout: str, version: str, port: int) -> dict[str, Any]:
    name = f"{service_name(rollout, int(version))}-predictor"
    return {"group": "", "kind": "Service", "name": name, "port": port}


def _addressed(backend: Backend) -> dict[str, Any]:
    headers = ((ROLE_HEADER, backend.role), (VERSION_HEADER, backend.version))
    return {
        "type": "RequestHeaderModifier",
        "requestHeaderModifier": {
            # `set` writes over what came from outside; `add` would append to it.
            "set": [{"name": name, "value": value} for name, value in headers]
        },
    }


def _same_parent(
    one: Mapping[str, Any], other: Mapping[str, Any], route: Mapping[str, Any]
) -> bool:
    here = route.get("metadata", {}).get("namespace")

    def key(reference: Mapping[str, Any]) -> tuple[Any, ...]:
        return (
            reference.get("group", _GROUP),
            reference.get("kind", "Gateway"),
            reference.get("namespace") or here,
            reference.get("name"),
            reference.get("sectionName"),
            reference.get("port"),
        )

    return key(one) == key(other)


def _parent_state(conditions: list[Mapping[str, Any]]) -> tuple[bool, bool, int, str]:
    """Accepted, resolved, the older of the generations they are about, and what is wrong."""
    known = {each.get("type"): each for each in conditions}
    states, generations, problems = [], [], []
    for kind in ("Accepted", "ResolvedRefs"):
        condition = known.get(kind, {})
        states.append(condition.get("status") == "True")
        generations.append(int(condition.get("observedGeneration", 0)))
        if condition and condition.get("status") != "True":
            problems.append(
                f"{kind}: {condition.get('reason', '')} {condition.get('message', '')}".strip()
            )
    return states[0], states[1], min(generations), "; ".join(problems)


def _plan(found: Mapping[str, Any], rollout: str) -> TrafficPlan | None:
    """The plan that makes exactly this spec, if there is one."""
    try:
        spec = found["spec"]
        (rule,) = spec["rules"]
        (match,) = rule["matches"]
        prefix = rollout_name(rollout) + "-"
        backends = tuple(
            Backend(_version(each, prefix), int(each["weight"]), _role(each))
            for each in rule["backendRefs"]
        )
        entrance = Entrance(
            path=match["path"]["value"],
            timeout=rule["timeouts"]["request"],
            port=int(rule["backendRefs"][0]["port"]),
            hosts=tuple(spec.get("hostnames") or ()),
            gateways=tuple(
                GatewayRef(each["name"], each.get("namespace"), each.get("sectionName"))
                for each in spec["parentRefs"]
            ),
        )
        mirror = None
        for each in rule.get("filters") or ():
            copy = each["requestMirror"]
            mirror = Mirror(_version(copy["backendRef"], prefix), int(copy.get("percent", 100)))
        plan = TrafficPlan(entrance, backends, mirror)
        written = http_route(plan, rollout, "default")["spec"]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    return plan if _without_defaults(spec) == _without_defaults(written) else None


def _version(reference: Mapping[str, Any], prefix: str) -> str:
    name = str(reference["name"])
    version = name.removeprefix(prefix).removesuffix("-predictor")
    if not version.isdecimal() or name != f"{prefix}{version}-predictor":
        raise ValueError(f"{name} is the Service of no version")
    return version


def _role(reference: Mapping[str, Any]) -> Any:
    (each,) = reference["filters"]
    headers = {one["name"]: one["value"] for one in each["requestHeaderModifier"]["set"]}
    role = headers[ROLE_HEADER]
    if role not in ("champion", "canary"):
        raise ValueError(f"{role} is no role of a backend")
    return role


_DEFAULTS = {"group": ("", _GROUP), "kind": ("Service", "Gateway"), "method": (None,)}


def _without_defaults(value: Any) -> Any:
    """Without what an API server fills in where a manifest says nothing."""
    if isinstance(value, Mapping):
        return {
            key: _without_defaults(item)
            for key, item in value.items()
            if not (key in _DEFAULTS and item in _DEFAULTS[key])
            and not (key == "hostnames" and not item)
        }
    if isinstance(value, list):
        return [_without_defaults(item) for item in value]
    return value
