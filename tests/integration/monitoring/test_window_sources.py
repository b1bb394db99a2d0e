"""One window out of a real prediction log: its profiles, and its rows, say the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from zeroskew.errors import DataError
from zeroskew.monitoring.raw_predictions import RawPredictions
from zeroskew.monitoring.served_profiles import ServedProfiles, ServedWindow
from zeroskew.profiles import Profile
from zeroskew.serving.prediction_log import LogSchema, LogSettings, PredictionBatch, PredictionLog

pytestmark = pytest.mark.integration
START = datetime(2026, 3, 1, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
KINDS = {
    "who": "int64",
    "amount": "float64",
    "rate": "float32",
    "hour": "int64",
    "score": "float64",
    "kind": "string",
    "flag": "bool",
    "seen": "timestamp",
    "secret": "string",
    "gone": "float64",
    "tags": "string_list",
}
FEATURES = ("amount", "kind", "hour")
ROWS = 3000
"""Over five hours, across midnight, of three roles."""


def columns(first: int, count: int) -> dict:
    rng = np.random.default_rng(first)
    amount = rng.lognormal(0, 2, count)
    amount[rng.random(count) < 0.1] = np.nan
    amount[rng.random(count) < 0.01] = np.inf
    seen = [START + timedelta(seconds=int(s)) for s in rng.integers(0, 9999, count)]
    return {
        "who": list(range(first, first + count)),
        "amount": amount.tolist(),
        "rate": rng.normal(0, 1, count).astype(np.float32).tolist(),
        "hour": rng.integers(0, 24, count).tolist(),
        "score": rng.random(count).tolist(),
        "kind": [None if i > 4 else f"k{i}" for i in rng.integers(0, 6, count)],
        "flag": [bool(i) for i in rng.integers(0, 2, count)],
        "seen": [None if i % 7 == 0 else at for i, at in enumerate(seen)],
        "secret": [f"s{i}" for i in rng.integers(0, 3, count)],
        "gone": rng.random(count).tolist(),
        "tags": [["a", "b"]] * count,
    }


def training() -> dict:
    made = columns(10**6, 5000)
    return {name: made[name] for name in made if name not in ("who", "tags", "score")}


REFERENCE = Profile.learn(training(), categorical=["hour"])
SCORES = Profile.learn({"score": np.random.default_rng(3).beta(2, 5, 5000).astype(np.float32)})


def batch(first: int, count: int) -> PredictionBatch:
    rng = np.random.default_rng(first + 5)
    times = [
        int((START + i * 5 * HOUR / ROWS).timestamp() * 1e6) for i in range(first, first + count)
    ]
    ages = rng.integers(0, 10**9, (2, count))
    ages[0, rng.random(count) < 0.2] = np.iinfo(np.int64).max
    unknown = ages == np.iinfo(np.int64).max
    moments = np.where(
        unknown, np.iinfo(np.int64).min, np.array(times) - np.where(unknown, 0, ages)
    )
    return PredictionBatch(
        [f"r{first + i}" for i in range(count)], [0] * count, times, columns(first, count),
        rng.integers(0, 3, (len(FEATURES), count)).astype(np.uint8), moments,
        rng.beta(2, 5, count).astype(np.float32),
        [("champion", "canary", "shadow")[i] for i in rng.integers(0, 3, count)],
        [None] * count, 500, False, times[0],
    )  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """Two servers wrote it, in many segments."""
    folder = tmp_path_factory.mktemp("log")
    schema = LogSchema("m", "1", KINDS, FEATURES, ("v", "w"), REFERENCE.to_json(), SCORES.to_json())
    settings = LogSettings(
        flush_seconds=0.2, segment_bytes=40_000, redact={"secret": "hash", "gone": "drop"}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEROSKEW_LOG_KEY", "key-of-the-test")
        for server in range(2):
            writer = PredictionLog(
                schema, settings, spool=folder / f"spool{server}", sink=str(folder / "sink")
            )
            for first in range(server * 50, ROWS, 100):
                writer.append(batch(first, 50))
            writer.close(60)
            counters = writer.counters()
            assert (counters.written, counters.dropped) == (ROWS // 2, 0)
    return folder / "sink"


def plain(window: ServedWindow) -> dict:
    columns = window.profile.to_json()["columns"]
    for column in columns.values():
        column.pop("seen", None)
    return {
        "rows": window.rows,
        "columns": columns,
        "missing": dict(sorted(window.missing.items())),
        "stale": dict(sorted(window.stale.items())),
        "ages": {
            view: (age.count, pytest.approx(age.mean), age.longest)
            for view, age in sorted(window.ages.items())
        },
    }


@pytest.mark.parametrize("roles", [("champion", "canary"), ("shadow",)])
@pytest.mark.parametrize(("first", "hours"), [(0, 5), (1, 1), (-3, 4), (2, 2), (9, 1)])
def test_rows_say_what_profiles_say(log, first, hours, roles):
    since = START + first * HOUR
    until = since + hours * HOUR
    counted = ServedProfiles(str(log)).window("m", "1", since, until, roles, REFERENCE)
    rows = RawPredictions(str(log)).window("m", "1", since, until, roles)
    assert (counted.rows > 0) == (first < 5)
    if counted.rows:
        assert plain(rows) == plain(counted)
        assert set(rows.profile.columns) == {
            "amount", "rate", "hour", "kind", "flag", "seen", "score",
        }  # fmt: skip
    else:
        assert rows.rows == 0
        assert all(column.total == 0 for column in rows.profile.columns.values())


def test_a_window_within_an_hour_is_its_rows(log):
    every = pl.read_parquet(log / "**/*.parquet", hive_partitioning=False)
    source = RawPredictions(str(log))
    reference = ServedProfiles(str(log)).reference("m", "1")
    assert reference is not None
    names = {"hour": "served_hour"}
    for since, minutes in ((START + 0.3 * HOUR, 17), (START + 1.9 * HOUR, 13), (START, 0)):
        until = since + timedelta(minutes=minutes)
        held = every.filter(
            pl.col("event_time").is_between(since, until, closed="left")
            & pl.col("role").is_in(["champion"])
        )
        window = source.window("m", "1", since, until, ["champion"])
        assert (window.rows, window.since, window.until) == (len(held), since, until)
        expected = reference.measure({n: held[names.get(n, n)] for n in reference.columns})
        for name, column in expected.columns.items():
            assert window.profile.columns[name].counts == column.counts, name
            assert window.profile.columns[name].nulls == column.nulls, name
        assert sum(window.missing.values()) == held["missing"].list.len().sum()
        assert sum(window.stale.values()) == held["stale"].list.len().sum()
        for view in ("v", "w"):
            ages = held[f"age_{view}"].drop_nulls()
            assert (view in window.ages) == bool(len(ages))
            if len(ages):
                assert window.ages[view].count == len(ages)
                assert window.ages[view].mean == pytest.approx(ages.mean() / 1000)
                assert window.ages[view].longest == ages.max() / 1000


def test_what_was_redacted_is_no_drift(log):
    """A caller's own reference may have columns that the log holds digests of, or nothing."""
    window = RawPredictions(str(log)).window("m", "1", START, START + 5 * HOUR, reference=REFERENCE)
    assert "secret" not in window.profile.columns
    assert "gone" not in window.profile.columns
    assert window.profile.columns["rate"].same_bins(REFERENCE.columns["rate"])


