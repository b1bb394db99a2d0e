"""Epochs of gradient descent, shared by a trial of the search and a worker of the final fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zeroskew.errors import TrainingError
from zeroskew.training.module import Architecture, TabularNet
from zeroskew.training.vocabulary import Statistics

SCORING_ROWS = 65_536
"""Rows per forward pass outside of training; bounds memory."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What the search tries."""

    hidden: tuple[int, ...]
    learning_rate: float
    weight_decay: float
    dropout: float
    embedding: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"hidden": list(self.hidden)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Hyperparameters:
        return cls(**{**raw, "hidden": tuple(raw["hidden"])})


@dataclass(frozen=True)
class Rows:
    """Encoded rows with labels 0/1: arrays of equal length."""

    numeric: NDArray[np.float32]
    categorical: NDArray[np.int32]
    label: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label)

    def tail(self, count: int) -> Rows:
        """The last `count` rows: the newest ones of a training set."""
        if count >= len(self):
            return self
        return Rows(self.numeric[-count:], self.categorical[-count:], self.label[-count:])

    def shard(self, rank: int, of: int) -> Rows:
        """Every `of`-th row from `rank` on, cut to the length that all shards have."""
        length = len(self) // of
        return Rows(*(part[rank::of][:length] for part in self.arrays()))

    def arrays(self) -> tuple[NDArray[Any], ...]:
        return self.numeric, self.categorical, self.label

    def prepared(self, network: TabularNet, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The network's own preparation of all rows, and the labels, on `device`."""
        dense, index = [], []
        with torch.no_grad():
            for start in range(0, len(self), SCORING_ROWS):
                part = slice(start, start + SCORING_ROWS)
                # Arrays out of Ray's object store are read-only; torch wants to own its memory.
                numeric = torch.tensor(self.numeric[part], device=device)
                categorical = torch.tensor(self.categorical[part], device=device)
                one, other = network.prepare(numeric, categorical)
                dense.append(one)
                index.append(other)
        return torch.cat(dense), torch.cat(index), torch.tensor(self.label, device=device)


class LogitsOf(nn.Module):
    """The network with `forward` giving logits, which is what a data-parallel wrapper calls."""

    def __init__(self, network: TabularNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, dense: Tensor, index: Tensor) -> Tensor:
        return self.network.logits(dense, index)


def make_network(statistics: Statistics, hyper: Hyperparameters, seed: int) -> TabularNet:
    """A network with fresh weights from `seed` and the statistics in its buffers."""
    torch.manual_seed(seed)
    network = TabularNet(
        Architecture(
            numeric=len(statistics.median),
            vocabulary=tuple(len(codes) for codes in statistics.vocabularies),
            hidden=hyper.hidden,
            embedding=hyper.embedding,
            dropout=hyper.dropout,
        )
    )
    with torch.no_grad():
        for name in ("median", "mean", "scale"):
            getattr(network, name).copy_(torch.from_numpy(getattr(statistics, name)))
        for module, codes in zip(network.categories, statistics.vocabularies, strict=True):
            module.codes.copy_(torch.from_numpy(codes))  # type: ignore[operator, union-attr]
    return network


def run_epochs(
    model: nn.Module,
    prepared: tuple[Tensor, Tensor, Tensor],
    hyper: Hyperparameters,
    *,
    epochs: int,
    batch_size: int,
    positive_weight: float,
    seed: int,
    after_epoch: Callable[[int], bool],
    device: torch.device,
) -> int:
    """Train `model` (logits) by AdamW with a cosine schedule; the number of epochs run.

    `prepared`: what `Rows.prepared` gave, all of it on `device`.
    `after_epoch(epoch)`, epochs from 1, says whether to go on. Raises `TrainingError` when the
    loss is no number.
    """
    dense, index, label = prepared
    loss_of = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(positive_weight, device=device))
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=hyper.learning_rate, weight_decay=hyper.weight_decay
    )
    steps = max(1, math.ceil(len(label) / batch_size))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=hyper.learning_rate, total_steps=epochs * steps + 1, pct_start=0.15
    )
    shuffle = torch.Generator().manual_seed(seed)
    for epoch in range(1, epochs + 1):
        model.train()
        order = torch.randperm(len(label), generator=shuffle).to(device)
        total = torch.zeros((), device=device)
        for batch in order.split(batch_size):
            optimiser.zero_grad(set_to_none=True)
            logits = model(dense[batch], index[batch])[:, 0]
            loss = loss_of(logits, label[batch])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            total += loss.detach()
        if not torch.isfinite(total):
            raise TrainingError(
                f"the loss of epoch {epoch} is not a number",
                where=f"learning rate {hyper.learning_rate:.2g}",
                mend="lower `training.space.learning_rate.high` in model.yaml",
            )
        if not after_epoch(epoch):
            return epoch
    return epochs


def score_logits(network: TabularNet, dense: Tensor, index: Tensor) -> NDArray[np.float32]:
    """Uncalibrated logits `[n]` of prepared rows, without dropout."""
    network.eval()
    with torch.no_grad():
        parts = zip(dense.split(SCORING_ROWS), index.split(SCORING_ROWS), strict=True)
        return np.concatenate([network.logits(*part)[:, 0].cpu().numpy() for part in parts])


def log_loss(logits: NDArray[np.float32], label: NDArray[np.float32]) -> float:
    """Mean negative log likelihood of labels 0/1 under σ(logits)."""
    wide = logits.astype(np.float64)
    return float((np.logaddexp(0.0, wide) - label * wide).mean())


def positive_weight(label: NDArray[np.float32], class_weight: str) -> float:
    """Weight of a positive row: negatives per positive, or 1."""
    positives = float(label.sum())
    return (len(label) - positives) / positives if class_weight == "balanced" else 1.0
