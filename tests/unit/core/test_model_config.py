"""model.yaml: what is wrong is named with its field and line."""

import re
from pathlib import Path

import pytest

from zeroskew.errors import ConfigError
from zeroskew.model_config import load_model_config, parse_model_config

MINIMAL = """\
name: fraud
feature_service: fraud_v1
entity_rows:
  path: rows.parquet
  label: is_fraud
"""


def test_defaults_are_usable() -> None:
    config = parse_model_config(MINIMAL)
    assert config.export.precision == "int8"
    assert config.validation.max_psi == 0.25
    assert config.entity_rows.event_timestamp == "event_timestamp"


@pytest.mark.parametrize(
    ("extra", "line", "words"),
    [
        ("trainin: {}\n", 6, ["unknown field `trainin`", "training"]),
        ("training:\n  trials: 4\n  batchsize: 3\n", 8, ["`training.batchsize`", "batch_size"]),
        ("training:\n  trials: many\n", 7, ["`training.trials`"]),
        ("training: {batch_size: 0}\n", 6, ["`training.batch_size`"]),
        (
            "training:\n  space:\n    dropout: {low: 0.5, high: 0.1}\n",
            8,
            ["low (0.5) must be below high (0.1)"],
        ),
        ("training:\n  space:\n    hidden: []\n", 7, ["hidden offers no value"]),
        ("training:\n  space:\n    hidden: [[64], []]\n", 7, ["at least one layer"]),
        ("training:\n  space:\n    learning_rate: {low: 0, high: 1, log: true}\n", 8, ["log"]),
        ("split: {validation: 0.5, test: 0.5}\n", 6, ["below 0.9"]),
        ("validation:\n  columns:\n    temp: {maxnull: 1}\n", 8, ["`validation.columns.temp"]),
        ("schedules: {a: {pipeline: trainin, schedule: '0 * * * *'}}\n", 6, ["`schedules.a.pipe"]),
        (
            "schedules:\n  a:\n    pipeline: training\n    schedule: '61 * * * *'\n",
            9,
            ["`schedules.a.schedule`", "minute: 0 to 59"],
        ),
        (
            "schedules:\n  a:\n    schedule: '1 * * * *'\n    pipeline: training\n"
            "    missed: {polcy: Skip}\n",
            10,
            ["`schedules.a.missed.polcy`", "known here: limit, policy, starting_deadline"],
        ),
        (
            "schedules:\n  a: {pipeline: training, schedule: '1 * * * *', time_zone: Mars/X}\n",
            7,
            ["`schedules.a.time_zone`", "time zone database"],
        ),
        ("schedules: {A: {pipeline: training, schedule: '1 * * * *'}}\n", 6, ["`schedules.A"]),
        ("export: {precision: int4}\n", 6, ["`export.precision`", "int8"]),
    ],
)
def test_a_wrong_field_is_named_with_its_line(extra: str, line: int, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_model_config(MINIMAL + extra, where="m/model.yaml")
    message = str(caught.value)
    assert f"m/model.yaml:{line}:" in message
    for word in words:
        assert word in message


def test_several_wrong_fields_come_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_model_config("name: Bad Name\nfoo: 1\n")
    message = str(caught.value)
    assert message.startswith("4 wrong fields")
    assert len(re.findall(r"model\.yaml:\d+:", message)) == 4


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_not_a_mapping(text: str) -> None:
    with pytest.raises(ConfigError, match="mapping"):
        parse_model_config(text)


def test_broken_yaml_names_the_line() -> None:
    with pytest.raises(ConfigError, match=r"model\.yaml:\d+: not valid YAML"):
        parse_model_config("name: [a\nfeature_service: b\n")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model\.yaml"):
        load_model_config(tmp_path)


def test_binary_file(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_model_config(tmp_path)
