"""From a checkpoint to the graph that serves: export, quantize, gate, choose, build plans.

The result is one folder that appears whole or not at all:

    model.fp32.onnx   what torch computed, and what everything is measured against
    model.int8.onnx   its INT8 version (unless `precision: fp32`)
    model.onnx        the chosen one: evaluation, batch prediction and serving read this file
    plans/            TensorRT plans of model.onnx for the targets of model.yaml
    export.json       the record: hashes, calibration, gate numbers, what was chosen and why
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zeroskew.errors import ExportError
from zeroskew.export.atomic_files import new_folder, read_file, write_file
from zeroskew.export.calibration_rows import calibration_rows, open_training_set
from zeroskew.export.gate import Candidate, choose, find_breaches, measure_quality
from zeroskew.export.latency import race
from zeroskew.export.scoring import CPU, Scorer, serving_provider
from zeroskew.features.row import FeatureRow
from zeroskew.model_config import ModelConfig

FORMAT = 1
FILE = "export.json"
CHOSEN = "model.onnx"
PARITY_ROWS = 20_000
"""Validation rows on which ONNX must agree with torch; all of them are used by the gate."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """What was exported, from what, and why in this precision."""

    model: str
    row: FeatureRow
    training_set: str
    """Content hash of the training set."""
    precision: str
    """`fp32`, `fp16` or `int8`: what model.onnx computes in."""
    precision_reason: str
    onnx_sha256: Mapping[str, str]
    """SHA-256 by file name."""
    parity: float
    """Largest difference of a score between torch and model.fp32.onnx."""
    calibration_hash: str
    """Hash of the rows that calibrated INT8; empty without INT8."""
    calibration_rows: int
    candidates: tuple[Mapping[str, Any], ...]
    """Per precision: quality against FP32, latency of a batch, limits breached."""
    limits: Mapping[str, Any]
    """The `export` section of model.yaml."""
    device: str
    """ONNX Runtime's provider that latency was measured on."""
    max_batch: int
    versions: Mapping[str, str]
    plans: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of TensorRT plans by their key."""
    plan_files: tuple[Mapping[str, Any], ...] = ()
    """What is known about each plan, its file below plans/ among it."""

    def to_json(self) -> dict[str, Any]:
        raw = {name: getattr(self, name) for name in self.__slots__}
        return {"format": FORMAT} | raw | {"row": self.row.to_json()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], *, where: str = FILE) -> ExportRecord:
        """Raises `ExportError` if it is not a record of this format."""
        try:
            if raw["format"] != FORMAT:
                raise ExportError(f"format {raw['format']} is not {FORMAT}", where=where)
            values = {name: raw[name] for name in cls.__slots__}
            values["row"] = FeatureRow.from_json(raw["row"])
            values["candidates"] = tuple(raw["candidates"])
            values["plan_files"] = tuple(raw["plan_files"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ExportError(
                f"not an export record: {error}", where=where, mend="export again"
            ) from None

    @classmethod
    def read(cls, folder: str | Path) -> ExportRecord:
        """The record in an export's folder. Raises `ExportError`."""
        path = Path(folder) / FILE
        content = read_file(path, what="export here", mend="run `zeroskew export` first")
        try:
            raw = json.loads(content)
        except ValueError:
            raw = None
        if not isinstance(raw, dict):
            raise ExportError("cut short or not JSON", where=str(path), mend="export again")
        return cls.from_json(raw, where=str(path))


def export_model(
    checkpoint_dir: str | Path,
    training_set_dir: str | Path,
    config: ModelConfig,
    out: str | Path,
    on_progress: Progress | None = None,
    *,
    plan_cache: str | Path | None = None,
) -> ExportRecord:
    """Export the checkpoint into the folder `out`, by the `export` section of `config`.

    `plan_cache`: folder in which TensorRT plans are kept between exports. Raises `GateFailed` if
    the precision asked for is outside its limits, `ExportError` and `DataError` otherwise; then
    `out` is as it was.
    """
    with new_folder(Path(out)) as folder:
        return _Export(Path(checkpoint_dir), Path(training_set_dir), config, folder,
                       on_progress or (lambda what, done, total: None)).run(plan_cache)  # fmt: skip


