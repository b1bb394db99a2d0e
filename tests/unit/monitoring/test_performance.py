"""Live performance against slow, obvious oracles, on logs of the real writer."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.errors import DataError
from zeroskew.monitoring.label_source import LabelSource, with_labels
from zeroskew.monitoring.performance import (
    auc_interval,
    measure_performance,
    observed_per_expected,
)
from zeroskew.serving.prediction_log import LogSchema, LogSettings, PredictionBatch, PredictionLog

START = datetime(2026, 3, 1, tzinfo=UTC)


def pairwise(scores, labels):
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p, is_p in zip(scores, labels, strict=True)
        if is_p
        for n, is_n in zip(scores, labels, strict=True)
        if not is_n
    ]
    return sum(wins) / len(wins)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=4, max_size=40))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    scores = np.array([score / 6 for score, _ in rows])
    labels = np.array([float(label) for _, label in rows])
    if 2 <= labels.sum() <= len(labels) - 2:
        low, area, high = auc_interval(scores, labels)
        assert area == pytest.approx(pairwise(scores, labels))
        assert 0 <= low <= area <= high <= 1


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(3)
    held = {"auc": 0, "ratio": 0}
    true_auc = 0.5 * (1 + math.erf(1.0 / 2.0))
    for _ in range(400):
        labels = (random.random(300) < 0.3).astype(float)
        low, _, high = auc_interval(random.normal(size=300) + labels, labels)
        held["auc"] += low <= true_auc <= high
        scores = random.beta(2, 5, 300)
        low, _, high = observed_per_expected(scores, (random.random(300) < scores).astype(float))
        held["ratio"] += low <= 1.0 <= high
    assert all(count / 400 > 0.92 for count in held.values()), held


LABELS = st.lists(
    st.tuples(
        st.integers(0, 5), st.none() | st.sampled_from([0, 1]), st.integers(0, 20),
    ),
    max_size=20,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(LABELS, st.integers(0, 20), st.lists(st.integers(0, 7), max_size=12))
def test_a_label_counts_once_it_is_known_and_the_latest_known_one(labels, now, asked):
    import tempfile

    moments = [START + timedelta(hours=hours) for *_, hours in labels]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/labels.parquet"
        pl.DataFrame(
            {
                "who": pl.Series([who for who, *_ in labels], dtype=pl.Int64),
                "late": pl.Series([label for _, label, _ in labels], dtype=pl.Int8),
                "at": pl.Series([START] * len(labels), dtype=pl.Datetime("us", "UTC")),
                "known": pl.Series(moments, dtype=pl.Datetime("us", "UTC")),
            }
        ).write_parquet(path)
        source = LabelSource(path, ("who",), "late", "at", "known")
        found = source.read(START + timedelta(hours=now))
    joined = with_labels(pl.DataFrame({"who": pl.Series(asked, dtype=pl.Int64)}), found)
    assert joined["who"].to_list() == asked
    for who, label in joined.select("who", "label").rows():
        known = [
            (hours, given_label)
            for other, given_label, hours in labels
            if other == who and given_label is not None and hours <= now
        ]
        newest = {given_label for hours, given_label in known if hours == max(known)[0]}
        assert (label in newest) if known else (label is None)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A log of two versions over three days, and the truth, which is known a day later."""
    folder = tmp_path_factory.mktemp("served")
    random = np.random.default_rng(5)
    asked = [START + timedelta(minutes=3 * i) for i in range(1440)]
    truth = random.random(len(asked))
    late = (random.random(len(asked)) < truth).astype(int)
    for version, noise, role in (("1", 0.0, "champion"), ("2", 1.0, "shadow")):
        schema = LogSchema("m", version, {"who": "int64", "where": "string"}, (), ())
        log = PredictionLog(
            schema, LogSettings(flush_seconds=0.3),
            spool=folder / f"spool{version}", sink=str(folder / "log"),
        )  # fmt: skip
        for i, moment in enumerate(asked):
            score = truth[i] if not noise else random.random()
            # Every tenth question is asked twice; the first answer was another.
            for which in (0, 1) if i % 10 == 0 else (1,):
                micros = round((moment + timedelta(seconds=which)).timestamp() * 1e6)
                log.append(
                    PredictionBatch(
                        [f"{version}-{i}-{which}"], [0], [round(moment.timestamp() * 1e6)],
                        {"who": [i], "where": ["JFK" if i % 3 else "EWR"]},
                        np.zeros((0, 1), np.uint8), np.zeros((0, 1), np.int64),
                        np.array([score if which else 0.5], np.float32), [role], [None], 400,
                        False, answered_at=micros,
                    )
                )  # fmt: skip
        log.close()
    pl.DataFrame(
        {
            "who": range(len(asked)), "late": late, "at": asked,
            "known": [moment + timedelta(days=1) for moment in asked],
        }
    ).write_parquet(folder / "labels.parquet")  # fmt: skip
    return folder, truth.astype(np.float32), late


