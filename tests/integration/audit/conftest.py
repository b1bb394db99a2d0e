"""A small repository, served for real but for the network: store, lookup, transforms, log."""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

START = datetime(2024, 3, 1, tzinfo=UTC)
DAYS, DRIVERS, SHOPS = 8, 30, 25
UNTIL = START + timedelta(days=6, hours=12)
"""Up to when the store is filled, and when requests are asked."""
TIME = pl.Datetime("us", "UTC")
NUMBER = itertools.count()

FEATURES = """
import os
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Bool, Float32, Float64, Int64, String, UnixTimestamp

from . import transforms

DATA = os.environ["ZEROSKEW_DATA"]

driver = Entity(name="driver", join_keys=["driver"], value_type=ValueType.INT64)
shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
drivers = FeatureView(
    name="drivers", entities=[driver], ttl=timedelta(days=2),
    schema=[
        Field(name="trips", dtype=Int64), Field(name="rating", dtype=Float64),
        Field(name="pace", dtype=Float32), Field(name="city", dtype=String),
        Field(name="hour", dtype=Int64),
    ],
    source=FileSource(
        name="drivers", path=f"{DATA}/drivers.parquet", timestamp_field="event_timestamp",
        created_timestamp_column="created",
    ),
)
shops = FeatureView(
    name="shops", entities=[shop], ttl=timedelta(0),
    schema=[
        Field(name="rent", dtype=Float64), Field(name="open", dtype=Bool),
        Field(name="opened", dtype=UnixTimestamp), Field(name="sales", dtype=Array(Float64)),
    ],
    source=FileSource(
        name="shops", path=f"{DATA}/shops.parquet", timestamp_field="event_timestamp"
    ),
)
trip = RequestSource(name="trip", schema=[Field(name="distance", dtype=Float64)])
computed = on_demand_feature_view(
    sources=[trip, drivers], schema=[Field(name="minutes", dtype=Float64)], mode="python"
)(transforms.minutes)
rides = FeatureService(name="rides", features=[drivers, shops, computed])
"""

TRANSFORMS = """
def minutes(inputs):
    return {"minutes": [
        None if d is None or p is None else d * p
        for d, p in zip(inputs["distance"], inputs["pace"])
    ]}
"""

STORE = """
project: {project}
provider: local
registry: {home}/registry.db
offline_store: {{type: zeroskew.features.offline_store.PolarsOfflineStore}}
online_store: {{type: redis, connection_string: "{redis}"}}
entity_key_serialization_version: 3
"""


def drivers_table() -> pl.DataFrame:
    """A row a day and driver, a minute apart, some of it null, created five minutes later."""
    dice = np.random.default_rng(5)
    rows = DAYS * DRIVERS
    day, driver = np.repeat(np.arange(DAYS), DRIVERS), np.tile(np.arange(DRIVERS), DAYS)
    at = [
        START + timedelta(days=int(d), minutes=int(i), microseconds=int(u))
        for d, i, u in zip(day, driver, dice.integers(0, 10**6, rows), strict=True)
    ]
    gaps = dice.random(rows) < 0.1
    return pl.DataFrame(
        {
            "driver": driver,
            "event_timestamp": pl.Series(at, dtype=TIME),
            "created": pl.Series([moment + timedelta(minutes=5) for moment in at], dtype=TIME),
            "trips": dice.integers(1, 50, rows),
            "rating": pl.Series(np.where(gaps, np.nan, dice.normal(4, 0.3, rows))).fill_nan(None),
            "pace": pl.Series(dice.gamma(3, 2, rows), dtype=pl.Float32),
            "city": dice.choice(["Oslo", "Bergen", "Tromsø"], rows),
            "hour": dice.integers(0, 24, rows),
        }
    )


def shops_table() -> pl.DataFrame:
    dice = np.random.default_rng(6)
    rows = 2 * SHOPS
    day = np.repeat([0, 5], SHOPS)
    return pl.DataFrame(
        {
            "shop": [f"s{i}" for i in range(SHOPS)] * 2,
            "event_timestamp": pl.Series([START + timedelta(days=int(d)) for d in day], dtype=TIME),
            "rent": dice.normal(1000, 50, rows),
            "open": dice.random(rows) < 0.8,
            "opened": pl.Series([START - timedelta(days=int(i)) for i in range(rows)], dtype=TIME),
            "sales": [[1.5 * i, float(i)] for i in range(rows)],
        }
    )


