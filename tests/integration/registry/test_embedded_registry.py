"""The embedded registry in real processes: first start, rivals, no network, no permission."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from zeroskew.errors import RegistryError
from zeroskew.registry import Registry

pytestmark = pytest.mark.integration

SPY = """
import sys
seen = []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        seen.append((event, str(args[1:])))
sys.addaudithook(watch)
import json
from pathlib import Path
from zeroskew.record import VersionRecord
from zeroskew.registry import Registry
home, = sys.argv[1:]
registry = Registry(f"sqlite:///{home}/mlflow/mlflow.db", f"{home}/mlflow/artifacts")
Path(home, "model.onnx").write_bytes(b"graph")
record = VersionRecord(model="m", data_hash="d", feature_service="s",
                       feature_schema_version="v", code_sha="c")
registry.register("m", record, {"model.onnx": Path(home, "model.onnx")})
registry.promote("m", 1, "first")
registry.download("m", 1, Path(home, "out"))
import time; time.sleep(2)   # telemetry would speak from a thread
print(json.dumps(seen))
"""


def home_with(record, files, folder: Path, versions: int) -> Registry:
    registry = Registry(f"sqlite:///{folder}/mlflow/mlflow.db", str(folder / "mlflow/artifacts"))
    for number in range(1, versions + 1):
        assert registry.register("flight_delay", record(data=f"d{number}"), files) == number
    return registry


def test_the_first_start_is_silent_and_calls_nobody(python, tmp_path) -> None:
    child = python(SPY, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    out, err = child.communicate(timeout=200)
    assert child.returncode == 0, err
    assert json.loads(out) == []
    assert err == ""
    assert list((tmp_path / "cwd").iterdir()) == [], "something was left in the working directory"


def test_two_first_starts_at_once(python, tmp_path) -> None:
    code = (
        "import sys; from zeroskew.registry import Registry; print(Registry(sys.argv[1]).models())"
    )
    uri = f"sqlite:///{tmp_path}/deep/folder/mlflow.db"
    starts = [python(code, uri) for _ in range(2)]
    assert [s.communicate(timeout=200) for s in starts] == [("[]\n", "")] * 2


@pytest.mark.slow
def test_rivals_promote_one_after_the_other(python, tmp_path, record, files) -> None:
    registry = home_with(record, files, tmp_path, 3)
    registry.promote("flight_delay", 1, "first")
    code = """
import sys
from zeroskew.errors import AliasConflict
from zeroskew.registry import Registry
registry = Registry(sys.argv[1])
registry.models()
print("ready", flush=True)
sys.stdin.readline()
try:
    print(registry.promote("flight_delay", int(sys.argv[2]), "mine", expected_champion=1).version)
except AliasConflict:
    print("lost")
"""
    rivals = [python(code, registry.backend.uri, n, stdin=subprocess.PIPE) for n in ("2", "3")]
    for rival in rivals:
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        rival.stdin.write("go\n")
        rival.stdin.flush()
    said = sorted(rival.communicate(timeout=120)[0].strip() for rival in rivals)
    assert said[1] == "lost"
    winner = int(said[0])
    assert registry.aliases("flight_delay") == {"champion": winner, "previous": 1}
    assert [e.version for e in registry.history("flight_delay")] == [1, winner]


@pytest.mark.slow
def test_killed_outright_while_registering(python, tmp_path, record, files) -> None:
    """SIGKILL in the middle of the upload: no handler runs, and yet nothing half-made shows."""
    registry = home_with(record, files, tmp_path, 1)
    (tmp_path / "record.json").write_text(json.dumps(record(data="d2").to_json()))
    code = """
import json, os, sys
from pathlib import Path
from zeroskew.record import VersionRecord
from zeroskew.registry import Registry
uri, root, folder = sys.argv[1:4]
record = VersionRecord.from_json(json.loads(Path(folder, "record.json").read_text()))
made = Path(folder, "made")
files = {"export/model.onnx": made / "model.onnx", "triton": made / "triton"}
def progress(what, done, total):
    if done == 3:
        os.kill(os.getpid(), 9)
Registry(uri, root).register("flight_delay", record, files, on_progress=progress)
"""
    child = python(code, registry.backend.uri, registry.backend.artifact_root, str(tmp_path))
    child.communicate(timeout=120)
    assert child.returncode == -signal.SIGKILL
    assert [v.version for v in registry.versions("flight_delay")] == [1]
    assert registry.register("flight_delay", record(data="d2"), files) == 2
    registry.download("flight_delay", 2, tmp_path / "out")


@contextlib.contextmanager
def as_nobody():
    """Root may write everywhere: be somebody else for a while. Others need no such thing."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("locked", [False, True])
def test_a_user_without_write_permission(record, files, locked) -> None:
    folder = Path(tempfile.mkdtemp(prefix="zeroskew-readonly-"))
    try:
        registry = home_with(record, files, folder, 2)
        registry.promote("flight_delay", 1, "first")
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        if not locked:
            (folder / "mlflow/mlflow.db.lock").chmod(0o666)
        # MLflow keeps a connection per URI: another spelling gets one of its own.
        fresh = Registry(f"sqlite:///{folder}/./mlflow/mlflow.db")
        with as_nobody():
            with pytest.raises(RegistryError, match="cannot be written to") as caught:
                fresh.promote("flight_delay", 2, "mine")
            assert fresh.champion("flight_delay") == 1, "may read all the same"
        assert "give this user write access" in str(caught.value)
        assert len(registry.history("flight_delay")) == 1
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o777)
        shutil.rmtree(folder)


def test_ctrl_c_while_downloading_leaves_nothing(python, tmp_path, record, files) -> None:
    files["export/model.onnx"].write_bytes(os.urandom(2_000_000))
    registry = home_with(record, files, tmp_path, 1)
    code = """
import sys, time
from zeroskew.registry import Registry
def progress(what, done, total):
    print(done, flush=True)
    time.sleep(30)
Registry(sys.argv[1]).download("flight_delay", 1, sys.argv[2], on_progress=progress)
"""
    child = python(code, registry.backend.uri, str(tmp_path / "target/out"))
    assert child.stdout.readline() == "1\n"
    child.send_signal(signal.SIGINT)
    start = time.monotonic()
    child.communicate(timeout=60)
    assert child.returncode != 0
    assert time.monotonic() - start < 20
    assert list((tmp_path / "target").iterdir()) == []
