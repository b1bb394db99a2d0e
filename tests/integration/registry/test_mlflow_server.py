"""The registry over HTTP against a real MLflow server, with several writers."""

import socket
import time
from pathlib import Path

import pytest

from zeroskew.errors import AliasConflict, RegistryError
from zeroskew.registry import Registry

pytestmark = [pytest.mark.integration, pytest.mark.slow]

RIVAL = """
import sys
from zeroskew.errors import AliasConflict
from zeroskew.registry import Registry
uri, model, version = sys.argv[1:4]
registry = Registry(uri)
registry.versions(model)
print("ready", flush=True)
sys.stdin.readline()
try:
    print(registry.promote(model, int(version), "mine", expected_champion=1).number)
except AliasConflict:
    print("lost")
"""


def test_a_version_goes_through_the_server_and_back(
    server, server_folder, record, files, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    registry = Registry(server)
    steps: list[tuple[str, int, int]] = []
    number = registry.register(
        "proxied", record("proxied"), files, on_progress=lambda *step: steps.append(step)
    )
    assert number == 1
    assert steps[-1] == ("registering files", 5, 5)
    assert registry.register("proxied", record("proxied"), files) == 1
    found = registry.version("proxied", 1)
    assert found.record == record("proxied")
    assert registry.backend.client.get_run(found.run_id).info.artifact_uri.startswith(
        "mlflow-artifacts:"
    )
    folder = registry.download("proxied", 1, tmp_path / "out")
    for name in ("export/model.onnx",):
        assert (folder / name).read_bytes() == files[name].read_bytes()
    assert (folder / "triton/net/1/model.onnx").read_bytes() == b"graph"
    assert not (tmp_path / "mlruns").exists()
    (stored,) = server_folder.rglob("artifacts/export/model.onnx")
    stored.write_bytes(stored.read_bytes()[:-1])
    with pytest.raises(RegistryError, match="is not the file that was registered"):
        registry.download("proxied", 1, tmp_path / "changed")
    stored.unlink()
    with pytest.raises(RegistryError, match=r"export/model\.onnx is gone from the artifact store"):
        registry.download("proxied", 1, tmp_path / "lost")
    assert {p.name for p in tmp_path.iterdir()} == {"made", "out"}


def test_promotion_history_and_rollback_through_the_server(server, record, files) -> None:
    registry = Registry(server)
    for data in ("d1", "d2"):
        registry.register("judged", record("judged", data), files)
    registry.promote("judged", 1, "first", expected_champion=None)
    registry.set_alias("judged", "challenger", 2, expected=None)
    registry.promote("judged", 2, "better", expected_champion=1)
    with pytest.raises(AliasConflict, match="version 2, not to version 1"):
        registry.promote("judged", 1, "late", expected_champion=1)
    assert registry.aliases("judged") == {"champion": 2, "previous": 1}
    registry.rollback("judged", "worse", expected_champion=2)
    assert registry.aliases("judged") == {"champion": 1}
    assert [v.stage for v in registry.versions("judged")] == ["Production", "Archived"]
    registry.backend.client.delete_model_version("judged", "2")
    assert [(e.action, e.version) for e in Registry(server).history("judged")] == [
        ("promote", 1), ("promote", 2), ("rollback", 1),
    ]  # fmt: skip


def test_of_several_processes_one_promotes(server, record, files, python) -> None:
    registry = Registry(server)
    for number in (1, 2, 3):
        assert registry.register("raced", record("raced", f"d{number}"), files) == number
    registry.promote("raced", 1, "first")
    import subprocess

    rivals = [
        python(RIVAL, server, "raced", number, stdin=subprocess.PIPE) for number in ("2", "3")
    ]
    for rival in rivals:
        assert rival.stdout.readline() == "ready\n", rival.communicate()
    for rival in rivals:
        rival.stdin.write("go\n")
        rival.stdin.flush()
    said = [rival.communicate(timeout=120) for rival in rivals]
    assert sorted(out for out, _ in said) == ["2\n", "lost\n"], said
    winner = 2 if said[0][0] == "2\n" else 3
    assert [e.version for e in registry.history("raced")] == [1, winner]
    registry.settle("raced")
    assert registry.aliases("raced") == {"champion": winner, "previous": 1}


def test_two_writers_of_one_record_make_one_version(server, record, files, python, tmp_path):
    (tmp_path / "record.json").write_text(__import__("json").dumps(record("twice").to_json()))
    code = """
import json, sys
from pathlib import Path
from zeroskew.record import VersionRecord
from zeroskew.registry import Registry
uri, folder = sys.argv[1:3]
record = VersionRecord.from_json(json.loads(Path(folder, "record.json").read_text()))
files = {"export/model.onnx": Path(folder, "made/model.onnx")}
print(Registry(uri).register("twice", record, files))
"""
    writers = [python(code, server, str(tmp_path)) for _ in range(2)]
    said = [writer.communicate(timeout=120) for writer in writers]
    registry = Registry(server)
    (only,) = registry.versions("twice")
    assert [out for out, _ in said] == [f"{only.version}\n"] * 2, said
    registry.download("twice", only.version, tmp_path / "out")


def test_a_server_that_is_gone_is_named_within_seconds(monkeypatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    start = time.monotonic()
    with pytest.raises(RegistryError, match=r"does not answer[\s\S]*ZEROSKEW_MLFLOW") as caught:
        Registry(url).champion("flight_delay")
    assert caught.value.where == url
    assert time.monotonic() - start < 30


def test_a_folder_cannot_be_a_server_and_says_so(server, tmp_path: Path) -> None:
    with pytest.raises(RegistryError):
        Registry(server + "/nothing/here").champion("flight_delay")


def test_writers_of_one_alias_and_tag_do_not_trip_over_each_other(server, record, files) -> None:
    """MLflow's server inserts what it did not find; the database refuses the second of two."""
    from concurrent.futures import ThreadPoolExecutor

    registry = Registry(server)
    registry.register("crowded", record("crowded"), files)
    client = registry.backend.client

    def write(_: int) -> None:
        registry.backend.upsert(client.set_registered_model_alias, "crowded", "shadow", "1")
        registry.backend.upsert(client.set_model_version_tag, "crowded", "1", "seen", "yes")

    with ThreadPoolExecutor(8) as writers:
        for _ in range(3):
            list(writers.map(write, range(8)))
            assert registry.aliases("crowded") == {"shadow": 1}
            client.delete_registered_model_alias("crowded", "shadow")
            client.delete_model_version_tag("crowded", "1", "seen")
