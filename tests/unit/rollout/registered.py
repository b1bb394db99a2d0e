"""A registered version and its model.yaml, without a registry."""

from datetime import UTC, datetime

from zeroskew.model_config import parse_model_config
from zeroskew.record import VersionRecord
from zeroskew.registry import ModelVersion

MODEL_YAML = """
name: {name}
feature_service: flights_v1
entity_rows: {{path: rows.parquet, label: late}}
serving: {serving}
"""


def config(name="flight_delay", serving="{}"):
    return parse_model_config(MODEL_YAML.format(name=name, serving=serving))


def version(name="flight_delay", number=3, **changes):
    record = VersionRecord(
        **{
            "model": name,
            "data_hash": "ab" * 32,
            "feature_service": "flights_v1",
            "feature_schema_version": "cd" * 32,
            "code_sha": "1f3a9c2d4e5f60718293a4b5c6d7e8f901234567-dirty",
            "onnx_sha256": {"model.onnx": "ef" * 32, "model.fp32.onnx": "00" * 32},
            "precision": "int8",
            "plans": {"11" * 32: "22" * 32},
        }
        | changes
    )
    return ModelVersion(
        name=name, version=number, stage="Production", aliases=("champion",),
        tags=record.to_tags() | {"complete": "true"}, run_id="0123456789abcdef0123456789abcdef",
        created=datetime(2026, 11, 1, tzinfo=UTC),
    )  # fmt: skip


PLACE = {
    "storage_uri": "s3://models/flight_delay/3",
    "image": "registry.test/zeroskew-triton:1f3a9c2",
    "namespace": "models",
}
