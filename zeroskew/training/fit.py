"""The final fit: Ray Train, so that several GPUs or nodes are a setting and not another program.

Each worker holds its shard of the rows and, with more than one, gradients are averaged by torch's
DistributedDataParallel. The first worker watches the validation loss, keeps the best weights, fits
the calibration and hands them over as safetensors.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroskew.errors import TrainingError, ZeroskewError
from zeroskew.model_config import Training
from zeroskew.training.optimise import Hyperparameters, Rows
from zeroskew.training.vocabulary import Statistics

OnProgress = Callable[[str, int, int], None]
WEIGHTS = "weights.safetensors"
FACTS = "facts.json"


@dataclass(frozen=True)
class Fit:
    """What the final fit came to."""

    weights: dict[str, Any]
    """State of the network, calibration included."""
    epochs: int
    """Epochs behind the kept weights."""
    calibration: tuple[float, float]
    validation: dict[str, float]


def fit(
    train: Rows,
    validation: Rows,
    statistics: Statistics,
    hyper: Hyperparameters,
    config: Training,
    state: Path,
    *,
    gpu: bool,
    on_progress: OnProgress | None = None,
) -> Fit:
    """Fit the network of `hyper` to all training rows; Ray must be running.

    `state`: folder for Ray's intermediate files. Raises `TrainingError`.
    """
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from safetensors.torch import load_file

    if len(train) < config.workers * 2:
        raise TrainingError(
            f"{len(train)} rows cannot be shared by {config.workers} workers",
            where="training.workers in model.yaml",
        )
    on_cpu = {"CPU": 1}
    board = ray.remote(num_cpus=0)(_Board).remote()
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "rows": ray.put(train),
            "validation": ray.put(validation),
            "statistics": ray.put(statistics),
            "hyperparameters": hyper.to_json(),
            "config": config.model_dump(mode="json"),
            "board": board,
        },
        scaling_config=ScalingConfig(
            num_workers=config.workers, use_gpu=gpu, resources_per_worker=None if gpu else on_cpu
        ),
        run_config=RunConfig(
            name=state.name,
            storage_path=str(state.parent.absolute()),
        ),
    )
    try:
        with _watched(board, config.epochs, on_progress):
            result = trainer.fit()
    except ZeroskewError:
        raise
    except Exception as error:  # Ray wraps whatever a worker raised
        raise _own_error(error) from error
    if result.error is not None or result.checkpoint is None:
        raise _own_error(result.error)
    with result.checkpoint.as_directory() as folder:
        facts = json.loads((Path(folder) / FACTS).read_text(encoding="utf-8"))
        weights = load_file(str(Path(folder) / WEIGHTS))
    return Fit(
        weights=weights,
        epochs=facts["epochs"],
        calibration=tuple(facts["calibration"]),
        validation=facts["validation"],
    )


class _Board:
    """An actor on which the first worker writes the epoch, for whoever waits to read."""

    def __init__(self) -> None:
        self.epoch = 0

    def write(self, epoch: int) -> None:
        self.epoch = epoch

    def read(self) -> int:
        return self.epoch


@contextmanager
def _watched(board: Any, epochs: int, on_progress: OnProgress | None) -> Iterator[None]:
    """Report epochs while the block runs. Ray's own callbacks run in another process."""
    import ray

    over = threading.Event()

    def look() -> None:
        shown = 0
        while not over.wait(0.5):
            with suppress(Exception):  # the runtime may end while this asks
                epoch = ray.get(board.read.remote(), timeout=5)
                if epoch > shown and on_progress:
                    shown = epoch
                    on_progress("fit: epochs", epoch, epochs)

    reader = threading.Thread(target=look, daemon=True)
    reader.start()
    try:
        yield
    finally:
        over.set()
        reader.join(6)


