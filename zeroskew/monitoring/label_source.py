"""Ground truth that arrives late: what came true of a prediction, as far as it was known by then.

A label belongs to a question, not to a moment: the entity keys and the request's own columns say
which. Where a model has no request columns, the moment that was asked about is part of it. Labels
may be corrected later; the latest that was known counts, and one that was known only after `now`
does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from zeroskew.errors import DataError

if TYPE_CHECKING:
    import polars as pl

    from zeroskew.model_config import ModelConfig

LABEL, KNOWN_AT = "label", "known_at"
MOMENT = "event_time"


@dataclass(frozen=True, slots=True)
class LabelSource:
    """A Parquet file or folder of labels, as `entity_rows` of model.yaml describes one."""

    path: str
    keys: tuple[str, ...]
    """Columns that say which question; `event_time` stands for the moment asked about."""
    label: str
    event_timestamp: str
    label_timestamp: str | None = None
    """When the label became known; None: as soon as the moment was over."""

    def read(self, now: datetime) -> pl.DataFrame:
        """A row per question with a label known by `now`: `keys`, `label`, `known_at`.

        Raises `DataError` if the source cannot be read, lacks a column, or has labels other than
        0 and 1.
        """
        import polars as pl

        known_at = self.label_timestamp or self.event_timestamp
        columns = {self.event_timestamp if k == MOMENT else k: k for k in self.keys}
        try:
            scan = pl.scan_parquet(self.path)
            there = scan.collect_schema().names()
            wanted = [*columns, self.label, known_at]
            if missing := [name for name in wanted if name not in there]:
                raise DataError(
                    f"lack column {', '.join(map(repr, missing))}",
                    where=f"labels {self.path}",
                    mend=f"they have: {', '.join(there)}",
                )
            rows = scan.select(
                *(pl.col(name).alias(key) for name, key in columns.items()),
                pl.col(self.label).cast(pl.Float64).alias(LABEL),
                _utc(pl.col(known_at)).alias(KNOWN_AT),
            )
            if MOMENT in self.keys:
                rows = rows.with_columns(_utc(pl.col(MOMENT)))
            found = (
                rows.filter(pl.col(LABEL).is_not_null(), pl.col(KNOWN_AT) <= now)
                .sort(KNOWN_AT)
                .unique(subset=list(self.keys), keep="last", maintain_order=False)
                .collect()
            )
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"cannot be read: {reason}", where=f"labels {self.path}") from None
        if not found[LABEL].is_in([0.0, 1.0]).all():
            raise DataError("labels must be 0 or 1", where=f"labels {self.path}")
        return found


def label_source(config: ModelConfig, data: str, entities: tuple[str, ...]) -> LabelSource:
    """The labels that the model is trained on, for predictions: `entity_rows` of model.yaml.

    `data`: the data endpoint; `entities`: the entity columns of its feature service.
    """
    rows = config.entity_rows
    asked = tuple(rows.request_columns)
    keys = tuple(dict.fromkeys((*entities, *(asked or (MOMENT,)))))
    return LabelSource(
        f"{data.rstrip('/')}/{rows.path}", keys, rows.label, rows.event_timestamp,
        rows.label_timestamp,
    )  # fmt: skip


def with_labels(predictions: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """The predictions with `label` and `known_at`, null where there is no label yet.

    `predictions` has the keys of the labels under the same names. Raises `DataError` where the two
    do not fit together.
    """
    import polars as pl

    keys = [name for name in labels.columns if name not in (LABEL, KNOWN_AT)]
    if missing := [name for name in keys if name not in predictions.columns]:
        raise DataError(
            f"the prediction log has no column {', '.join(missing)}",
            where="labels",
            mend="do not redact what tells one question from another",
        )
    kinds: Any = {name: predictions.schema[name] for name in keys}
    try:
        typed = labels.cast(kinds)
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"do not fit the prediction log: {reason}", where="labels") from None
    return predictions.join(typed, on=keys, how="left", nulls_equal=True, maintain_order="left")


def _utc(column: pl.Expr) -> pl.Expr:
    return column.dt.cast_time_unit("us").dt.replace_time_zone(None).dt.replace_time_zone("UTC")
