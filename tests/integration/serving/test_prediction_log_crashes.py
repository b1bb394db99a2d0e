"""Owners and shippers that are killed, sinks that go away and come back: every row once."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from zeroskew.errors import ConfigError, DataError, ServingError
from zeroskew.profiles import Profile
from zeroskew.serving.prediction_log import PredictionLog

pytestmark = pytest.mark.integration
PROGRAM = Path(__file__).with_name("log_owner.py")
owner = SimpleNamespace(**runpy.run_path(str(PROGRAM)))


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, "it does not happen"
        time.sleep(0.02)


def shipped(sink: Path) -> pl.DataFrame:
    return pl.read_parquet(sink / "**/*.parquet", hive_partitioning=True)


def check_profiles(sink: Path, log_profiles: dict[str, Profile] | None = None) -> None:
    """Those of the hours, and those of the log, are what measuring the files gives."""
    rows = shipped(sink)
    schema = owner.schema()
    features = Profile.from_json(schema.reference)
    scores = Profile.from_json(schema.score_reference)

    def measured(part: pl.DataFrame) -> dict:
        return {**features.measure(part).columns, **scores.measure(part).columns}

    merged: dict[tuple, Profile] = {}
    for file in sink.rglob("_profiles/date=*/hour=*/*.json"):
        summary = json.loads(file.read_bytes())
        key = (file.parents[1].name, file.parent.name, summary["role"])
        profile = Profile.from_json(summary["profile"])
        merged[key] = merged[key].merge(profile) if key in merged else profile
    assert merged
    for (date, hour, role), profile in merged.items():
        when = f"{date.removeprefix('date=')} {hour.removeprefix('hour=')}"
        part = rows.filter(
            pl.col("event_time").dt.strftime("%Y-%m-%d %H") == when, pl.col("role") == role
        )
        assert part["date"].cast(pl.String).unique().to_list() == [when[:10]]
        assert profile.columns == measured(part)
    assert sum(profile.rows for profile in merged.values()) == rows.height
    for role, profile in (log_profiles or {}).items():
        assert profile.columns == measured(rows.filter(pl.col("role") == role))


@pytest.fixture
def open_log(tmp_path: Path):
    """Logs over one spool and sink, closed with the test."""
    logs = []

    def make(**options) -> PredictionLog:
        sink = options.pop("sink", str(tmp_path / "sink"))
        model = options.pop("model", "m")
        log = PredictionLog(
            owner.schema(model), owner.settings(**options), spool=tmp_path / "spool", sink=sink
        )
        logs.append(log)
        return log

    yield make
    for log in logs:
        log.close(0.1)


def folders(tmp_path: Path) -> list[Path]:
    return [p for p in (tmp_path / "spool").glob("*/*/*") if p.is_dir()]


def start_owner(tmp_path: Path, sink: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, PROGRAM, tmp_path / "spool", sink], stdout=subprocess.PIPE, text=True
    )
    process.folder = Path(process.stdout.readline().strip())
    return process


def test_an_owner_killed_while_appending_loses_nothing_that_was_written(tmp_path):
    """Its shipper ships the rest, closes the open segment, removes the folder, and ends."""
    process = start_owner(tmp_path, str(tmp_path / "sink"))
    time.sleep(1.5)
    process.send_signal(signal.SIGKILL)
    safe = [int(line) for line in process.stdout.read().splitlines()][-1]
    process.wait()
    until(lambda: not folders(tmp_path))
    found = shipped(tmp_path / "sink")
    numbers = sorted(found["who"])
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= safe > 100
    assert found.select("date", "hour").n_unique() == (len(numbers) - 1) // 3600 + 1
    check_profiles(tmp_path / "sink")


def test_a_dead_owner_s_folder_is_adopted_by_another_log(tmp_path, open_log):
    """Killed together with its shipper, and with a sink that was not there."""
    blocked = tmp_path / "sink"
    blocked.write_text("in the way")
    process = start_owner(tmp_path, str(blocked))
    time.sleep(1.0)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    shippers = [int(pid) for t in threads for pid in (t / "children").read_text().split()]
    assert children.exists()
    process.send_signal(signal.SIGKILL)
    for pid in shippers:
        os.kill(pid, signal.SIGKILL)
    safe = [int(line) for line in process.stdout.read().splitlines()][-1]
    process.wait()
    # What its writer was at when it was killed.
    numbers = sorted((process.folder).glob("*.open")) + sorted((process.folder).glob("*.ready"))
    with numbers[0].open("ab") as file:
        file.write(b"\xf1zs\x01torn")
    blocked.unlink()
    log = open_log(model="other")
    until(lambda: not process.folder.exists())
    found = shipped(blocked)
    assert sorted(found["who"]) == list(range(found.height))
    assert found.height >= safe > 100
    assert {p.name.rpartition("-")[0] for p in blocked.rglob("*.parquet")} == {process.folder.name}
    check_profiles(blocked)
    assert log.counters().written == 0


def test_a_killed_shipper_is_replaced_and_sends_nothing_twice(tmp_path, open_log):
    log = open_log(flush_seconds=0.2)
    kills = number = 0
    limit = time.monotonic() + 4
    while time.monotonic() < limit:
        log.append(owner.batch(number, 10))
        number += 10
        time.sleep(0.001)
        if log.shipper.pid and log.shipper.starts > kills and log.counters().segments > kills * 2:
            os.kill(log.shipper.pid, signal.SIGKILL)
            kills += 1
    assert kills >= 2
    log.close(20)
    counters = log.counters()
    assert (counters.written, counters.spooled, counters.dropped) == (number, 0, 0)
    assert sorted(shipped(tmp_path / "sink")["who"]) == list(range(number))
    check_profiles(tmp_path / "sink", log.profiles())
    assert folders(tmp_path) == []


def test_a_sink_that_is_gone_only_grows_the_spool(tmp_path, open_log):
    sink = tmp_path / "sink"
    sink.write_text("in the way")
    log = open_log()
    for number in range(0, 2000, 10):
        log.append(owner.batch(number, 10))
    until(lambda: log.counters().sink_failures >= 2)
    counters = log.counters()
    assert (counters.written, counters.spooled, counters.dropped) == (0, 2000, 0)
    assert counters.spool_bytes > 20_000
    assert "NotADirectoryError" in counters.last_error or "FileExists" in counters.last_error
    sink.unlink()
    until(lambda: log.counters().written == 2000)
    until(lambda: log.counters().spool_bytes == 0)
    assert log.counters().last_error is None
    log.close()
    assert sorted(shipped(sink)["who"]) == list(range(2000))
    check_profiles(sink, log.profiles())


def test_what_cannot_be_shipped_at_close_is_shipped_by_the_next_log(tmp_path, open_log):
    sink = tmp_path / "sink"
    sink.write_text("in the way")
    log = open_log()
    for number in range(0, 100, 10):
        log.append(owner.batch(number, 10))
    started = time.monotonic()
    log.close(1.5)
    assert time.monotonic() - started < 4
    assert log.counters().spooled == 100
    assert log.folder.exists()
    log.append(owner.batch(0))
    assert log.counters().dropped == 1
    sink.unlink()
    following = open_log()
    until(lambda: not log.folder.exists())
    following.append(owner.batch(100))
    following.close()
    assert sorted(shipped(sink)["who"]) == list(range(101))
    assert folders(tmp_path) == []


def test_a_full_spool_drops_and_counts_and_loses_nothing_else(tmp_path, open_log):
    sink = tmp_path / "sink"
    sink.write_text("in the way")
    log = open_log(segment_bytes=20_000, spool_bytes=100_000)
    for number in range(0, 20_000, 10):
        log.append(owner.batch(number, 10))
    until(lambda: log.counters().queued_bytes == 0)
    counters = log.counters()
    assert counters.dropped > 5000
    assert counters.dropped + counters.spooled == 20_000
    assert sum(p.stat().st_size for p in log.folder.glob("0*")) <= 100_000
    assert "spool" in counters.last_error
    sink.unlink()
    until(lambda: log.counters().written == counters.spooled)
    log.append(owner.batch(20_000, 10))
    log.close()
    found = sorted(shipped(sink)["who"])
    assert len(found) == len(set(found)) == counters.spooled + 10
    assert found[-10:] == list(range(20_000, 20_010))
    assert log.counters().dropped == counters.dropped


def test_a_broken_batch_costs_only_itself(tmp_path, open_log):
    log = open_log()
    log.append(owner.batch(0))
    broken = owner.batch(1)
    broken.columns = {"who": [1]}
    log.append(broken)
    unequal = owner.batch(2)
    unequal.columns["who"] = [1, 2, 3]
    log.append(unequal)
    log.append(owner.batch(3))
    log.close()
    counters = log.counters()
    assert (counters.written, counters.dropped, counters.corrupt) == (2, 1, 1)
    assert "KeyError" in counters.last_error
    assert sorted(shipped(tmp_path / "sink")["who"]) == [0, 3]


def test_secrets_never_reach_the_disk(tmp_path, open_log, monkeypatch):
    with pytest.raises(ConfigError, match="ZEROSKEW_LOG_KEY"):
        open_log(redact={"name": "hash"})
    monkeypatch.setenv("ZEROSKEW_LOG_KEY", "k3y-of-this-test")
    (tmp_path / "sink").write_text("in the way")
    log = open_log(redact={"name": "hash", "who": "drop"})
    log.append(owner.batch(5, 8))
    until(lambda: list(log.folder.glob("*.ready")))
    spooled = b"".join(p.read_bytes() for p in log.folder.glob("0*"))
    assert b"n1" not in spooled
    assert b"k3y-of" not in b"".join(p.read_bytes() for p in log.folder.iterdir())
    (tmp_path / "sink").unlink()
    log.close()
    found = shipped(tmp_path / "sink").sort("request_id")
    assert found["who"].null_count() == 8
    assert found["name"].n_unique() == 4
    assert found["name"].str.len_chars().to_list() == [32] * 8
    assert "name" not in log.profiles()["champion"].columns


def test_what_cannot_be_opened_says_why(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    schema, settings = owner.schema(), owner.settings()
    with pytest.raises(ServingError, match="ZEROSKEW_SPOOL"):
        PredictionLog(schema, settings, spool=file / "spool", sink=str(tmp_path))
    for sink in ("gs://bucket/x", "s3://", ""):
        with pytest.raises(ConfigError, match=r"ZEROSKEW_PREDICTION_LOG|s3://bucket"):
            PredictionLog(schema, settings, spool=tmp_path, sink=sink)
    schema.reference["columns"]["amount"]["kind"] = "?"
    with pytest.raises(DataError):
        PredictionLog(schema, settings, spool=tmp_path, sink=str(tmp_path))


def test_a_dead_folder_can_be_shipped_by_hand(tmp_path, open_log):
    sink = tmp_path / "sink"
    sink.write_text("in the way")
    log = open_log()
    log.append(owner.batch(0, 10))
    log.close(0.5)
    sink.unlink()
    command = [sys.executable, "-m", "zeroskew.serving.log_shipper", log.folder]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=30)
    assert sorted(shipped(sink)["who"]) == list(range(10))
    assert folders(tmp_path) == []
    shutil.rmtree(sink)


def test_what_the_dead_left_does_not_hide_that_the_sink_refuses(tmp_path, open_log):
    """A shipper that waited for the sink with somebody else's segment would look healthy."""
    sink = tmp_path / "sink"
    sink.write_text("in the way")
    before = open_log()
    before.append(owner.batch(0, 10))
    before.close(0.3)
    assert before.counters().spooled == 10
    log = open_log()
    log.append(owner.batch(10, 10))
    until(lambda: log.counters().sink_failures >= 2)
    sink.unlink()
    until(lambda: not before.folder.exists(), 30)
    log.close()
    assert sorted(shipped(sink)["who"]) == list(range(20))