def test_the_digest_is_of_the_rows(log):
    source = RawPredictions(str(log))

    def digest(since: datetime, until: datetime) -> str:
        return source.window("m", "1", since, until).digest

    whole = digest(START, START + 5 * HOUR)
    assert digest(START - HOUR, START + 6 * HOUR) == whole
    assert digest(START + timedelta(minutes=1), START + 5 * HOUR) != whole


def test_a_log_without_profiles_needs_a_reference(log, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(log, copy, ignore=shutil.ignore_patterns("_profiles"))
    source = RawPredictions(str(copy))
    with pytest.raises(DataError, match="nothing says which bins version 1 of m"):
        source.window("m", "1", START, START + HOUR)
    reference = REFERENCE.select(["amount", "kind", "tags", "unknown"])
    window = source.window("m", "1", START, START + 5 * HOUR, reference=reference)
    counted = ServedProfiles(str(log)).window("m", "1", START, START + 5 * HOUR)
    assert window.rows == counted.rows
    assert window.profile.columns["amount"].counts == counted.profile.columns["amount"].counts
    assert window.profile.columns["kind"] == counted.profile.columns["kind"]
    # A number column that the log holds digests of is seen by its type.
    numbers = Profile.learn({"secret": [1.0, 2.0, 3.0], "rate": [0.0, 1.0, 2.0]})
    only = source.window("m", "1", START, START + 5 * HOUR, reference=numbers)
    assert set(only.profile.columns) == {"rate"}


def test_damage_is_told_and_vanished_files_are_passed_over(log, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(log, copy)
    source = RawPredictions(str(copy))
    whole = source.window("m", "1", START, START + 5 * HOUR)
    victim = sorted(copy.glob("**/*.parquet"))[3]
    content = victim.read_bytes()
    listed = source._files

    def listed_then_removed(*args):
        found = listed(*args)
        victim.unlink(missing_ok=True)
        return found

    source._files = listed_then_removed
    less = source.window("m", "1", START, START + 5 * HOUR)
    assert 0 < less.rows < whole.rows
    source._files = listed
    victim.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=victim.name):
        source.window("m", "1", START, START + 5 * HOUR)
    victim.write_bytes(content)
    assert source.window("m", "1", START, START + 5 * HOUR).rows == whole.rows
