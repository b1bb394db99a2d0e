"""Evidently's page about a window, and why its PSI is not what an alarm is made of."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.errors import ConfigError, DataError
from zeroskew.monitoring.evidently_report import (
    _drawn_from,
    evidently_html,
    write_evidently_report,
)
from zeroskew.monitoring.row_sample import RowSample
from zeroskew.profiles import Profile, compare
from zeroskew.serving.prediction_log import LogSchema, LogSettings, PredictionBatch, PredictionLog

pytestmark = pytest.mark.integration
START = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = 400


def evidently_psi(before: np.ndarray, now: np.ndarray) -> float:
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=["x"])
    current, reference = (
        Dataset.from_pandas(pd.DataFrame({"x": values}), data_definition=definition)
        for values in (now, before)
    )
    result = Report([DataDriftPreset(method="psi")]).run(current, reference).dict()
    (found,) = (m["value"] for m in result["metrics"] if "column" in m.get("config", {}))
    return float(found)


@pytest.mark.slow
def test_drift_of_heavy_tails_that_evidently_misses():
    rng = np.random.default_rng(5)
    outlier = rng.gamma(2, 1.5, 20_000)
    outlier[0] = 1e8
    cases = {
        "lognormal": (rng.lognormal(0, 2, 20_000), rng.lognormal(1, 2, 20_000)),
        "outlier": (rng.gamma(2, 1, 20_000), outlier),
        "plain": (rng.normal(0, 1, 20_000), rng.normal(0.5, 1, 20_000)),
    }
    reference = Profile.learn({name: pair[0] for name, pair in cases.items()})
    ours = compare(reference, reference.measure({name: pair[1] for name, pair in cases.items()}))
    theirs = {name: evidently_psi(*pair) for name, pair in cases.items()}
    for name in ("lognormal", "outlier"):
        assert ours[name].verdict in ("moderate", "significant")
        assert ours[name].psi > 0.2
        assert theirs[name] < 0.05
    # Where bins do not matter, both say the same.
    assert ours["plain"].psi == pytest.approx(theirs["plain"], abs=0.03)


KINDS = {"amount": "float64", "hour": "int64", "kind": "string", "seen": "timestamp"}


def values(count: int, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    amount = rng.lognormal(0, 2, count)
    amount[:5] = [np.nan, np.inf, -np.inf, 1e300, 0]
    return {
        "amount": amount.tolist(),
        "hour": rng.integers(0, 24, count).tolist(),
        "kind": [("a", "</script><script>alert(1)</script>")[i] for i in rng.integers(0, 2, count)],
        "seen": [START + timedelta(seconds=int(i)) for i in rng.integers(0, 99, count)],
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Path, Path]:
    """A log that a real writer wrote, and the training set's file."""
    folder = tmp_path_factory.mktemp("world")
    training = {**values(1000, 1), "empty": pl.Series([None] * 1000, dtype=pl.Float64)}
    frame = pl.DataFrame(training).with_columns(score=pl.lit(0.5), label=pl.lit(1))
    frame.write_parquet(folder / "training.parquet")
    reference = Profile.learn(training, categorical=["hour"])
    schema = LogSchema(
        "m", "1", {**KINDS, "empty": "float64"}, ("amount",), (), reference.to_json(),
        Profile.learn({"score": np.linspace(0, 1, 1000, dtype=np.float32)}).to_json(),
    )  # fmt: skip
    log = PredictionLog(
        schema, LogSettings(flush_seconds=0.2), spool=folder / "spool", sink=str(folder / "log")
    )
    times = [int(START.timestamp() * 1e6)] * ROWS
    log.append(
        PredictionBatch(
            [f"r{i}" for i in range(ROWS)], [0] * ROWS, times,
            {**values(ROWS, 2), "empty": [None] * ROWS},
            np.zeros((1, ROWS), np.uint8), np.zeros((0, ROWS), np.int64),
            np.linspace(0, 1, ROWS, dtype=np.float32), ["champion"] * ROWS, [None] * ROWS, 1,
            False, times[0],
        )
    )  # fmt: skip
    log.close(30)
    assert log.counters().written == ROWS
    return folder / "log", folder / "training.parquet"


