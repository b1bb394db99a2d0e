"""The clock of a laptop: real child processes, killed and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from zeroskew.errors import ConfigError
from zeroskew.schedule.local_clock import LocalClock
from zeroskew.schedule.schedule_spec import parse_schedule

START = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
ROOT = Path(__file__).parents[3]


def clock(folder, script="echo $1 >> $2", said=None, **changes):
    spec = parse_schedule(
        {
            "pipelineRef": {"name": "p"},
            "schedule": "0 * * * *",
            "parameters": [{"name": "end", "valueFrom": "scheduledTime"}],
            **changes,
        }
    )

    def command(name, asked):
        return ["sh", "-c", script, "sh", asked.arguments["end"], str(folder / "started")]

    events = [] if said is None else said
    return LocalClock(
        "fraud", {"fraud-hourly": spec}, folder / "clock", command=command,
        said=lambda name, event: events.append(event),
    )  # fmt: skip


def started(folder):
    path = folder / "started"
    return path.read_text().split() if path.exists() else []


def settled(here, now, seconds=30):
    """Turns until no run is under way."""
    deadline = time.monotonic() + seconds
    while here.turn(now)["fraud-hourly"].active is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return here.statuses["fraud-hourly"]


def test_each_time_runs_once_however_often_the_clock_is_started(tmp_path):
    for minutes in (0, 10, 20):
        with clock(tmp_path) as here:
            here.turn(START + timedelta(minutes=minutes))
    assert started(tmp_path) == []
    for minutes in (31, 32, 50):
        with clock(tmp_path) as here:
            status = settled(here, START + timedelta(minutes=minutes))
            assert status.last_run.phase == "Succeeded"
    assert started(tmp_path) == ["2026-03-02T11:00:00Z"]
    with clock(tmp_path) as here:
        status = settled(here, START + timedelta(hours=1, minutes=30))
    assert started(tmp_path) == ["2026-03-02T11:00:00Z", "2026-03-02T12:00:00Z"]
    assert status.succeeded == 2
    assert status.next_schedule_time == datetime(2026, 3, 2, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("missed", "hours", "count"),
    [
        ({"policy": "Skip"}, [], 3),
        ({"policy": "RunLatest"}, [13], 2),
        ({"policy": "RunAll"}, [11, 12, 13], 0),
    ],
)
def test_times_that_passed_while_it_was_off(tmp_path, missed, hours, count):
    with clock(tmp_path, missed=missed) as here:
        here.turn(START)
    with clock(tmp_path, missed=missed) as here:
        for _ in range(4):
            status = settled(here, START + timedelta(hours=2, minutes=55))
    assert started(tmp_path) == [f"2026-03-02T{hour}:00:00Z" for hour in hours]
    assert status.missed == count


def test_killed_between_the_note_and_the_start_the_run_is_started_once(tmp_path):
    with clock(tmp_path) as here:
        here.turn(START)
        here._act = lambda schedule, action: None
        here.turn(START + timedelta(minutes=31))
        assert here.statuses["fraud-hourly"].active.phase == "Requested"
    with clock(tmp_path) as here:
        assert settled(here, START + timedelta(minutes=32)).succeeded == 1
    assert started(tmp_path) == ["2026-03-02T11:00:00Z"]


def test_a_failed_run_says_where_its_log_is(tmp_path):
    events = []
    with clock(tmp_path, "echo no such table; exit 3", said=events) as here:
        here.turn(START)
        status = settled(here, START + timedelta(minutes=31))
    assert status.last_run.phase == "Failed"
    assert "status 3" in status.last_run.message
    log = Path(status.last_run.message.rpartition("see ")[2])
    assert log.read_text() == "no such table\n"
    assert [each.reason for each in events][-1] == "RunFailed"


def test_two_clocks_do_not_keep_the_same_schedules(tmp_path):
    with clock(tmp_path), pytest.raises(ConfigError, match="another process"), clock(tmp_path):
        pass
    with clock(tmp_path) as here:
        here.turn(START)


def test_left_it_leaves_no_process_behind(tmp_path):
    with clock(tmp_path, "sleep 300 & echo $! >> $2; wait") as here:
        here.turn(START)
        here.turn(START + timedelta(minutes=31))
        deadline = time.monotonic() + 30
        while not started(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    (child,) = started(tmp_path)
    deadline = time.monotonic() + 30
    while alive(int(child)):
        assert time.monotonic() < deadline, "the run's own child goes on"
        time.sleep(0.05)
    with clock(tmp_path) as here:
        status = here.turn(START + timedelta(minutes=33))["fraud-hourly"]
    assert status.last_run.phase == "Failed"


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_broken_memory_counts_from_now_on(tmp_path):
    with clock(tmp_path) as here:
        here.turn(START)
    (tmp_path / "clock/fraud-hourly.json").write_text("{")
    with clock(tmp_path) as here:
        settled(here, START + timedelta(hours=5))
    assert started(tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_keeps_the_times_of_a_model_until_it_is_told_to_end(tmp_path):
    """Of a model that nobody trained: the pipeline of live performance runs, and says so."""
    text = (ROOT / "pipelines/flight_delay/model.yaml").read_text().partition("\nschedules:")[0]
    folder = tmp_path / "flight_delay"
    folder.mkdir()
    for path in (ROOT / "pipelines/flight_delay").iterdir():
        if path.is_file() and path.name != "model.yaml":
            (folder / path.name).write_bytes(path.read_bytes())
    schedules = 'schedules:\n  minutely: {pipeline: live-performance, schedule: "* * * * *"}\n'
    (folder / "model.yaml").write_text(f"{text}\n{schedules}")
    home = tmp_path / "home"
    with (tmp_path / "out").open("w") as out:
        child = subprocess.Popen(
            [sys.executable, "-c", "from zeroskew.cli import main; main()",
             "run", "--schedule", str(folder)],
            cwd=ROOT, stdout=out, stderr=out,
            env=os.environ | {"ZEROSKEW_HOME": str(home), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        state = home / "schedule/flight_delay/flight-delay-minutely.json"
        deadline = time.monotonic() + 200
        while not (state.exists() and json.loads(state.read_text()).get("lastRun")):
            assert child.poll() is None, (tmp_path / "out").read_text()
            assert time.monotonic() < deadline, (tmp_path / "out").read_text()
            time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
    last = json.loads(state.read_text())["lastRun"]
    assert last["phase"] == "Failed"
    log = Path(last["message"].rpartition("see ")[2]).read_text()
    assert "flight-delay-live-performance" in log
    assert "there is no model 'flight_delay'" in log
    said = (tmp_path / "out").read_text()
    assert "RunRequested" in said
    assert "Traceback" not in said + log
