"""A segment reaches the sink exactly once, wherever shipping is broken off."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from zeroskew.profiles import Profile
from zeroskew.serving.log_folder import SinkFailed, SpoolFolder
from zeroskew.serving.log_frames import FrameWriter, PredictionBatch
from zeroskew.serving.log_schema import LogSchema
from zeroskew.serving.log_sink import FolderSink
from zeroskew.serving.log_spool import (
    LOCK,
    READY,
    Lock,
    close_segments,
    create_folder,
    segment_path,
    segments,
)
from zeroskew.serving.log_status import ServedProfiles, ShippingStatus

HOUR = 3_600_000_000
NOON = 1_700_000_000_000_000 // HOUR * HOUR
KINDS = {"who": "int64", "amount": "float64", "kind": "string", "hour": "int64"}


def rows(count: int, first: int = 0) -> dict:
    index = np.arange(first, first + count)
    return {
        "who": index,
        "amount": np.where(index % 7 == 0, np.nan, index * 1.5),
        "kind": [("a", "b", None)[i % 3] for i in index.tolist()],
        "hour": (index % 24).tolist(),
    }


SCHEMA = LogSchema(
    "m", "1", KINDS, ("amount", "kind", "hour"), ("v",),
    Profile.learn({k: v for k, v in rows(500).items() if k != "who"}).to_json(),
    Profile.learn({"score": np.linspace(0, 1, 100, dtype=np.float32)}).to_json(),
)  # fmt: skip


def frame(count: int, first: int, *, start: int = NOON, step: int = 1) -> bytes:
    status = np.zeros((3, count), np.uint8)
    status[1] = [i % 3 == 2 for i in range(first, first + count)]
    status[0, 0] = 2
    times = [start + i * step for i in range(count)]
    return FrameWriter(KINDS, {}).frame(
        PredictionBatch(
            [f"r{first + i}" for i in range(count)], [0] * count, times, rows(count, first), status,
            np.array([[t - 5_000_000 for t in times]], np.int64),
            np.linspace(0, 1, count, dtype=np.float32),
            [("champion", "shadow")[(first + i) % 2] for i in range(count)],
            [None] * count, 100, False,
        )
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three segments; the second one is in two hours."""
    made, _lock = create_folder(
        tmp_path / "spool", "m", "1", {"log": SCHEMA.to_json(), "redacted": [], "sink": "/x"}
    )
    contents = [
        [frame(10, 0), frame(1, 10)],
        [frame(20, 20, start=NOON + HOUR - 10, step=1)],
        [frame(5, 40), frame(5, 50, start=NOON + HOUR)],
    ]
    for number, frames in enumerate(contents, 1):
        segment_path(made, number, READY).write_bytes(b"".join(frames))
    return made


EXPECTED = [*range(11), *range(20, 40), *range(40, 45), *range(50, 55)]


class Fault(BaseException):
    """A kill."""


class Faulty(FolderSink):
    """Breaks off before or after one of its operations."""

    def __init__(self, folder: Path, at: int, after: bool, error: BaseException) -> None:
        super().__init__(folder)
        self.at, self.after, self.error, self.count = at, after, error, 0

    def _do(self, operation, *arguments):
        self.count += 1
        here = self.count == self.at
        if here and not self.after:
            raise self.error
        result = operation(*arguments)
        if here:
            raise self.error
        return result

    def write(self, name, content):
        return self._do(super().write, name, content)

    def read(self, name):
        return self._do(super().read, name)


def ship_all(folder: Path, sink) -> None:
    spool = SpoolFolder(folder)
    for number in spool.waiting():
        spool.ship(number, sink)


def check(out: Path, folder: Path) -> None:
    """Every row once; profiles as measured on what is read back."""
    found = pl.read_parquet(out / "**/*.parquet", hive_partitioning=True)
    assert sorted(found["who"]) == EXPECTED
    assert sorted(found["request_id"]) == sorted(f"r{i}" for i in EXPECTED)
    assert (found["event_time"].dt.hour() == found["hour"].cast(pl.Int8)).all()
    assert found["served_hour"].to_list() == [w % 24 for w in found["who"]]
    reference = Profile.from_json(SCHEMA.reference)
    scores = Profile.from_json(SCHEMA.score_reference)

    def measured(part: pl.DataFrame) -> dict:
        of_features = reference.measure(part.drop("hour").rename({"served_hour": "hour"}))
        return {**of_features.columns, **scores.measure(part).columns}

    files = list(out.rglob("_profiles/date=*/hour=*/*.json"))
    assert len(files) == 4
    (frozen,) = out.rglob("_profiles/reference.json")
    trained = Profile.from_json(json.loads(frozen.read_bytes())["profile"])
    assert trained.columns == {**reference.columns, **scores.columns}
    for file in files:
        summary = json.loads(file.read_bytes())
        hour = int(file.parent.name.removeprefix("hour="))
        part = found.filter(
            pl.col("event_time").dt.hour() == hour, pl.col("role") == summary["role"]
        )
        profile = Profile.from_json(summary["profile"])
        assert profile.columns == measured(part)
        assert profile.rows == summary["rows"] == part.height
        assert summary["feature_age"]["v"] == pytest.approx(
            {"count": part.height, "mean": 5.0, "max": 5.0}
        )
        for state in ("missing", "stale"):
            counts = part[state].explode(empty_as_null=False, keep_nulls=False).value_counts()
            assert summary[state] == dict(counts.iter_rows())
    for role, profile in ServedProfiles.read(folder).roles.items():
        assert profile.columns == measured(found.filter(pl.col("role") == role))
    status = ShippingStatus.read(folder)
    assert (status.rows, status.segments, status.last_error) == (len(EXPECTED), 3, None)
    assert segments(folder, READY) == []


