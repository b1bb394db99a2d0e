"""Rolling counts and means, with a row at each moment at which a fact becomes known.

A window's sum is the difference of two running totals: up to the moment, and up to the moment less
the window. Totals are integers, so a value depends on nothing but the facts inside its window,
whatever else is computed beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import polars as pl

KNOWN = "known_at"


def running_totals(
    facts: pl.DataFrame, keys: Sequence[str], amounts: Mapping[str, pl.Expr]
) -> pl.DataFrame:
    """Per key and moment, the sum of each integer amount over all facts known by then.

    `facts` has the key columns and `known_at`; facts with a null key or time are left out.
    Returns keys, `known_at` (unique per key, ascending) and one Int64 column per amount.
    """
    return (
        facts.drop_nulls([*keys, KNOWN])
        .select(*keys, KNOWN, **{name: amount.cast(pl.Int64) for name, amount in amounts.items()})
        .group_by(*keys, KNOWN)
        .agg(pl.col(list(amounts)).sum())
        .sort(KNOWN, *keys)
        .with_columns(pl.col(name).cum_sum().over(keys) for name in amounts)
    )


def moments(*totals: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Every (key, moment) at which any of the totals changes, ascending in time."""
    changes = [frame.select(*keys, KNOWN) for frame in totals]
    return pl.concat(changes).unique().sort(KNOWN, *keys)


def totals_at(
    at: pl.DataFrame,
    totals: pl.DataFrame,
    keys: Sequence[str],
    *,
    back: timedelta = timedelta(0),
) -> pl.DataFrame:
    """The totals as they stood `back` before each moment of `at`; 0 before the first fact.

    Returns one row per row of `at`, in its order, with the amounts only.
    """
    amounts = [name for name in totals.columns if name not in (*keys, KNOWN)]
    return (
        at.select(*keys, (pl.col(KNOWN) - back).alias(KNOWN))
        .join_asof(totals, on=KNOWN, by=list(keys), strategy="backward", check_sortedness=False)
        .select(pl.col(amounts).fill_null(0))
    )


def within(
    at: pl.DataFrame, totals: pl.DataFrame, keys: Sequence[str], window: timedelta
) -> pl.DataFrame:
    """Each amount over the facts with `moment - window < known_at <= moment`.

    Returns one row per row of `at`, in its order, with the amounts only.
    """
    end = totals_at(at, totals, keys)
    start = totals_at(at, totals, keys, back=window)
    return end.select(end[name] - start[name] for name in end.columns)


def mean(total: str, count: str) -> pl.Expr:
    """`total / count`, null where there is nothing to average."""
    return pl.when(pl.col(count) > 0).then(pl.col(total) / pl.col(count))
