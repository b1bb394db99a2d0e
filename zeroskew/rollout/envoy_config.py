"""The same plan for an Envoy on a laptop: what `http_route.py` is for a gateway.

Envoy (v3 API) starts from `bootstrap` and watches two files for the rest, so that weights change
without a restart and without a request lost:

    clusters(…)  →  clusters.json        routes(…)  →  routes.json

Replace a file by renaming another over it, never by writing into it: Envoy looks when a name is
moved there. Write clusters before the routes that name them; take clusters away after no route
names them any more.

A mirrored copy is told that it is one (`x-zeroskew-role: shadow`), which Gateway API cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from zeroskew.errors import ConfigError
from zeroskew.rollout.rollout_steps import as_timedelta
from zeroskew.rollout.traffic_plan import ROLE_HEADER, VERSION_HEADER, TrafficPlan

ROUTES = "zeroskew"
"""Name of the route configuration."""
_TYPE = "type.googleapis.com/envoy."


def bootstrap(
    folder: str | PurePath,
    *,
    port: int,
    admin_port: int,
    address: str = "127.0.0.1",
    access_log: str | None = None,
) -> dict[str, Any]:
    """Listener, admin interface and the files to watch in `folder` (an absolute path).

    Port 0: any that is free; the admin interface's `/listeners` says which. `access_log`: a file.
    """
    watched = PurePath(folder)
    manager: dict[str, Any] = {
        "@type": _TYPE
        + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "codec_type": "AUTO",
        # A client's id stays; who sends none is given one. Champion and shadow meet by it.
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "request_id_extension": {
            "typed_config": {
                "@type": _TYPE + "extensions.request_id.uuid.v3.UuidRequestIdConfig",
                # Else it would write a sampling decision into the client's own id.
                "pack_trace_reason": False,
            }
        },
        "rds": {
            "route_config_name": ROUTES,
            "config_source": _watch(watched / "routes.json", watched),
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": _TYPE + "extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    if access_log is not None:
        log_type = _TYPE + "extensions.access_loggers.file.v3.FileAccessLog"
        manager["access_log"] = [
            {"name": "file", "typed_config": {"@type": log_type, "path": access_log}}
        ]
    return {
        "node": {"id": "zeroskew", "cluster": "zeroskew"},
        "admin": {"address": _address(address, admin_port)},
        "dynamic_resources": {"cds_config": _watch(watched / "clusters.json", watched)},
        "static_resources": {
            "listeners": [
                {
                    "name": "models",
                    "address": _address(address, port),
                    "filter_chains": [
                        {"filters": [{"name": "http", "typed_config": manager}]},
                    ],
                }
            ]
        },
    }


def routes(plan: TrafficPlan, *, generation: int = 0) -> dict[str, Any]:
    """Contents of `routes.json`. `generation`: comes back in Envoy's admin interface
    (`version_info` of /config_dump), which shows that it was taken."""
    entrance = plan.entrance
    action: dict[str, Any] = {
        "timeout": f"{as_timedelta(entrance.timeout).total_seconds():g}s",
        "weighted_clusters": {
            "clusters": [
                {
                    "name": cluster_name(each.version),
                    "weight": each.weight,
                    "request_headers_to_add": _headers(each.role, each.version),
                }
                for each in plan.backends
            ]
        },
    }
    if plan.mirror is not None:
        action["request_mirror_policies"] = [
            {
                "cluster": cluster_name(plan.mirror.version),
                "runtime_fraction": {
                    "default_value": {"numerator": plan.mirror.percent, "denominator": "HUNDRED"}
                },
                "request_headers_mutations": [
                    {"append": each} for each in _headers("shadow", plan.mirror.version)
                ],
                "trace_sampled": False,
            }
        ]
    resource = {
        "@type": _TYPE + "config.route.v3.RouteConfiguration",
        "name": ROUTES,
        "virtual_hosts": [
            {
                "name": "models",
                "domains": list(entrance.hosts) or ["*"],
                "routes": [
                    {"match": {"path_separated_prefix": entrance.path}, "route": action},
                ],
            }
        ],
    }
    return {"version_info": str(generation), "resources": [resource]}


def clusters(
    endpoints: Mapping[str, Sequence[tuple[str, int]]], *, generation: int = 0
) -> dict[str, Any]:
    """Contents of `clusters.json`: per version the (address, port) of its servers.

    Raises `ConfigError` for a version without any.
    """
    for version, servers in endpoints.items():
        if not servers:
            raise ConfigError(
                f"version {version} has no server",
                where="envoy",
                mend="start one before it is given to Envoy",
            )
    return {
        "version_info": str(generation),
        "resources": [
            {
                "@type": _TYPE + "config.cluster.v3.Cluster",
                "name": cluster_name(version),
                "type": "STATIC",
                "connect_timeout": "1s",
                "load_assignment": {
                    "cluster_name": cluster_name(version),
                    "endpoints": [
                        {
                            "lb_endpoints": [
                                {"endpoint": {"address": _address(address, port)}}
                                for address, port in servers
                            ]
                        }
                    ],
                },
            }
            for version, servers in sorted(endpoints.items())
        ],
    }


def cluster_name(version: str) -> str:
    """Of a version, in Envoy's statistics: `cluster.version-3.upstream_rq_total`."""
    return f"version-{version}"


def _headers(role: str, version: str) -> list[dict[str, Any]]:
    return [
        {
            "header": {"key": key, "value": value},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
        for key, value in ((ROLE_HEADER, role), (VERSION_HEADER, version))
    ]


def _watch(path: PurePath, folder: PurePath) -> dict[str, Any]:
    source = {"path": str(path), "watched_directory": {"path": str(folder)}}
    return {"resource_api_version": "V3", "path_config_source": source}


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}
