"""`python -m pipelines.run` and `pipelines.compile`: help that teaches, one message per mistake."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.progress import StepLines
from pipelines.run import Event

ROOT = Path(__file__).parents[3]


def run(module, *arguments, home):
    environment = os.environ | {"ZEROSKEW_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", f"pipelines.{module}", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("run", ["training", "pipelines/nowhere", "--start", "now-1d", "--end", "now"],
         "there is no model.yaml"),
        ("run", ["training", "pipelines/flight_delay", "--start", "soon", "--end", "now"],
         "start_time: 'soon' is not a moment in time"),
        ("run", ["materialisation", "pipelines/flight_delay", "--end", "later"],
         "--end: 'later' is not a moment in time"),
        ("run", ["pipeline", "live-performance", "pipelines/flight_delay", "--parameter", "day=7"],
         "no parameter 'day'"),
        ("run", ["pipeline", "nightly", "pipelines/flight_delay"], "no pipeline 'nightly'"),
        ("run", ["consistency-audit", "pipelines/flight_delay", "--start", "soon"],
         "start_time: 'soon' is not a moment in time"),
        ("compile", ["--image", "zeroskew:latest", "--trainer-image", "trainer:1f3a9c2"],
         "may be another image tomorrow"),
        ("compile", ["pipelines/nowhere"], "there is no model.yaml"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_message(module, arguments, message, tmp_path):
    done = run(module, *arguments, home=tmp_path / "home")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home").exists()


def test_help_teaches_with_an_example(tmp_path):
    done = run("run", "training", "--help", home=tmp_path)
    assert done.returncode == 0
    assert "python -m pipelines.run training pipelines/flight_delay" in " ".join(
        done.stdout.split()
    )


EVENTS = [
    Event("started", "join"),
    Event("progress", "join", 0.5, "joining weather", 3, 10),
    Event("finished", "join", 2.25),
    Event("started", "train"),
    Event("failed", "train", 1.0),
]


def test_without_a_terminal_there_is_a_line_per_finished_step():
    out = io.StringIO()
    with StepLines(Console(file=out, width=80)) as lines:
        for event in EVENTS:
            lines(event)
    assert out.getvalue().split("\n")[:2] == [
        "  ✓ join                        2.2 s",
        "  ✗ train                       1.0 s",
    ]


def test_on_a_terminal_a_running_step_shows_what_it_does():
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True)
    with StepLines(console) as lines:
        for event in EVENTS:
            lines(event)
            lines._progress.refresh()
    assert "joining weather 3/10" in out.getvalue()
    assert "failed" in out.getvalue()
