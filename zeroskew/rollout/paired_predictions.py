"""The answers of two versions to the same request, side by side.

A mirrored request reaches both versions with the same id, so that (request id, row) pairs what they
logged. An id that a client used twice tells nobody which answer belongs to which: all its rows are
left out, and counted.

Rows come in spans of time, and what is kept of a pair is a few bytes, so that the width of the
model and the length of the window do not decide how much memory it takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

KEY = ("request_id", "row")
SLACK = timedelta(seconds=60)
"""A copy may be answered that much before or after its original."""
IN_FLIGHT = timedelta(seconds=2)
"""Of a request answered this shortly after the first copy, or before the last, the copy may never
have been sent, or may be answered still."""
SILENCE = timedelta(minutes=10)
"""A challenger whose log holds nothing at all got no copy of what was answered this long before the
champion's last answer: logs arrive within a minute or two."""
TOLERANCE = 1e-6
"""Relative difference above which two floats are different values of a feature."""
EXAMPLES = 10


@dataclass(frozen=True)
class Pairs:
    """What came of a window."""

    frame: pl.DataFrame
    """A row per pair: `champion_score`, `challenger_score`; `mismatched` (a feature differs) and
    `read_apart` (a feature view was updated between the two reads); `champion_<column>` of the
    columns to keep."""
    lonely: pl.DataFrame
    """Rows of the champion that the challenger had a copy of and did not answer: `answered_at` and
    the columns to keep."""
    uncalled: int = 0
    """Rows of the challenger that the champion's log should hold and does not."""
    ambiguous: int = 0
    """Request ids left out because a client used them more than once."""
    differing: Mapping[str, int] = field(default_factory=dict)
    """By feature, the pairs in which it differs, of those not read apart."""
    examples: pl.DataFrame | None = None
    """The pairs whose scores differ most: every column twice, and `difference`."""
    requests: int = 0
    """Of the champion while copies were sent, as far as both logs are complete."""
    copies: int = 0
    """Of these, those that the challenger answered as well."""

    @property
    def unanswered(self) -> int:
        return self.lonely.height


class Pairing:
    """Takes the rows of both versions in order of time, and gives their pairs."""

    def __init__(
        self,
        *,
        compared: Sequence[str] = (),
        ages: Sequence[str] = (),
        keep: Sequence[str] = (),
        repeated: pl.Series | None = None,
    ) -> None:
        """`compared`: features; `ages`: columns with a view's age in milliseconds; `repeated`: ids
        used twice, of `repeated_ids`."""
        self._compared, self._ages, self._keep = tuple(compared), tuple(ages), tuple(keep)
        self._repeated = repeated
        self._waiting: list[pl.DataFrame] | None = None
        self._pairs: list[pl.DataFrame] = []
        self._lonely: tuple[list[pl.DataFrame], list[pl.DataFrame]] = ([], [])
        self._examples: pl.DataFrame | None = None
        self._differing = dict.fromkeys(self._compared, 0)
        self._seen: list[tuple[datetime, datetime] | None] = [None, None]
        self._requests: tuple[list[pl.Series], list[pl.Series]] = ([], [])
        """When the champion answered: requests that have a pair, and those that have none."""

    def add(
        self, champion: pl.DataFrame, challenger: pl.DataFrame, upto: datetime | None = None
    ) -> None:
        """Rows answered before `upto` and after those added before; None: they are the last."""
        import polars as pl

        sides = [self._fresh(at, frame) for at, frame in enumerate((champion, challenger))]
        if self._waiting is not None:
            sides = [pl.concat(both) for both in zip(self._waiting, sides, strict=True)]
        one, other = sides
        named = [
            frame.rename({name: f"{who}_{name}" for name in frame.columns})
            for who, frame in (("champion", one), ("challenger", other))
        ]
        both = named[0].join(
            named[1],
            left_on=[f"champion_{name}" for name in KEY],
            right_on=[f"challenger_{name}" for name in KEY],
            how="inner",
            coalesce=False,
        )
        apart = (pl.col("champion_answered_at") - pl.col("challenger_answered_at")).abs()
        both = both.filter(apart <= SLACK)
        self._take(both)
        met = both.select(pl.col(f"champion_{name}").alias(name) for name in KEY)
        self._waiting = []
        for at, frame in enumerate((one, other)):
            left = frame.join(met, on=KEY, how="anti")
            waits = left["answered_at"] >= upto - SLACK if upto else left["answered_at"].is_null()
            self._waiting.append(left.filter(waits))
            gone = left.filter(~waits)
            if at == 0:
                self._requests[1].append(gone.filter(pl.col("row") == 0)["answered_at"])
            self._lonely[at].append(gone.select("answered_at", *(self._keep if at == 0 else ())))

    def pairs(
        self, complete_until: tuple[datetime | None, datetime | None] = (None, None)
    ) -> Pairs:
        """All pairs.

        `complete_until`: up to when the logs of champion and challenger are there for sure, where
        that is not their last row (a server whose log comes later than another's).
        """
        import polars as pl

        lost = []
        for at in (0, 1):
            there, known = self._seen[1 - at], complete_until[1 - at]
            frame = pl.concat(self._lonely[at])
            if there is None:
                lost.append(frame.clear())
                continue
            first = there[0] + IN_FLIGHT
            last = min(there[1], known or there[1]) - IN_FLIGHT
            lost.append(frame.filter(pl.col("answered_at").is_between(first, last)))
        copies, alone = self._counted(complete_until[1])
        return Pairs(
            frame=pl.concat(self._pairs),
            lonely=lost[0],
            uncalled=lost[1].height,
            ambiguous=0 if self._repeated is None else len(self._repeated),
            differing=dict(self._differing),
            examples=self._examples,
            requests=copies + alone,
            copies=copies,
        )

    def _counted(self, complete_until: datetime | None) -> tuple[int, int]:
        """Requests with and without a copy, of the time in which both would have been seen."""
        champion, challenger = self._seen
        if champion is None:
            return 0, 0
        if challenger is None:
            first, last = champion[0], champion[1] - SILENCE
        else:
            first = challenger[0] + IN_FLIGHT
            last = min(challenger[1], complete_until or challenger[1]) - IN_FLIGHT
        paired, alone = (
            sum(int(each.is_between(first, last).sum()) for each in side) for side in self._requests
        )
        return paired, alone

    def _fresh(self, at: int, frame: pl.DataFrame) -> pl.DataFrame:
        import polars as pl

        if self._repeated is not None and len(self._repeated):
            frame = frame.filter(~pl.col("request_id").hash().is_in(self._repeated.implode()))
        if frame.height:
            first: Any = frame["answered_at"].min()
            last: Any = frame["answered_at"].max()
            before = self._seen[at] or (first, last)
            self._seen[at] = min(first, before[0]), max(last, before[1])
        return frame

    def _take(self, both: pl.DataFrame) -> None:
        import polars as pl

        whole = both.filter(pl.col("champion_row") == 0)
        self._requests[0].append(whole["champion_answered_at"])
        kinds = both.schema
        differs = {
            name: _differs(name, kinds[f"champion_{name}"], kinds[f"challenger_{name}"])
            for name in self._compared
        }
        moved = pl.any_horizontal(pl.lit(False), *(_updated(name) for name in self._ages))
        gap = (pl.col("champion_score") - pl.col("challenger_score")).abs()
        marked = both.with_columns(
            *(expression.alias(f" {name}") for name, expression in differs.items()),
            moved.alias("read_apart"),
            gap.fill_nan(math.inf).alias("difference"),
        )
        marks = [f" {name}" for name in self._compared]
        together = marked.filter(~pl.col("read_apart"))
        for name in self._compared:
            self._differing[name] += int(together[f" {name}"].sum())
        self._pairs.append(
            marked.select(
                "champion_score",
                "challenger_score",
                pl.any_horizontal(pl.lit(False), *marks).alias("mismatched"),
                "read_apart",
                *(f"champion_{name}" for name in self._keep),
            )
        )
        most = [marked.drop(marks)]
        if self._examples is not None:
            most.append(self._examples)
        self._examples = pl.concat(most).sort("difference", descending=True).head(EXAMPLES)


