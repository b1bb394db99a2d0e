"""ONNX of everything after the feature row: imputation, scaling, category indices, network.

The graph is canonical: the same checkpoint gives the same bytes, so that its SHA-256 names it. It
carries the feature row and the training set's hash in its own metadata, so that whoever serves it
knows its columns without asking anybody. Every export is compared with torch before it is kept.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from zeroskew.errors import ExportError
from zeroskew.export.atomic_files import read_file, write_file
from zeroskew.export.calibration_rows import mix
from zeroskew.export.scoring import LAST_ENTRY, PRODUCER, Scorer
from zeroskew.features.row import FeatureRow

if TYPE_CHECKING:
    from torch import nn

OPSET = 18
"""What torch's exporter speaks natively; Triton images since 23.05 know it."""

IR_VERSION = 8
"""What opset 18 came with. Runtimes refuse files of a newer one, whatever is in them: Triton 23.05,
which KServe installs by default, takes up to 9."""

PARITY = 1e-5
"""Largest allowed difference of a score from torch's: float32 sums taken in another order."""

Numeric = NDArray[np.float32]
Categorical = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """An exported file: where it is, what names it, how far it is from torch."""

    path: Path
    sha256: str
    row: FeatureRow
    training_set: str
    """Content hash of the training set behind the weights."""
    parity: float
    """Largest absolute difference of a score from torch's, over all rows compared."""


def export_onnx(
    checkpoint_dir: str | Path,
    out: str | Path,
    *,
    numeric: Numeric | None = None,
    categorical: Categorical | None = None,
) -> OnnxGraph:
    """Export the checkpoint in `checkpoint_dir` to the file `out`.

    Inputs `numeric` FLOAT `[batch, n]` (NaN is missing) and `categorical` INT32 `[batch, m]` (0 is
    missing), an input of no columns left out; output `score` FLOAT `[batch, 1]`. `numeric` and
    `categorical`: encoded rows on which the graph must agree with torch, besides the made-up ones
    (missing, unknown, huge) that are always tried. Raises `ExportError`.
    """
    from zeroskew.training.checkpoint import load_checkpoint

    network, info = load_checkpoint(Path(checkpoint_dir))
    content = graph_bytes(network, info.row, training_set=info.training_set)
    probes = [awkward_rows(info.row)]
    if numeric is not None and categorical is not None:
        probes.append((numeric, categorical))
    parity = max(check_parity(network, content, *rows) for rows in probes)
    path = Path(out)
    digest = write_file(path, content)
    return OnnxGraph(path, digest, info.row, info.training_set, parity)


def graph_bytes(network: nn.Module, row: FeatureRow, *, training_set: str) -> bytes:
    """The canonical ONNX file of `network`, whose `forward(numeric, categorical)` gives scores."""
    import torch

    if not row.names:
        raise ExportError("the feature row has no columns", mend="a model needs an input")
    network = network.eval()
    numeric, categorical = (torch.from_numpy(part[:3].copy()) for part in awkward_rows(row))
    batch = torch.export.Dim("batch")
    names = ["numeric", "categorical"]
    sample: tuple[torch.Tensor, ...] = (numeric, categorical)
    entry = network
    if not row.categorical:
        names, sample, entry = names[:1], sample[:1], _only_numeric(network)
    elif not row.numeric:
        names, sample, entry = names[1:], sample[1:], _only_categorical(network)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                entry,
                sample,
                dynamo=True,
                opset_version=OPSET,
                input_names=names,
                output_names=["score"],
                dynamic_shapes=tuple({0: batch} for _ in sample),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        first = str(error.__cause__ or error).strip().splitlines()[0]
        raise ExportError(
            f"torch cannot export the network: {first}",
            mend="keep data-dependent control flow out of `forward`",
        ) from error
    assert program is not None
    metadata = {
        "zeroskew.row": json.dumps(row.to_json(), separators=(",", ":")),
        LAST_ENTRY: training_set,
        "zeroskew.precision": "fp32",
    }
    return canonical_bytes(program.model_proto, metadata)


