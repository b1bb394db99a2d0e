"""Drift by day is what the rows themselves say, whatever days, hours and roles there are."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeroskew.errors import DataError
from zeroskew.monitoring.drift_history import DAY, drift_history, null_rate, outside_rate
from zeroskew.monitoring.served_days import ServedDays
from zeroskew.monitoring.served_profiles import HOUR, ServedProfiles
from zeroskew.profiles import Profile, drift
from zeroskew.serving.log_profiles import FORMAT
from zeroskew.serving.prediction_log import LogSchema, LogSettings, PredictionBatch, PredictionLog

START = datetime(2026, 3, 1, tzinfo=UTC)
RANDOM = np.random.default_rng(5)
TRAINED = {
    "amount": RANDOM.normal(size=4000),
    "kind": RANDOM.choice(["a", "b", "c"], 4000).tolist(),
}
REFERENCE = Profile.learn(TRAINED)


def rows(count: int, seed: int) -> dict[str, list]:
    random = np.random.default_rng(seed)
    amounts = (random.normal(size=count) * (1 + seed % 3) + seed % 2).tolist()
    kinds = random.choice(["a", "b", "c", "new"], count).tolist()
    return {
        "amount": [None if i % 11 == seed % 11 else value for i, value in enumerate(amounts)],
        "kind": [None if i % 7 == seed % 7 else value for i, value in enumerate(kinds)],
    }


def write_hour(log: Path, version: str, hour: datetime, name: str, values: dict, age=None) -> None:
    profiles = log / f"model=m/version={version}/_profiles"
    folder = profiles / f"date={hour:%Y-%m-%d}/hour={hour:%H}"
    folder.mkdir(parents=True, exist_ok=True)
    count = len(values["amount"])
    said = {
        "format": FORMAT, "model": "m", "version": version, "role": name.partition("-")[0],
        "writer": name.partition("-")[2], "segments": [1], "start": hour.isoformat(),
        "end": hour.isoformat(), "rows": count, "degraded": 0, "missing": {}, "stale": {},
        "feature_age": {"v": {"count": count, "mean": age or 0.0, "max": age or 0.0}},
        "profile": REFERENCE.measure(values).to_json(),
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(said))
    frozen = {"format": FORMAT, "profile": REFERENCE.to_json()}
    (profiles / "reference.json").write_text(json.dumps(frozen))


def history(log: Path, version: str = "1", **more):
    return drift_history(ServedProfiles(str(log)), ServedDays(str(log)), "m", version, **more)


def check_period(period, values: dict) -> None:
    """Against the rows of the period, counted at once."""
    assert period.rows == len(values["amount"])
    if not period.rows:
        assert period.features == {}
        return
    counted = REFERENCE.measure(values)
    assert list(period.features) == ["amount", "kind"]
    low, high = min(TRAINED["amount"]), max(TRAINED["amount"])
    for name, found in period.features.items():
        expected = drift(REFERENCE.columns[name], counted.columns[name])
        assert found.psi == pytest.approx(expected.psi, abs=1e-12)
        assert (found.verdict, found.rows) == (expected.verdict, period.rows)
        assert found.null_rate == values[name].count(None) / period.rows
    known = [value for value in values["amount"] if value is not None]
    outside = sum(not low <= value <= high for value in known)
    assert period.features["amount"].outside == outside / period.rows
    assert period.features["kind"].outside == values["kind"].count("new") / period.rows


pieces = st.lists(
    st.tuples(
        st.integers(0, 9 * 24 - 1), st.sampled_from(["champion", "canary", "shadow"]),
        st.integers(1, 700), st.integers(0, 20),
    ),
    min_size=1, max_size=12, unique_by=lambda piece: piece[:2],
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces, st.integers(1, 12))
def test_every_period_is_what_its_rows_say(tmp_path_factory, pieces, days):
    log = tmp_path_factory.mktemp("log")
    for offset, role, count, seed in pieces:
        write_hour(log, "1", START + offset * HOUR, f"{role}-x", rows(count, seed), seed)
    write_hour(log, "2", START + 400 * HOUR, "champion-x", rows(9, 1))
    found = history(log, days=days)
    last = max((START + offset * HOUR).date() for offset, *_ in pieces)
    assert found.periods[-1].end.date() in (last, last + DAY)
    for before, after in zip(found.periods, found.periods[1:], strict=False):
        assert before.end == after.start
    there = [(START + offset * HOUR).date() for offset, *_ in pieces]
    first = min(day for day in there if day > last - days * DAY)
    hours = [START + o * HOUR for o, *_ in pieces if (START + o * HOUR).date() >= first]
    short = max(hours) + HOUR - min(hours) < timedelta(days=2)
    assert found.step == ("hour" if short else "day")
    assert found.periods[0].start.date() == first
    every: dict[str, list] = {"amount": [], "kind": []}
    for period in found.periods:
        assert period.end - period.start == (HOUR if short else DAY)
        inside: dict[str, list] = {"amount": [], "kind": []}
        ages = []
        for offset, role, count, seed in pieces:
            if role != "shadow" and period.start <= START + offset * HOUR < period.end:
                for name, values in rows(count, seed).items():
                    inside[name] += values
                    every[name] += values
                ages += [seed] * count
        check_period(period, inside)
        if ages:
            assert period.ages["v"].count == len(ages)
            assert period.ages["v"].mean == pytest.approx(sum(ages) / len(ages))
            assert period.ages["v"].longest == max(ages)
        else:
            assert period.ages == {}
    check_period(found.overall, every)
    assert found.rows == len(every["amount"])
    if every["amount"]:
        assert found.served.columns["kind"].nulls == every["kind"].count(None)


def test_nothing_served_is_no_history(tmp_path):
    assert history(tmp_path) is None
    write_hour(tmp_path, "1", START, "champion-x", rows(5, 0))
    assert history(tmp_path, "2") is None
    assert history(tmp_path, until=START) is None


def test_a_moment_to_stop_at_leaves_out_what_came_later(tmp_path):
    for day in range(5):
        write_hour(tmp_path, "1", START + day * DAY, "champion-x", rows(100 + day, day))
    found = history(tmp_path, until=START + 3 * DAY)
    assert [period.rows for period in found.periods] == [100, 101, 102]
    assert found.periods[-1].end == START + 3 * DAY


def test_servers_with_other_bins_are_an_error_that_names_the_file(tmp_path):
    write_hour(tmp_path, "1", START, "champion-x", rows(5, 0))
    write_hour(tmp_path, "1", START, "champion-y", rows(5, 0))
    (path,) = tmp_path.rglob("champion-y.json")
    raw = json.loads(path.read_text())
    raw["profile"] = Profile.learn({"amount": [1.0, 2.0, 3.0]}).to_json()
    path.write_text(json.dumps(raw))
    with pytest.raises(DataError, match=r"champion-y\.json.*\n?.*different bins"):
        history(tmp_path)


def test_days_and_hours_are_read_from_names_alone(tmp_path):
    for version, hour in (("10", 3), ("9", 0), ("9", 30), ("x", 1)):
        write_hour(tmp_path, version, START + hour * HOUR, "champion-x", rows(3, 0))
    (tmp_path / "model=m/version=9/_profiles/date=nonsense").mkdir()
    (tmp_path / "model=m/version=9/_profiles/date=2026-03-01/hour=77").mkdir()
    (tmp_path / "model=m/_reports").mkdir()
    days = ServedDays(str(tmp_path))
    assert days.versions("m") == ("9", "10", "x")
    assert days.versions("nobody") == ()
    assert days.days("m", "9") == (date(2026, 3, 1), date(2026, 3, 2))
    assert days.hours("m", "9", date(2026, 3, 1)) == (START,)
    assert days.hours("m", "9", date(2026, 3, 2)) == (START + 30 * HOUR,)


def test_rates_of_nothing_are_zero():
    empty = REFERENCE.measure({"amount": [], "kind": []})
    for column in empty.columns.values():
        assert (null_rate(column), outside_rate(column)) == (0.0, 0.0)


def test_the_log_that_servers_write_has_a_history(tmp_path):
    schema = LogSchema(
        "m", "1", {"who": "int64", "amount": "float64", "kind": "string"}, ("amount", "kind"),
        ("v",), REFERENCE.to_json(),
        Profile.learn({"score": np.linspace(0, 1, 500, dtype=np.float32)}).to_json(),
    )  # fmt: skip
    log = PredictionLog(
        schema, LogSettings(flush_seconds=0.2), spool=tmp_path / "spool",
        sink=str(tmp_path / "log"),
    )  # fmt: skip
    parts = {START + 5 * HOUR: 700, START + 20 * HOUR: 60, START + 3 * DAY + HOUR: 900}
    served = {}
    for seed, (moment, count) in enumerate(parts.items()):
        served[moment] = rows(count, seed)
        at = round(moment.timestamp() * 1e6) + 1
        log.append(
            PredictionBatch(
                [f"{seed}-{i}" for i in range(count)], [0] * count, [at] * count,
                {"who": [*range(count)], **served[moment]}, np.zeros((2, count), np.uint8),
                np.full((1, count), at - 30_000_000, np.int64), np.full(count, 0.25, np.float32),
                ["champion"] * count, [None] * count, 500, False, answered_at=at,
            )
        )  # fmt: skip
    log.close()
    assert log.counters().written == sum(parts.values())
    found = history(tmp_path / "log")
    assert [period.rows for period in found.periods] == [760, 0, 0, 900]
    assert found.periods[0].ages["v"].mean == pytest.approx(30.0, abs=0.01)
    last = found.periods[-1].features
    counted = REFERENCE.measure(served[START + 3 * DAY + HOUR])
    for name in ("amount", "kind"):
        expected = drift(REFERENCE.columns[name], counted.columns[name])
        assert last[name].psi == pytest.approx(expected.psi, abs=1e-12)
    assert last["score"].verdict == "significant"
    assert not math.isnan(found.overall.features["score"].psi)
