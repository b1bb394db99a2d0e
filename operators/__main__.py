"""`python -m operators`: the operator, until it is told to end."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import kopf
import prometheus_client

from operators.cluster_client import Kind
from operators.object_cache import SELECTORS
from operators.operator import Operator
from operators.operator_settings import OperatorSettings
from zeroskew.errors import ConfigError


def handlers(registry: kopf.OperatorRegistry, settings: OperatorSettings) -> None:
    """Register what Kopf has to call. All of it is told on; nothing is decided here."""
    running: list[Operator] = []

    @kopf.on.login(registry=registry)
    def login(**told: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**told) or kopf.login_with_kubeconfig(**told)

    @kopf.on.startup(registry=registry)
    async def begin(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings, own)
        running.append(Operator(own))
        await running[0].begin()

    @kopf.on.cleanup(registry=registry)
    async def end(**_: Any) -> None:
        for operator in running:
            await operator.end()

    @kopf.on.probe(registry=registry, id="listed-seconds-ago")
    def listed(**_: Any) -> float | None:
        at = running[0].listed_at if running else 0.0
        return round(time.monotonic() - at, 1) if at else None

    @kopf.on.probe(registry=registry, id="queue")
    def queued(**_: Any) -> int:
        if not running:
            return 0
        one = running[0]
        return len(one.queue) + len(one.monitor_queue) + len(one.schedule_queue)

    own = settings
    for kind in SELECTORS:
        _watch(registry, kind, running)


def _watch(registry: kopf.OperatorRegistry, kind: Kind, running: list[Operator]) -> None:
    label = SELECTORS[kind]

    @kopf.on.event(
        kind.group, kind.version, kind.plural,
        registry=registry, id=f"watch-{kind.plural}",
        labels={label: kopf.PRESENT} if label else None,
    )  # fmt: skip
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        if running:
            running[0].event(kind, event)


def configure(settings: kopf.OperatorSettings, own: OperatorSettings) -> None:
    """Kopf's own settings: watches end by themselves, nothing is written into objects."""
    # For namespaces that are named, Kopf would ask for all of the cluster's, and for CRDs, at which
    # it may not look, and see nothing until it has given up.
    settings.scanning.disabled = bool(own.namespaces)
    settings.watching.server_timeout = 270
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 1.0
    settings.posting.enabled = False
    settings.persistence.finalizer = "zeroskew.dev/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(
        prefix="operator.zeroskew.dev"
    )
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(
        prefix="operator.zeroskew.dev"
    )
    settings.networking.request_timeout = 60


def main() -> int:
    """Ends with 0 when it was asked to, 2 if it was told something that cannot be."""
    try:
        settings = OperatorSettings.from_environment()
        settings.check()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    kopf.configure(verbose=False, log_format=kopf.LogFormat.JSON)
    # A line per request says nothing that an audit log does not.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    # Nor does one per watch event; what was done is logged where it is done.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    # Nor do three per health check: Kubernetes tells of those that fail.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("kopf.activities.probe").setLevel(logging.WARNING)
    if settings.metrics_port:
        prometheus_client.start_http_server(settings.metrics_port)
    registry = kopf.OperatorRegistry()
    handlers(registry, settings)
    health = f"http://0.0.0.0:{settings.health_port}/healthz" if settings.health_port else None
    kopf.run(
        registry=registry,
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=list(settings.namespaces),
        liveness_endpoint=health,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
