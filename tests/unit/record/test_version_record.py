"""The record survives JSON and tags bit for bit, and nothing wrong gets into one."""

import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.errors import ConfigError, RegistryError
from zeroskew.model_config import Cost
from zeroskew.record import TAG_LIMIT, Measure, VersionRecord, code_sha, compute_cost

text = st.text(max_size=40)
filled = st.text(min_size=1, max_size=40)
finite = st.floats(allow_nan=False, allow_infinity=False)
measures = st.builds(Measure, finite, st.none() | finite, st.none() | finite)
records = st.builds(
    VersionRecord,
    model=filled,
    data_hash=filled,
    feature_service=filled,
    feature_schema_version=filled,
    code_sha=filled,
    image=text,
    data_rows=st.none() | st.integers(0, 10**12),
    training_seconds=st.none() | finite,
    compute_cost=st.none() | finite,
    onnx_sha256=st.dictionaries(text, text, max_size=3),
    precision_reason=text,
    plans=st.dictionaries(text, text, max_size=3),
    metrics=st.dictionaries(text, measures, max_size=3),
    compared_against=st.none() | st.integers(1, 1000),
    margin=st.none() | finite,
    difference=st.none() | measures,
)
BASE = {
    "model": "m",
    "data_hash": "d",
    "feature_service": "s",
    "feature_schema_version": "v",
    "code_sha": "c",
}


@given(records)
def test_json_and_tags_give_the_same_record_back(record: VersionRecord) -> None:
    again = VersionRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert again == record
    assert again.identity == record.identity
    assert VersionRecord.from_tags(record.to_tags() | {"stage": "Staging"}) == record


@given(st.integers(0, 3 * TAG_LIMIT))
def test_no_tag_is_longer_than_the_limit(length: int) -> None:
    record = VersionRecord(**BASE, precision_reason="é" * length, plans={"k": "x" * length})
    tags = record.to_tags()
    assert all(len(value) <= TAG_LIMIT for value in tags.values())
    assert VersionRecord.from_tags(tags) == record


def test_identity_tells_records_apart_and_ignores_empty_fields() -> None:
    record = VersionRecord(**BASE)
    assert record.identity == VersionRecord(**BASE, image="").identity
    assert record.identity != VersionRecord(**BASE, image="i").identity
    assert VersionRecord(**BASE, plans={"a": "1", "b": "2"}).identity == (
        VersionRecord(**BASE, plans={"b": "2", "a": "1"}).identity
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": ""},
        {"data_hash": None},
        {"training_seconds": float("nan")},
        {"compute_cost": "12"},
        {"compared_against": True},
        {"compared_against": 1.5},
        {"metrics": {"auc": 0.7}},
        {"metrics": {"auc": Measure(float("inf"))}},
        {"onnx_sha256": {"model.onnx": 3}},
        {"difference": 0.1},
    ],
)
def test_a_wrong_field_is_named(wrong: dict) -> None:
    with pytest.raises(RegistryError, match=next(iter(wrong))):
        VersionRecord(**(BASE | wrong))


def test_reading_is_strict() -> None:
    raw = VersionRecord(**BASE, metrics={"auc": Measure(0.7)}).to_json()
    with pytest.raises(RegistryError, match="unknown fields: colour"):
        VersionRecord.from_json(raw | {"colour": "red"})
    with pytest.raises(RegistryError, match="missing: code_sha"):
        VersionRecord.from_json({k: v for k, v in raw.items() if k != "code_sha"})
    with pytest.raises(RegistryError, match="newer release"):
        VersionRecord.from_json(raw | {"format": 99})
    with pytest.raises(RegistryError, match="cannot be read"):
        VersionRecord.from_json(raw | {"metrics": {"auc": [1]}})
    with pytest.raises(RegistryError, match="cannot be read"):
        VersionRecord.from_json(raw | {"metrics": ["auc"]})
    with pytest.raises(RegistryError, match="tag `data_rows` holds 'many'"):
        VersionRecord.from_tags(VersionRecord(**BASE).to_tags() | {"data_rows": "many"})


def git(folder, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", *arguments],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_code_sha_knows_clean_dirty_and_no_repository(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("ZEROSKEW_CODE_SHA", raising=False)
    assert code_sha(tmp_path) == "unknown"
    assert code_sha(tmp_path / "not there") == "unknown"
    git(tmp_path, "init", "-q")
    assert code_sha(tmp_path) == "unknown", "no commit yet"
    model = tmp_path / "model"
    model.mkdir()
    (model / "features.py").write_text("a = 1\n")
    (tmp_path / ".gitignore").write_text("*.log\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    (model / "run.log").write_text("ignored")
    assert code_sha(model) == head
    (model / "new.py").write_text("b = 1\n")
    assert code_sha(model) == f"{head}-dirty"
    (model / "new.py").unlink()
    (tmp_path / ".gitignore").write_text("*.log\n*.tmp\n")
    assert code_sha(model) == f"{head}-dirty"
    monkeypatch.setenv("ZEROSKEW_CODE_SHA", "abc")
    assert code_sha(model) == "abc"


def test_compute_cost_is_hours_times_prices() -> None:
    prices = Cost(per_cpu_hour=0.04, per_gpu_hour=2.5)
    assert compute_cost(5400, prices, cpus=4, gpus=1) == pytest.approx(1.5 * (0.16 + 2.5))
    assert compute_cost(5400, Cost(), cpus=4, gpus=1) == 0
    with pytest.raises(ConfigError, match="seconds"):
        compute_cost(float("nan"), prices, cpus=1)
    with pytest.raises(ConfigError, match="gpus"):
        compute_cost(1, prices, cpus=1, gpus=-1)