def repeated_ids(champion: Iterable[pl.DataFrame], challenger: Iterable[pl.DataFrame]) -> pl.Series:
    """Hashes of the request ids that have the same row twice on a side (columns of `KEY`)."""
    import polars as pl

    found = []
    for side in (champion, challenger):
        keys = [
            frame.select(pl.col("request_id").hash().alias("id"), "row")
            for frame in side
            if frame.height
        ]
        if keys:
            rows = pl.concat(keys)
            found.append(rows.filter(rows.is_duplicated())["id"].unique())
    return pl.concat(found).unique() if found else pl.Series("id", [], pl.UInt64)


def pair(
    champion: pl.DataFrame,
    challenger: pl.DataFrame,
    *,
    compared: Sequence[str] = (),
    ages: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> Pairs:
    """The pairs of rows that are all there already."""
    repeated = repeated_ids([champion], [challenger])
    pairing = Pairing(compared=compared, ages=ages, keep=keep, repeated=repeated)
    pairing.add(champion, challenger)
    return pairing.pairs()


def comparable(left: Any, right: Any) -> bool:
    """Whether two versions mean the same by a column: its types are equal, or numbers."""
    return bool(left == right or (left.is_numeric() and right.is_numeric()))


def _differs(name: str, left: Any, right: Any) -> pl.Expr:
    """True where a feature differs; nulls and NaN are equal to each other and to nothing else."""
    import polars as pl

    one, other = pl.col(f"champion_{name}"), pl.col(f"challenger_{name}")
    if not (left.is_float() or right.is_float()):
        return one.ne_missing(other)
    one, other = (side.cast(pl.Float64).fill_nan(None) for side in (one, other))
    close = ((one - other).abs() <= TOLERANCE * pl.max_horizontal(one.abs(), other.abs())) & (
        one.is_finite() & other.is_finite()
    )
    return one.ne_missing(other) & ~close.fill_null(False)


def _updated(age: str) -> pl.Expr:
    """True where the values of a view are of different moments: what was asked about, less the age.

    Ages are cut to milliseconds, so that equal moments come out less than one apart. A view that
    one of the two did not find at all is no update: that is a difference.
    """
    import polars as pl

    moments = [
        pl.col(f"{who}_event_time").dt.timestamp("us") - 1000 * pl.col(f"{who}_{age}")
        for who in ("champion", "challenger")
    ]
    return ((moments[0] - moments[1]).abs() >= 1000).fill_null(False)
