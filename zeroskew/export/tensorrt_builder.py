"""TensorRT plans from an exported graph, one code path for both TensorRT packages.

The network is strongly typed (precision is what the graph's Q/DQ pairs say, nothing else) and takes
batches from 1 to `max_batch` rows. A plan is keyed by the ONNX file's SHA-256, the package and its
version, the compute capability and the batch range, and built once: a second process waits for the
first one's. TF32 is off, because category codes become indices by an FP32 product, and TF32 rounds
indices above 2048.

Building needs no GPU with TensorRT for RTX. Opening or running a plan always does.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zeroskew.errors import ExportError
from zeroskew.export.atomic_files import sha256, write_file
from zeroskew.export.engine_layers import EngineLayer, int8_products, parse_layers, weights_in_plan
from zeroskew.export.matrix_products import quantized_products
from zeroskew.export.onnx_graph import read_graph
from zeroskew.export.tensorrt_flavour import (
    RTX,
    Flavour,
    gpu_capability,
    load_flavour,
    resolve_target,
)

FORMAT = 1
"""Part of the key: raised when plans are built in another way."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A built plan and what is known about it."""

    path: Path
    key: str
    sha256: str
    onnx_sha256: str
    flavour: str
    """`tensorrt` (Triton loads it) or `tensorrt_rtx` (Triton does not)."""
    version: str
    target: str
    max_batch: int
    opt_batch: int
    seconds: float
    layers: tuple[EngineLayer, ...]
    int8_products: tuple[str, ...]
    """Hidden layers that the engine computes in INT8; checked against the graph's Q/DQ pairs."""
    weights_in_plan: bool
    """Whether the file holds the INT8 weights byte for byte (see `engine_layers`)."""
    cached: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.path.name,
            "key": self.key,
            "sha256": self.sha256,
            "onnx_sha256": self.onnx_sha256,
            "flavour": self.flavour,
            "version": self.version,
            "target": self.target,
            "max_batch": self.max_batch,
            "opt_batch": self.opt_batch,
            "seconds": round(self.seconds, 3),
            "int8_products": list(self.int8_products),
            "weights_in_plan": self.weights_in_plan,
            "layers": [layer.to_json() for layer in self.layers],
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any], folder: Path) -> Plan:
        layers = tuple(
            EngineLayer(
                *(layer[name] for name in ("name", "kind")),
                *(tuple(layer[name]) for name in ("inputs", "constants", "outputs", "nodes")),
            )
            for layer in raw["layers"]
        )
        plain = {k: v for k, v in raw.items() if k not in ("file", "layers", "int8_products")}
        return cls(
            path=folder / raw["file"],
            layers=layers,
            int8_products=tuple(raw["int8_products"]),
            **plain,
        )


def build_plan(
    onnx_path: str | Path,
    *,
    target: str,
    cache: str | Path,
    max_batch: int = 1024,
    opt_batch: int = 32,
    flavour: str | None = None,
    timing_cache: str | Path | None = None,
) -> Plan:
    """Build the plan of `onnx_path` for `target` (`SM89`, or `current`) in the folder `cache`.

    `timing_cache`: file in which kernel timings are kept between builds (datacentre package).
    Raises `ExportError`: the graph is not accepted (with node and operator), the target is not
    available, or the engine does not multiply in INT8 where the graph says so.
    """
    if not 1 <= opt_batch <= max_batch:
        raise ExportError(f"opt_batch {opt_batch} must be between 1 and max_batch {max_batch}")
    model = read_graph(onnx_path)
    content = Path(onnx_path).read_bytes()
    package = load_flavour(flavour)
    sm = resolve_target(package, target)
    onnx_sha = sha256(content)
    identity = [FORMAT, onnx_sha, package.name, package.version, sm, opt_batch, max_batch]
    key = sha256(json.dumps(identity).encode())
    folder = Path(cache)
    stem = f"{onnx_sha[:12]}-{package.name}-{package.version}-{sm}-b{max_batch}-{key[:8]}"
    path = folder / f"{stem}.plan"
    with _locked(folder / f".{stem}.lock"):
        if found := _cached(path, key):
            return found
        started = time.monotonic()
        build = _Build(package, content, str(onnx_path))
        timings = Path(timing_cache) if timing_cache else None
        plan = build.serialize(sm, opt_batch, max_batch, timings)
        products = quantized_products(model)
        layers = parse_layers(build.messages)
        proven = int8_products(layers, products)
        if proven != products:
            raise ExportError(
                f"the engine for {sm} computes {sorted(set(products) - set(proven))} in float "
                "although the graph is quantized there",
                where=str(onnx_path),
                mend="check the Q/DQ pairs of these nodes; the plan was not kept",
            )
        result = Plan(
            path, key, write_file(path, plan), onnx_sha, package.name, package.version, sm,
            max_batch, opt_batch, time.monotonic() - started, layers, proven,
            weights_in_plan(model, products, plan),
        )  # fmt: skip
        # Last: a plan without this file counts as not built.
        write_file(path.with_suffix(".json"), json.dumps(result.to_json(), indent=1).encode())
        return result


