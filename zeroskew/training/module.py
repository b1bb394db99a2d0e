"""The network, with everything that comes after the feature row inside it.

Imputation, scaling and category indices are buffers of the module, learnt from training rows, so
that they end up in the exported graph and nothing has to be kept in step with it. Operators are
those that TensorRT takes with explicit quantization: comparisons, matrix products, one gather per
category column.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zeroskew.features.row import MISSING

CLIP = 6.0
"""Standard deviations beyond which a number says no more; also what INT8 has to resolve."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """Shape of a network: sizes only, no learnt values."""

    numeric: int
    vocabulary: tuple[int, ...]
    """Known codes per categorical column."""
    hidden: tuple[int, ...]
    embedding: int
    dropout: float = 0.0

    def to_json(self) -> dict[str, Any]:
        plain = asdict(self)
        return plain | {name: list(plain[name]) for name in ("vocabulary", "hidden")}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Architecture:
        return cls(
            int(raw["numeric"]),
            tuple(int(size) for size in raw["vocabulary"]),
            tuple(int(size) for size in raw["hidden"]),
            int(raw["embedding"]),
            float(raw["dropout"]),
        )


class CategoryEmbedding(nn.Module):
    """Murmur codes int32 `[N]` → rows of an embedding table.

    Row 0 of the table is the missing value, row 1 every code that training did not know.
    """

    codes: Tensor
    position: Tensor

    def __init__(self, known: int, embedding: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(known, dtype=torch.int32))
        self.register_buffer("position", torch.arange(1, known + 1, dtype=torch.float32)[:, None])
        self.table = nn.Embedding(known + 2, embedding)
        nn.init.normal_(self.table.weight, std=0.1)

    def index(self, codes: Tensor) -> Tensor:
        """Row of the table for every code, int64 `[N]`."""
        column = codes[:, None]
        # A code equals at most one entry of the vocabulary: the sum is its position, or 0.
        index = torch.eq(column, self.codes).to(torch.float32) @ self.position
        present = torch.ne(column, MISSING).to(torch.float32)
        return (index + present)[:, 0].to(torch.int64)


class TabularNet(nn.Module):
    """`forward(numeric, categorical) -> score`.

    numeric: float32 `[N, n]`, NaN where missing. categorical: int32 `[N, m]` Murmur codes, 0 where
    missing. score: float32 `[N, 1]`, calibrated probability.
    """

    median: Tensor
    mean: Tensor
    scale: Tensor
    slope: Tensor
    offset: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        count = architecture.numeric
        self.register_buffer("median", torch.zeros(count))
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("scale", torch.ones(count))
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))
        self.categories = nn.ModuleList(
            CategoryEmbedding(known, architecture.embedding) for known in architecture.vocabulary
        )
        width = 2 * count + architecture.embedding * len(architecture.vocabulary)
        layers: list[nn.Module] = []
        for size in architecture.hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            if architecture.dropout > 0:
                layers.append(nn.Dropout(architecture.dropout))
            width = size
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, 1)

    def prepare(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """Imputed and scaled numbers with their missing flags, float32 `[N, 2n]`, and the rows of
        the embedding tables, int64 `[N, m]`. No weights take part, so training does it once."""
        missing = torch.isnan(numeric)
        filled = torch.where(missing, self.median, numeric)
        scaled = ((filled - self.mean) * self.scale).clamp(-CLIP, CLIP)
        dense = torch.cat([scaled, missing.to(torch.float32)], dim=1)
        if not self.categories:
            return dense, categorical.to(torch.int64)
        indices = [
            module.index(categorical[:, position])  # type: ignore[operator, union-attr]
            for position, module in enumerate(self.categories)
        ]
        return dense, torch.stack(indices, dim=1)

    def logits(self, dense: Tensor, index: Tensor) -> Tensor:
        """Uncalibrated log-odds `[N, 1]` of what `prepare` gave; the loss is taken of these."""
        parts = [dense] if self.architecture.numeric else []
        parts += [
            module.table(index[:, position])  # type: ignore[operator, union-attr]
            for position, module in enumerate(self.categories)
        ]
        return self.head(self.body(torch.cat(parts, dim=1)))

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        logits = self.logits(*self.prepare(numeric, categorical))
        return torch.sigmoid(logits * self.slope + self.offset)
