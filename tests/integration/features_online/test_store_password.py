"""A password of the environment, against a Valkey that asks for one."""

from __future__ import annotations

import pytest

from zeroskew.embedded.valkey import EmbeddedValkey
from zeroskew.errors import ZeroskewError
from zeroskew.features.redis_connection import Wire, connect

pytestmark = pytest.mark.integration
PASSWORD = "f00d" * 8
PING = b"*1\r\n$4\r\nPING\r\n"


@pytest.fixture
def address(tmp_path):
    with EmbeddedValkey(tmp_path / "valkey") as server:
        connect(server).config_set("requirepass", PASSWORD)
        yield server


def test_the_environments_password_opens_it(address, monkeypatch):
    monkeypatch.setenv("ZEROSKEW_REDIS_PASSWORD", PASSWORD)
    assert connect(address).ping()
    assert Wire(connect(address)).exchange(PING, 1) == [b"PONG"]


def test_the_strings_own_password_comes_first(address, monkeypatch):
    monkeypatch.setenv("ZEROSKEW_REDIS_PASSWORD", "another")
    assert connect(f"{address},password={PASSWORD}").ping()


@pytest.mark.parametrize("given", ["", "wrong"])
def test_without_it_the_error_names_the_variable_and_no_password(address, monkeypatch, given):
    from zeroskew.features.redis_connection import raise_server_error

    monkeypatch.setenv("ZEROSKEW_REDIS_PASSWORD", given)
    with pytest.raises(ZeroskewError) as error:
        raise_server_error(Wire(connect(address)).exchange(PING, 1), address)
    assert PASSWORD not in str(error.value)
    assert given or "ZEROSKEW_REDIS_PASSWORD" in str(error.value)
