"""The as-of probe on plain arrays: which source row answers each question.

One integer per row, `key code x time`, turns "latest row of this key before this moment" into one
binary search. The features themselves are never sorted; whoever calls gathers them by row number.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]

NO_ROW = -1


def latest_rows(
    code: Ints,
    event: Ints,
    created: Ints | None,
    asked_code: Ints,
    asked: Ints,
    *,
    ttl: int | None = None,
    visible_when_created: bool = True,
) -> Ints:
    """Number of the source row that answers each question, or `NO_ROW`.

    Source rows have a key `code`, the moment `event` they speak of and, perhaps, the moment
    `created` they were written. The answer to `(asked_code, asked)` is the row of that code with
    the largest `(event, created, row number)` among those with `event <= asked` and, if
    `visible_when_created`, `created <= asked`; and none if it is older than `ttl`. Times share one
    unit. Rows and questions with a negative code take no part.

    A row becomes visible at `max(event, created)`; the winner among the visible rows of a key is a
    running maximum along that axis, so that one probe answers even where rows were written late.
    """
    answer = np.full(len(asked), NO_ROW, np.int64)
    taking_part = np.flatnonzero(code >= 0) if len(code) and code.min() < 0 else None
    if taking_part is not None:
        code, event = code[taking_part], event[taking_part]
        created = None if created is None else created[taking_part]
    if not len(code) or not len(asked):
        return answer

    axis = _Axis(event, int(code.max()))
    key = axis.place(code, event)
    order = _ascending(key)
    if order is not None:
        key = key[order]
    order = _break_ties(key, order, created)

    late = created is not None and visible_when_created and bool((created > event).any())
    if late:
        assert created is not None
        visible = np.maximum(event, created)
        axis = _Axis(visible, int(code.max()))
        key = axis.place(code, visible)
        del visible
        if order is not None:
            key = key[order]
        by_visibility = _ascending(key)
        if by_visibility is not None:
            key = key[by_visibility]
            # Positions along (code, event, created): a running maximum never crosses into the next
            # code, whose positions are all larger.
            winner = np.maximum.accumulate(by_visibility)
            order = winner if order is None else order[winner]

    place = axis.ask(asked_code, asked)
    position = _search(key, place)
    found = (position >= 0) & (asked_code >= 0) & (place >= 0)
    at = np.where(found, position, 0)
    found &= key[at] >= axis.start(asked_code)
    rows = at if order is None else order[at].astype(np.int64, copy=False)
    if ttl is not None:
        # Unsigned, so that moments at both ends of the calendar do not wrap around.
        age = (asked - event[rows]).view(np.uint64)
        found &= age <= np.uint64(ttl)
    if taking_part is not None:
        rows = taking_part[rows]
    answer[found] = rows[found]
    return answer


class _Axis:
    """Places `(code, time)` on one line of int64, codes outermost."""

    def __init__(self, time: Ints, last_code: int) -> None:
        low, high = int(time.min()), int(time.max())
        self._low, self._ranks = low, None
        self._span = high - low + 1
        if self._span * (last_code + 1) >= 2**62:
            # Too many codes over too long a time: the order of the moments is enough.
            self._ranks = np.unique(time)
            self._span = len(self._ranks)
        self._last_code = last_code

    def place(self, code: Ints, time: Ints) -> Ints:
        """Of source rows, whose times all lie on the axis."""
        steps = time - self._low if self._ranks is None else np.searchsorted(self._ranks, time)
        return code * self._span + steps

    def ask(self, code: Ints, time: Ints) -> Ints:
        """Of questions: the last place of the code not after `time`; negative if before all."""
        if self._ranks is None:
            late = np.minimum(time, self._low + self._span - 1)
            steps = np.where(time < self._low, -1, np.maximum(late, self._low) - self._low)
        else:
            steps = np.searchsorted(self._ranks, time, "right") - 1
        inside = (code >= 0) & (code <= self._last_code) & (steps >= 0)
        return np.where(inside, code * self._span + steps, -1)

    def start(self, code: Ints) -> Ints:
        """First place of the code."""
        return code * self._span


def _ascending(key: Ints) -> NDArray[np.uint32] | Ints | None:
    """Order that sorts `key`, None if it is sorted already. Equal keys come in any order."""
    if bool((key[1:] >= key[:-1]).all()):
        return None
    return pl.Series(key).arg_sort().to_numpy()


def _break_ties(
    key: Ints, order: NDArray[np.uint32] | Ints | None, created: Ints | None
) -> NDArray[np.uint32] | Ints | None:
    """Put rows of equal key into the order of creation, then of the source."""
    equal = key[1:] == key[:-1]
    if not equal.any():
        return order
    if order is None:
        if created is None:
            return None
        order = np.arange(len(key), dtype=np.int64)
    tied = np.zeros(len(key), bool)
    tied[1:] |= equal
    tied[:-1] |= equal
    where = np.flatnonzero(tied)
    rows = order[where]
    columns = (rows, key[where]) if created is None else (rows, created[rows], key[where])
    order = order.copy() if not order.flags.writeable else order
    order[where] = rows[np.lexsort(columns)]
    return order


def _search(key: Ints, place: Ints) -> Ints:
    """Last position with `key <= place`. Sorted questions walk memory once."""
    order = pl.Series(place).arg_sort().to_numpy()
    position = np.empty(len(place), np.int64)
    position[order] = np.searchsorted(key, place[order], "right") - 1
    return position