def canonical_bytes(model: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Serialize `model` without anything that depends on where and by what it was made.

    Drops source paths, stack traces, producer versions and intermediate shapes; sets `metadata`,
    sorted. Raises `ExportError` if the graph is not valid ONNX.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    model.ir_version = min(model.ir_version, IR_VERSION)
    model.producer_name, model.producer_version = PRODUCER, ""
    model.doc_string = model.domain = ""
    graph = model.graph
    graph.name, graph.doc_string = "after_the_feature_row", ""
    del graph.value_info[:]
    del graph.metadata_props[:]
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        item.doc_string = ""
        del item.metadata_props[:]
    del model.metadata_props[:]
    for key, value in sorted(({LAST_ENTRY: ""} | dict(metadata)).items()):
        model.metadata_props.add(key=key, value=value)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph is not valid ONNX: {error}") from None
    return model.SerializeToString(deterministic=True)


def read_graph(path: str | Path) -> onnx.ModelProto:
    """Load an ONNX file. Raises `ExportError` if it is absent, cut short or not ONNX."""
    content = read_file(Path(path), what="ONNX file", mend="run `zeroskew export` first")
    try:
        model = onnx.ModelProto.FromString(content)
        onnx.checker.check_model(model)
        if model.producer_name == PRODUCER and LAST_ENTRY not in read_metadata(model):
            raise ValueError(f"its end, with {LAST_ENTRY}, is missing")
    except Exception as error:  # protobuf and the checker raise unrelated classes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(
            f"not a complete ONNX file: {reason}", where=str(path), mend="export it again"
        ) from None
    return model


def read_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """The key-value pairs that the file carries about itself."""
    return {entry.key: entry.value for entry in model.metadata_props}


def check_parity(
    network: nn.Module, content: bytes, numeric: Numeric, categorical: Categorical
) -> float:
    """Largest absolute difference between torch's scores and ONNX Runtime's.

    Raises `ExportError` above `PARITY`, naming the row.
    """
    import torch

    network = network.eval()
    scorer = Scorer(content)
    worst = 0.0
    for start in range(0, len(numeric), 8192):
        part = slice(start, start + 8192)
        with torch.inference_mode():
            expected = network(
                # Copies: torch warns about the read-only memory of a Parquet column.
                torch.from_numpy(numeric[part].copy()),
                torch.from_numpy(categorical[part].copy()),
            )
        difference = np.abs(
            scorer.score(numeric[part], categorical[part]) - expected.numpy().reshape(-1)
        )
        # NaN compares false with everything: it must count as the largest difference.
        difference = np.where(np.isnan(difference), np.inf, difference)
        at = int(difference.argmax())
        worst = max(worst, float(difference[at]))
        if worst > PARITY:
            raise ExportError(
                f"the ONNX graph disagrees with torch by {worst:.3g} at row {start + at} "
                f"(allowed: {PARITY:g})",
                mend="an operator of the network does not survive the export",
            )
    return worst


def awkward_rows(row: FeatureRow, rows: int = 256) -> tuple[Numeric, Categorical]:
    """Made-up encoded rows: all missing, zeros, huge, ordinary, unknown categories.

    A fixed integer mix, not a random generator, so that they are the same everywhere, for ever.
    """
    n, m = len(row.numeric), len(row.categorical)
    bits = mix(np.arange(rows * (n + m), dtype=np.uint64)).reshape(rows, n + m)
    unit = (bits >> np.uint64(11)).astype(np.float64) / 2.0**53
    scale = np.array([1.0, 100.0, 1e4, 1e30])[np.arange(rows) % 4]
    numeric = ((unit[:, :n] * 2 - 1) * scale[:, None]).astype(np.float32)
    numeric[unit[:, :n] < 0.2] = np.nan
    categorical = bits[:, n:].astype(np.uint32).view(np.int32).reshape(rows, m).copy()
    categorical[unit[:, n:] < 0.2] = 0
    numeric[:1], categorical[:1] = np.nan, 0
    numeric[1:2], categorical[1:2] = 0.0, 1
    return numeric, categorical


def _only_numeric(network: nn.Module) -> nn.Module:
    import torch

    class OnlyNumeric(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, numeric: torch.Tensor) -> Any:
            empty = numeric.new_zeros((numeric.shape[0], 0), dtype=torch.int32)
            return self.network(numeric, empty)

    return OnlyNumeric()


def _only_categorical(network: nn.Module) -> nn.Module:
    import torch

    class OnlyCategorical(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, categorical: torch.Tensor) -> Any:
            empty = categorical.new_zeros((categorical.shape[0], 0), dtype=torch.float32)
            return self.network(empty, categorical)

    return OnlyCategorical()


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporter logs its own optimizations; none of it is for the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
