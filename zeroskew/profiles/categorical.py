"""The histogram of a text column: values by frequency, up to a cap, and one count for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zeroskew.errors import DataError
from zeroskew.profiles.columns import Column
from zeroskew.profiles.numeric import whole

MAX_VALUES = 1024
"""Most values that a profile keeps; a training set's rarer ones are counted together."""


@dataclass(frozen=True, slots=True)
class CategoricalProfile:
    """Counts of categories, most frequent training value first.

    `unseen` counts what is outside `values`: new categories and, where the training set had more
    than `MAX_VALUES` of them, its rarest ones too (then `unseen` of the reference itself is above
    0 and only its growth says something).
    """

    values: tuple[str, ...]
    counts: tuple[int, ...]
    unseen: int = 0
    nulls: int = 0

    kind = "categorical"

    @property
    def total(self) -> int:
        """Rows, nulls included."""
        return sum(self.counts) + self.unseen + self.nulls

    @classmethod
    def learn(cls, column: Column, max_values: int = MAX_VALUES) -> CategoricalProfile:
        """Freeze the most frequent values of `column` and count it; equals go by text."""
        texts, nulls = column.texts()
        ranked = sorted(texts.items(), key=lambda item: (-item[1], item[0]))
        kept, rest = ranked[:max_values], ranked[max_values:]
        return cls(
            values=tuple(text for text, _ in kept),
            counts=tuple(count for _, count in kept),
            unseen=sum(count for _, count in rest),
            nulls=nulls,
        )

    def measure(self, column: Column) -> CategoricalProfile:
        """Count another column with these values."""
        texts, nulls = column.texts()
        counts = tuple(texts.get(value, 0) for value in self.values)
        return CategoricalProfile(self.values, counts, sum(texts.values()) - sum(counts), nulls)

    def same_bins(self, other: Any) -> bool:
        """Whether `other` was counted with the same frozen values."""
        return isinstance(other, CategoricalProfile) and self.values == other.values

    def merge(self, other: CategoricalProfile) -> CategoricalProfile:
        """The profile of both sets of rows. The caller has checked `same_bins`."""
        return CategoricalProfile(
            self.values,
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            self.unseen + other.unseen,
            self.nulls + other.nulls,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "values": list(self.values),
            "counts": list(self.counts),
            "unseen": self.unseen,
            "nulls": self.nulls,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> CategoricalProfile:
        values = tuple(raw["values"])
        counts = tuple(map(whole, raw["counts"]))
        if not all(isinstance(value, str) for value in values) or len(set(values)) != len(values):
            raise DataError("values must be texts, each once")
        if len(values) != len(counts):
            raise DataError(f"{len(values)} values, but {len(counts)} counts")
        return cls(values, counts, whole(raw["unseen"]), whole(raw["nulls"]))
