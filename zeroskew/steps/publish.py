"""Step `publish`: the Triton repository of a registered version, where the cluster finds it."""

from __future__ import annotations

from pathlib import Path

from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import step


@step()
def publish_version(model: str | Path, version: int, models: str, target: str = "") -> str:
    """Write it to `<models>/<name>/<version>` and return that address.

    `models`: a folder or an fsspec URL such as `s3://models`. `target`: compute capability and
    TensorRT version that a plan was built for; empty: ONNX Runtime. A version's files never change,
    so that writing them again does no harm.

    Raises `RegistryError`, `ConfigError`, `ExportError` or `ServingError`.
    """
    from zeroskew.embedded.serving import registered_repository

    name = read_config(model).name
    address = f"{models.rstrip('/')}/{name}/{version}"
    backend = "tensorrt" if target else "onnxruntime"
    registered_repository(name, version, address, backend, target=target or None)  # type: ignore[arg-type]
    print(f"{name} version {version}: {address}", flush=True)
    return address
