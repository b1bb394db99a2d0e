"""A version appears whole, once, and comes back byte for byte."""

import json
import os
import resource
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest

from zeroskew.errors import DataError, RegistryError
from zeroskew.record import VersionRecord
from zeroskew.registry import Registry

NAME = "flight_delay"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_version_carries_its_lineage_and_files(registry, files, tmp_path, record) -> None:
    number = registry.register(NAME, record(), files, params={"learning_rate": 0.01})
    found = registry.version(NAME, number)
    assert (found.version, found.stage, found.aliases, found.complete) == (1, "Staging", (), True)
    assert found.record == record()
    run = registry.backend.client.get_run(found.run_id)
    assert run.data.metrics["auc"] == 0.74
    assert run.data.metrics["auc_low"] == 0.73
    assert run.data.params == {"learning_rate": "0.01"}
    assert run.info.status == "FINISHED"

    folder = registry.download(NAME, number, tmp_path / "out")
    got = contents(folder)
    assert got["model.onnx"] == files["model.onnx"].read_bytes()
    assert got["triton/net/1/model.onnx"] == b"graph"
    assert got["reference/profile.json"] == b'{"rows": 3}'
    assert set(got) == {
        "model.onnx", "triton/net/1/model.onnx", "triton/net/config.pbtxt",
        "reference/profile.json", "record.json", "files.json",
    }  # fmt: skip
    assert VersionRecord.from_json(json.loads(got["record.json"])) == record()
    assert registry.download(NAME, number, folder) == folder, "there already"


def test_only_a_part_is_downloaded(registry, files, tmp_path, record) -> None:
    number = registry.register(NAME, record(), files)
    folder = registry.download(NAME, number, tmp_path / "part", only=("triton", "model.onnx"))
    assert set(contents(folder)) == {
        "files.json", "model.onnx", "triton/net/1/model.onnx", "triton/net/config.pbtxt",
    }  # fmt: skip
    with pytest.raises(RegistryError, match=r"no file trit[\s\S]*it has: .*triton"):
        registry.download(NAME, number, tmp_path / "none", only=("trit",))
    assert not (tmp_path / "none").exists()


def test_the_same_record_and_files_are_one_version(registry, files, record) -> None:
    assert registry.register(NAME, record(), files) == 1
    assert registry.register(NAME, record(), files) == 1
    assert registry.register(NAME, record("other data"), files) == 2
    files["reference/profile.json"].write_text('{"rows": 4}')
    assert registry.register(NAME, record(), files) == 3
    assert [v.version for v in registry.versions(NAME)] == [1, 2, 3]


def test_no_folder_appears_in_the_working_directory(registry, files, tmp_path, record) -> None:
    before = set(os.listdir())
    registry.register(NAME, record(), files)
    assert set(os.listdir()) == before
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_write_it_leaves_no_version_and_the_next_call_makes_one(
    open_registry, home, migrated, files, after, tmp_path, record, death
) -> None:
    whole = open_registry()
    watched = death.at(whole, 10**6, after=after)
    whole.register(NAME, record(), files)
    writes = watched.writes
    assert writes.count("log_artifact") == 6
    assert writes[-1] == "create_model_version"
    for deadly in range(1, len(writes) + 1):
        shutil.copy(migrated, home / "mlflow/mlflow.db")
        registry = open_registry()
        death.at(registry, deadly, after=after)
        with pytest.raises(death.Killed):
            registry.register(NAME, record(), files)
        alive = open_registry()
        made = NAME in alive.models() and alive.versions(NAME)
        if made:
            assert (deadly, after) == (len(writes), True), "only the last write shows a version"
            assert made[0].complete
        assert alive.register(NAME, record(), files) == 1
        assert len(alive.versions(NAME)) == 1
        target = tmp_path / f"out{deadly}"
        alive.download(NAME, 1, target)
        assert contents(target)["triton/net/1/model.onnx"] == b"graph"


