"""The real flights, read and turned into tables once for all tests of this folder."""

from __future__ import annotations

import polars as pl
import pytest

from pipelines.flight_delay import sources
from pipelines.flight_delay.raw import Raw, read_raw, timetable


@pytest.fixture(scope="session")
def raw() -> Raw:
    return read_raw()


@pytest.fixture(scope="session")
def flights(raw: Raw) -> pl.DataFrame:
    return timetable(raw.flights, raw.airports)


@pytest.fixture(scope="session")
def tables(raw: Raw) -> dict[str, pl.DataFrame]:
    return sources.build(raw)
