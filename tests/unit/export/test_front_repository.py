"""What a serving repository holds, and what is refused before a server would find out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from zeroskew.errors import ConfigError, ExportError
from zeroskew.export.export import ExportRecord
from zeroskew.export.front_repository import write_serving_repository
from zeroskew.features.read_plan import (
    PlanFeature,
    PlanGroup,
    PlanKey,
    PlanTransform,
    PlanView,
    ReadPlan,
)


@pytest.fixture
def version(exported: Path, tmp_path: Path):
    """Files of a registered version; keyword arguments become `serving` of its model.yaml."""

    def make(names: tuple[str, ...] | None = None, **serving) -> Path:
        folder = tmp_path / "version"
        shutil.copytree(exported, folder / "export", dirs_exist_ok=True)
        row = ExportRecord.read(exported).row
        wanted = (*row.numeric, *row.categorical) if names is None else names
        features = tuple(
            PlanFeature(n, n.encode()[:4], "string" if n in row.categorical else "float64", 0)
            for n in sorted(wanted, key=lambda n: n in row.categorical)
        )
        group = PlanGroup((PlanKey("id", "id", "int64"),), (PlanView("v", b"_ts", 0),), features)
        transform = PlanTransform(
            "t", "transforms.py:same", "python", (), {"amount": "float64"}, {"same": "float64"}
        )
        plan = ReadPlan("p", "s", "1", (group,), (*wanted, "same"), (transform,))
        (folder / "read_plan.json").write_text(json.dumps(plan.to_json()))
        (folder / "transforms.py").write_text('def same(i):\n    return {"same": i["amount"]}\n')
        config = {
            "name": "sample", "feature_service": "s", "serving": serving,
            "entity_rows": {"path": "x", "label": "y"},
        }  # fmt: skip
        (folder / "model.yaml").write_text(yaml.safe_dump(config))
        return folder

    return make


def config_of(out: Path, model: str = "sample") -> str:
    return (out / model / "config.pbtxt").read_text()


def test_the_front_stands_beside_its_network(version, tmp_path):
    out = write_serving_repository(version(), tmp_path / "models", version=7)
    files = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert files == [
        "sample/7/model.onnx", "sample/7/model.py", "sample/7/read_plan.json",
        "sample/7/serving.json", "sample/7/transforms.py", "sample/config.pbtxt",
        "sample_net/7/model.onnx", "sample_net/7/model.py", "sample_net/config.pbtxt",
    ]  # fmt: skip
    text = config_of(out)
    for line in ('name: "sample"', 'backend: "python"', "versions: 7", "count: 1",
                 "max_queue_delay_microseconds: 0", "max_batch_size: 256"):  # fmt: skip
        assert line in text
    assert "queue_policy" not in text
    assert "max_queue_delay_microseconds: 0" in config_of(out, "sample_net")


def test_settings_of_model_yaml_reach_the_config(version, tmp_path):
    serving = {
        "instances": 3, "optional_columns": ["amount"],
        "batching": {"max_queue_delay_microseconds": 50, "max_queue_size": 9, "max_batch": 16,
                     "queue_timeout_milliseconds": 2.5},
        "features": {"on_failure": "degrade", "timeout_milliseconds": 7},
        "log": {"redact": {"id": "hash"}},
    }  # fmt: skip
    out = write_serving_repository(version(**serving), tmp_path / "models", version=1)
    text = config_of(out)
    for line in ("count: 3", "max_queue_delay_microseconds: 50", "max_queue_size: 9",
                 "default_timeout_microseconds: 2500", "max_batch_size: 16",
                 "timeout_action: REJECT"):  # fmt: skip
        assert line in text
    assert 'name: "amount"\n  data_type: TYPE_FP64\n  dims: 1\n  optional: true' in text
    settings = json.loads((out / "sample/1/serving.json").read_text())
    assert settings["lookup"]["on_failure"] == "degrade"
    assert settings["lookup"]["timeout_milliseconds"] == 7
    assert settings["log"]["redact"] == {"id": "hash"}


@pytest.mark.parametrize(
    ("wanted", "backend", "inline"),
    [
        ("auto", "python", True), ("auto", "onnxruntime", True), ("triton", "onnxruntime", False),
        ("inline", "python", True),
    ],
)  # fmt: skip
def test_who_computes_the_score(version, tmp_path, wanted, backend, inline):
    out = write_serving_repository(version(network=wanted), tmp_path / "models", backend, version=1)
    assert (out / "sample/1/model.onnx").exists() == inline


def test_what_the_read_plan_does_not_bring_is_named(version, tmp_path, exported):
    row = ExportRecord.read(exported).row
    lacking = version(names=(*row.numeric[1:], *row.categorical))
    with pytest.raises(ConfigError, match=f"the graph reads {row.numeric[0]}"):
        write_serving_repository(lacking, tmp_path / "models", version=1)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("serving", "said"),
    [
        ({"log": {"redact": {"nobody": "drop"}}}, "nobody is no column of the prediction log"),
        ({"optional_columns": ["id"]}, "id is no request column"),
        ({"instances": 0}, r"model.yaml:\d+: `serving.instances`"),
        ({"min_replicas": 5, "max_replicas": 2}, "max_replicas must not be below min_replicas"),
    ],
)
def test_wrong_settings_are_refused(version, tmp_path, serving, said):
    with pytest.raises(ConfigError, match=said):
        write_serving_repository(version(**serving), tmp_path / "models", version=1)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("file", ["read_plan.json", "transforms.py", "export/model.onnx"])
def test_a_file_that_is_gone_is_named(version, tmp_path, file):
    folder = version()
    (folder / file).unlink()
    with pytest.raises((ConfigError, ExportError), match=Path(file).name):
        write_serving_repository(folder, tmp_path / "models", version=1)
