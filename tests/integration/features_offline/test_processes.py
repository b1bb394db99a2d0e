"""Several processes, killed processes: the registry and a training set stay whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zeroskew.features.registry_file import registry_lock
from zeroskew.features.repository import open_repository

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CONFIG = """\
project: shop
provider: local
registry: ${ZEROSKEW_REGISTRY}
offline_store: {type: zeroskew.features.offline_store.PolarsOfflineStore}
online_store: {type: sqlite, path: online.db}
entity_key_serialization_version: 3
"""
FEATURES = """\
import os
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

DATA = os.environ["ZEROSKEW_DATA"]
shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.INT64)
views = [
    FeatureView(name=f"view{i}", entities=[shop], ttl=timedelta(days=TTL),
                schema=[Field(name=f"x{i}", dtype=Float64)],
                source=FileSource(name=f"source{i}", path=f"{DATA}/x{i}.parquet",
                                  timestamp_field="at"))
    for i in range(15)
]
sales = FeatureService(name="sales", features=views)
"""

OPEN = """\
import sys, warnings
warnings.simplefilter("ignore")
from zeroskew.features.repository import open_repository
for _ in range(3):
    r = open_repository(sys.argv[1])
    assert r.store.get_feature_view("view7").ttl.days == int(sys.argv[2])
print(r.schema_version("sales"))
"""

BUILD = """\
import sys, warnings
from datetime import datetime
from pathlib import Path
warnings.simplefilter("ignore")
import numpy as np, polars as pl
from zeroskew.features.repository import open_repository, feature_row
from zeroskew.features.training_set import build_training_set
n = 400_000
rng = np.random.default_rng(0)
moment = pl.Series(rng.integers(0, 10**12, n)).cast(pl.Datetime("us", "UTC"))
shop, label = rng.integers(0, 50, n), rng.integers(0, 2, n)
rows = pl.DataFrame({"shop": shop, "asked": moment, "label": label})
r = open_repository(sys.argv[1])
def tell(what, done, total):
    print(what, flush=True)
build_training_set(r, service="sales", entity_rows=rows, label="label", event_timestamp="asked",
    start=datetime(1970, 1, 1), end=datetime(1971, 1, 1), label_timestamp=None, validation=0.2,
    test=0.2, row=feature_row(r, "sales"), out=Path(sys.argv[2]), on_progress=tell)
print("done", flush=True)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    import numpy as np
    import polars as pl

    monkeypatch.setenv("ZEROSKEW_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ZEROSKEW_REGISTRY", str(tmp_path / "registry.db"))
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(1)
    for i in range(15):
        pl.DataFrame(
            {
                "shop": rng.integers(0, 50, 1000),
                "at": pl.Series(rng.integers(0, 10**12, 1000)).cast(pl.Datetime("us", "UTC")),
                f"x{i}": rng.random(1000),
            }
        ).write_parquet(tmp_path / "data" / f"x{i}.parquet")
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(CONFIG)
    (folder / "features.py").write_text(FEATURES.replace("TTL", "9"))
    return folder


def start(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_processes_that_open_one_registry_at_once(folder):
    children = [start(OPEN, folder, 9) for _ in range(2)]
    said = [child.communicate(timeout=240) for child in children]
    assert all(child.returncode == 0 for child in children), [s[1] for s in said]
    assert len({s[0] for s in said}) == 1
    registry = Path(os.environ["ZEROSKEW_REGISTRY"])
    left = {p.name for p in registry.parent.iterdir() if "registry" in p.name}
    assert left == {"registry.db", "registry.db.lock"}


def test_opening_waits_for_whoever_holds_the_registry(folder):
    registry = Path(os.environ["ZEROSKEW_REGISTRY"])
    with ThreadPoolExecutor(1) as pool:
        with registry_lock(registry):
            opened = pool.submit(open_repository, folder)
            time.sleep(1.5)
            assert not opened.done()
            assert not registry.exists()
        assert opened.result(timeout=120).project == "shop"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_interrupted_leaves_no_half_set(folder, tmp_path, how):
    out = tmp_path / "set"
    child = start(BUILD, folder, out)
    assert child.stdout
    for line in child.stdout:
        if line.startswith("writing"):
            break
    child.send_signal(how)
    rest = child.communicate(timeout=120)[0]
    if "done" in rest:
        pytest.fail("the signal came too late to test anything")
    assert not out.exists()
    if how is signal.SIGINT:
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".set")]
