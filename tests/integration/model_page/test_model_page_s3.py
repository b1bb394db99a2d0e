"""The same page whether the log is in a folder or behind S3."""

from __future__ import annotations

import runpy
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyarrow import fs

from zeroskew.monitoring.gather_facts import gather_facts
from zeroskew.registry import Registry

pytestmark = pytest.mark.integration
S3 = Path(__file__).parents[1] / "serving" / "test_log_shipper_s3.py"
OTHER = SimpleNamespace(**runpy.run_path(str(S3)))
weed = OTHER.weed


def test_a_log_behind_s3_tells_the_same(past, weed):
    weed.wait()
    fs.copy_files(
        str(past.log), f"{OTHER.BUCKET}/served/log",
        source_filesystem=fs.LocalFileSystem(), destination_filesystem=weed.client(),
    )  # fmt: skip
    here = gather_facts("orders", registry=None, log=str(past.log))
    there = gather_facts("orders", registry=None, log=f"s3://{OTHER.BUCKET}/served/log")
    assert there.problems == {}
    assert there.watched is not None
    assert there.watched.rows == 3600
    assert replace(there, at=here.at, log=here.log) == here


def test_a_store_that_is_down_is_told_once_not_waited_for_again_and_again(past, weed):
    weed.wait()
    weed.kill()
    registry = Registry(f"sqlite:///{past.home}/mlflow/mlflow.db", "")
    begun = time.monotonic()
    found = gather_facts("orders", registry=registry, log=f"s3://{OTHER.BUCKET}/served/log")
    assert time.monotonic() - begun < 60
    assert set(found.problems) == {"history", "performance", "consistency", "decision"}
    assert found.histories == ()
    assert len(found.versions) == 2
