"""The hyperparameter search: Ray Tune with ASHA, resumable, one trial per CPU or GPU.

Trials report the validation log loss after every epoch; ASHA stops those that fall behind. The
rows go to the trials through Ray's object store, once.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroskew.errors import TrainingError
from zeroskew.model_config import Training
from zeroskew.training.optimise import Hyperparameters, Rows
from zeroskew.training.vocabulary import Statistics

OnProgress = Callable[[str, int, int], None]
RESULT = "search.json"


@dataclass(frozen=True)
class Trial:
    """One combination that was tried."""

    hyperparameters: Hyperparameters
    loss: float
    """Best validation log loss of its epochs."""
    epochs: int
    seconds: float


@dataclass(frozen=True)
class SearchResult:
    """Trials by ascending loss; the first is the best."""

    trials: tuple[Trial, ...]

    @property
    def best(self) -> Hyperparameters:
        return self.trials[0].hyperparameters

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {
                "hyperparameters": trial.hyperparameters.to_json(),
                "loss": trial.loss,
                "epochs": trial.epochs,
                "seconds": trial.seconds,
            }
            for trial in self.trials
        ]

    @classmethod
    def from_json(cls, raw: list[Mapping[str, Any]]) -> SearchResult:
        return cls(
            tuple(
                Trial(
                    Hyperparameters.from_json(trial["hyperparameters"]),
                    trial["loss"],
                    trial["epochs"],
                    trial["seconds"],
                )
                for trial in raw
            )
        )


def search(
    train: Rows,
    validation: Rows,
    statistics: Statistics,
    config: Training,
    state: Path,
    *,
    gpu: bool,
    on_progress: OnProgress | None = None,
) -> SearchResult:
    """Search `config.space`; Ray must be running. `state` is the search's own folder.

    A search that finished there is not repeated, one that was interrupted goes on. Raises
    `TrainingError` if no trial gave a loss, `KeyboardInterrupt` on Ctrl-C.
    """
    finished = state / RESULT
    if finished.is_file():
        if on_progress:
            on_progress("search (done before)", config.trials, config.trials)
        return SearchResult.from_json(json.loads(finished.read_text(encoding="utf-8")))
    # Ray Tune prints the traceback of every failed trial; ours is one message for all of them.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    candidates = sample_space(config)
    results = _tuner(
        candidates, train, validation, statistics, config, state, gpu, on_progress
    ).fit()
    if len(results) < len(candidates) or not all(
        result.error or (result.metrics or {}).get("done") for result in results
    ):
        # Tune takes Ctrl-C for a wish to end early, keeps what it has, and returns.
        raise KeyboardInterrupt
    trials = sorted(
        (
            Trial(
                Hyperparameters.from_json(result.config["hyperparameters"]),
                float(result.metrics["best"]),
                int(result.metrics["training_iteration"]),
                float(result.metrics["time_total_s"]),
            )
            for result in results
            if result.metrics and "best" in result.metrics
        ),
        key=lambda trial: (trial.loss, json.dumps(trial.hyperparameters.to_json())),
    )
    if not trials:
        raise _all_failed([result.error for result in results if result.error])
    found = SearchResult(tuple(trials))
    scratch = finished.with_suffix(".tmp")
    scratch.write_text(json.dumps(found.to_json(), indent=2), encoding="utf-8")
    os.replace(scratch, finished)
    return found


def sample_space(config: Training) -> list[Hyperparameters]:
    """`config.trials` combinations drawn from the space by `config.seed`, repeats left out."""
    import numpy as np

    space, draw = config.space, np.random.default_rng(config.seed)

    def within(span: Any) -> float:
        if span.log:
            return float(np.exp(draw.uniform(np.log(span.low), np.log(span.high))))
        return float(draw.uniform(span.low, span.high))

    found: list[Hyperparameters] = []
    for _ in range(config.trials):
        candidate = Hyperparameters(
            hidden=tuple(space.hidden[draw.integers(len(space.hidden))]),
            learning_rate=within(space.learning_rate),
            weight_decay=within(space.weight_decay),
            dropout=within(space.dropout),
            embedding=int(space.embedding[draw.integers(len(space.embedding))]),
        )
        if candidate not in found:
            found.append(candidate)
    return found


def _tuner(
    candidates: list[Hyperparameters],
    train: Rows,
    validation: Rows,
    statistics: Statistics,
    config: Training,
    state: Path,
    gpu: bool,
    on_progress: OnProgress | None,
) -> Any:
    from ray import tune

    trainable = tune.with_resources(
        tune.with_parameters(
            _trial, train=train, validation=validation, statistics=statistics, config=config
        ),
        {"cpu": 1, "gpu": 1 if gpu else 0},
    )
    if tune.Tuner.can_restore(str(state)):
        return tune.Tuner.restore(
            str(state), trainable, resume_unfinished=True, restart_errored=True
        )
    state.parent.mkdir(parents=True, exist_ok=True)
    return tune.Tuner(
        trainable,
        param_space={"hyperparameters": tune.grid_search([c.to_json() for c in candidates])},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            scheduler=tune.schedulers.ASHAScheduler(
                max_t=config.search_epochs,
                grace_period=max(1, config.search_epochs // 4),
                reduction_factor=3,
            ),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=state.name,
            storage_path=str(state.parent),
            verbose=0,
            callbacks=[_progress(on_progress, len(candidates))] if on_progress else None,
        ),
    )


def _trial(
    parameters: dict[str, Any],
    *,
    train: Rows,
    validation: Rows,
    statistics: Statistics,
    config: Any,
) -> None:
    """Runs in a worker of Ray; reports the validation loss of every epoch."""
    import torch
    from ray import tune

    from zeroskew.training import optimise

    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hyper = Hyperparameters.from_json(parameters["hyperparameters"])
    network = optimise.make_network(statistics, hyper, config.seed).to(device)
    weight = optimise.positive_weight(train.label, config.class_weight)
    dense, index, _ = validation.prepared(network, device)
    best = float("inf")

    def after_epoch(epoch: int) -> bool:
        nonlocal best
        logits = optimise.score_logits(network, dense, index)
        # The logits of weighted classes are shifted; the shift is known and taken back.
        loss = optimise.log_loss(logits - float(torch.log(torch.tensor(weight))), validation.label)
        best = min(best, loss)
        tune.report({"loss": loss, "best": best})
        return True

    optimise.run_epochs(
        optimise.LogitsOf(network),
        train.prepared(network, device),
        hyper,
        epochs=config.search_epochs,
        batch_size=min(config.batch_size, len(train)),
        positive_weight=weight,
        seed=config.seed,
        after_epoch=after_epoch,
        device=device,
    )


def _progress(on_progress: OnProgress, total: int) -> Any:
    from ray import tune

    class Progress(tune.Callback):
        """Counts trials as they end."""

        def __init__(self) -> None:
            self.done = 0

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self.done += 1
            on_progress("search: trials", self.done, total)

        on_trial_error = on_trial_complete

    return Progress()


def _all_failed(failures: list[Any]) -> TrainingError:
    cause = failures[0] if failures else None
    inner = getattr(cause, "cause", None) or getattr(cause, "__cause__", None) or cause
    # The text ends in the error's own lines; those of the traceback and of its mend are indented.
    lines = [line for line in str(inner or "").splitlines() if line[:1].strip()]
    text = lines[-1].removeprefix("zeroskew.errors.TrainingError: ") if lines else "no reason given"
    return TrainingError(
        f"every one of the {len(failures)} trials failed: {text}",
        where="training.space in model.yaml",
        mend="narrow the search space (learning rate, hidden layers) and try again",
    )
