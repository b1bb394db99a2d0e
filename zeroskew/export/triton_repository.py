"""The Triton model `<model>_net`: the exported graph behind one set of tensors, in three backends.

    <out>/<model>_net/config.pbtxt
    <out>/<model>_net/1/model.plan              tensorrt: a GPU image
    <out>/<model>_net/1/model.onnx              onnxruntime: a CPU image
    <out>/<model>_net/1/model.py, model.onnx    python: Triton's Python backend alone

Names, types and shapes are the same in all three, so that who calls the model does not know which
one answers.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Literal

from zeroskew.errors import ExportError
from zeroskew.export.atomic_files import new_folder, read_file, sha256, write_file
from zeroskew.export.export import CHOSEN, ExportRecord
from zeroskew.export.protobuf_text import Word, protobuf_text
from zeroskew.export.tensorrt_flavour import DATACENTRE

Backend = Literal["tensorrt", "onnxruntime", "python"]
BACKENDS: tuple[Backend, ...] = ("tensorrt", "onnxruntime", "python")

_FILES = {"tensorrt": "model.plan", "onnxruntime": "model.onnx", "python": "model.py"}


def write_triton_repository(
    export_dir: str | Path,
    out: str | Path,
    backend: Backend = "python",
    *,
    name: str | None = None,
    version: int = 1,
    instances: int = 1,
    max_queue_delay_microseconds: int = 100,
    target: str | None = None,
    older: tuple[Path, ...] = (),
) -> Path:
    """Write `<name>_net` into the model repository `out`; returns its folder.

    `name`: the model's name (default: that of the export). `version`: Triton's directory of the
    version, the only one there but for `older`. `instances`: copies that compute at the same time
    (one per core or GPU).
    `max_queue_delay_microseconds`: how long a request may wait for others to share its batch.
    `target`: compute capability of the plan (`SM89`), if the export has several. `older`: version
    directories to go on serving beside this one.

    Raises `ExportError`; the folder is then as it was.
    """
    if backend not in BACKENDS:
        raise ExportError(f"unknown backend {backend!r}", mend=f"one of {', '.join(BACKENDS)}")
    if version < 1 or instances < 1 or max_queue_delay_microseconds < 0:
        raise ExportError("version and instances start at 1, the queue delay at 0")
    source = Path(export_dir)
    record = ExportRecord.read(source)
    model = f"{name or record.model}_net"
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", model):
        raise ExportError(f"{model!r} cannot be the name of a Triton model")
    files = _version_files(source, record, backend, target)
    with new_folder(Path(out) / model) as folder:
        for file, content in files.items():
            write_file(folder / str(version) / file, content)
        for directory in older:
            shutil.copytree(directory, folder / directory.name)
        config = config_pbtxt(
            model, record, backend, instances=instances,
            versions=(*(int(directory.name) for directory in older), version),
            max_queue_delay_microseconds=max_queue_delay_microseconds,
        )  # fmt: skip
        write_file(folder / "config.pbtxt", config.encode())
    return Path(out) / model


def config_pbtxt(
    name: str,
    record: ExportRecord,
    backend: Backend,
    *,
    versions: tuple[int, ...] = (1,),
    instances: int = 1,
    max_queue_delay_microseconds: int = 100,
) -> str:
    """Triton's ModelConfig as protobuf text."""
    inputs = [
        (tensor, kind, width)
        for tensor, kind, width in (
            ("numeric", "TYPE_FP32", len(record.row.numeric)),
            ("categorical", "TYPE_INT32", len(record.row.categorical)),
        )
        if width
    ]
    message: dict[str, Any] = {
        "name": name,
        "backend": backend,
        "max_batch_size": record.max_batch,
        "default_model_filename": _FILES[backend],
        "input": [
            {"name": tensor, "data_type": Word(kind), "dims": [width]}
            for tensor, kind, width in inputs
        ],
        "output": [{"name": "score", "data_type": Word("TYPE_FP32"), "dims": [1]}],
        "version_policy": {"specific": {"versions": list(versions)}},
        "instance_group": [
            {
                "count": instances,
                "kind": Word("KIND_GPU" if backend == "tensorrt" else "KIND_CPU"),
            }
        ],
        "dynamic_batching": {"max_queue_delay_microseconds": max_queue_delay_microseconds},
        # The smallest and the largest batch: first runs allocate, and no user should wait for it.
        "model_warmup": [
            {
                "name": f"{rows} rows",
                "batch_size": rows,
                "inputs": [
                    {
                        "key": tensor,
                        "value": {"data_type": Word(kind), "dims": [width], "zero_data": True},
                    }
                    for tensor, kind, width in inputs
                ],
            }
            for rows in dict.fromkeys((1, record.max_batch))
        ],
        "parameters": [
            {"key": key, "value": {"string_value": value}}
            for key, value in _parameters(record, backend).items()
        ],
    }
    return protobuf_text(message)


def _parameters(record: ExportRecord, backend: Backend) -> dict[str, str]:
    values = {
        "zeroskew_row": json.dumps(record.row.to_json(), separators=(",", ":")),
        "zeroskew_onnx_sha256": record.onnx_sha256[CHOSEN],
        "zeroskew_precision": record.precision,
    }
    if backend == "onnxruntime":
        values |= {"intra_op_thread_count": "1", "inter_op_thread_count": "1"}
    return values


def _version_files(
    source: Path, record: ExportRecord, backend: Backend, target: str | None
) -> dict[str, bytes]:
    if backend == "tensorrt":
        return {"model.plan": _plan(source, record, target)}
    content = read_file(source / CHOSEN, what="model.onnx of the export", mend="export again")
    if sha256(content) != record.onnx_sha256[CHOSEN]:
        raise ExportError(
            "is not the file that was exported: its SHA-256 is not the recorded one",
            where=str(source / CHOSEN),
            mend="export again",
        )
    files = {"model.onnx": content}
    if backend == "python":
        files["model.py"] = (Path(__file__).parent / "triton_model.py").read_bytes()
    return files


def _plan(source: Path, record: ExportRecord, target: str | None) -> bytes:
    """The plan for `target`, if it is one that Triton's TensorRT backend can load."""
    wanted = None if target is None else "SM" + target.upper().removeprefix("SM")
    plans = [plan for plan in record.plan_files if wanted in (None, plan["target"])]
    loadable = [plan for plan in plans if plan["flavour"] == DATACENTRE]
    if not loadable and plans:
        raise ExportError(
            "the export holds plans of TensorRT for RTX only, and Triton's TensorRT backend cannot "
            "load them: it links the datacentre TensorRT, whose plans have another format",
            where=str(source),
            mend="export on a GPU image with the `tensorrt` package and `tensorrt: [current]` in "
            "model.yaml, or choose the backend onnxruntime",
        )
    if len(loadable) != 1:
        there = ", ".join(plan["target"] for plan in loadable) or "none"
        raise ExportError(
            f"plans for Triton in the export: {there}; exactly one is needed",
            where=str(source),
            mend="name it with `target`"
            if loadable
            else "set `export.tensorrt: [current]` in "
            "model.yaml and export on the GPU class that serves",
        )
    path = source / "plans" / loadable[0]["file"]
    content = read_file(path, what="plan that export.json names", mend="export again")
    if sha256(content) != loadable[0]["sha256"]:
        raise ExportError("is not the plan that was built", where=str(path), mend="export again")
    return content
