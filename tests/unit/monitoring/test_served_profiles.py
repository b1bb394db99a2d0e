"""A window is the merge of its hours' profiles, whoever wrote them, and nothing else."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from profile_files import hour_folder, write_hour, write_reference

from zeroskew.errors import ConfigError, DataError, ServingError
from zeroskew.monitoring.profile_vectors import emptied, packed, unpacked
from zeroskew.monitoring.served_profiles import ServedProfiles, ViewAge
from zeroskew.profiles import CategoricalProfile, NumericProfile, Profile

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
REFERENCE = Profile.learn(
    {
        "amount": np.linspace(-2, 7, 200),
        "kind": ["a"] * 120 + ["b"] * 80,
        "score": np.linspace(0, 1, 200, dtype=np.float32),
    }
)
AMOUNTS = st.one_of(st.none(), st.floats(-10, 10), st.sampled_from([float("inf"), float("nan")]))
ROWS = st.lists(
    st.tuples(AMOUNTS, st.sampled_from(["a", "b", "c", None]), st.floats(0, 1, width=32)),
    max_size=12,
)


def measured(rows: list[tuple], reference: Profile = REFERENCE) -> Profile:
    names = ("amount", "kind", "score")
    return reference.measure({name: [row[i] for row in rows] for i, name in enumerate(names)})


def counted(profile: Profile) -> dict:
    """What a vector keeps of a profile."""
    plain = profile.to_json()
    for column in plain["columns"].values():
        column.pop("seen", None)
    return plain


def window(log: Path, *args, **options):
    return ServedProfiles(str(log)).window("m", "1", *args, **options)


counts = st.integers(0, 2**40)
edges = st.lists(st.floats(-1e300, 1e300), max_size=12, unique=True).map(sorted).map(tuple)


@st.composite
def numeric(draw) -> NumericProfile:
    cuts = draw(edges)
    bins = tuple(draw(st.lists(counts, min_size=len(cuts) + 1, max_size=len(cuts) + 1)))
    ends = draw(st.sampled_from([(None, None), (-1.0, 1.0), (0.0, 0.0)]))
    return NumericProfile(cuts, *ends, bins, *(draw(counts) for _ in range(4)))


@st.composite
def categorical(draw) -> CategoricalProfile:
    values = tuple(draw(st.lists(st.text(max_size=4), max_size=6, unique=True)))
    bins = tuple(draw(st.lists(counts, min_size=len(values), max_size=len(values))))
    return CategoricalProfile(values, bins, draw(counts), draw(counts))


@given(
    st.dictionaries(st.text(max_size=5), st.one_of(numeric(), categorical()), max_size=5), counts
)
def test_a_profile_survives_its_vector(columns, rows):
    profile = Profile(columns, rows)
    layout, vector = packed(json.loads(json.dumps(profile.to_json())))
    assert unpacked(layout, vector, rows) == Profile.from_json(profile.to_json())
    assert unpacked(layout, 3 * vector, 3 * rows) == profile.merge(profile).merge(profile)
    nothing = emptied(profile)
    assert {name: c.total for name, c in nothing.columns.items()} == dict.fromkeys(columns, 0)
    assert all(c.same_bins(columns[name]) for name, c in nothing.columns.items())


@pytest.mark.parametrize(
    "damage",
    [
        {"counts": [1, 2]},
        {"counts": [1.5, 2, 3]},
        {"counts": [1, -2, 3]},
        {"counts": [1, "2", 3]},
        {"counts": [1, None, 3]},
        {"counts": None},
        {"counts": [2**63, 2, 3]},
        {"outside": [1]},
        {"edges": [0, [1]]},
        {"range": 4},
        {"nulls": "many"},
        {"kind": "categorical"},
    ],
)
def test_what_is_no_profile_is_refused(damage):
    column = NumericProfile((0.0, 1.0), -1.0, 2.0, (1, 2, 3)).to_json()
    with pytest.raises(DataError, match="here:"):
        packed({"columns": {"x": {**column, **damage}}}, "here")


FILES = st.lists(
    st.tuples(
        st.integers(-30, 30),
        st.sampled_from(["champion", "canary", "shadow", "champion-like"]),
        st.sampled_from(["w", "host-1", "champion"]),
        ROWS,
        st.tuples(st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.integers(0, 4), st.floats(0, 99), st.floats(100, 999)),
    ),
    max_size=12,
    unique_by=lambda file: file[:3],
)


@settings(max_examples=40, deadline=None)
@given(
    FILES,
    st.integers(-35, 35),
    st.integers(0, 59),
    st.integers(0, 40),
    st.integers(0, 59),
    st.sets(st.sampled_from(["champion", "canary", "shadow"]), min_size=1),
)
def test_a_window_is_what_its_hours_hold(files, first, minute, hours, more, roles):
    since = START + first * HOUR + timedelta(minutes=minute)
    until = since + hours * HOUR + timedelta(minutes=more)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder)
        rows: list[tuple] = []
        missing = stale = aged = 0
        ages, longest, total = 0, 0.0, 0.0
        for number, (hour, role, writer, held, names, age) in enumerate(files):
            at = START + hour * HOUR
            profile = measured(held)
            write_hour(
                log, at, profile, role=role, writer=writer,
                missing={"amount": names[0]}, stale={"kind": names[1]} if number % 2 else {},
                ages={"v": age},
            )  # fmt: skip
            # Other versions and models, whose names begin alike, are somebody else's.
            write_hour(log, at, profile, role=role, writer=writer, version="11")
            write_hour(log, at, profile, role=role, writer=writer, model="m2")
            begins, ends = at, at + HOUR
            if role in roles and ends > since and begins < until:
                rows += held
                missing += names[0]
                stale += names[1] if number % 2 else 0
                ages, total = ages + age[0], total + age[0] * age[1]
                if age[0]:
                    aged, longest = aged + 1, max(longest, age[2])
        seen = window(log, since, until, sorted(roles), REFERENCE)
    assert seen.rows == len(rows)
    assert counted(seen.profile) == counted(measured(rows))
    assert seen.missing.get("amount", 0) == missing
    assert seen.stale.get("kind", 0) == stale
    if ages:
        assert seen.ages == {"v": ViewAge(ages, pytest.approx(total / ages), longest)}
    else:
        assert seen.ages == {}
    assert seen.since <= since
    assert seen.since == since.replace(minute=0)


def test_begun_hours_count_as_a_whole(tmp_path):
    for hour in range(4):
        write_hour(tmp_path, START + hour * HOUR, measured([(float(hour), "a", 0.5)]))
    seen = window(tmp_path, START + 1.5 * HOUR, START + 2.01 * HOUR)
    assert (seen.rows, seen.since, seen.until) == (2, START + HOUR, START + 2.01 * HOUR)
    assert window(tmp_path, START + HOUR, START + 2 * HOUR).rows == 1
    assert window(tmp_path, START + HOUR, START + HOUR).rows == 0


def test_moments_of_any_time_zone(tmp_path):
    from zoneinfo import ZoneInfo

    write_hour(tmp_path, START, measured([(1.0, "a", 0.5)] * 3))
    zone = ZoneInfo("Asia/Kolkata")
    seen = window(tmp_path, START.astimezone(zone), (START + HOUR).astimezone(zone))
    assert (seen.rows, seen.since) == (3, START)


def test_nothing_served_has_the_bins_of_the_reference(tmp_path):
    seen = window(tmp_path / "none", START, START + HOUR, reference=REFERENCE)
    assert seen.rows == 0
    assert all(c.same_bins(REFERENCE.columns[n]) for n, c in seen.profile.columns.items())
    assert set(seen.profile.columns) == set(REFERENCE.columns)
    assert window(tmp_path / "none", START, START + HOUR).profile == Profile({}, 0)


def test_the_reference_is_the_training_set(tmp_path):
    log = ServedProfiles(str(tmp_path))
    assert log.reference("m", "1") is None
    path = write_reference(tmp_path, REFERENCE)
    assert log.reference("m", "1") == REFERENCE
    assert log.reference("m", "11") is None
    path.write_text('{"format": 1, "profile": 3}')
    with pytest.raises(DataError, match=r"reference\.json"):
        log.reference("m", "1")
    path.write_text('{"format": 1}')
    with pytest.raises(DataError, match=r"reference\.json"):
        log.reference("m", "1")


_SAID = b'{"format": 1, "role": "champion", "profile": {"columns": {}},'


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"\xff\xfe", b'"text"', b'{"format": 1}',
        _SAID + b' "rows": 1, "missing": [], "stale": {}, "feature_age": {}}',
        _SAID + b' "rows": 1, "missing": {}, "stale": {}, "feature_age": {"v": {"count": 1}}}',
        _SAID + b' "rows": null, "missing": {}, "stale": {}, "feature_age": {}}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, content):
    write_hour(tmp_path, START, measured([(1.0, "a", 0.5)]))
    path = write_hour(tmp_path, START, measured([]), writer="x")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"champion-x\.json: is no profile"):
        window(tmp_path, START, START + HOUR)


def test_a_file_of_another_format_is_named(tmp_path):
    path = write_hour(tmp_path, START, measured([]))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(DataError, match="format 2; this version reads 1"):
        window(tmp_path, START, START + HOUR)


# hash(-1.0) == hash(-2.0) in Python: bins that only look alike must not be added up.
@pytest.mark.parametrize(("one", "other"), [((-1.0,), (-2.0,)), ((0.0,), (0.0, 1.0))])
def test_servers_that_count_with_different_bins_are_an_error(tmp_path, one, other):
    for writer, cuts in (("a", one), ("b", other)):
        column = NumericProfile(cuts, -5.0, 5.0, (1,) * (len(cuts) + 1))
        write_hour(tmp_path, START, Profile({"x": column}, column.total), writer=writer)
    with pytest.raises(DataError, match=r"champion-b\.json: servers of one version have counted"):
        window(tmp_path, START, START + HOUR)


def test_what_is_no_hour_file_is_passed_over(tmp_path):
    write_hour(tmp_path, START, measured([(1.0, "a", 0.5)]))
    folder = hour_folder(tmp_path, "m", "1", START)
    (folder / ".champion-w.json.17.partial").write_text("{")
    (folder / "champion-w.json.old").write_text("{")
    (folder / "notes.json").write_text("{")
    (folder.parent / "hour=xx").mkdir()
    (folder.parent / "hour=xx" / "champion-w.json").write_text("{")
    (folder.parent / "champion-w.json").write_text("{")
    assert window(tmp_path, START, START + HOUR).rows == 1


def test_a_file_that_vanishes_between_listing_and_reading_is_not_there(tmp_path):
    write_hour(tmp_path, START, measured([(1.0, "a", 0.5)]))
    gone = write_hour(tmp_path, START, measured([(1.0, "a", 0.5)] * 5), writer="gone")
    log = ServedProfiles(str(tmp_path))
    listed = log._files
    kept = shutil.copy(gone, tmp_path / "kept")

    def listed_then_removed(*args):
        found = list(listed(*args))
        gone.unlink()
        return found

    log._files = listed_then_removed
    with_it = log.window("m", "1", START, START + HOUR)
    assert with_it.rows == 1
    log._files = listed
    shutil.copy(kept, gone)
    assert log.window("m", "1", START, START + HOUR).rows == 6


def test_a_log_that_cannot_be_read_says_so(tmp_path):
    path = write_hour(tmp_path, START, measured([(1.0, "a", 0.5)]))
    path.unlink()
    path.mkdir()
    with pytest.raises(ServingError, match=r"champion-w\.json: cannot be read"):
        window(tmp_path, START, START + HOUR)
    with pytest.raises(ConfigError):
        ServedProfiles("ftp://nowhere")


def test_the_digest_is_of_what_was_read(tmp_path):
    path = write_hour(tmp_path, START, measured([(1.0, "a", 0.5)]))
    write_hour(tmp_path, START + 5 * HOUR, measured([(1.0, "a", 0.5)]))
    log = ServedProfiles(str(tmp_path))

    def digest(hours: int = 1) -> str:
        return log.window("m", "1", START, START + hours * HOUR).digest

    first = digest()
    assert digest() == first
    assert digest(3) == first, "an hour without rows adds nothing"
    assert digest(6) != first
    assert ServedProfiles(str(tmp_path)).window("m", "1", START, START + HOUR).digest == first
    write_hour(tmp_path, START, measured([(2.0, "a", 0.5)] * 2), changed=1_700_000_600)
    assert digest() != first
    assert path.exists()


class Counting(ServedProfiles):
    read = 0

    def _read(self, path: str) -> bytes:
        self.read += 1
        return super()._read(path)


def test_a_file_that_has_not_changed_is_read_once(tmp_path):
    for hour in range(3):
        write_hour(tmp_path, START + hour * HOUR, measured([(1.0, "a", 0.5)]))
    log = Counting(str(tmp_path))
    windows = [log.window("m", "1", START, START + 3 * HOUR) for _ in range(3)]
    assert (log.read, {seen.rows for seen in windows}) == (3, {3})
    write_hour(tmp_path, START, measured([(1.0, "a", 0.5)] * 5), changed=1_700_000_900)
    assert log.window("m", "1", START, START + 3 * HOUR).rows == 7
    assert log.read == 4
    # What one window is told must not change the next one.
    assert windows[0].profile == windows[2].profile


def test_a_file_that_changes_within_a_second_is_read_again(tmp_path):
    """As on stores whose times have whole seconds: same size, same time, other counts."""
    now = float(int(time.time()))
    path = write_hour(tmp_path, START, measured([(1.0, "a", 0.5)] * 3), changed=now)
    log = ServedProfiles(str(tmp_path))
    assert log.window("m", "1", START, START + HOUR).rows == 3
    size = path.stat().st_size
    write_hour(tmp_path, START, measured([(1.0, "a", 0.5)] * 4), changed=now)
    assert path.stat().st_size == size
    assert log.window("m", "1", START, START + HOUR).rows == 4


def test_the_cache_keeps_to_its_size(tmp_path):
    for hour in range(20):
        write_hour(tmp_path, START + hour * HOUR, measured([(1.0, "a", 0.5)]))
    log = Counting(str(tmp_path), cache_bytes=5000)
    for _ in range(3):
        assert log.window("m", "1", START, START + 20 * HOUR).rows == 20
        assert log._used == sum(hour.size for hour in log._hours.values()) <= 5000
    assert 0 < len(log._hours) < 20
    assert log.read == 60