def test_a_changed_artifact_is_refused(registry, files, home, tmp_path, record) -> None:
    registry.register(NAME, record(), files)
    (stored,) = (home / "mlflow/artifacts").rglob("artifacts/model.onnx")
    stored.write_bytes(b"\xff" + stored.read_bytes()[1:])
    with pytest.raises(RegistryError, match=r"model\.onnx is not the file that was registered"):
        registry.download(NAME, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_changed_list_and_a_lost_file_are_refused(
    registry, files, home, tmp_path, record
) -> None:
    registry.register(NAME, record(), files)
    (stored,) = (home / "mlflow/artifacts").rglob("artifacts/files.json")
    text = stored.read_text()
    stored.write_text(text.replace('"bytes": 5', '"bytes": 6'))
    with pytest.raises(RegistryError, match=r"files\.json is not the one that was registered"):
        registry.download(NAME, 1, tmp_path / "out")
    stored.write_text(text)
    shutil.rmtree(stored.parent / "triton")
    with pytest.raises(RegistryError, match="is gone from the artifact store"):
        registry.download(NAME, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_left_alone(registry, files, tmp_path, record) -> None:
    registry.register(NAME, record(), files)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(RegistryError, match="holds something else"):
        registry.download(NAME, 1, other)
    assert contents(other) == {"notes.txt": b"mine"}


def test_wrong_files_are_named_and_nothing_is_registered(registry, files, tmp_path, record) -> None:
    (tmp_path / "net.pkl").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    wrong = {
        "a pickle runs code": {"net.pkl": tmp_path / "net.pkl"},
        "no such file": {"gone.onnx": tmp_path / "gone.onnx"},
        "holds no file": {"repository": tmp_path / "empty"},
        "two files claim": {"triton/net/config.pbtxt": files["model.onnx"]},
        "claim the name 'record.json'": {"record.json": files["model.onnx"]},
    }
    for message, more in wrong.items():
        with pytest.raises(DataError, match=message):
            registry.register(NAME, record(), files | more)
    for key in ("../out", "/etc/passwd", "a//b", ""):
        with pytest.raises(RegistryError, match="not a plain relative path"):
            registry.register(NAME, record(), files | {key: files["model.onnx"]})
    with pytest.raises(RegistryError, match="the record is of 'other'"):
        registry.register(NAME, record(model="other"), files)
    assert registry.models() == []


def test_unknown_names_list_what_there_is(registry, files, record) -> None:
    with pytest.raises(RegistryError, match=r"no model 'flight_delay'[\s\S]*none yet"):
        registry.versions(NAME)
    assert registry.champion(NAME) is None
    registry.register(NAME, record(), files)
    with pytest.raises(RegistryError, match=r"no model 'fraud'[\s\S]*registered: flight_delay"):
        registry.history("fraud")
    with pytest.raises(RegistryError, match=r"no version 7[\s\S]*it has: 1"):
        registry.version(NAME, 7)
    with pytest.raises(RegistryError, match=r"no alias 'champion'[\s\S]*none"):
        registry.version(NAME, "champion")
    registry.set_alias(NAME, "challenger", 1, expected=None)
    with pytest.raises(RegistryError, match=r"first version that was rolled out[\s\S]*apply its"):
        registry.version(NAME, "champion")
    with pytest.raises(RegistryError, match="promote flight_delay 1 --reason first`"):
        registry.version(NAME, "champion")
    registry.promote(NAME, 1, "first")
    with pytest.raises(RegistryError, match=r"no alias 'best'[\s\S]*champion \(version 1\)"):
        registry.version(NAME, "best")
    with pytest.raises(RegistryError, match="not a model name"):
        registry.versions("x' OR name LIKE '%")


def test_a_disk_that_fills_leaves_no_version(registry, files, record) -> None:
    """The kernel refuses to let a file grow past 4 MB, as it does when a quota is used up."""
    files["model.onnx"].write_bytes(bytes(6_000_000))
    assert registry.models() == []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, limits[1]))
    try:
        with pytest.raises(RegistryError, match="the disk is full"):
            registry.register(NAME, record(), files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert registry.versions(NAME) == []
    assert registry.register(NAME, record(), files) == 1


def test_broken_databases_are_explained(open_registry, home, record) -> None:
    database = home / "mlflow/mlflow.db"
    whole = database.read_bytes()
    database.write_bytes(b"this is no database, it is a letter" * 100)
    with pytest.raises(RegistryError, match="not a readable SQLite database"):
        open_registry().models()
    database.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(RegistryError):
        open_registry().models()
    database.write_bytes(whole)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(RegistryError, match="another release of MLflow"):
        open_registry().models()


def test_models_of_others_are_left_out_of_lists_and_refused(registry, files, record) -> None:
    client = registry.backend.client
    client.create_registered_model("Somebody else's model")
    client.create_registered_model("flight_delay")
    assert registry.models() == []
    assert registry.versions(NAME) == []
    assert registry.history(NAME) == []
    assert registry.register(NAME, record(), files) == 1
    registry.promote(NAME, 1, "first")
    assert registry.models() == [NAME]
    assert len(registry.history(NAME)) == 1


def test_a_retry_may_bring_other_run_parameters(registry, open_registry, files, record, death):
    dying = open_registry()
    death.at(dying, 6)
    with pytest.raises(death.Killed):
        dying.register(NAME, record(), files, params={"learning_rate": 0.1})
    number = registry.register(NAME, record(), files, params={"learning_rate": 0.2, "epochs": 3})
    assert number == 1
    assert registry.version(NAME, 1).complete


def test_passwords_do_not_get_into_messages() -> None:
    registry = Registry("http://ann:secret@127.0.0.1:1/mlflow")
    assert registry.backend.shown == "http://ann:…@127.0.0.1:1/mlflow"
    with pytest.raises(RegistryError, match="not a model name") as caught:
        registry.versions("Ann's")
    assert "secret" not in str(caught.value)
    with pytest.raises(RegistryError, match="no tracking URI"):
        Registry("")


def test_notes_come_later_and_do_not_touch_the_record(registry, files, record) -> None:
    registry.register(NAME, record(), files)
    registry.note(NAME, 1, {"route": "flights.example.org", "stage_of": "x"})
    assert registry.version(NAME, 1).tags["route"] == "flights.example.org"
    assert registry.version(NAME, 1).record == record()
    for key in ("stage", "data_hash", "metrics.1", "complete"):
        with pytest.raises(RegistryError, match="belongs to the version's record"):
            registry.note(NAME, 1, {"fine": "x", key: "y"})
    assert "fine" not in registry.version(NAME, 1).tags
