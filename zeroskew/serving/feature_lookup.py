"""Features of a batch from the online store, within a deadline; what happens without them.

A store that is slow or gone costs a request at most the deadline, and after a few of them nothing:
the breaker answers at once until the store does again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroskew.errors import OnlineStoreUnavailable
from zeroskew.features.online_reader import OnlineReader, OnlineRows
from zeroskew.serving.circuit_breaker import CircuitBreaker


class FeatureLookup:
    """Reads through a breaker."""

    def __init__(self, reader: OnlineReader, breaker: CircuitBreaker, *, degrade: bool) -> None:
        """`degrade`: answer `None` instead of raising while the store is not there."""
        self.reader, self.breaker, self._degrade = reader, breaker, degrade
        self.failures = 0
        """Reads that got no answer, those the breaker spared not counted."""

    def read(
        self,
        columns: Mapping[str, Sequence[Any]],
        now: NDArray[np.int64] | None = None,
    ) -> OnlineRows | None:
        """The features of every row, None if they must be done without.

        `now`: microseconds since the epoch of every row, what staleness is judged against; None:
        the clock. Raises `OnlineStoreUnavailable` unless `degrade`, `FeatureStoreError` if the
        store holds something else than the plan says.
        """
        if not self.breaker.allows():
            if self._degrade:
                return None
            raise OnlineStoreUnavailable(
                "the online store does not answer; it is tried again shortly",
                where=self.reader.address,
            )
        try:
            rows = self.reader.read(columns, now)
        except OnlineStoreUnavailable:
            self.failures += 1
            self.breaker.failed()
            if self._degrade:
                return None
            raise
        self.breaker.succeeded()
        return rows
