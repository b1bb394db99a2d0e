"""What the command line says before any library is loaded, and how quickly."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("feast", "torch", "ray", "mlflow", "pandas", "polars", "evidently", "pyarrow", "redis")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["features", "--help"], ["features", "join", "--help"]]
)
def test_help_loads_nothing_heavy(arguments):
    done = python(
        "import sys\n"
        "from zeroskew.cli import main\n"
        f"sys.argv = ['zeroskew', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        f"print('loaded:', [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    assert "loaded: []" in done.stdout, done.stdout + done.stderr


def test_what_serves_a_request_loads_neither_feast_nor_pandas():
    done = python(
        "import sys\n"
        "import zeroskew.features.online_reader, zeroskew.features.redis_layout\n"
        "import zeroskew.features.read_plan, zeroskew.features.row\n"
        "print([m for m in ('feast', 'pandas', 'torch', 'polars', 'pyarrow', 'google.protobuf')"
        " if m in sys.modules])\n"
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("apply", "zeroskew features apply pipelines/flight_delay"),
        ("join", "--rows rows.parquet --out train.parquet"),
        ("materialise", "--end 2013-07-01"),
        ("read", "-e origin=EWR"),
        ("push", "--to both"),
        ("services", "zeroskew features services"),
    ],
)
def test_every_help_has_an_example(command, example, capsys, monkeypatch):
    from zeroskew.cli import main

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["zeroskew", "features", command, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert example in capsys.readouterr().out