def source(folder, **changes):
    given_ = {"keys": ("who",), "label": "late", "label_timestamp": "known"} | changes
    return LabelSource(
        str(folder / "labels.parquet"), event_timestamp="at", **given_
    )  # fmt: skip


def test_versions_roles_days_and_slices(served):
    folder, truth, late = served
    until = START + timedelta(days=3)
    found = measure_performance(
        str(folder / "log"), "m", ["1", "2", "9"], source(folder), since=START, until=until,
        now=START + timedelta(days=3), max_delay=timedelta(days=1), slices=("where",),
    )  # fmt: skip
    whole = found.whole("1", "champion")
    known = np.arange(1440) * 3 <= 2 * 1440
    assert (whole.predictions, whole.labelled) == (1440, int(known.sum()))
    assert whole.auc == pytest.approx(pairwise(truth[known], late[known]), abs=1e-9)
    assert found.whole("1", "users").auc == whole.auc
    assert found.whole("2", "users") is None
    assert abs(found.whole("2", "shadow").auc - 0.5) < 0.06
    assert whole.delay_p50 == pytest.approx(86_400)
    assert 0.9 < whole.observed_per_expected < 1.1
    days = found.over_time("1", "users")
    assert [day.start for day in days] == [START + timedelta(days=d) for d in range(3)]
    assert [day.coverage for day in days] == [1.0, 1.0, pytest.approx(0.0, abs=0.01)]
    assert days[2].auc is None
    assert {row.slice for row in found.rows} == {"", "where=JFK", "where=EWR"}
    assert (found.due, found.due_labelled) == (int(known.sum()), int(known.sum()))
    report = found.report("1")
    assert (report.value, report.details["coverage"]["fraction"]) == (whole.auc, 1.0)
    assert found.report("2").value is None


def test_the_moment_may_be_part_of_the_question(served):
    folder, _, _ = served
    found = measure_performance(
        str(folder / "log"), "m", ["1"], source(folder, keys=("who", "event_time")),
        since=START, until=START + timedelta(days=3), now=START + timedelta(days=9),
    )  # fmt: skip
    assert found.whole("1", "users").labelled == 1440


def test_what_does_not_fit_is_named(served, tmp_path):
    folder, _, _ = served
    window = {"since": START, "until": START + timedelta(days=3)}
    log = str(folder / "log")
    with pytest.raises(DataError, match="lack column 'whom'"):
        measure_performance(log, "m", ["1"], source(folder, keys=("whom",)), **window)
    with pytest.raises(DataError, match="lack column 'early'"):
        measure_performance(log, "m", ["1"], source(folder, label="early"), **window)
    with pytest.raises(DataError, match="must be 0 or 1"):
        measure_performance(log, "m", ["1"], source(folder, label="who"), **window)
    with pytest.raises(DataError, match="cannot be read"):
        LabelSource(str(tmp_path / "none.parquet"), ("who",), "late", "at").read(START)
