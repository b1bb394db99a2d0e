"""A Triton repository that serves a registered version: the front `<model>` and `<model>_net`.

    <out>/<model>/config.pbtxt
    <out>/<model>/<version>/model.py           imports the front from the server's own zeroskew
    <out>/<model>/<version>/serving.json       what model.yaml says of serving
    <out>/<model>/<version>/model.onnx         where the front computes the score itself
    <out>/<model>/<version>/read_plan.json, transforms.py, profile.json, scores.json
    <out>/<model>_net/…                        see `triton_repository`

The version directory has the number of the registered version, so that the `model_version` of
every answer is the one that lineage is asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zeroskew.errors import ConfigError, ExportError
from zeroskew.export.atomic_files import new_folder, read_file, write_file
from zeroskew.export.export import CHOSEN, ExportRecord
from zeroskew.export.protobuf_text import Word, protobuf_text
from zeroskew.export.triton_repository import Backend, write_triton_repository
from zeroskew.features.read_plan import ReadPlan
from zeroskew.features.row import FeatureRow
from zeroskew.model_config import Batching, ModelConfig, Serving, load_model_config
from zeroskew.serving.front_settings import (
    FILE,
    FORMAT,
    GRAPH_FILE,
    PLAN_FILE,
    REFERENCE_FILE,
    SCORES_FILE,
)
from zeroskew.serving.request_columns import EVENT_TIMESTAMP, RequestColumn, request_columns
from zeroskew.serving.request_transforms import RequestTransforms

_MODEL_PY = '''"""The front of this version; what it needs stands beside this file."""

from zeroskew.serving.triton_front import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_serving_repository(
    version_dir: str | Path,
    out: str | Path,
    backend: Backend = "python",
    *,
    version: int,
    target: str | None = None,
    net_instances: int | None = None,
) -> Path:
    """Write front and network of one version into the model repository `out`; returns `out`.

    `version_dir` holds the version's files, as `Registry.download` brings them; `version` is its
    number. `backend` and `target`: as in `write_triton_repository`. `net_instances`: copies of the
    network (default: as many as fronts).

    A repository that holds other versions of the same model keeps their directories of the network,
    so that a server can load the new front before it drops the old one (see `load_order`); their
    tensors must be the same.

    Raises `ConfigError` or `ExportError`; each of the two folders changes whole or not at
    all.
    """
    source, target_dir = Path(version_dir), Path(out)
    config = load_model_config(source)
    record = ExportRecord.read(source / "export")
    plan = _plan(source)
    columns = request_columns(plan, config.serving.optional_columns)
    _check(config, plan, record.row, source)
    kept = _older_networks(target_dir / f"{config.name}_net", record, version)
    write_triton_repository(
        source / "export",
        target_dir,
        backend,
        name=config.name,
        version=version,
        instances=net_instances or config.serving.instances,
        # The front has made the batch already; waiting once more would only add to it.
        max_queue_delay_microseconds=0,
        target=target,
        older=kept,
    )
    with new_folder(target_dir / config.name) as folder:
        files = _front_files(config, record, plan, source, version)
        if runs_inline(config.serving, backend):
            net = target_dir / f"{config.name}_net" / str(version) / GRAPH_FILE
            files[GRAPH_FILE] = (
                net.read_bytes() if net.exists() else (source / "export" / CHOSEN).read_bytes()
            )
        for name, content in files.items():
            write_file(folder / str(version) / name, content)
        text = front_config(config, columns, record, version=version)
        write_file(folder / "config.pbtxt", text.encode())
    return target_dir


def runs_inline(serving: Serving, backend: Backend) -> bool:
    """Whether the front computes the score itself: see `Serving.network`."""
    if serving.network == "auto":
        return backend != "tensorrt"
    return serving.network == "inline"


def load_order(model: str) -> tuple[str, ...]:
    """In which order a running server loads the two, so that no request meets a gap.

    The network first, its older versions still there; then the front, which Triton swaps while
    requests on the old one finish.
    """
    return f"{model}_net", model


def front_config(
    config: ModelConfig,
    columns: tuple[RequestColumn, ...],
    record: ExportRecord,
    *,
    version: int,
) -> str:
    """Triton's ModelConfig of the front, as protobuf text."""
    serving = config.serving
    max_batch = min(serving.batching.max_batch or record.max_batch, record.max_batch)
    inputs: list[dict[str, Any]] = []
    for column in columns:
        message = {"name": column.name, "data_type": _type(column.datatype), "dims": [1]}
        inputs.append(message | ({"optional": True} if column.optional else {}))
    inputs.append(
        {"name": EVENT_TIMESTAMP, "data_type": Word("TYPE_INT64"), "dims": [1], "optional": True}
    )
    model: dict[str, Any] = {
        "name": config.name,
        "backend": "python",
        "max_batch_size": max_batch,
        "input": inputs,
        "output": [
            {"name": "score", "data_type": Word("TYPE_FP32"), "dims": [1]},
            {"name": "missing", "data_type": Word("TYPE_STRING"), "dims": [1]},
            {"name": "stale", "data_type": Word("TYPE_STRING"), "dims": [1]},
            {"name": "degraded", "data_type": Word("TYPE_BOOL"), "dims": [1]},
            {"name": "request_id", "data_type": Word("TYPE_STRING"), "dims": [1]},
        ],
        "version_policy": {"specific": {"versions": [version]}},
        "instance_group": [{"count": serving.instances, "kind": Word("KIND_CPU")}],
        "dynamic_batching": {
            "max_queue_delay_microseconds": serving.batching.max_queue_delay_microseconds,
            **_queue_policy(serving.batching),
        },
        "parameters": [
            {"key": key, "value": {"string_value": value}}
            for key, value in {
                "zeroskew_version": str(version),
                "zeroskew_features": json.dumps([*record.row.names]),
                "zeroskew_onnx_sha256": record.onnx_sha256[CHOSEN],
            }.items()
        ],
    }
    return protobuf_text(model)


