"""Scores from an exported graph: ONNX Runtime and numpy, nothing else.

Evaluation, batch prediction and the embedded server call the same class, so that they get the same
score for the same row. Rows go through in chunks, so that memory stays flat, and on one thread by
default: a server runs one instance per core, and a small network gains nothing from a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from zeroskew.errors import ExportError

CHUNK = 8192
"""Rows per run: activations of a 1024-wide layer stay within 32 MiB."""

CPU = "CPUExecutionProvider"
GPUS = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
"""ONNX Runtime's providers on a GPU image, closest to Triton's TensorRT backend first."""

PRODUCER = "zeroskew"
LAST_ENTRY = "zeroskew.training_set"
"""Metadata are the last in a file, and this the last of them: without it, a file of ours was cut
short, even where what is left of it is valid ONNX."""

_TYPES = {"numeric": ("tensor(float)", np.float32), "categorical": ("tensor(int32)", np.int32)}


def serving_provider() -> str:
    """The provider of the device at hand: a GPU's where this ONNX Runtime has one, else the CPU."""
    available = ort.get_available_providers()
    return next((name for name in GPUS if name in available), CPU)


class Scorer:
    """One graph, loaded once; safe to share between threads."""

    def __init__(self, graph: str | Path | bytes, threads: int = 1, provider: str = CPU) -> None:
        """`graph`: path or content of an exported ONNX file; `provider`: ONNX Runtime's name of
        what computes (see `serving_provider`).

        Raises `ExportError` if it cannot be loaded or is not a graph of this platform.
        """
        self._where = "ONNX graph" if isinstance(graph, bytes) else str(graph)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            content = graph if isinstance(graph, bytes) else Path(graph).read_bytes()
            self._session = ort.InferenceSession(
                content, options, providers=list(dict.fromkeys((provider, CPU)))
            )
        except FileNotFoundError:
            raise ExportError(
                "there is no ONNX file", where=self._where, mend="run `zeroskew export` first"
            ) from None
        except Exception as error:  # ONNX Runtime raises a dozen classes without a common base
            reason = str(error).strip().splitlines()[0]
            raise ExportError(
                f"cannot be loaded: {reason}", where=self._where, mend="export the model again"
            ) from None
        meta = self._session.get_modelmeta()
        if meta.producer_name == PRODUCER and LAST_ENTRY not in meta.custom_metadata_map:
            raise ExportError(
                f"is cut short: its end, with {LAST_ENTRY}, is missing",
                where=self._where,
                mend="export the model again",
            )
        self._widths = self._checked_inputs()

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computes; ONNX Runtime falls back to the CPU by itself."""
        return self._session.get_providers()[0] in GPUS

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says about itself (`zeroskew.row`, `zeroskew.precision`, …)."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def widths(self) -> tuple[int, int]:
        """Number of numeric and of categorical columns."""
        return self._widths["numeric"], self._widths["categorical"]

    def score(self, numeric: NDArray[Any], categorical: NDArray[Any]) -> NDArray[np.float32]:
        """Score encoded rows, as `FeatureRow.encode` makes them.

        `numeric` float32 `[N, n]`, NaN for missing; `categorical` int32 `[N, m]`, 0 for missing.
        Returns float32 `[N]`. Raises `ExportError` on other types or shapes: a silent conversion
        would turn 64-bit codes into other categories.
        """
        arrays = {"numeric": numeric, "categorical": categorical}
        for name, array in arrays.items():
            self._check(name, array)
        if len(numeric) != len(categorical):
            raise ExportError(
                f"numeric has {len(numeric)} rows, categorical has {len(categorical)}",
                where=self._where,
            )
        feed = {
            name: np.ascontiguousarray(array)
            for name, array in arrays.items()
            if self._widths[name]
        }
        scores = np.empty(len(numeric), np.float32)
        for start in range(0, len(scores), CHUNK):
            part = slice(start, start + CHUNK)
            (result,) = self._session.run(
                ["score"], {name: array[part] for name, array in feed.items()}
            )
            scores[part] = result[:, 0]
        return scores

    def _check(self, name: str, array: NDArray[Any]) -> None:
        wanted, width = _TYPES[name][1], self._widths[name]
        if not isinstance(array, np.ndarray) or array.dtype != wanted:
            got = getattr(array, "dtype", type(array).__name__)
            raise ExportError(
                f"`{name}` must be a {np.dtype(wanted).name} array, not {got}",
                where=self._where,
                mend="encode rows with FeatureRow.encode",
            )
        if array.ndim != 2 or array.shape[1] != width:
            raise ExportError(
                f"`{name}` must have the shape [rows, {width}], not {list(array.shape)}",
                where=self._where,
                mend="the columns and their order are in the graph's `zeroskew.row`",
            )

    def _checked_inputs(self) -> dict[str, int]:
        """Widths by input; an input of no columns is not in the graph."""
        widths = {"numeric": 0, "categorical": 0}
        for value in self._session.get_inputs():
            known = _TYPES.get(value.name)
            if known is None or known[0] != value.type or len(value.shape) != 2:
                raise ExportError(
                    f"input `{value.name}` {value.type} {value.shape} is not one of this platform",
                    where=self._where,
                    mend="only graphs of `zeroskew export` can be scored",
                )
            widths[value.name] = int(value.shape[1])
        if [value.name for value in self._session.get_outputs()] != ["score"]:
            raise ExportError("there is no single output `score`", where=self._where)
        return widths
