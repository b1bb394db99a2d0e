"""`zeroskew profile` and `zeroskew validate`: tables, exit codes, and what bad files get."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from zeroskew.cli import data
from zeroskew.errors import ConfigError, DataError, ValidationFailed, ZeroskewError
from zeroskew.profiles import Profile

MODEL = """
name: toy
feature_service: toy
entity_rows: {path: x.parquet, label: y}
validation:
  columns:
    amount: {min: -10, max: 10}
    place: {categories: [EWR, JFK]}
"""


@pytest.fixture
def run():
    app = typer.Typer()
    data.register(app)

    def invoke(*words):
        result = CliRunner(env={"COLUMNS": "140"}).invoke(app, [str(word) for word in words])
        if isinstance(result.exception, ZeroskewError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {"amount": rng.normal(size=3_000), "place": rng.choice(["EWR", "JFK"], 3_000)}
    )
    frame.write_parquet(tmp_path / "march.parquet")
    frame.with_columns(pl.col("amount") + 1, extra=pl.lit(1)).write_parquet(
        tmp_path / "april.parquet"
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.yaml").write_text(MODEL)
    return tmp_path


def test_profile_then_compare(run, folder):
    said = run("profile", folder / "march.parquet", "--out", folder / "march.json")
    assert "amount" in said
    assert "EWR, JFK" in said or "JFK, EWR" in said
    reference = Profile.load(folder / "march.json")
    assert reference == Profile.learn(pl.read_parquet(folder / "march.parquet"))
    out = folder / "april.json"
    said = run(
        "profile", folder / "april.parquet", "--reference", folder / "march.json", "--out", out
    )
    assert "significant" in said
    assert "stable" in said
    assert "not in the reference: extra" in said
    assert reference.merge(Profile.load(out)).rows == 6_000


def test_validate_passes_fails_and_writes_its_report(run, folder):
    model = ("--model", folder / "model")
    assert "passed" in run("validate", folder / "march.parquet", *model)
    run("profile", folder / "march.parquet", "--out", folder / "march.json")
    with pytest.raises(ValidationFailed, match=r"amount\s+drift \(PSI\)\s+≤ 0.25"):
        run(
            "validate", folder / "april.parquet", *model, "--reference", folder / "march.json",
            "--html", folder / "report.html", "--out", folder / "own.json",
        )  # fmt: skip
    assert "amount: PSI" in (folder / "report.html").read_text()
    assert Profile.load(folder / "own.json").rows == 3_000


def test_a_failed_gate_is_exit_code_1_without_a_traceback(folder):
    pl.DataFrame({"amount": [50.0] * 600, "place": ["LGA"] * 600}).write_csv(folder / "bad.csv")
    done = subprocess.run(
        [sys.executable, "-c", "from zeroskew.cli import main; main()", "validate",
         folder / "bad.csv", "--model", folder / "model"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for word in ("ValidationFailed", "out of range", "≤ 1 %", "100 %", "unseen values", "'LGA'"):
        assert word in done.stderr


def test_bad_files_say_what_is_wrong(run, folder):
    def fails(says, *words, error=DataError):
        with pytest.raises(error, match=says):
            run(*words)

    march = folder / "march.parquet"
    whole = march.read_bytes()
    fails("no such file", "profile", folder / "none.parquet")
    (folder / "empty.parquet").touch()
    fails("the file is empty", "profile", folder / "empty.parquet")
    (folder / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    fails("cut short", "profile", folder / "cut.parquet")
    (folder / "holed.parquet").write_bytes(b"PAR1" + b"\x00" * 500 + b"PAR1")
    fails("cannot be read", "profile", folder / "holed.parquet")
    (folder / "text.parquet").write_text("hello, this is text")
    fails("no Parquet file", "profile", folder / "text.parquet")
    (folder / "latin.csv").write_bytes(b"a,b\n1,caf\xe9\n")
    fails("cannot be read", "profile", folder / "latin.csv")
    fails("holds no Parquet file", "profile", folder / "model")
    (folder / "wrong.json").write_text("[1, 2")
    fails("not valid JSON", "profile", march, "--reference", folder / "wrong.json")
    (folder / "other.json").write_text(json.dumps({"hello": 1}))
    fails("no profile", "profile", march, "--reference", folder / "other.json")
    fails("no such profile", "profile", march, "--reference", folder / "none.json")
    Profile.learn({"z": [1]}).save(folder / "z.json")
    fails("no column of the reference", "profile", march, "--reference", folder / "z.json")
    fails("no model.yaml", "validate", march, "--model", folder / "none", error=ConfigError)
    fails("--categorical names", "profile", march, "--categorical", "typo", error=ConfigError)
    text = ("profile", folder / "texts.parquet", "--reference", folder / "march.json")
    run("profile", march, "--out", folder / "march.json")
    pl.DataFrame({"amount": ["x"]}).write_parquet(folder / "texts.parquet")
    fails("`amount` holds text", *text)


def test_folders_and_csv_are_read_too(run, folder):
    parts = folder / "parts"
    parts.mkdir()
    frame = pl.read_parquet(folder / "march.parquet")
    frame[:1000].write_parquet(parts / "a.parquet")
    frame[1000:].write_parquet(parts / "b.parquet")
    frame.write_csv(folder / "march.csv")
    run("profile", parts, "--out", folder / "parts.json")
    run("profile", folder / "march.csv", "--out", folder / "csv.json")
    assert Profile.load(folder / "parts.json") == Profile.load(folder / "csv.json")
