"""Logs as the prediction log writes them, read back and judged; the page; the command's answer."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from zeroskew.errors import DataError
from zeroskew.rollout.analysis import Question, analyse
from zeroskew.rollout.analysis_page import analysis_page
from zeroskew.rollout.logged_predictions import LoggedVersion
from zeroskew.rollout.rollout_judging import _default_metrics
from zeroskew.rollout.rollout_state import MetricSeen, from_json
from zeroskew.serving.prediction_log import LogSchema, LogSettings, PredictionBatch, PredictionLog

pytestmark = pytest.mark.integration
NOW = datetime(2024, 3, 1, 12, 30, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>"


def write(folder: Path, version: str, role: str, scores, *, ids=None, late=0.0, silent=()):
    """One row per request, a hundred a second, asked about an hour before it was answered."""
    kinds = {"who": "int64", "origin": "string", "distance": "float64"}
    schema = LogSchema("flights", version, kinds, ("distance",), ("v",))
    log = PredictionLog(
        schema, LogSettings(flush_seconds=0.3), spool=folder / "spool", sink=str(folder / "log")
    )
    for i, score in enumerate(scores):
        if i in silent:
            continue
        answered = NOW + timedelta(seconds=i / 100 + late)
        log.append(
            PredictionBatch(
                [ids[i] if ids else f"r{i}"], [0],
                [round((answered - timedelta(hours=1)).timestamp() * 1e6)],
                {"who": [i], "origin": [HOSTILE if i % 3 else "JFK"], "distance": [float(i)]},
                np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.int64),
                np.array([score], np.float32), [role], [None], 400 + i % 50, False,
                answered_at=round(answered.timestamp() * 1e6),
            )
        )  # fmt: skip
    log.close()
    assert log.counters().written == len(scores) - len(silent)


@pytest.fixture
def question(tmp_path):
    random = np.random.default_rng(2)
    good = random.beta(2, 3, 1500)
    write(tmp_path, "1", "champion", good)
    write(tmp_path, "2", "shadow", good, late=0.002)
    write(tmp_path, "3", "shadow", random.permutation(good), late=0.002)
    write(tmp_path, "2", "canary", good[:700], ids=[f"c{i}" for i in range(700)])
    return Question(
        str(tmp_path / "log"), "flights", "1", "2", NOW, NOW + timedelta(minutes=1)
    )  # fmt: skip


def test_equal_answers_pass_and_other_ones_fail(question):
    found = analyse(question, _default_metrics())
    assert (found.outcome, found.pairs, found.unanswered) == ("Passed", 1500, 0)
    by_name = {each.name: each.number.value for each in found.metrics}
    assert by_name["disagreement"] == by_name["feature-mismatch"] == 0
    bad = analyse(Question(**{**vars_of(question), "challenger": "3"}), _default_metrics())
    assert bad.outcome == "Failed"
    assert "disagreement" in bad.message
    assert bad.examples["difference"].to_list() == sorted(bad.examples["difference"], reverse=True)


def vars_of(question):
    return {name: getattr(question, name) for name in question.__dataclass_fields__}


def test_only_the_window_counts_and_roles_are_told_apart(question):
    late = Question(**{**vars_of(question), "since": NOW + timedelta(seconds=10)})
    assert analyse(late, _default_metrics()).pairs == 500
    after = Question(
        **{**vars_of(question), "since": NOW + timedelta(hours=2),
           "until": NOW + timedelta(hours=3)}
    )  # fmt: skip
    nothing = analyse(after, _default_metrics())
    assert (nothing.outcome, nothing.pairs) == ("Inconclusive", 0)
    canary = analyse(Question(**{**vars_of(question), "mode": "canary"}), _default_metrics())
    assert (canary.challenger_rows, canary.pairs) == (700, 0)
    assert {each.name for each in canary.metrics} == {"score-psi", "errors", "latency-p99"}
    unknown = analyse(Question(**{**vars_of(question), "challenger": "9"}), _default_metrics())
    assert unknown.outcome == "Inconclusive"


def test_a_shadow_that_stops_answering_is_an_error_of_the_challenger(tmp_path):
    scores = np.full(2000, 0.3)
    write(tmp_path, "1", "champion", scores)
    write(tmp_path, "2", "shadow", scores, silent=range(600, 1700))
    question = Question(
        str(tmp_path / "log"), "flights", "1", "2", NOW, NOW + timedelta(minutes=1)
    )  # fmt: skip
    found = analyse(question, _default_metrics())
    assert (found.pairs, found.unanswered) == (900, 1100)
    assert found.outcome == "Failed"
    assert "errors" in found.message


def test_a_request_without_a_copy_accuses_nobody_where_a_part_is_mirrored(tmp_path):
    """As the operator asks: every fifth request was copied, and each copy answered."""
    scores = np.full(4000, 0.3)
    write(tmp_path, "1", "champion", scores)
    write(tmp_path, "2", "shadow", scores, silent=[i for i in range(4000) if i % 5])
    asked = {
        "log": str(tmp_path / "log"), "model": "flights", "champion": "1", "challenger": "2",
        "mode": "shadow", "since": NOW.isoformat(), "pages": "", "page": "",
        "until": (NOW + timedelta(minutes=1)).isoformat(), "mirrorPercent": 20,
        "metrics": [each.model_dump(mode="json", by_alias=True) for each in _default_metrics()],
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "operators.analysis_child"],
        input=json.dumps(asked), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["outcome"], found["pairs"]) == ("Passed", 800), found
    # Between the first copy and the last, less what may be under way.
    assert found["copies"] * 5 == pytest.approx(found["requests"], abs=5)
    assert 3500 < found["requests"] < 4000


def test_the_page_stands_alone_and_escapes_what_was_logged(question, tmp_path):
    metric = _default_metrics()[0].model_copy(update={"slices": ("origin",)})
    found = analyse(question, (metric,))
    assert len(found.metrics) == 3
    page = analysis_page(question, found).render()
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "Passed" in page


def test_what_cannot_be_read_is_named(question):
    window = {"since": question.since, "until": question.until}
    version = LoggedVersion(question.log, "flights", "1", roles=("champion",), **window)
    with pytest.raises(DataError, match="no column altitude"):
        version.read(*window.values(), ("altitude",))


def test_the_operators_child_answers_in_json(question, tmp_path):
    asked = {
        "log": question.log, "model": "flights", "champion": "1", "challenger": "3",
        "mode": "shadow", "since": question.since.isoformat(),
        "until": question.until.isoformat(),
        "metrics": [each.model_dump(mode="json", by_alias=True) for each in _default_metrics()],
        "pages": str(tmp_path / "pages"), "page": "ns/flights/3.1/now.html", "mirrorPercent": 100,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "operators.analysis_child"],
        input=json.dumps(asked), text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["outcome"], answer["pairs"]) == ("Failed", 1500)
    told = [from_json(MetricSeen, each) for each in answer["metrics"]]
    assert {each.name for each in told} == {each.name for each in _default_metrics()}
    assert "Failed" in {each.outcome for each in told}
    assert (tmp_path / "pages/ns/flights/3.1/now.html").read_text().startswith("<!doctype html>")
