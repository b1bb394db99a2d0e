"""The local runner: progress, errors as they were, and no process left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from kfp import dsl

from components.image import IMAGE
from pipelines.run import run_locally
from zeroskew.errors import DataError, PipelineError

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def work(mood: str, mark: str, out: dsl.Output[dsl.Dataset]) -> int:
    import subprocess
    import time

    from zeroskew.errors import DataError
    from zeroskew.steps.step import ProgressLines, step

    @step()
    def go():
        report = ProgressLines()
        report("working", 1, 2)
        if mood == "litter":
            subprocess.Popen(["setsid", "sleep", mark])
        if mood == "mistake":
            raise DataError("is cut short", where="rows.parquet", mend="write it again")
        if mood == "defect":
            raise ZeroDivisionError("a defect of ours")
        if mood == "slow":
            subprocess.Popen(["setsid", "sleep", mark])
            time.sleep(60)
        report("working", 2, 2)

    go()
    with open(out.path, "w") as file:
        file.write(mood)
    out.metadata["mood"] = mood
    return 4


@dsl.pipeline(name="try-out")
def pipeline(mood: str, mark: str = "71"):
    first = work(mood=mood, mark=mark).set_retry(3, backoff_duration="60s")
    first.set_display_name("first work")
    work(mood=mood, mark=mark).after(first)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEROSKEW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZEROSKEW_REDIS", "127.0.0.1:1")


def sleeping(mark):
    found = subprocess.run(["pgrep", "-f", f"^sleep {mark}$"], capture_output=True, text=True)
    return found.stdout.split()


def test_steps_tell_their_progress_and_leave_their_outputs(tmp_path):
    events = []
    done = run_locally(pipeline, {"mood": "fine"}, tmp_path, events.append)
    assert [e.kind for e in events] == ["started", "progress", "progress", "finished"] * 2
    assert events[0].step == "first work"
    assert (events[1].what, events[1].done, events[1].total) == ("working", 1, 2)
    step = done.steps["work"]
    assert step.artifacts["out"].read_text() == "fine"
    assert step.metadata["out"]["mood"] == "fine"
    assert step.parameters["Output"] == 4
    assert 0 < step.seconds < done.seconds
    assert "Executing task" in done.log.read_text()


def test_a_mistake_arrives_as_the_error_it_was_and_is_not_retried(tmp_path):
    events, began = [], time.monotonic()
    with pytest.raises(DataError) as caught:
        run_locally(pipeline, {"mood": "mistake"}, tmp_path, events.append)
    assert str(caught.value) == "rows.parquet: is cut short\n  → write it again"
    assert [e.kind for e in events].count("failed") == 1
    assert time.monotonic() - began < 30
    (log,) = tmp_path.glob("*/steps.log")
    assert "Traceback" not in log.read_text()


def test_a_defect_shows_the_end_of_its_output(tmp_path):
    with pytest.raises(PipelineError) as caught:
        run_locally(pipeline, {"mood": "defect"}, tmp_path)
    assert "ZeroDivisionError: a defect of ours" in str(caught.value)
    assert "steps.log" in caught.value.mend


def test_what_a_step_left_running_neither_blocks_nor_stays(tmp_path):
    began = time.monotonic()
    run_locally(pipeline, {"mood": "litter", "mark": "7171"}, tmp_path)
    assert time.monotonic() - began < 30
    assert not sleeping("7171")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_interrupted_or_killed_it_leaves_no_process(tmp_path, number, status):
    mark = f"72{number}"
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import importlib.util, signal, sys
            signal.signal(signal.SIGINT, signal.default_int_handler)
            spec = importlib.util.spec_from_file_location("t", {str(Path(__file__))!r})
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            try:
                arguments = {{"mood": "slow", "mark": "{mark}"}}
                module.run_locally(module.pipeline, arguments, {str(tmp_path)!r})
            except KeyboardInterrupt:
                sys.exit(130)
            """
        )
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(script)], env=environment, cwd=tmp_path)
    try:
        wait_for(lambda: sleeping(mark), 60)
        below = step_processes(tmp_path)
        assert below
        process.send_signal(number)
        assert process.wait(30) == status
        wait_for(lambda: not sleeping(mark) and not step_processes(tmp_path), 20)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def step_processes(folder):
    """Orchestrators and steps that work for a run below `folder`."""
    found = subprocess.run(["pgrep", "-f", f"(orchestrate|executor_input).*{folder}"],
                           capture_output=True, text=True)  # fmt: skip
    return found.stdout.split()


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