def _queue_policy(batching: Batching) -> dict[str, Any]:
    """Nothing unless asked for: see `Batching.max_queue_size`."""
    size, wait = batching.max_queue_size, batching.queue_timeout_milliseconds
    policy: dict[str, Any] = {}
    if wait is not None:
        policy["timeout_action"] = Word("REJECT")
        policy["default_timeout_microseconds"] = round(wait * 1000)
    if size is not None:
        policy["max_queue_size"] = size
    return {"default_queue_policy": policy} if policy else {}


def _type(datatype: str) -> Word:
    return Word("TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}")


def _plan(source: Path) -> ReadPlan:
    content = read_file(
        source / PLAN_FILE, what="read plan of the version", mend="register the version again"
    )
    try:
        return ReadPlan.from_json(json.loads(content))
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"is no read plan: {error}", where=str(source / PLAN_FILE)) from None


def _check(config: ModelConfig, plan: ReadPlan, row: FeatureRow, source: Path) -> None:
    """What would only be found out while loading, or while answering."""
    transforms = RequestTransforms(plan, source)
    known = {*plan.stored_names, *transforms.names}
    if absent := [name for name in row.names if name not in known]:
        raise ConfigError(
            f"the graph reads {', '.join(absent)}, which the read plan does not bring",
            where=str(source / PLAN_FILE),
            mend="register the version again, with the feature service it was trained with",
        )
    columns = known | {*plan.entity_columns, *plan.request_columns}
    if unknown := sorted(set(config.serving.log.redact) - columns):
        raise ConfigError(
            f"{', '.join(unknown)} is no column of the prediction log",
            where="serving.log.redact in model.yaml",
            mend=f"its columns are: {', '.join(sorted(columns))}",
        )


def _front_files(
    config: ModelConfig, record: ExportRecord, plan: ReadPlan, source: Path, version: int
) -> dict[str, bytes]:
    serving = config.serving
    settings = {
        "format": FORMAT,
        "model": config.name,
        "version": version,
        "row": record.row.to_json(),
        "lookup": serving.features.model_dump(mode="json"),
        "log": serving.log.model_dump(mode="json"),
        "optional_columns": list(serving.optional_columns),
    }
    files = {
        "model.py": _MODEL_PY.encode(),
        FILE: json.dumps(settings, indent=1).encode(),
        PLAN_FILE: json.dumps(plan.to_json()).encode(),
    }
    for transform in plan.transforms:
        name = transform.function.partition(":")[0]
        files[name] = read_file(source / name, what="file of request-time transforms")
    if (source / "profile.json").is_file():
        files[REFERENCE_FILE] = (source / "profile.json").read_bytes()
    evaluation = source / "evaluation.json"
    if evaluation.is_file():
        scores = json.loads(evaluation.read_bytes()).get("scores")
        if scores is not None:
            files[SCORES_FILE] = json.dumps(scores).encode()
    return files


def _older_networks(net: Path, record: ExportRecord, version: int) -> tuple[Path, ...]:
    """Version directories of the same tensors, newest first; at most one is kept."""
    if not (net / "config.pbtxt").is_file():
        return ()
    row = json.dumps(json.dumps(record.row.to_json(), separators=(",", ":")))
    older = sorted(
        (p for p in net.iterdir() if p.name.isdigit() and int(p.name) != version),
        key=lambda path: int(path.name),
        reverse=True,
    )
    if older and row not in (net / "config.pbtxt").read_text(encoding="utf-8"):
        raise ExportError(
            f"holds version {older[0].name}, whose tensors are others than those of {version}",
            where=str(net),
            mend="give each version a repository (and a server) of its own, as a rollout does",
        )
    return tuple(older[:1])
