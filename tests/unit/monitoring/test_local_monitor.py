"""A monitor on a laptop: real logs, real child processes, killed in between."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from zeroskew.errors import ConfigError
from zeroskew.monitoring.local_monitor import LocalMonitor
from zeroskew.monitoring.local_runs import LocalRuns
from zeroskew.monitoring.monitor_config import MonitoringSection, monitor_manifest
from zeroskew.monitoring.monitor_spec import parse_monitor
from zeroskew.monitoring.monitor_state import Decision
from zeroskew.monitoring.reports import list_reports
from zeroskew.profiles import Profile
from zeroskew.serving.prediction_log import LogSchema, LogSettings, PredictionBatch, PredictionLog

START = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SECTION = MonitoringSection.model_validate(
    {
        "interval": "1m",
        "window": {"duration": "2h", "min_samples": 500},
        "metrics": [{"name": "feature-psi", "type": "PSI", "failure_limit": 2}],
        "trigger": {"cooldown": "1h"},
    }
)


def decision(name="aaaa"):
    return Decision(
        checksum=name * 16, reason="PSI", message="x", dominant_metric="feature-psi",
        failed_metrics=("feature-psi",), model="fraud", champion="1", generation=1,
        window_start=START, window_end=START, rows=1, at=START,
    )  # fmt: skip


class Served:
    """Writes the prediction log of one version, as the front does."""

    def __init__(self, folder: Path) -> None:
        self.random = np.random.default_rng(4)
        trained = self.random.normal(size=20_000)
        self.schema = LogSchema(
            "fraud", "1", {"who": "int64", "amount": "float64"}, ("amount",), (),
            Profile.learn({"amount": trained}).to_json(),
            Profile.learn({"score": self.random.random(20_000).astype(np.float32)}).to_json(),
        )  # fmt: skip
        self.folder, self.count = folder, 0

    def serve(self, rows: int, shift: float, at: datetime) -> None:
        settings = LogSettings(flush_seconds=0.2)
        log = PredictionLog(
            self.schema, settings, spool=self.folder / "spool", sink=str(self.folder / "log")
        )
        self.count += 1
        moment = round(at.timestamp() * 1e6)
        log.append(
            PredictionBatch(
                [f"r{self.count}-{i}" for i in range(rows)], [0] * rows, [moment] * rows,
                {"who": [*range(rows)], "amount": (self.random.normal(size=rows) + shift).tolist()},
                np.zeros((1, rows), np.uint8), np.zeros((0, rows), np.int64),
                self.random.random(rows).astype(np.float32), ["champion"] * rows, [None] * rows,
                500, False, answered_at=moment,
            )
        )  # fmt: skip
        log.close()
        assert log.counters().written == rows


def monitor(folder, runs=None, said=None):
    return LocalMonitor(
        "fraud", SECTION, folder / "monitor", log=str(folder / "log"),
        champion=lambda: ("1", None), runs=runs, said=said or (lambda event: None),
    )  # fmt: skip


def wait(runs, name, phases, seconds=20):
    until = time.monotonic() + seconds
    while (seen := runs.look(name)).phase not in phases:
        assert time.monotonic() < until, seen
        time.sleep(0.05)
    return seen


def test_drift_in_the_log_starts_one_run_whoever_is_restarted(tmp_path):
    served, now = Served(tmp_path), START
    runs = LocalRuns(tmp_path / "runs", ("sh", "-c", "echo {champion} {windowEnd} >> ../started"))
    (tmp_path / "runs").mkdir()
    script = tmp_path / "run.sh"
    script.write_text(f"echo $1 $2 >> {tmp_path}/started\nsleep 0.3\n")
    runs = LocalRuns(tmp_path / "runs", ("sh", str(script), "{champion}", "{windowEnd}"))
    told = []
    here = monitor(tmp_path, runs, told.append)
    assert here.turn(now).phase == "Initializing"
    assert "has served nothing yet" in here.turn(now).message
    served.serve(800, 0.0, now)
    for _ in range(4):
        now += timedelta(seconds=61)
        assert here.turn(now).phase in ("Initializing", "Monitoring")
    for _ in range(6):
        served.serve(800, 1.5, now)
        for _ in range(3):
            now += timedelta(seconds=16)
            # Whoever comes next reads what the one before remembered.
            here = monitor(tmp_path, runs, told.append)
            here.turn(now)
            here.turn(now)
    name = here.status.run.name if here.status.run else here.status.history[0].name
    wait(runs, name, ("Succeeded",))
    here.turn(now)
    assert (tmp_path / "started").read_text().splitlines() == [
        f"1 {here.status.decision.window_end:%Y-%m-%dT%H:%M:%SZ}"
    ]
    assert here.status.history[0].phase == "Succeeded"
    (kept,) = list_reports(str(tmp_path / "log"), "decision", "fraud", "1")
    assert kept.value > 0.25
    assert kept.details["decision"]["checksum"] == here.status.decision.checksum
    assert {event.reason for event in told} >= {"MetricFailed", "DriftDetected", "RunSucceeded"}


def test_without_a_command_decisions_are_only_recorded(tmp_path):
    served, now = Served(tmp_path), START
    here = monitor(tmp_path)
    for _ in range(6):
        served.serve(800, 1.5, now)
        now += timedelta(seconds=61)
        here.turn(now)
        here.turn(now)
    assert here.status.history[0].message == "dry run"
    assert here.status.run is None


def test_a_name_is_never_run_twice_and_outlives_who_started_it(tmp_path):
    runs = LocalRuns(tmp_path, ("sh", "-c", f"echo x >> {tmp_path}/count; sleep 30"))
    runs.start("a", decision())
    wait(LocalRuns(tmp_path, ()), "a", ("Running",))
    LocalRuns(tmp_path, runs._command).start("a", decision())
    until = time.monotonic() + 10
    while not (tmp_path / "count").exists() and time.monotonic() < until:
        time.sleep(0.02)
    runs.stop("a")
    assert wait(runs, "a", ("Failed",)).phase == "Failed"
    assert (tmp_path / "count").read_text() == "x\n"
    runs.start("a", decision())
    assert runs.look("a").phase == "Failed"


def test_how_a_run_ended_is_known_afterwards(tmp_path):
    LocalRuns(tmp_path, ("sh", "-c", "exit 3")).start("bad", decision())
    assert "status 3" in wait(LocalRuns(tmp_path, ()), "bad", ("Failed",)).message
    LocalRuns(tmp_path, (sys.executable, "-c", "pass")).start("good", decision())
    wait(LocalRuns(tmp_path, ()), "good", ("Succeeded",))
    assert LocalRuns(tmp_path, ()).look("other").phase == "Missing"


def test_a_killed_run_is_a_failed_one(tmp_path):
    import json

    runs = LocalRuns(tmp_path, ("sleep", "60"))
    runs.start("a", decision())
    wait(runs, "a", ("Running",))
    os.killpg(json.loads((tmp_path / "a.json").read_text())["pid"], signal.SIGKILL)
    assert wait(runs, "a", ("Failed",)).phase == "Failed"


def test_a_field_that_no_decision_has_is_named_at_once(tmp_path):
    with pytest.raises(ConfigError, match="windowEnd"):
        LocalRuns(tmp_path, ("sh", "{when}"))


def test_the_manifest_of_a_section_is_taken_back():
    made = monitor_manifest(SECTION, "fraud", namespace="ml")
    spec = parse_monitor(made["spec"])
    assert spec.trigger.pipeline_ref.name == "fraud-training"
    names = [each.name for each in spec.trigger.parameters]
    assert names == ["start_time", "end_time", "decision"]
    assert made["metadata"] == {
        "name": "fraud", "namespace": "ml",
        "labels": {"app.kubernetes.io/part-of": "zeroskew", "zeroskew.dev/model": "fraud"},
    }  # fmt: skip


def test_the_manifest_of_one_that_rolls_back_names_the_way_back():
    back = SECTION.model_copy(
        update={"trigger": SECTION.trigger.model_copy(update={"action": "RollBack"})}
    )
    spec = parse_monitor(monitor_manifest(back, "fraud", namespace="ml")["spec"])
    assert spec.trigger.pipeline_ref.name == "fraud-rollback"
    taken = [(each.name, each.value_from) for each in spec.trigger.parameters]
    assert taken == [("to", "previous"), ("reason", "message")]
