"""Counting an audit chunk by chunk: outcomes and causes per feature, hours, and a few examples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from zeroskew.features.audit_causes import (
    CAUSES,
    DEFINITION,
    EVENT_TIME,
    EXPIRED,
    INPUT,
    LATE,
    NO_TIME,
    NOT_IN_SOURCE,
    OTHER_ENTITY,
    REWRITTEN,
    STALE,
    TRANSFORM,
    UNAVAILABLE,
    ViewEvidence,
)
from zeroskew.features.audit_compare import MATCH, OUTCOMES, Codes
from zeroskew.features.audit_evidence import micros
from zeroskew.features.audit_log import own
from zeroskew.features.audit_result import Example, FeatureCounts, Period

HOUR = 3_600_000_000
MOST_HOURS = 7 * 24
"""Longer spans are told by day."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Evidence = Mapping[str, tuple[Any, ViewEvidence]]


class Tally:
    """Sums over chunks; its size does not depend on the rows."""

    def __init__(
        self,
        kinds: Mapping[str, str],
        places: Mapping[str, str],
        keys: Mapping[str, Sequence[str]],
        examples: int,
    ) -> None:
        """`kinds`, `places` and `keys`: declared type, view and entity columns of every feature."""
        self._kinds, self._places, self._keys, self._most = kinds, places, keys, examples
        self._counts = {n: np.zeros((len(OUTCOMES), len(CAUSES)), np.int64) for n in kinds}
        self._examples: dict[tuple[str, int], list[Example]] = {}
        self._hours: dict[int, list[int]] = {}
        self.rows = self.different = 0
        self.versions: set[str] = set()
        self.roles: set[str] = set()

    def add(
        self,
        rows: pl.DataFrame,
        joined: pl.DataFrame,
        found: Mapping[str, Codes],
        causes: Mapping[str, Codes],
        evidence: Evidence,
    ) -> None:
        """Count a chunk. `causes` has the features with any difference."""
        differs = np.zeros(rows.height, np.bool_)
        for name, outcome in found.items():
            counts = self._counts[name]
            if name not in causes:
                counts[MATCH, 0] += rows.height
                continue
            differs |= outcome != MATCH
            pair = outcome.astype(np.int64) * len(CAUSES) + causes[name]
            counts += np.bincount(pair, minlength=counts.size).reshape(counts.shape)
            self._keep(rows, joined, name, outcome, causes[name], evidence)
        self.rows += rows.height
        self.different += int(differs.sum())
        self.versions |= set(rows.get_column(own("model_version")).drop_nulls().unique())
        self.roles |= set(rows.get_column(own("role")).drop_nulls().unique())
        hours = micros(rows, own("answered_at")) // HOUR
        for hour in np.unique(hours).tolist():
            here = hours == hour
            total = self._hours.setdefault(hour, [0, 0])
            total[0] += int(here.sum())
            total[1] += int((here & differs).sum())

    def features(self) -> tuple[FeatureCounts, ...]:
        """In the service's order."""
        made = []
        for name, counts in self._counts.items():
            total = counts.sum(axis=1).tolist()
            causes = {
                outcome: {
                    cause: int(count)
                    for cause, count in zip(CAUSES, counts[code], strict=True)
                    if count
                }
                for code, outcome in enumerate(OUTCOMES)
                if code != MATCH and total[code]
            }
            made.append(
                FeatureCounts(
                    name,
                    self._kinds[name],
                    self._places[name],
                    total[0],
                    total[1],
                    total[2],
                    total[3],
                    causes,
                )
            )
        return tuple(made)

    def examples(self) -> tuple[Example, ...]:
        """By feature in the service's order, then by cause."""
        order = {name: at for at, name in enumerate(self._kinds)}
        listed = sorted(self._examples, key=lambda key: (order[key[0]], key[1]))
        return tuple(example for key in listed for example in self._examples[key])

    def periods(self) -> tuple[str, tuple[Period, ...]]:
        """`hour` or `day`, and the rows of each that had any."""
        hours = sorted(self._hours)
        unit = 24 if hours and hours[-1] - hours[0] >= MOST_HOURS else 1
        sums: dict[int, list[int]] = {}
        for hour in hours:
            total = sums.setdefault(hour // unit * unit, [0, 0])
            total[0] += self._hours[hour][0]
            total[1] += self._hours[hour][1]
        made = tuple(
            Period((_EPOCH + timedelta(hours=start)).isoformat(), *total)
            for start, total in sums.items()
        )
        return ("day" if unit == 24 else "hour"), made

    # --- examples --------------------------------------------------------------------------------

    def _keep(
        self,
        rows: pl.DataFrame,
        joined: pl.DataFrame,
        name: str,
        outcome: Codes,
        causes: Codes,
        evidence: Evidence,
    ) -> None:
        for cause in np.unique(causes[outcome != MATCH]).tolist():
            kept = self._examples.setdefault((name, cause), [])
            if len(kept) >= self._most:
                continue
            which = np.flatnonzero((outcome != MATCH) & (causes == cause))
            for at in which[: self._most - len(kept)].tolist():
                kept.append(
                    self._example(rows, joined, name, at, int(outcome[at]), cause, evidence)
                )

    def _example(
        self,
        rows: pl.DataFrame,
        joined: pl.DataFrame,
        name: str,
        at: int,
        outcome: int,
        cause: int,
        evidence: Evidence,
    ) -> Example:
        row = rows.row(at, named=True)
        served, wanted = row[name], joined.get_column(name)[at]
        told: ViewEvidence | None = None
        position = 0
        if self._places[name] in evidence:
            which, told = evidence[self._places[name]]
            position = int(np.searchsorted(which, at))
        age = None
        if told is not None and told.age_ms[position] != NO_TIME:
            age = float(told.age_ms[position]) / 1000
        return Example(
            feature=name,
            outcome=OUTCOMES[outcome],
            cause=CAUSES[cause],
            evidence=_evidence(cause, told, position, served, wanted, self._kinds[name]),
            served=_plain(served),
            joined=_plain(wanted),
            request_id=str(row[own("request_id")]),
            row=int(row[own("row")] or 0),
            event_time=_plain(row[own("event_time")]) or "",
            answered_at=_plain(row[own("answered_at")]) or "",
            entity={key: _plain(row[key]) for key in self._keys[name]},
            version=str(row[own("model_version")]),
            role=str(row[own("role")]),
            age_seconds=age,
        )


def _evidence(
    cause: int, told: ViewEvidence | None, at: int, served: Any, joined: Any, kind: str
) -> str:
    """The reason in words, with the times it rests on."""
    if cause == TRANSFORM:
        return _alike("its inputs match, the result does not", served, joined, kind)
    if cause == INPUT:
        return "an input of the computation differs: see that feature"
    if cause == UNAVAILABLE:
        return "the server answered without the online store"
    if told is None:
        return "no source can be looked at"
    event, answered = int(told.event[at]), int(told.answered[at])
    age = int(told.age_ms[at])
    seen = "nothing was in the store" if age == NO_TIME else (
        f"served: the value of {_clock(event - age * 1000)}"
    )  # fmt: skip
    newest = int(told.joined_time[at])
    takes = "the join has none" if newest == NO_TIME else f"the join takes that of {_clock(newest)}"
    created = int(told.joined_created[at])
    if cause == EVENT_TIME:
        return (
            f"{seen}, {takes}; the event time {_clock(event)} is "
            f"{_span(event - answered)} the answer at {_clock(answered)}"
        )
    if cause == LATE:
        if told.same_row[at] or told.newer_joined[at]:
            known = created if created != NO_TIME else told.changed_at
            how = "created" if created != NO_TIME else "and the file was written"
            return f"{seen}, {takes}, {how} {_clock(known)}, after the answer at {_clock(answered)}"
        made = int(told.served_created[at])
        return f"{seen}, created {_clock(made)}, after the event time {_clock(event)}"
    if cause == STALE:
        until = told.materialised_until
        reached = f"; materialised until {_clock(until)}" if until != NO_TIME else ""
        return f"{seen}, {takes}, which was there before the answer{reached}"
    if cause == OTHER_ENTITY:
        return f"{seen}, which the source has for exactly one other entity"
    if cause == NOT_IN_SOURCE:
        return f"{seen}, of which time the source has none for this entity; {takes}"
    if cause == EXPIRED:
        return f"{seen}, {_span(age * 1000, '')} old with a TTL of {_span(told.ttl, '')}"
    if cause == DEFINITION:
        ttl = f"; the TTL is {_span(told.ttl, '')} now" if told.ttl else ""
        return _alike(f"{seen}, {takes}; the version has other definitions{ttl}", served, joined,
                      kind)  # fmt: skip
    if cause == REWRITTEN and not told.same_row[at]:
        return f"{seen}, of which time the source has another value; {takes}"
    if cause == REWRITTEN:
        return _alike(f"{seen}, as the join, with another value", served, joined, kind)
    return f"{seen}, {takes}"


def _alike(text: str, served: Any, joined: Any, kind: str) -> str:
    """What the two values are to each other, where that tells something."""
    if isinstance(served, str) and isinstance(joined, str):
        if served.casefold() == joined.casefold():
            text += "; they differ in upper and lower case"
        elif served.strip() == joined.strip():
            text += "; they differ in spaces"
    numbers = isinstance(served, int | float) and isinstance(joined, int | float)
    if numbers and kind == "float64" and served == float(np.float32(joined)) != joined:
        text += "; the served one is the joined one in float32"
    elif numbers and joined and math.isfinite(served / joined) and served != joined:
        text += f"; served is {served / joined:.6g} times joined"
    elif joined is None and not served and served is not None:
        text += "; nothing was served as a value"
    return text


def _clock(at: int) -> str:
    if at == NO_TIME:
        return "unknown"
    text = (_EPOCH + timedelta(microseconds=at)).isoformat(sep=" ")
    return text.removesuffix("+00:00") + " UTC"


def _span(microseconds: int, beside: str | None = None) -> str:
    text = str(timedelta(microseconds=abs(microseconds)))
    if beside is not None:
        return text
    return f"{text} {'after' if microseconds > 0 else 'before'}"


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, pl.Series):
        value = value.to_list()
    if isinstance(value, list):
        return json.dumps(value, default=str)
    return value