class Stage:
    """One repository with its sources, its store and its log; every part can be tampered with."""

    def __init__(self, home: Path, redis: str) -> None:
        self.home, self.redis = home, redis
        self.folder, self.data, self.predictions = home / "rides", home / "data", home / "log"
        self.project = f"rides_{next(NUMBER)}"
        self.folder.mkdir()
        self.data.mkdir()
        self.drivers, self.shops = drivers_table(), shops_table()
        self.define()
        self.write()
        self._asked = 0

    def define(self, features: str = FEATURES, transforms: str = TRANSFORMS) -> None:
        (self.folder / "features.py").write_text(features)
        (self.folder / "transforms.py").write_text(transforms)
        (self.folder / "feature_store.yaml").write_text(
            STORE.format(project=self.project, home=self.home, redis=self.redis)
        )

    def write(self, drivers: pl.DataFrame | None = None, shops: pl.DataFrame | None = None) -> None:
        """The sources, older than any answer."""
        for name, table in (("drivers", drivers), ("shops", shops)):
            path = self.data / f"{name}.parquet"
            (getattr(self, name) if table is None else table).write_parquet(path)
            os.utime(path, (1.7e9, 1.7e9))

    def open(self) -> Any:
        from zeroskew.features.repository import open_repository

        return open_repository(self.folder)

    def materialise(self, until: datetime = UNTIL, **options: Any) -> None:
        from zeroskew.features.materialise import materialise

        materialise(self.open(), start=START - timedelta(days=1), end=until, **options)

    def tampered(self, **tables: pl.DataFrame) -> None:
        """Fill the store from other tables than those that the join reads afterwards."""
        self.write(**tables)
        self.materialise()
        self.write()

    def plan(self) -> Any:
        from zeroskew.features.read_plan_compiler import compile_read_plan

        return compile_read_plan(self.open(), "rides")

    def serve(
        self,
        rows: int = 120,
        *,
        at: datetime = UNTIL,
        logged_at: datetime | None = None,
        plan: Any = None,
        transforms: Path | None = None,
        version: str = "1",
        role: str = "champion",
        asked: Callable[[dict], dict] = lambda columns: columns,
        redis: str = "",
    ) -> None:
        """Answer requests about known and unknown entities, and log them as a server does.

        `logged_at`: the event time that the log tells instead. `asked`: what the store is asked for
        in place of what the log says.
        """
        from zeroskew.features.online_reader import OnlineReader
        from zeroskew.features.redis_connection import connect
        from zeroskew.features.row import FeatureRow
        from zeroskew.serving.circuit_breaker import CircuitBreaker
        from zeroskew.serving.feature_lookup import FeatureLookup
        from zeroskew.serving.front import Front, Request
        from zeroskew.serving.measures import Measures
        from zeroskew.serving.prediction_log import LogSchema, LogSettings, PredictionLog
        from zeroskew.serving.request_identity import Identity
        from zeroskew.serving.request_transforms import RequestTransforms

        plan = plan or self.plan()
        computing = RequestTransforms(plan, transforms or self.folder)
        names = (*plan.stored_names, *computing.names)
        kinds = {f.name: f.kind for group in plan.groups for f in group.features}
        kinds |= {n: k for t in plan.transforms for n, k in t.outputs.items()}
        log = PredictionLog(
            LogSchema(
                "rides", version,
                plan.entity_columns | plan.request_columns | {n: kinds[n] for n in names},
                names, plan.view_names,
            ),
            LogSettings(flush_seconds=60), spool=self.home / "spool", sink=str(self.predictions),
        )  # fmt: skip
        reader = OnlineReader(connect(redis or self.redis), plan, seconds=0.5)
        front = Front(
            plan, FeatureRow(("rating",), ()),
            FeatureLookup(_Asking(reader, asked), CircuitBreaker(3, 60), degrade=True), computing,
            lambda numeric, categorical: np.zeros((len(numeric), 1), np.float32),
            measures=Measures(names, plan.view_names), log=log,
        )  # fmt: skip
        dice = np.random.default_rng(rows + self._asked)
        done = 0
        while done < rows:
            size = min(int(dice.integers(1, 9)), rows - done)
            moment = round(at.timestamp() * 1e6)
            request = Request(
                Identity(f"q{self._asked}", role), size,
                {
                    "driver": dice.integers(0, DRIVERS + 2, size).tolist(),
                    "shop": [f"s{i}" for i in dice.integers(0, SHOPS + 2, size)],
                    "distance": dice.gamma(2, 5, size).tolist(),
                },
                [moment] * size,
            )  # fmt: skip
            front.answer([request])
            batch = front._unrecorded[-1]
            # Answered when it was asked, as in life, and not when this test runs.
            batch.answered_at = moment
            if logged_at is not None:
                batch.asked[:] = round(logged_at.timestamp() * 1e6)
            self._asked += 1
            done += size
        front.record()
        log.close()
        assert log.counters().dropped == 0

    def audit(self, **options: Any) -> Any:
        """Every version's log against the sources as they are now."""
        from pyarrow import fs

        from zeroskew.features.audit import audit
        from zeroskew.features.audit_log import AuditLog, LoggedRows, Selection
        from zeroskew.serving.log_schema import age_name, parquet_name

        folders = {
            path.name.partition("=")[2]: str(path)
            for path in sorted((self.predictions / "model=rides").glob("version=*"))
        }
        chosen = options.pop("selection", Selection())
        log = AuditLog(fs.LocalFileSystem(), folders, parquet_name, age_name)
        return audit(self.open(), "rides", LoggedRows(log, chosen), **options)


class _Asking:
    """A reader that asks the store for something else than it was asked for."""

    def __init__(self, reader: Any, asked: Callable[[dict], dict]) -> None:
        self._reader, self._asked = reader, asked

    def read(self, columns: Any, now: Any = None) -> Any:
        return self._reader.read(self._asked(dict(columns)), now)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from zeroskew.embedded.valkey import EmbeddedValkey

    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as address:
        yield address


@pytest.fixture
def stage(tmp_path: Path, valkey: str, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("ZEROSKEW_DATA", str(tmp_path / "data"))
    importlib.invalidate_caches()
    return Stage(tmp_path, valkey)


def with_ttl(plan: Any, view: str, ttl: timedelta) -> Any:
    """A plan compiled when the view had another TTL."""
    micros = round(ttl.total_seconds() * 1e6)
    return replace(
        plan,
        groups=tuple(
            replace(
                group,
                views=tuple(
                    replace(v, ttl_micros=micros) if v.name == view else v for v in group.views
                ),
            )
            for group in plan.groups
        ),
    )


@pytest.fixture(name="with_ttl")
def _with_ttl() -> Callable[..., Any]:
    return with_ttl


@pytest.fixture
def moments() -> tuple[datetime, datetime]:
    """Up to when the store is filled, and when the sources begin."""
    return UNTIL, START