def open_plan(path: str | Path, flavour: str | None = None) -> Any:
    """Deserialize a plan to an `ICudaEngine`. Needs a GPU; raises `ExportError` without one."""
    package = load_flavour(flavour)
    content = Path(path).read_bytes()
    if gpu_capability() is None:
        raise ExportError(
            "running a TensorRT plan needs an NVIDIA GPU and its driver, and there is none here",
            where=str(path),
            mend="score with the ONNX file on this machine; the gates were measured with it",
        )
    log, messages = _logger(package.trt)
    engine = package.trt.Runtime(log).deserialize_cuda_engine(content)
    if engine is None:
        raise ExportError(
            f"{package.name} {package.version} cannot open the plan: {_first_error(messages)}",
            where=str(path),
            mend="a plan runs only with the TensorRT version and GPU class it was built for",
        )
    return engine


class _Build:
    """One parse and build, with everything that the builder said."""

    def __init__(self, flavour: Flavour, content: bytes, where: str) -> None:
        self._flavour, self._trt, self._where = flavour, flavour.trt, where
        self._log, self._said = _logger(self._trt)
        self._builder = self._trt.Builder(self._log)
        flag = self._trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        self._network = self._builder.create_network(1 << int(flag))
        self._parser = self._trt.OnnxParser(self._network, self._log)
        if not self._parser.parse(content):
            raise ExportError(self._why_not_parsed(), where=where, mend=self._mend())

    @property
    def messages(self) -> Iterator[str]:
        return (text for _, text in self._said)

    def serialize(
        self, target: str, opt_batch: int, max_batch: int, timing_cache: Path | None
    ) -> bytes:
        trt = self._trt
        config = self._builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if self._flavour.name == RTX:
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(trt.ComputeCapability, target), 0)
        timings = None
        if timing_cache is not None:
            known = timing_cache.read_bytes() if timing_cache.exists() else b""
            timings = config.create_timing_cache(known)
            config.set_timing_cache(timings, ignore_mismatch=True)
        profile = self._builder.create_optimization_profile()
        for index in range(self._network.num_inputs):
            tensor = self._network.get_input(index)
            width = tensor.shape[1]
            profile.set_shape(tensor.name, (1, width), (opt_batch, width), (max_batch, width))
        config.add_optimization_profile(profile)
        plan = self._builder.build_serialized_network(self._network, config)
        if plan is None:
            raise ExportError(
                f"TensorRT cannot build for {target}: {_first_error(self._said)}",
                where=self._where,
                mend="choose a target that has the operation, or export with `precision: fp32`",
            )
        if timings is not None and timing_cache is not None:
            write_file(timing_cache, bytes(timings.serialize()))
        return bytes(plan)

    def _why_not_parsed(self) -> str:
        for index in range(self._parser.num_errors):
            error = self._parser.get_error(index)
            lines = [line for line in error.desc().splitlines() if "catchCudaError" not in line]
            detail = " ".join(lines[:2]).strip()
            node = error.node_name() or f"number {error.node()}"
            return f"TensorRT refuses node `{node}` ({error.node_operator()}): {detail}"
        return f"TensorRT cannot parse the graph: {_first_error(self._said)}"

    def _mend(self) -> str:
        return (
            "graphs of `zeroskew export` are accepted; a bias behind an INT32 DequantizeLinear "
            "is the usual reason elsewhere"
        )


def _logger(trt: Any) -> tuple[Any, list[tuple[int, str]]]:
    """A TensorRT logger that keeps messages instead of printing them."""
    messages: list[tuple[int, str]] = []

    class Keep(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            messages.append((int(severity), text))

    return Keep(), messages


def _first_error(messages: list[tuple[int, str]]) -> str:
    """The first message of severity ERROR (1) or INTERNAL_ERROR (0), the missing driver aside."""
    for severity, text in messages:
        if severity <= 1 and "cudaError" not in text:
            return text.strip().splitlines()[0]
    return "no reason was given"


def _cached(path: Path, key: str) -> Plan | None:
    """A plan built earlier, unless it was cut short or changed since."""
    try:
        plan = Plan.from_json(json.loads(path.with_suffix(".json").read_text()), path.parent)
        if plan.key != key or sha256(path.read_bytes()) != plan.sha256:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return replace(plan, cached=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One builder per key; the lock goes with its process, however that ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise ExportError(f"cannot be written: {error.strerror}", where=str(path.parent)) from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
