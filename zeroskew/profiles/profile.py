"""A profile of a whole table: one histogram per column, and the JSON form they travel in."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroskew.errors import DataError, SchemaError
from zeroskew.profiles.categorical import CategoricalProfile
from zeroskew.profiles.columns import Column, columns_of
from zeroskew.profiles.numeric import NumericProfile, whole

ColumnProfile = NumericProfile | CategoricalProfile

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Profile:
    """Histograms by column name, all of the same `rows`."""

    columns: Mapping[str, ColumnProfile]
    rows: int

    @classmethod
    def learn(cls, columns: Any, bins: int = 10, *, categorical: Collection[str] = ()) -> Profile:
        """Freeze bins at what `columns` holds, and count it.

        `columns` is a mapping of name to column or a Polars, pandas or Arrow table. Numbers get at
        most `bins` quantile bins, texts a bin per value; `categorical` names number columns that
        are identifiers and shall be counted by value. A column of nothing but nulls without a
        type is categorical. Raises `SchemaError` for columns of unequal length or without a
        distribution (lists of arrays, structures).
        """
        if bins < 2:
            raise DataError(f"{bins} bins cannot show a distribution", mend="ask for at least 2")
        learnt: dict[str, ColumnProfile] = {}
        rows = _Rows()
        for name, raw in columns_of(columns):
            column = Column(raw, name)
            rows.check(name, column.length)
            if column.kind == "numbers" and name not in categorical:
                learnt[name] = NumericProfile.learn(column, bins)
            else:
                learnt[name] = CategoricalProfile.learn(column)
        return cls(learnt, rows.count)

    def measure(self, columns: Any) -> Profile:
        """Count other rows with the same frozen bins; columns unknown here are left out.

        Raises `SchemaError` that names every column that is missing, or one that holds text
        where this profile has numbers.
        """
        given = dict(columns_of(columns))
        missing = [name for name in self.columns if name not in given]
        if missing:
            raise SchemaError(
                f"columns of the profile are missing: {', '.join(missing)}",
                mend="add them, or measure with `profile.select(names)`",
            )
        rows = _Rows()
        measured: dict[str, ColumnProfile] = {}
        for name, profile in self.columns.items():
            column = Column(given[name], name)
            rows.check(name, column.length)
            measured[name] = profile.measure(column)
        return Profile(measured, rows.count)

    def select(self, names: Iterable[str]) -> Profile:
        """The same profile with only these columns; names it does not have are left out."""
        return Profile({n: self.columns[n] for n in names if n in self.columns}, self.rows)

    def merge(self, other: Profile) -> Profile:
        """The profile of both sets of rows, as if they had been counted together.

        Raises `DataError` where bins or columns differ.
        """
        if set(self.columns) != set(other.columns):
            differ = sorted(set(self.columns) ^ set(other.columns))
            raise DataError(f"profiles of different columns do not merge: {', '.join(differ)}")
        merged: dict[str, ColumnProfile] = {}
        for name, here in self.columns.items():
            there = other.columns[name]
            require_same_bins(here, there, name)
            merged[name] = here.merge(there)  # type: ignore[arg-type]
        return Profile(merged, self.rows + other.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` gives back an equal profile."""
        return {
            "format": FORMAT,
            "rows": self.rows,
            "columns": {name: column.to_json() for name, column in self.columns.items()},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any] | str | bytes) -> Profile:
        """Read `to_json`, as text or parsed. Raises `DataError` that says what is wrong."""
        if isinstance(raw, str | bytes):
            try:
                raw = json.loads(raw)
            except ValueError as error:
                raise DataError(f"not valid JSON: {error}") from None
        if not isinstance(raw, Mapping) or not isinstance(raw.get("columns"), Mapping):
            raise DataError(
                "this JSON is no profile: `columns` is missing",
                mend="make one with `zeroskew profile FILE --out profile.json`",
            )
        if raw.get("format") != FORMAT:
            raise DataError(
                f"profile format {raw.get('format')!r}; this version reads {FORMAT}",
                mend="make the profile again with this version",
            )
        columns = {name: _column(name, column) for name, column in raw["columns"].items()}
        try:
            return cls(columns, whole(raw.get("rows")))
        except DataError as error:
            raise DataError(f"`rows`: {error.what}") from None

    def save(self, path: str | Path) -> None:
        """Write the JSON form; the file appears whole or not at all."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
            partial.replace(target)
        except OSError as error:
            raise DataError(
                f"cannot be written: {error.strerror or error}", where=str(target)
            ) from None
        finally:
            with suppress(OSError):
                partial.unlink()

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """Read a file of `save`. Raises `DataError` that names the file."""
        try:
            text = Path(path).read_bytes()
        except FileNotFoundError:
            raise DataError(
                "there is no such profile",
                where=str(path),
                mend="make one with `zeroskew profile FILE --out profile.json`",
            ) from None
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from None
        try:
            return cls.from_json(text)
        except DataError as error:
            raise DataError(error.what, where=str(path), mend=error.mend) from None


def require_same_bins(here: ColumnProfile, there: ColumnProfile, name: str) -> None:
    """Raise `DataError` unless both were counted with the same frozen bins."""
    if here.same_bins(there):
        return
    column = f"column `{name}`" if name else "the column"
    if here.kind != there.kind:
        what = f"{column} is {here.kind} in one profile and {there.kind} in the other"
    else:
        what = f"{column} was counted with other bins in each profile"
    raise DataError(
        what,
        mend="measure both with the same frozen profile: `reference.measure(columns)`",
    )


def _column(name: str, raw: Any) -> ColumnProfile:
    kinds: dict[str, Any] = {"numeric": NumericProfile, "categorical": CategoricalProfile}
    try:
        return kinds[raw["kind"]].from_json(raw)
    except DataError as error:
        raise DataError(f"column `{name}`: {error.what}") from None
    except KeyError as error:
        raise DataError(f"column `{name}`: {error.args[0]!r} is missing or unknown") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"column `{name}`: {error}") from None


class _Rows:
    """Remembers the first column's length and refuses another."""

    def __init__(self) -> None:
        self.first: str | None = None
        self.count = 0

    def check(self, name: str, length: int) -> None:
        if self.first is None:
            self.first, self.count = name, length
        elif length != self.count:
            raise SchemaError(
                f"column `{name}` has {length:,} rows, `{self.first}` has {self.count:,}",
                mend="give columns of one table",
            )