def test_a_page_of_a_window(world, tmp_path):
    log, training = world
    out = write_evidently_report(
        str(log), "m", "1", START, START + timedelta(hours=1), tmp_path / "a" / "b.html",
        training_set=training, rows=300, notes=["score-psi: 0.4 <above> 0.25"],
    )  # fmt: skip
    page = out.read_text(encoding="utf-8")
    assert list(out.parent.iterdir()) == [out]
    assert "<h1>m version 1: 2026-03-01 00:00 to 2026-03-01 01:00</h1>" in page
    assert "<p>score-psi: 0.4 &lt;above&gt; 0.25</p>" in page
    assert "<p>300 of 400 predictions, beside the training set</p>" in page
    for name in ("amount", "hour", "kind", "seen", "score"):
        assert f'"{name}"' in page or f">{name}<" in page, name
    # What a client sent as a category is no script of the page.
    assert "<script>alert" not in page
    assert "‹script>alert" in page or "\\u2039script>alert" in page


def test_without_the_training_set_rows_are_drawn_from_its_profile(world, tmp_path):
    log, _ = world
    day = START + timedelta(days=1)
    out = write_evidently_report(str(log), "m", "1", START, day, tmp_path / "x.html", rows=300)
    assert "beside rows drawn from the training set&#x27;s profile" in out.read_text()


@given(
    st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=1, max_size=300),
    st.lists(st.sampled_from([*"abcdef", None]), min_size=1, max_size=300),
)
def test_what_is_drawn_from_a_profile_has_that_profile(numbers, texts):
    """As far as chance lets it: PSI below 1 % on 20,000 rows; never outside the range."""
    rows = min(len(numbers), len(texts))
    profile = Profile.learn({
        "x": np.array([np.nan if each is None else each for each in numbers[:rows]]),
        "kind": pl.Series(texts[:rows], dtype=pl.String),
    })  # fmt: skip
    drawn = _drawn_from(profile, 20_000)
    measured = profile.measure({name: drawn[name] for name in ("x", "kind")})
    for name, found in compare(profile, measured).items():
        assert found.psi < 0.01, (name, found)
    assert measured.columns["x"].below == measured.columns["x"].above == 0
    assert measured.columns["kind"].unseen == 0


def test_what_cannot_be_compared_is_told(world, tmp_path):
    log, training = world
    day = START + timedelta(days=1)

    def write(*args, **options):
        return write_evidently_report(str(log), *args, **options)

    with pytest.raises(DataError, match="version 2 of m has served nothing yet"):
        write("m", "2", START, day, tmp_path / "x.html", training_set=training)
    with pytest.raises(DataError, match="served nothing as shadow from 2026-03-01 00:00"):
        write("m", "1", START, day, tmp_path / "x.html", training_set=training, roles=["shadow"])
    with pytest.raises(DataError, match="there is no such training set"):
        write("m", "1", START, day, tmp_path / "x.html", training_set=tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nonsense")
    with pytest.raises(DataError, match=r"bad.parquet: the training set cannot be read"):
        write("m", "1", START, day, tmp_path / "x.html", training_set=tmp_path / "bad.parquet")
    empty = pl.DataFrame({"x": [None, None]}, schema={"x": pl.Float64})
    with pytest.raises(DataError, match="no column with values in common"):
        evidently_html(empty, empty, {"x": "numeric"}, title="t")
    assert not (tmp_path / "x.html").exists()


def test_without_evidently_it_says_what_to_install(world, tmp_path, monkeypatch):
    log, _ = world
    monkeypatch.setitem(sys.modules, "evidently", None)
    with pytest.raises(ConfigError, match=r"pip install 'zeroskew\[reports\]'"):
        write_evidently_report(str(log), "m", "1", START, START, tmp_path / "x.html")


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 40), st.integers(0, 3))
def test_a_sample_is_of_the_rows_that_passed(batches, most, seed):
    sample, number = RowSample(most, seed), 0
    for count in batches:
        sample.add(pa.table({"n": pa.array(range(number, number + count), pa.int64())}))
        assert sum(table.num_rows for table in sample._tables) <= 2 * most
        number += count
    table = sample.table()
    assert sample.seen == number
    if table is None:
        assert not batches
        return
    kept = table["n"].to_pylist()
    assert kept == sorted(set(kept))
    assert len(kept) == min(most, number)


def test_every_row_is_as_likely():
    hits = np.zeros(200)
    for seed in range(500):
        sample = RowSample(20, seed)
        for start in range(0, 200, 25):
            sample.add(pa.table({"n": np.arange(start, start + 25)}))
        table = sample.table()
        assert table is not None
        hits[table["n"].to_numpy()] += 1
    # 500 draws of one in ten: χ² of 200 cells, its mean plus six deviations.
    chance = ((hits - 50) ** 2 / (50 * 0.9)).sum()
    assert chance < 199 + 6 * np.sqrt(2 * 199)
