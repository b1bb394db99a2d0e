"""The `zeroskew features` commands over a real store, and what mistakes get."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from zeroskew.cli import main
from zeroskew.embedded import valkey

pytestmark = pytest.mark.integration

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
MAIN = "from zeroskew.cli import main; main()"


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zeroskew", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_materialise_then_read(cli, model):
    code, out, _ = cli("features", "materialise", model, "--end", "2026-03-02")
    assert code == 0
    assert re.search(r"stats .* 10 ", out)
    code, out, _ = cli(
        "features", "read", model, "-s", "driver_service", "-e", "driver_id=3",
        "-e", "driver_id=99", "--format", "json", "--at", "2026-03-02",
    )  # fmt: skip
    assert code == 0
    first, second = json.loads(out)
    assert first["entity"] == {"driver_id": 3}
    assert first["features"]["trips"] == {"value": 310, "status": "present"}
    assert first["features"]["rating"] == {"value": None, "status": "missing"}
    assert {f["status"] for f in second["features"].values()} == {"missing"}
    code, out, _ = cli(
        "features", "read", model, "-f", "stats:trips", "-f", "seats", "-e", "driver_id=1",
        "--at", "2026-03-20T00:00Z",
    )  # fmt: skip
    assert code == 0
    assert re.search(r"trips .*110 \(stale\)", out)
    assert re.search(r"seats .*4", out)
    assert "stale" not in out.split("seats")[1]
    code, out, _ = cli("features", "materialise", model, "--end", "2026-03-02", "--format", "json")
    assert json.loads(out)["written"] == 0


def test_read_of_several_keys_to_a_file(cli, model, tmp_path):
    cli("features", "materialise", model, "--end", "2026-03-02")
    rows = tmp_path / "rows.csv"
    rows.write_text("driver_id,city\n1,Köln\n2,Rome\n")
    out = tmp_path / "answer.parquet"
    code, _, err = cli(
        "features", "read", model, "-s", "everything", "--rows", rows, "-o", out,
        "--at", "2026-03-01T22:30",
    )  # fmt: skip
    assert code == 0, err
    assert "km_per_trip" in err  # not stored: it needs the request
    frame = pl.read_parquet(out)
    assert frame.get_column("wind").to_list() == [3.5, 9.0]
    assert frame.get_column("trips").to_list() == [110, 210]


def test_join_writes_what_was_known_then(cli, model, tmp_path):
    rows = tmp_path / "rows.parquet"
    pl.DataFrame(
        {
            "driver_id": [1, 1, 3, 1],
            "event_timestamp": [
                T0 + timedelta(hours=6), T0 - timedelta(hours=1), T0 + timedelta(hours=4),
                T0 + timedelta(hours=6),
            ],
            "label": [1, 0, 1, 0],
        }
    ).write_parquet(rows)  # fmt: skip
    out = tmp_path / "deep" / "joined.parquet"
    code, _, err = cli(
        "features", "join", model, "-s", "driver_service", "--rows", rows, "--out", out
    )
    assert code == 0, err
    joined = pl.read_parquet(out)
    assert joined.get_column("trips").to_list() == [105, None, 300, 105]
    assert joined.get_column("label").to_list() == [1, 0, 1, 0]
    assert joined.get_column("seats").to_list() == [4, None, 4, 4]
    assert os.listdir(out.parent) == ["joined.parquet"]
    code, _, err = cli(
        "features", "join", model, "-f", "trips", "--rows", rows, "--out", out, "--full-names"
    )
    assert code == 0, err
    assert "stats__trips" in pl.read_parquet(out).columns


def test_push_reaches_online_and_offline(cli, model, tmp_path):
    fresh = tmp_path / "fresh.parquet"
    pl.read_parquet(tmp_path / "data" / "stats.parquet").head(1).with_columns(
        trips=pl.lit(4242, pl.Int64),
        event_timestamp=pl.lit(T0 + timedelta(hours=11)).dt.cast_time_unit("us"),
        created=pl.lit(T0 + timedelta(hours=11)).dt.cast_time_unit("us"),
    ).write_parquet(fresh)
    cli("features", "materialise", model, "--end", "2026-03-02")
    code, out, err = cli("features", "push", model, "stats_push", "--rows", fresh, "--to", "both")
    assert code == 0, err
    assert "stats: 1 written" in out
    code, out, _ = cli(
        "features", "read", model, "-f", "trips", "-e", "driver_id=0", "--format", "json",
        "--at", "2026-03-02",
    )  # fmt: skip
    assert json.loads(out)[0]["features"]["trips"]["value"] == 4242
    assert 4242 in pl.read_parquet(tmp_path / "data" / "stats.parquet").get_column("trips")
    code, out, _ = cli("features", "push", model, "stats_push", "--rows", fresh)
    assert "stats: 0 written, 1 kept newer" in out
    code, _, err = cli("features", "push", model, "nothing", "--rows", fresh)
    assert code == 2
    assert "it defines: stats_push" in err


def test_apply_and_services_show_what_is_defined(cli, model):
    code, out, _ = cli("features", "apply", model)
    assert code == 0
    assert "2 days" in out
    assert "driver_service, everything" in out
    code, out, _ = cli("features", "services", model)
    assert code == 0
    assert re.search(r"km_per_trip .*float64", out)


MISTAKES = [
    (["read", "{model}", "-f", "tripz", "-e", "driver_id=1"], "did you mean trips"),
    (["read", "{model}", "-f", "stats:seats", "-e", "driver_id=1"], "there is no feature"),
    (["read", "{model}", "-s", "nope", "-e", "driver_id=1"], "driver_service"),
    (["read", "{model}", "-e", "driver_id=1"], "2 feature services"),
    (["read", "{model}", "-f", "trips", "-e", "driver=1"], "no key=value of driver_id"),
    (["read", "{model}", "-f", "trips", "-e", "driver_id=x"], "driver_id is an int64"),
    (["read", "{model}", "-f", "trips", "-f", "wind", "-e", "driver_id=1"], "lacks city"),
    (["read", "{model}", "-f", "trips"], "give --entity or --rows"),
    (["read", "{model}", "-f", "trips", "-e", "driver_id=1", "--at", "soon"], "ISO 8601"),
    (["read", "{model}", "-f", "trips", "-e", "driver_id=1", "-o", "x.xls"], "x.xls is none"),
    (["read", "/nowhere", "-f", "trips", "-e", "driver_id=1"], "no feature_store.yaml"),
    (["materialise", "{model}", "--view", "statz"], "there is no feature view 'statz'"),
    (["materialise", "{model}", "--start", "2027-01-01", "--end", "2026-01-01"], "after end"),
    (["join", "{model}", "-f", "trips", "--rows", "no.parquet", "-o", "x.csv"], "no such file"),
    (["join", "{model}", "-f", "trips", "--rows", "{bad}", "-o", "x.csv"], "cannot be read"),
    (["join", "{model}", "-f", "trips", "--rows", "{bad}", "-o", "x.xls"], "x.xls is none"),
    (["push", "{model}", "stats_push", "--rows", "{bad}"], "cannot be read"),
]


def test_a_mistake_is_one_message(cli, model, tmp_path):
    bad = tmp_path / "bad.parquet"
    good = pl.read_parquet(tmp_path / "data" / "stats.parquet")
    good.write_parquet(bad)
    bad.write_bytes(bad.read_bytes()[:-20])  # cut short
    for arguments, said in MISTAKES:
        code, out, err = cli("features", *[a.format(model=model, bad=bad) for a in arguments])
        assert code in (1, 2), arguments
        assert said in " ".join(err.split()), arguments
        assert "Traceback" not in out + err, arguments
    assert not Path("x.csv").exists()


def test_wrong_entity_columns_and_moments_in_the_rows(cli, model, tmp_path):
    rows = tmp_path / "rows.parquet"
    pl.DataFrame({"driver": [1], "event_timestamp": [T0]}).write_parquet(rows)
    out = tmp_path / "out.parquet"
    for command in ("join", "read"):
        code, _, err = cli("features", command, model, "-f", "trips", "--rows", rows, "-o", out)
        assert code == 1
        assert "driver_id" in err
        assert "Traceback" not in err
    pl.DataFrame({"driver_id": [1]}).write_parquet(rows)
    code, _, err = cli("features", "join", model, "-f", "trips", "--rows", rows, "-o", out)
    assert code == 1
    assert "column event_timestamp is missing" in err
    assert not out.exists()


def test_a_store_that_is_gone(cli, model, monkeypatch):
    monkeypatch.setenv("ZEROSKEW_REDIS", "127.0.0.1:1")
    for arguments in (["materialise", model], ["read", model, "-f", "trips", "-e", "driver_id=1"]):
        code, _, err = cli("features", *arguments)
        assert code == 1
        assert "127.0.0.1:1" in err
        assert "zeroskew up" in err
        assert "Traceback" not in err


def limited():
    """Files of this process may grow to 300 kB: as good as a disk that fills."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))


