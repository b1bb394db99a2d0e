"""The checks themselves: schema, rows, nulls, ranges, categories and distribution shift."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from zeroskew.errors import SchemaError
from zeroskew.model_config import ColumnGate, Validation
from zeroskew.profiles import (
    MIN_SAMPLES,
    CategoricalProfile,
    ColumnProfile,
    Drift,
    NumericProfile,
    Profile,
    drift,
)
from zeroskew.profiles.columns import Column
from zeroskew.validation.report import ColumnReport, Finding, Outcome, ValidationReport

if TYPE_CHECKING:
    import polars as pl

EXAMPLES = 5
"""Unseen values that a finding names."""


def validate(
    frame: pl.DataFrame,
    schema: Mapping[str, str],
    gates: Validation,
    reference: Profile | None,
    *,
    where: str,
    strict_columns: bool = True,
    categorical: Collection[str] = (),
) -> ValidationReport:
    """Check `frame` against the types of `schema`, the limits of `gates` and the last profile.

    `schema` maps each expected column to a type name (`float64`, `int64`, `string`, `bool`,
    `timestamp`…, as `feature_types` gives them; Polars' own names will do). With `strict_columns`
    a column outside the schema fails the batch, without it is noted. `categorical` names number
    columns that are identifiers. `where` says in messages what was checked.

    An integer column may come as floats if every value is whole, and as any other integer type;
    a float column may come as integers. A column of nulls has no type to be wrong. Moments are
    checked for type and nulls only: time always moves on. NaN and infinities count as null.
    """
    findings = [_rows(frame.height, gates.min_rows)]
    findings += _schema(frame, schema, gates, strict_columns)
    columns: list[ColumnReport] = []
    learnt: dict[str, ColumnProfile] = {}
    for name, type_name in schema.items():
        if name not in frame.columns:
            continue
        batch = _Batch(name, _family(type_name), frame[name], gates, name in categorical)
        batch.check_type(type_name)
        if batch.profilable:
            learnt[name] = batch.learn()
            batch.check(learnt[name], reference)
        findings += batch.findings
        columns.append(
            ColumnReport(
                name, str(frame.schema[name]), learnt.get(name), batch.expected, batch.actual,
                batch.drift,
            )
        )  # fmt: skip
    if reference is not None:
        gone = [name for name in reference.columns if name not in schema]
        findings += [
            Finding(name, "reference", "", "", Outcome.NOTED, "in the reference, not in the schema")
            for name in gone
        ]
    return ValidationReport(
        where=where,
        checks=tuple(findings),
        profile=Profile(learnt, frame.height),
        columns=tuple(columns),
        reference_rows=None if reference is None else reference.rows,
    )


def _rows(rows: int, least: int) -> Finding:
    outcome = Outcome.PASSED if rows >= least else Outcome.FAILED
    return Finding("", "rows", f"≥ {least:,}", f"{rows:,}", outcome)


def _schema(
    frame: pl.DataFrame, schema: Mapping[str, str], gates: Validation, strict: bool
) -> Iterator[Finding]:
    for name, type_name in schema.items():
        if name not in frame.columns:
            yield Finding(name, "column", type_name, "missing", Outcome.FAILED)
    for name, dtype in frame.schema.items():
        if name not in schema:
            outcome = Outcome.FAILED if strict else Outcome.NOTED
            yield Finding(name, "column", "absent", f"new ({dtype})", outcome)
    if strict:
        for name in dict.fromkeys((*gates.columns, *gates.ignore)):
            if name not in schema:
                yield Finding(
                    name, "gate", "", "", Outcome.NOTED,
                    "model.yaml names a column that the schema does not know",
                )  # fmt: skip


@dataclass
class _Batch:
    """One column of the batch on its way through the checks."""

    name: str
    family: str
    series: pl.Series
    gates: Validation
    identifier: bool
    findings: list[Finding] = field(default_factory=list)
    expected: ColumnProfile | None = None
    actual: ColumnProfile | None = None
    drift: Drift | None = None

    def __post_init__(self) -> None:
        self.gate = self.gates.columns.get(self.name, ColumnGate())
        self.found = _family(str(self.series.dtype))
        self.profilable = self.found != "other"
        self.column = Column(self.series if self.profilable else [], self.name)

    def check_type(self, type_name: str) -> None:
        ok = self.found in (self.family, "nothing") or self.family == "other"
        detail = ""
        if not ok and {self.found, self.family} == {"integer", "float"}:
            ok = self.found == "integer" or _whole(self.column)
            detail = "" if ok else "there are fractions"
        outcome = Outcome.PASSED if ok else Outcome.FAILED
        self._add("type", type_name, str(self.series.dtype), outcome, detail)

    def learn(self) -> ColumnProfile:
        """The batch's own profile. Identifiers, and texts that are all null, go by value."""
        numeric = self.column.kind == "numbers" or (
            self.column.kind == "empty" and self.family in ("integer", "float", "boolean", "moment")
        )
        if numeric and not self.identifier:
            return NumericProfile.learn(self.column)
        return CategoricalProfile.learn(self.column)

    def check(self, own: ColumnProfile, reference: Profile | None) -> None:
        if own.total:
            self._nulls(own)
        if isinstance(own, NumericProfile) and self.found != "moment":
            self._range(own)
        elif self.gate.min is not None or self.gate.max is not None:
            self._add("out of range", "", "", Outcome.NOTED, "min and max need a column of numbers")
        if self.gate.categories is not None:
            self._categories(self.gate.categories)
        if reference is not None:
            self._reference(reference)

    def _nulls(self, own: ColumnProfile) -> None:
        limit = _first(self.gate.max_null_rate, self.gates.max_null_rate)
        infinite = own.infinite if isinstance(own, NumericProfile) else 0
        detail = f"{infinite:,} of them infinite" if infinite else ""
        self._share("null rate", own.nulls / own.total, limit, detail)

    def _range(self, own: NumericProfile) -> None:
        low, high = self.gate.min, self.gate.max
        if low is None and high is None:
            return
        values = self.column.numbers()
        values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if not len(values):
            return
        outside = 0
        if low is not None:
            outside += int(np.count_nonzero(values < low))
        if high is not None:
            outside += int(np.count_nonzero(values > high))
        limit = _first(self.gate.max_out_of_range, self.gates.max_out_of_range)
        span = f"{'−∞' if low is None else f'{low:g}'} to {'∞' if high is None else f'{high:g}'}"
        seen = f"{own.smallest:g} to {own.largest:g}"
        detail = f"allowed {span}, seen {seen}"
        self._share("out of range", outside / len(values), limit, detail)

    def _categories(self, allowed: Collection[str]) -> None:
        texts, _ = self.column.texts()
        self._unseen({t: n for t, n in texts.items() if t not in allowed}, sum(texts.values()), 0.0)

    def _unseen(self, unseen: Mapping[str, int], values: int, usual: float) -> None:
        if not values:
            return
        limit = _first(self.gate.max_unseen, self.gates.max_unseen)
        share = max(0.0, sum(unseen.values()) / values - usual)
        ranked = sorted(unseen, key=lambda text: (-unseen[text], text))
        detail = ", ".join(repr(text) for text in ranked[:EXAMPLES])
        more = len(ranked) - EXAMPLES
        self._share("unseen values", share, limit, detail + (f" and {more:,} more" * (more > 0)))

    def _reference(self, reference: Profile) -> None:
        expected = reference.columns.get(self.name)
        if expected is None:
            self._add("reference", "", "", Outcome.NOTED, "the reference does not have this column")
            return
        try:
            actual = expected.measure(self.column)
        except SchemaError:
            self._add("type", "numbers (reference)", str(self.series.dtype), Outcome.FAILED)
            return
        self.expected, self.actual = expected, actual
        if isinstance(expected, NumericProfile) and isinstance(actual, NumericProfile):
            self._outside_reference(actual)
        elif isinstance(expected, CategoricalProfile) and isinstance(actual, CategoricalProfile):
            self._unseen_by(expected)
        if self.found == "moment":
            return
        self.drift = drift(expected, actual, column=self.name)
        self._shift(self.drift)

    def _outside_reference(self, actual: NumericProfile) -> None:
        """Only for the eye: a gate needs `min` and `max` in model.yaml."""
        values, outside = sum(actual.counts), actual.below + actual.above
        if self.found == "moment" or not values or self.gate.min is not None:
            return
        if self.gate.max is None and outside / values > self.gates.max_out_of_range:
            share = _percent(outside / values)
            self._add("outside the reference", "", share, Outcome.NOTED, "no min and max are set")

    def _unseen_by(self, expected: CategoricalProfile) -> None:
        if self.gate.categories is not None:
            return
        texts, _ = self.column.texts()
        known = set(expected.values)
        # A training set with more categories than a profile keeps has some "unseen" itself.
        trained = expected.total - expected.nulls
        usual = expected.unseen / trained if trained else 0.0
        self._unseen({t: n for t, n in texts.items() if t not in known}, sum(texts.values()), usual)

    def _shift(self, found: Drift) -> None:
        limit = _first(self.gate.max_psi, self.gates.max_psi)
        text = "–" if math.isnan(found.psi) else f"{found.psi:.3f}"
        if self.name in self.gates.ignore:
            self._add("drift (PSI)", "", text, Outcome.NOTED, "not gated: ignored in model.yaml")
        elif found.samples < MIN_SAMPLES:
            few = f"{found.samples:,} rows on one side, {MIN_SAMPLES} are needed"
            self._add("drift (PSI)", f"≤ {limit:g}", text, Outcome.INCONCLUSIVE, few)
        elif found.psi <= limit:
            self._add("drift (PSI)", f"≤ {limit:g}", text, Outcome.PASSED, found.verdict)
        elif found.psi <= found.chance:
            chance = f"chance alone gives up to {found.chance:.3f} with so few rows"
            self._add("drift (PSI)", f"≤ {limit:g}", text, Outcome.INCONCLUSIVE, chance)
        else:
            self._add("drift (PSI)", f"≤ {limit:g}", text, Outcome.FAILED, found.verdict)

    def _share(self, measure: str, value: float, limit: float, detail: str) -> None:
        failed = value > limit
        outcome = Outcome.FAILED if failed else Outcome.PASSED
        self._add(measure, f"≤ {_percent(limit)}", _percent(value), outcome, detail)

    def _add(
        self, measure: str, limit: str, value: str, outcome: Outcome, detail: str = ""
    ) -> None:
        self.findings.append(Finding(self.name, measure, limit, value, outcome, detail))


def _family(type_name: str) -> str:
    """What a type name of Feast, Arrow or Polars means for the checks."""
    name = type_name.lower()
    families = (
        ("integer", ("int", "uint")),
        ("float", ("float", "double", "decimal", "halffloat")),
        ("text", ("str", "utf8", "large_string", "categorical", "enum", "dictionary", "uuid")),
        ("boolean", ("bool",)),
        ("moment", ("timestamp", "datetime", "date", "unix_timestamp")),
        ("nothing", ("null",)),
    )
    if "[" in name and not name.startswith(("timestamp", "datetime", "decimal", "enum")):
        return "other"  # arrays of anything
    for family, starts in families:
        if name.startswith(starts) and not name.startswith("struct"):
            return family
    return "other"


def _whole(column: Column) -> bool:
    values: Any = column.numbers()
    finite = values[np.isfinite(values)]
    return bool(np.all(finite == np.floor(finite)))


def _first(own: float | None, general: float) -> float:
    return general if own is None else own


def _percent(share: float) -> str:
    """Enough digits that a value above its limit never reads like it."""
    text = f"{100 * share:.2f}".rstrip("0").rstrip(".")
    return f"{text} %" if text != "0" or share == 0 else f"{100 * share:.2g} %"