def test_all_segments_are_shipped(folder, tmp_path):
    sink = Faulty(tmp_path / "out", -1, False, Fault())
    ship_all(folder, sink)
    check(tmp_path / "out", folder)
    assert ShippingStatus.read(folder).bytes == sum(
        p.stat().st_size for p in (tmp_path / "out").rglob("*.parquet")
    )
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 17))
def test_a_shipper_killed_at_any_operation_goes_on(folder, tmp_path, at, after):
    with pytest.raises(Fault):
        ship_all(folder, Faulty(tmp_path / "out", at, after, Fault()))
    ship_all(folder, FolderSink(tmp_path / "out"))
    check(tmp_path / "out", folder)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_sink_that_fails_anywhere_is_asked_again(folder, tmp_path, after):
    for at in range(1, 17):
        spool = SpoolFolder(folder)
        sink = Faulty(tmp_path / "out", 1 + at % 3, after, OSError("down"))
        for number in spool.waiting():
            with pytest.raises(SinkFailed):
                spool.ship(number, sink)
            assert "down" in str(ShippingStatus.read(folder).last_error)
            spool.ship(number, sink)
            break
    ship_all(folder, FolderSink(tmp_path / "out"))
    check(tmp_path / "out", folder)
    assert ShippingStatus.read(folder).failures == 3


@pytest.mark.parametrize("name", ["unlink", "replace"])
def test_a_kill_around_the_removal_counts_nothing_twice(folder, tmp_path, monkeypatch, name):
    """The moments after the sink has everything: profiles, status, the segment's end."""
    real = getattr(Path, name)

    def killed(path, *arguments, **options):
        if path.suffix == READY or "status" in path.name or "profiles" in path.name:
            raise Fault
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, name, killed)
    with pytest.raises(Fault):
        ship_all(folder, FolderSink(tmp_path / "out"))
    monkeypatch.undo()
    ship_all(folder, FolderSink(tmp_path / "out"))
    check(tmp_path / "out", folder)


def test_the_same_segment_gives_the_same_bytes(folder, tmp_path):
    content = segment_path(folder, 1, READY).read_bytes()
    found = []
    for name in ("one", "two"):
        segment_path(folder, 1, READY).write_bytes(content)
        (folder / "status.json").unlink(missing_ok=True)
        SpoolFolder(folder).ship(1, FolderSink(tmp_path / name))
        found.append([p.read_bytes() for p in (tmp_path / name).rglob("*.parquet")])
    assert found[0] == found[1]


def test_a_segment_that_nothing_can_be_made_of_does_not_hold_up_the_next(
    folder, tmp_path, monkeypatch, capsys
):
    import zeroskew.serving.log_folder as module

    real = module.segment_tables

    def poisoned(data, schema):
        if b"r20" in data:
            raise ZeroDivisionError("poison")
        return real(data, schema)

    monkeypatch.setattr(module, "segment_tables", poisoned)
    ship_all(folder, FolderSink(tmp_path / "out"))
    assert segments(folder, ".broken") == [2]
    found = pl.read_parquet(tmp_path / "out/**/*.parquet")
    assert sorted(found["who"]) == [n for n in EXPECTED if not 20 <= n < 40]
    assert "poison" in capsys.readouterr().err
    assert ShippingStatus.read(folder).segments_broken == 1


def test_torn_frames_are_counted_and_the_others_kept(folder, tmp_path):
    path = segment_path(folder, 1, READY)
    path.write_bytes(path.read_bytes()[:-3])
    ship_all(folder, FolderSink(tmp_path / "out"))
    found = pl.read_parquet(tmp_path / "out/**/*.parquet")
    assert sorted(found["who"]) == [n for n in EXPECTED if n != 10]
    assert ShippingStatus.read(folder).rows_corrupt == 1


def test_redacted_columns_are_not_measured(folder, tmp_path):
    raw = json.loads((folder / "schema.json").read_bytes())
    (folder / "schema.json").write_text(json.dumps(raw | {"redacted": ["amount"]}))
    ship_all(folder, FolderSink(tmp_path / "out"))
    profiles = ServedProfiles.read(folder).roles
    assert {"kind", "hour", "score"} == set(profiles["champion"].columns)


def test_open_segments_of_the_dead_become_ready_and_empty_ones_go(tmp_path):
    folder, lock = create_folder(tmp_path, "a/b", "1", {})
    assert folder.parts[-3:-1] == ("a%2Fb", "1")
    assert Lock.take(folder / LOCK) is None
    lock.release()
    assert Lock.take(folder / LOCK) is not None
    (folder / "000004.open").write_bytes(b"x")
    (folder / "000005.open").write_bytes(b"")
    close_segments(folder)
    assert segments(folder, READY) == [4]
    assert segments(folder, ".open") == []