def test_a_full_disk_leaves_the_old_file(model, tmp_path):
    rows = tmp_path / "rows.parquet"
    pl.DataFrame({"driver_id": [i % 10 for i in range(30_000)], "n": range(30_000)}).with_columns(
        event_timestamp=T0 + pl.duration(seconds=pl.col("n"))
    ).write_parquet(rows)
    out = tmp_path / "out" / "joined.csv"
    out.parent.mkdir()
    out.write_text("the old one")
    done = subprocess.run(
        [
            sys.executable, "-c", MAIN, "features", "join", str(model), "-f", "trips",
            "--rows", str(rows), "--out", str(out),
        ],
        capture_output=True, text=True, timeout=120, preexec_fn=limited,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(out.parent) == ["joined.csv"]
    assert out.read_text() == "the old one"


def test_the_embedded_store_is_started_kept_and_ended(model, tmp_path, monkeypatch):
    """Without ZEROSKEW_REDIS: each command brings its own, the data stays; `up` keeps one."""
    monkeypatch.delenv("ZEROSKEW_REDIS")
    home = tmp_path / "home"

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", MAIN, *map(str, arguments)],
            capture_output=True, text=True, timeout=120, env=os.environ | {"COLUMNS": "200"},
        )  # fmt: skip

    done = run("features", "materialise", model, "--end", "2026-03-02")
    assert done.returncode == 0, done.stderr
    assert valkey.find(home / "valkey") is None  # gone with the command
    assert (home / "valkey" / "valkey.rdb").exists()
    assert "stopped" in run("status").stdout
    try:
        started = run("up")
        address = re.search(r"ZEROSKEW_REDIS=(\S+)", started.stdout)[1]
        assert valkey.answers(address)
        assert address in run("status").stdout
        read = run(
            "features", "read", model, "-f", "trips", "-e", "driver_id=1", "--format", "json"
        )
        assert json.loads(read.stdout)[0]["features"]["trips"]["value"] == 110
        assert valkey.answers(address)
    finally:
        ended = run("down")
    assert "ended" in ended.stdout
    assert not valkey.answers(address)
    assert "nothing was running" in run("down").stdout
