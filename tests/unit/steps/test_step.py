"""What a step says to the outside: progress lines, one clear error, moments, whole files."""

import json
import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew import errors
from zeroskew.errors import ConfigError, DataError, ValidationFailed, ZeroskewError
from zeroskew.steps.files import read_json, replacing, write_json
from zeroskew.steps.gate import require_passed
from zeroskew.steps.model_folder import parse_moment, parse_range, prepare_data, read_config
from zeroskew.steps.step import ProgressLines, parse_progress, read_error, write_error

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ZeroskewError)
]
ROOT = Path(__file__).parents[3]


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), min_size=1),
       st.integers(0, 10**9), st.integers(0, 10**9))  # fmt: skip
def test_a_progress_line_says_what_was_reported(what, done, total):
    what = " ".join(what.split()) or "x"
    assert parse_progress(f"    » {what} {done}/{total}") == (what, done, total)


def test_lines_are_few_but_the_end_is_always_said(capsys):
    report = ProgressLines()
    for done in range(1, 1001):
        report("rows", done, 1000)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "» rows 1/1000"
    assert lines[-1] == "» rows 1000/1000"
    assert len(lines) < 20


def test_an_empty_variable_is_no_variable_while_a_step_runs():
    """In a process of its own, as a step changes how the process shows errors."""
    program = """
import os
from zeroskew.steps.step import step
run = step()(lambda: [os.environ.get(n) for n in ("MLFLOW_S3_ENDPOINT_URL", "AWS_DEFAULT_REGION")])
print(run(), repr(os.environ["MLFLOW_S3_ENDPOINT_URL"]), "ZEROSKEW_REDIS" in os.environ)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env=os.environ | {"MLFLOW_S3_ENDPOINT_URL": "", "AWS_DEFAULT_REGION": "here",
                          "ZEROSKEW_REDIS": ""},
    )  # fmt: skip
    assert done.stdout == "[None, 'here'] '' True\n"


@pytest.mark.parametrize("line", ["KFP Executor 1/2", "» no numbers", "", "path/to 3/x"])
def test_other_lines_are_no_progress(line):
    assert parse_progress(line) is None


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_file_between_two_processes(kind, tmp_path):
    before = kind("is broken\ntwice", where="a.yaml:3", mend="mend it")
    write_error(before, tmp_path / "error.json")
    after = read_error(tmp_path / "error.json")
    assert type(after) is kind
    assert str(after) == str(before)
    assert after.exit_code == before.exit_code


def test_no_error_was_left(tmp_path):
    assert read_error(tmp_path / "none.json") is None
    (tmp_path / "half.json").write_text('{"reason": "Data')
    assert read_error(tmp_path / "half.json") is None


def run_step(body, tmp_path):
    script = tmp_path / "script.py"
    text = textwrap.indent(textwrap.dedent(body), "    ")
    script.write_text(
        "from zeroskew.errors import DataError\nfrom zeroskew.steps.step import step\n"
        f"@step()\ndef go():\n{text}\ngo()\n"
    )
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "ZEROSKEW_ERROR_FILE": str(tmp_path / "error.json"),
        "ZEROSKEW_HOME": str(tmp_path / "home"),
    }
    return subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=60
    )


def test_a_mistake_ends_the_process_with_its_text_alone(tmp_path):
    done = run_step('raise DataError("is empty", where="x", mend="fill it")', tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error (DataError)\nx: is empty\n  → fill it\n"
    assert json.loads((tmp_path / "error.json").read_text())["what"] == "is empty"


def test_a_defect_keeps_its_traceback_and_leaves_no_error(tmp_path):
    done = run_step("1 / 0", tmp_path)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert not (tmp_path / "error.json").exists()


def test_a_process_that_leaves_at_once_has_said_and_closed_everything(tmp_path):
    body = f"""
        import atexit, threading, time
        file = open({str(tmp_path / "late.txt")!r}, "w")
        atexit.register(lambda: (file.write("handler"), file.close()))
        threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
        print("said", end="")
    """
    done = run_step(body, tmp_path)
    assert done.returncode == 0
    assert done.stdout == "saidthread\n"
    assert (tmp_path / "late.txt").read_text() == "handler"


def test_an_exit_status_is_kept(tmp_path):
    assert run_step("raise KeyboardInterrupt", tmp_path).returncode in (130, -2)


def test_a_step_sees_the_endpoints_as_variables(tmp_path):
    done = run_step('import os\nprint(os.environ["ZEROSKEW_DATA"])', tmp_path)
    assert done.stdout.strip() == str(tmp_path / "home/data")


NOW = datetime(2024, 3, 31, 12, 30, 15, 999, UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2013-01-31", datetime(2013, 1, 31, tzinfo=UTC)),
        ("2013-01-31T06:00:00Z", datetime(2013, 1, 31, 6, tzinfo=UTC)),
        ("2013-01-31T06:00:00+02:00", datetime(2013, 1, 31, 4, tzinfo=UTC)),
        ("2013-01-31 06:00", datetime(2013, 1, 31, 6, tzinfo=UTC)),
        ("now", NOW.replace(microsecond=0)),
        ("now-90d", NOW.replace(microsecond=0) - timedelta(days=90)),
        ("now - 2w", NOW.replace(microsecond=0) - timedelta(weeks=2)),
        ("now-30m", NOW.replace(microsecond=0) - timedelta(minutes=30)),
    ],
)
def test_moments(text, moment):
    assert parse_moment(text, field="x", now=NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "now+1d", "2013-13-01", "now-1y", "90d"])
def test_what_is_no_moment_is_said_with_its_field(text):
    with pytest.raises(ConfigError, match="start_time: "):
        parse_moment(text, field="start_time")


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_written_is_the_moment_read(moment):
    assert parse_moment(moment.isoformat(), field="x") == moment


def test_a_range_that_ends_before_it_starts_is_refused():
    assert parse_range("now-1d", "now")[0] < parse_range("now-1d", "now")[1]
    for start, end in (("2013-02-01", "2013-01-01"), ("2013-01-01", "2013-01-01")):
        with pytest.raises(ConfigError, match="is not before"):
            parse_range(start, end)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "deep/a.json"
    write_json(path, {"b": 1, "a": [1, 2]})
    assert read_json(path) == {"b": 1, "a": [1, 2]}
    assert list(read_json(path)) == ["b", "a"]
    for error in (KeyboardInterrupt, ZeroDivisionError):
        with pytest.raises(error):
            write_half(path, error)
    assert read_json(path)["b"] == 1
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def write_half(path, error):
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error


def write_to_a_full_disk(path):
    with replacing(path), open("/dev/full", "w") as full:
        full.write("x" * 100_000)


def test_a_disk_that_refuses_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_json(tmp_path / "file/inside.json", {})
    with pytest.raises(DataError, match="No space left"):
        write_to_a_full_disk(tmp_path / "full")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_json_cut_short_is_said(tmp_path):
    (tmp_path / "a.json").write_text('{"a":')
    with pytest.raises(DataError, match=r"a\.json: cannot be read"):
        read_json(tmp_path / "a.json")


def test_the_gate_repeats_what_the_validation_said(tmp_path):
    write_json(tmp_path / "good.json", {"error": None})
    require_passed(tmp_path / "good.json")
    said = {"what": "1 gate failed\n  late  null rate", "where": "here", "mend": "mend"}
    write_json(tmp_path / "bad.json", {"error": said})
    with pytest.raises(ValidationFailed) as caught:
        require_passed(tmp_path / "bad.json")
    assert str(caught.value) == "here: 1 gate failed\n  late  null rate\n  → mend"


def test_a_folder_and_its_model_share_a_name(tmp_path):
    folder = tmp_path / "tickets"
    folder.mkdir()
    (folder / "model.yaml").write_text(
        "name: other\nfeature_service: s\nentity_rows: {path: a.parquet, label: y}\n"
    )
    with pytest.raises(ConfigError, match="the folder is called 'tickets'"):
        read_config(folder)


def test_a_data_script_is_run_and_a_wrong_one_named(tmp_path):
    folder = tmp_path / "tickets"
    folder.mkdir()
    assert not prepare_data(folder, str(tmp_path))
    (folder / "data.py").write_text(
        "from pathlib import Path\n"
        "def prepare(data_root, on_progress=None):\n    (Path(data_root) / 'made').touch()\n"
    )
    assert prepare_data(folder, str(tmp_path))
    assert (tmp_path / "made").exists()
    (folder / "data.py").write_text("x = 1\n")
    with pytest.raises(ConfigError, match="no function `prepare`"):
        prepare_data(folder, str(tmp_path))
