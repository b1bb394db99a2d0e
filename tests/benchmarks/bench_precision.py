"""What INT8 costs and gains on this CPU: FP32 against INT8 in ONNX Runtime, batch by batch.

Networks of several widths, trained on the same rows, scored in turns by one thread. On a CPU a
small network gains nothing, since quantizing the activations takes longer than the products save;
INT8 is for TensorRT on a GPU, which this machine may not have. Run:

    python tests/benchmarks/bench_precision.py [--small]
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from zeroskew.export.calibration_rows import calibration_rows
from zeroskew.export.gate import measure_quality
from zeroskew.export.latency import race
from zeroskew.export.onnx_graph import export_onnx
from zeroskew.export.quantize import halve, quantize_int8
from zeroskew.export.scoring import Scorer

WIDTHS: tuple[tuple[int, ...], ...] = ((64, 32), (256, 128), (1024, 512), (2048, 2048))
BATCHES = (1, 32, 256, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="one width, few rounds")
    small = parser.parse_args().small
    path = Path(__file__).parents[1] / "unit" / "export" / "sample_model.py"
    spec = importlib.util.spec_from_file_location("export_sample_model", path)
    assert spec is not None
    assert spec.loader is not None
    sample = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sample)

    times = Table(
        "hidden", "rows", "FP32 p50 ms", "p99", "INT8 p50 ms", "p99", "INT8 / FP32",
        title="ONNX Runtime on a CPU, one thread",
    )  # fmt: skip
    quality = Table("hidden", "graph", "KiB", "AUC loss", "largest difference", "PSI",
                    title="scores against FP32")  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        training_set = sample.make_training_set(folder / "set", rows=12_000, numeric=50)
        numeric, categorical, label = training_set.encode("test")
        calibration = calibration_rows(training_set, 2000)
        for hidden in WIDTHS[:1] if small else WIDTHS:
            network = sample.make_network(training_set, hidden=hidden, steps=100)
            checkpoint = sample.make_checkpoint(folder / "checkpoint", training_set, network)
            fp32 = export_onnx(checkpoint, folder / "fp32.onnx").path
            paths = {
                "FP32": fp32,
                "INT8": quantize_int8(fp32, folder / "int8.onnx", calibration).path,
                "FP16": halve(fp32, folder / "fp16.onnx").path,
            }
            scorers = {name: Scorer(path) for name, path in paths.items()}
            scores = {name: s.score(numeric, categorical) for name, s in scorers.items()}
            for name, found in scores.items():
                measured = measure_quality(scores["FP32"], found, label, metric="auc")
                assert measured.max_score_difference < 0.1, "the graphs are not the same model"
                quality.add_row(
                    str(hidden), name, f"{paths[name].stat().st_size / 1024:.0f}",
                    f"{measured.metric_loss:+.5f}", f"{measured.max_score_difference:.4f}",
                    f"{measured.psi:.5f}",
                )  # fmt: skip
            for batch in BATCHES[:2] if small else BATCHES:
                at = np.arange(batch) % len(numeric)
                rows = numeric[at], categorical[at]
                found = race(
                    {
                        name: (lambda scorer=scorers[name], rows=rows: scorer.score(*rows))
                        for name in ("FP32", "INT8")
                    },
                    batch=batch,
                    rounds=50 if small else 300,
                )
                one, other = found["FP32"], found["INT8"]
                times.add_row(
                    str(hidden), f"{batch}", f"{one.p50:.3f}", f"{one.p99:.3f}",
                    f"{other.p50:.3f}", f"{other.p99:.3f}", f"{other.p50 / one.p50:.2f}",
                )  # fmt: skip
    console = Console()
    console.print(times)
    console.print(quality)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"peak memory {peak:.0f} MiB, torch and the training of the networks included")


if __name__ == "__main__":
    main()
