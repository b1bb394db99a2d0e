"""Step `export`: the checkpoint as ONNX graphs, quantized and gated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import ProgressLines, step


@step("exported")
def export_graphs(
    model: str | Path, checkpoint: str | Path, training_set: str | Path, exported: str | Path
) -> dict[str, Any]:
    """Export a checkpoint's folder into a folder of graphs and `export.json`.

    Returns `precision` and its reason, hashes, the largest difference to torch (`parity`), and the
    number of `calibration_rows` and `plans`. Raises `ExportError`, or `GateFailed` where model.yaml
    demands a precision that the graph does not reach.
    """
    from zeroskew.export.export import export_model

    record = export_model(
        Path(checkpoint),
        Path(training_set),
        read_config(model),
        Path(exported),
        on_progress=ProgressLines(),
    )
    return {
        "precision": record.precision,
        "precision_reason": record.precision_reason,
        "onnx_sha256": dict(record.onnx_sha256),
        "calibration_hash": record.calibration_hash,
        "calibration_rows": record.calibration_rows,
        "parity": record.parity,
        "plans": len(record.plans),
    }