class _Export:
    """The steps of one export, which share the validation rows and the folder."""

    def __init__(
        self,
        checkpoint: Path,
        training_set: Path,
        config: ModelConfig,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._checkpoint, self._config, self._folder = checkpoint, config, folder
        self._limits, self._progress = config.export, progress
        self._steps = 4 + len(config.export.tensorrt)
        self._require_targets()
        self._training_set = open_training_set(training_set)
        self._numeric, self._categorical, self._label = self._training_set.encode("validation")
        if not len(self._label):
            raise ExportError(
                "the validation split is empty, so no gate can be measured",
                where=str(training_set),
                mend="raise `split.validation` in model.yaml",
            )

    def run(self, plan_cache: str | Path | None) -> ExportRecord:
        self._progress("ONNX of the network", 0, self._steps)
        graph = self._fp32()
        hashes = {"fp32": graph.sha256}
        self._progress("INT8 calibration", 1, self._steps)
        unavailable: dict[str, str] = {}
        calibration, rows = self._reduce(hashes, unavailable)
        self._progress("quality and latency gate", 2, self._steps)
        candidates, device = self._measure(hashes)
        choice = choose(candidates, self._limits, unavailable)
        content = (self._folder / f"model.{choice.precision}.onnx").read_bytes()
        files = {f"model.{name}.onnx": digest for name, digest in hashes.items()}
        files[CHOSEN] = write_file(self._folder / CHOSEN, content)
        plans = self._plans(plan_cache)
        record = ExportRecord(
            model=self._config.name,
            row=graph.row,
            training_set=graph.training_set,
            precision=choice.precision,
            precision_reason=choice.reason,
            onnx_sha256=files,
            parity=graph.parity,
            calibration_hash=calibration,
            calibration_rows=rows,
            candidates=tuple(candidate.to_json() for candidate in candidates),
            limits=self._limits.model_dump(mode="json"),
            device=device,
            max_batch=self._limits.max_batch,
            versions=_versions(),
            plans={plan["key"]: plan["sha256"] for plan in plans},
            plan_files=tuple(plans),
        )
        write_file(self._folder / FILE, json.dumps(record.to_json(), indent=2).encode())
        self._progress("export", self._steps, self._steps)
        return record

    def _require_targets(self) -> None:
        """A target that cannot be built for is known before anything is computed."""
        if self._limits.tensorrt:
            from zeroskew.export.tensorrt_flavour import load_flavour, resolve_target

            flavour = load_flavour()
            for target in self._limits.tensorrt:
                resolve_target(flavour, target)

    def _fp32(self) -> Any:
        from zeroskew.export.onnx_graph import export_onnx

        graph = export_onnx(
            self._checkpoint,
            self._folder / "model.fp32.onnx",
            numeric=self._numeric[:PARITY_ROWS],
            categorical=self._categorical[:PARITY_ROWS],
        )
        known = self._training_set.manifest.content_hash
        if graph.training_set != known:
            raise ExportError(
                f"the checkpoint was trained on training set {graph.training_set[:12]}, not on "
                f"{str(known)[:12]}",
                where=str(self._checkpoint),
                mend="give the training set that the checkpoint was trained on",
            )
        return graph

    def _reduce(self, hashes: dict[str, str], unavailable: dict[str, str]) -> tuple[str, int]:
        """Add what competes with FP32 to `hashes`; returns hash and number of calibration rows."""
        from zeroskew.export.quantize import halve, quantize_int8

        if self._limits.precision == "fp32":
            return "", 0
        source = self._folder / "model.fp32.onnx"
        calibration, count = "", 0
        try:
            rows = calibration_rows(self._training_set, self._limits.calibration_rows)
            int8 = quantize_int8(source, self._folder / "model.int8.onnx", rows)
            hashes["int8"] = int8.sha256
            calibration, count = rows.hash, len(rows)
        except ExportError as error:
            if self._limits.precision != "auto":
                raise
            unavailable["int8"] = error.what
        # FP16 is faster than FP32 on a GPU only; ONNX Runtime on a CPU casts every product back.
        if self._limits.precision == "auto" and serving_provider() != CPU:
            try:
                hashes["fp16"] = halve(source, self._folder / "model.fp16.onnx").sha256
            except ExportError as error:
                unavailable["fp16"] = error.what
        return calibration, count

    def _measure(self, hashes: Mapping[str, str]) -> tuple[list[Candidate], str]:
        provider = serving_provider()
        scorers = {
            name: Scorer(self._folder / f"model.{name}.onnx", provider=provider) for name in hashes
        }
        batch = self._limits.latency.batch
        at = np.arange(batch) % len(self._label)
        numeric, categorical = self._numeric[at], self._categorical[at]
        latencies = race(
            {
                name: (lambda scorer=scorer: scorer.score(numeric, categorical))  # type: ignore[misc]
                for name, scorer in scorers.items()
            },
            batch=batch,
        )
        scores = {
            name: scorer.score(self._numeric, self._categorical) for name, scorer in scorers.items()
        }
        candidates = []
        for name, digest in hashes.items():
            quality = None
            if name != "fp32":
                quality = measure_quality(
                    scores["fp32"], scores[name], self._label,
                    metric=self._config.evaluation.metric,
                )  # fmt: skip
            breaches = find_breaches(quality, latencies[name], self._limits)
            candidates.append(Candidate(name, digest, quality, latencies[name], breaches))
        return candidates, provider if scorers["fp32"].on_gpu else CPU

    def _plans(self, cache: str | Path | None) -> list[dict[str, Any]]:
        if not self._limits.tensorrt:
            return []
        from zeroskew.export.tensorrt_builder import build_plan

        known, plans = self._folder / "plans", []
        for done, target in enumerate(self._limits.tensorrt):
            self._progress(f"TensorRT plan for {target}", 3 + done, self._steps)
            plan = build_plan(
                self._folder / CHOSEN,
                target=target,
                cache=Path(cache) if cache else known,
                max_batch=self._limits.max_batch,
                opt_batch=min(self._limits.latency.batch, self._limits.max_batch),
            )
            if cache:
                known.mkdir(exist_ok=True)
                shutil.copy(plan.path, known / plan.path.name)
            plans.append({k: v for k, v in plan.to_json().items() if k != "layers"})
        for extra in known.glob(".*.lock"):
            extra.unlink()
        return plans


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "onnx", "onnxruntime")}
