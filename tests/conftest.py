"""Fixtures for every test: one real Valkey for the session, started when a test first asks."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# An example that waits for a processor is slow on a busy machine, and right all the same. Tests
# that measure time say so themselves; `timeout` in pyproject.toml ends what hangs.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")


@pytest.fixture(scope="session")
def _valkey_server(tmp_path_factory):
    from zeroskew.embedded.valkey import EmbeddedValkey

    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as address:
        yield address


@pytest.fixture
def valkey_address(_valkey_server):
    """`host:port` of an empty Valkey; emptied again for every test that asks for it."""
    import redis

    host, _, port = _valkey_server.rpartition(":")
    with redis.Redis(host=host, port=int(port)) as client:
        client.flushall()
    return _valkey_server
