"""`zeroskew monitor page` and the step, over a real registry and a real prediction log."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from zeroskew.cli.monitor_page import page
from zeroskew.errors import ConfigError
from zeroskew.monitoring.gather_facts import gather_facts, registry_if_any
from zeroskew.registry import Registry
from zeroskew.steps.model_page import facts_of, write_model_page

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def at_home(past, monkeypatch):
    past.settle(monkeypatch)


def command(past, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", "from zeroskew.cli import main; main()", "monitor", "page",
         *arguments],
        capture_output=True, text=True, timeout=120, cwd=past.folder,
        env=os.environ | past.environment | {"PYTHONPATH": str(REPOSITORY)} | environment,
    )  # fmt: skip


def test_the_command_writes_the_page(past, tmp_path):
    folder = tmp_path / "analyses"
    folder.mkdir()
    (folder / "2-shadow.html").write_text("x")
    out = tmp_path / "pages" / "page.html"
    done = command(past, str(past.model), "--out", str(out), "--analyses", str(folder))
    assert done.returncode == 0, done.stderr
    assert "2 versions, 3,600 predictions by version 2" in done.stdout
    written = out.read_text()
    for told in (
        "feature_3", "version 2", "better, says test 2", "2abc2abc2abc", "0.7400 [0.7300, 0.7500]",
        "91.7% of the predictions", "0.7321", "late data: 7", "feature_5: late data", "a decision",
        "0.194% (", "…-abcdef012345", "2026-03-01 06:00 to 2026-03-07 06:00",
        '<a href="../analyses/2-shadow.html"', "60.0 min",
    ):  # fmt: skip
        assert told in written, told
    assert os.listdir(out.parent) == ["page.html"]


def test_a_wrong_command_line_is_told_without_a_traceback(past, tmp_path):
    done = command(past, str(tmp_path / "nowhere"), "--out", str(tmp_path / "p.html"))
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(ConfigError, match="there is no such folder"):
        page(past.model, analyses=tmp_path / "none")
    with pytest.raises(ConfigError, match="ftp"):
        page(past.model, out=tmp_path / "p.html", log="ftp://x")
    assert os.listdir(tmp_path) == []


def test_the_facts_are_those_of_registry_log_and_reports(past):
    found = facts_of(past.model)
    assert found.problems == {}
    assert [each.version for each in found.versions] == ["1", "2"]
    assert found.champion is not None
    assert found.champion.version == "2"
    assert [(each.version, each.replaced) for each in found.changes] == [("1", None), ("2", "1")]
    (history,) = found.histories
    assert (history.version, history.step, len(history.periods)) == ("2", "day", 6)
    last, first = history.periods[-1].features, history.periods[0].features
    assert (first["feature_3"].verdict, last["feature_3"].verdict) == ("stable", "significant")
    assert {last[n].verdict for n in last if n not in ("feature_3", "score")} == {"stable"}
    reports = (found.performance, found.audits, found.decisions)
    assert [[each.value for each in kind] for kind in reports] == [[0.7321], [7 / 3600], [0.9]]


def test_the_days_and_the_end_can_be_chosen(past):
    (hours,) = facts_of(past.model, until=datetime(2026, 3, 3, tzinfo=UTC)).histories
    assert (hours.step, hours.rows, len(hours.periods)) == ("hour", 1200, 25)
    (short,) = facts_of(past.model, days=4).histories
    assert [period.start.day for period in short.periods] == [3, 4, 5, 6]
    before = facts_of(past.model, until=datetime(2026, 3, 4, tzinfo=UTC))
    assert [period.rows for h in before.histories for period in h.periods] == [600] * 3
    assert (before.performance, before.audits, before.decisions) == ((), (), ())
    for days in (0, 367):
        with pytest.raises(ConfigError, match="give 1 to 366"):
            facts_of(past.model, days=days)


def test_the_step_writes_the_artifact(past, tmp_path):
    write_model_page(past.model, 30, tmp_path / "artifact" / "page")
    assert "feature_3" in (tmp_path / "artifact" / "page").read_text()


def test_each_source_may_be_missing_or_broken(past, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEROSKEW_HOME", str(tmp_path))
    assert registry_if_any() is None
    found = facts_of(past.model, log=str(past.log))
    assert (found.versions, found.problems, len(found.histories)) == ((), {}, 1)
    assert os.listdir(tmp_path) == []

    registry = Registry(f"sqlite:///{past.home}/mlflow/mlflow.db", "")
    assert gather_facts("orders", registry=registry, log="").champion is not None
    assert gather_facts("another", registry=registry, log="").versions == ()

    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database at all" * 100)
    found = gather_facts("orders", registry=Registry(f"sqlite:///{broken}", ""), log=str(past.log))
    assert set(found.problems) == {"registry"}
    assert len(found.histories) == 1


def test_a_damaged_file_of_the_log_costs_only_what_it_tells(past, tmp_path):
    import shutil

    log = tmp_path / "log"
    shutil.copytree(past.log, log)
    (report,) = log.rglob("_reports/consistency/2/*.json")
    report.write_text("{")
    (hour, *_) = sorted(log.rglob("_profiles/date=*/hour=*/*.json"))
    hour.write_text("{")
    found = facts_of(past.model, log=str(log))
    assert set(found.problems) == {"history", "consistency"}
    assert hour.name in found.problems["history"]
    assert len(found.decisions) == len(found.performance) == 1
    assert len(found.versions) == 2