def _worker(settings: dict[str, Any]) -> None:
    """Runs in every worker; only the first one judges, keeps and reports weights."""
    import os

    import ray
    import torch
    from ray import train as ray_train
    from ray.train.torch import get_device, prepare_model

    from zeroskew.training import calibration, optimise

    config = Training.model_validate(settings["config"])
    hyper = Hyperparameters.from_json(settings["hyperparameters"])
    rows, validation, statistics = (
        ray.get(settings[name]) for name in ("rows", "validation", "statistics")
    )
    context = ray_train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    torch.use_deterministic_algorithms(True, warn_only=True)
    device = get_device()
    weight = optimise.positive_weight(rows.label, config.class_weight)
    network = optimise.make_network(statistics, hyper, config.seed).to(device)
    model = prepare_model(
        optimise.LogitsOf(network), parallel_strategy="ddp" if world > 1 else None
    )
    torch.manual_seed(config.seed + rank)
    best = {"loss": float("inf"), "epoch": 0.0}
    kept: dict[str, Any] = {}
    dense, index, _ = validation.prepared(network, device)
    shift = float(torch.log(torch.tensor(weight)))

    def after_epoch(epoch: int) -> bool:
        logits = optimise.score_logits(network, dense, index)
        loss = optimise.log_loss(logits - shift, validation.label)
        if loss < best["loss"]:
            best.update(loss=loss, epoch=float(epoch))
            kept.update({n: v.detach().cpu().clone() for n, v in network.state_dict().items()})
        # Every worker comes to the same verdict, since weights and rows are the same.
        ray_train.report({"epoch": epoch, "loss": loss})
        if rank == 0:
            settings["board"].write.remote(epoch)
        return epoch - best["epoch"] < config.patience

    shard = rows.shard(rank, world) if world > 1 else rows
    optimise.run_epochs(
        model,
        shard.prepared(network, device),
        hyper,
        epochs=config.epochs,
        batch_size=min(max(2, config.batch_size // world), len(shard)),
        positive_weight=weight,
        seed=config.seed + rank,
        after_epoch=after_epoch,
        device=device,
    )
    network.load_state_dict(kept)
    logits = optimise.score_logits(network, dense, index)
    slope, offset = calibration.fit_calibration(logits, validation.label)
    kept["slope"], kept["offset"] = torch.tensor(slope), torch.tensor(offset)
    calibrated = slope * logits + offset
    facts = {
        "epochs": int(best["epoch"]),
        "calibration": [slope, offset],
        "validation": {
            "log_loss": optimise.log_loss(calibrated, validation.label),
            "log_loss_uncalibrated": best["loss"],
        },
    }
    _hand_over(kept, facts, int(best["epoch"]), rank)


def _hand_over(weights: dict[str, Any], facts: dict[str, Any], epoch: int, rank: int) -> None:
    from ray import train as ray_train
    from safetensors.torch import save_file

    if rank:
        ray_train.report({"epoch": epoch})
        return
    with tempfile.TemporaryDirectory() as folder:
        save_file({n: v.contiguous() for n, v in weights.items()}, f"{folder}/{WEIGHTS}")
        (Path(folder) / FACTS).write_text(json.dumps(facts), encoding="utf-8")
        ray_train.report({"epoch": epoch}, checkpoint=ray_train.Checkpoint.from_directory(folder))


def _own_error(error: BaseException | None) -> TrainingError:
    """The `TrainingError` that a worker raised, or one that tells what else went wrong."""
    seen: BaseException | None = error
    for _ in range(8):
        if isinstance(seen, TrainingError):
            return seen
        failures = getattr(seen, "worker_failures", None)
        if failures:
            seen = next(iter(failures.values()))
            continue
        inner = getattr(seen, "cause", None) or (seen.__cause__ if seen else None)
        if inner is None:
            break
        seen = inner
    text = str(seen).strip().splitlines()[-1] if seen and str(seen).strip() else "no reason given"
    return TrainingError(f"the final fit failed: {text}", where="Ray Train")
