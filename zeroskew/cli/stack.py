"""What a command works on: the environment's endpoints, or the embedded stack's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from zeroskew.endpoints import Endpoints


def export_endpoints(*, online: bool) -> Endpoints:
    """Set the variables that are not set, so that feature_store.yaml can name them.

    `online`: starts the embedded Valkey if no online store is named. Raises `ConfigError` if it
    cannot be started.
    """
    endpoints = Endpoints.from_environment()
    if online and not endpoints.redis:
        from zeroskew.embedded import valkey

        endpoints = replace(endpoints, redis=valkey.ensure(Path(endpoints.home) / "valkey"))
    endpoints.export()
    return endpoints
