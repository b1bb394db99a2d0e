"""From entities to scores, for a whole dynamic batch: look up, transform, encode, score, log.

Nothing here knows Triton: `triton_front` brings the requests and calls the network. One round trip
to the store and one call of the network serve all requests of a batch. What goes wrong with one
request (its values, its entity's cells, a transform that fails on it) is answered to that request
alone: the others are served again without it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroskew.errors import OnlineStoreUnavailable, ZeroskewError
from zeroskew.features.online_reader import MISSING, NO_TIME
from zeroskew.features.read_plan import ReadPlan
from zeroskew.features.row import FeatureRow
from zeroskew.serving.feature_lookup import FeatureLookup
from zeroskew.serving.measures import Measures
from zeroskew.serving.prediction_log import PredictionBatch, PredictionLog
from zeroskew.serving.request_identity import Identity
from zeroskew.serving.request_transforms import RequestTransforms

Score = Callable[[NDArray[np.float32], NDArray[np.int32]], NDArray[np.float32]]
"""The network: encoded rows in, scores `[n, 1]` out."""


@dataclass(slots=True)
class Request:
    """One request whose tensors have been read."""

    identity: Identity
    rows: int
    columns: dict[str, list[Any]]
    event_times: list[int] | None = None
    """Microseconds; None: now."""


@dataclass(slots=True)
class Answer:
    """What one request gets back, n rows."""

    scores: NDArray[np.float32]
    """`[n, 1]`"""
    status: NDArray[np.uint8]
    """PRESENT, MISSING or STALE, `[features, n]`, features as in `Front.features`."""
    degraded: bool


class Front:
    """Serves batches; one per process."""

    def __init__(
        self,
        plan: ReadPlan,
        row: FeatureRow,
        lookup: FeatureLookup,
        transforms: RequestTransforms,
        score: Score,
        *,
        measures: Measures,
        log: PredictionLog | None,
    ) -> None:
        self._plan, self._row, self._lookup, self._transforms = plan, row, lookup, transforms
        self._score, self._measures, self._log = score, measures, log
        self._unrecorded: deque[_Batch] = deque()
        self._recording = threading.Lock()
        self.features = (*plan.stored_names, *transforms.names)
        """Names of all features, stored and computed, in the order of `Answer.status`."""
        self._named = np.array(self.features, object)
        lookup.reader.meanwhile = self.record

    def answer(self, requests: Sequence[Request]) -> list[Answer | ZeroskewError]:
        """One answer or refusal per request, in order."""
        try:
            return list(self._together(requests))
        except OnlineStoreUnavailable as error:
            return [error] * len(requests)
        except ZeroskewError as error:
            if len(requests) == 1:
                return [error]
        return [answer for request in requests for answer in self.answer([request])]

    def record(self) -> None:
        """Log and count what has been answered and was not yet recorded; from any thread.

        Apart from `answer`, so that answers can be on their way before: it happens while the store
        looks up what the next batch wants, or when somebody calls this.
        """
        if self._unrecorded:
            with self._recording:
                self._record()

    def _record(self) -> None:
        while self._unrecorded:
            batch = self._unrecorded.popleft()
            began = time.perf_counter()
            if self._log is not None:
                try:
                    self._log.append(batch.predictions())
                except Exception as error:
                    # It would be the next batch that fails.
                    self._log.give_up(len(batch.scores), error)
            started, looked_up, prepared, scored = batch.moments
            self._measures.ages(batch.asked, batch.view_times)
            self._measures.batch(
                len(batch.scores),
                {
                    "lookup": looked_up - started,
                    "transforms": prepared - looked_up,
                    "model": scored - prepared,
                    "total": scored - started,
                    "log": time.perf_counter() - began,
                },
                batch.status,
                degraded=len(batch.scores) if batch.degraded else 0,
            )

    def warm_up(self, lookup: FeatureLookup) -> None:
        """Run everything but the network once, for an entity that nobody is.

        First calls connect, compile and allocate. A store that is not there, or a transform that
        cannot cope with nothing, is no reason not to start.
        """
        nobody: dict[str, list[Any]] = {name: [None] for name in self._plan.entity_columns}
        columns = nobody | {name: [None] for name in self._plan.request_columns}
        with contextlib.suppress(ZeroskewError):
            rows = lookup.reader.read(columns)
            features = rows.served().columns
            features.update(self._transforms.run({**columns, **features}, 1))
            self._row.encode(features)

    def absent(self, status: NDArray[np.uint8], code: int) -> list[str]:
        """Per row: names of the features whose status is `code`, joined by commas."""
        hits = status == code
        if not hits.any():
            return [""] * status.shape[1]
        return [",".join(self._named[hits[:, row]]) for row in range(status.shape[1])]

    def _together(self, requests: Sequence[Request]) -> list[Answer]:
        started = time.perf_counter()
        columns, now = _joined(requests)
        length = sum(request.rows for request in requests)
        rows = self._lookup.read(columns, now)
        looked_up = time.perf_counter()
        features: dict[str, list[Any]]
        if rows is None:
            features = {name: [None] * length for name in self._plan.stored_names}
            stored = np.full((len(features), length), MISSING, np.uint8)
            times = np.full((len(self._plan.view_names), length), NO_TIME, np.int64)
        else:
            features, stored, times = rows.served()
        computed = self._transforms.run({**columns, **features}, length)
        status = stored
        if computed:
            gaps = [[v is None for v in values] for values in computed.values()]
            status = np.concatenate([stored, np.array(gaps, np.uint8)])
            features.update(computed)
        numeric, categorical = self._row.encode(features)
        prepared = time.perf_counter()
        scores = self._score(numeric, categorical)
        scored = time.perf_counter()
        answered_at = time.time_ns() // 1000
        asked = np.full(length, answered_at) if now is None else now
        answers, at = [], 0
        for request in requests:
            part = slice(at, at + request.rows)
            answers.append(Answer(scores[part], status[:, part], rows is None))
            at += request.rows
        self._unrecorded.append(
            _Batch(
                requests=requests,
                columns=columns | features,
                asked=asked,
                status=status,
                view_times=times,
                scores=scores,
                degraded=rows is None,
                answered_at=answered_at,
                moments=(started, looked_up, prepared, scored),
            )
        )
        return answers


def _joined(requests: Sequence[Request]) -> tuple[dict[str, list[Any]], NDArray[np.int64] | None]:
    """Columns of all requests one after the other, and the moments if any request names its own."""
    first = requests[0]
    if len(requests) == 1:
        columns = first.columns
    else:
        columns = {
            name: [value for request in requests for value in request.columns[name]]
            for name in first.columns
        }
    if all(request.event_times is None for request in requests):
        return columns, None
    now = time.time_ns() // 1000
    moments = [
        moment for request in requests for moment in (request.event_times or [now] * request.rows)
    ]
    return columns, np.array(moments, np.int64)


@dataclass(slots=True)
class _Batch:
    """What has been answered and is to be recorded."""

    requests: Sequence[Request]
    columns: dict[str, list[Any]]
    asked: NDArray[np.int64]
    status: NDArray[np.uint8]
    view_times: NDArray[np.int64]
    scores: NDArray[np.float32]
    degraded: bool
    answered_at: int
    moments: tuple[float, float, float, float]
    """Seconds of a clock: started, looked up, prepared, scored."""

    def predictions(self) -> PredictionBatch:
        ids: list[str] = []
        positions: list[int] = []
        roles: list[str] = []
        traces: list[str | None] = []
        for request in self.requests:
            count, who = request.rows, request.identity
            ids += [who.request_id] * count
            positions += range(count)
            roles += [who.role] * count
            traces += [who.trace_id] * count
        return PredictionBatch(
            request_ids=ids,
            rows=positions,
            event_times=self.asked.tolist(),
            columns=self.columns,
            status=self.status,
            view_times=self.view_times,
            scores=self.scores[:, 0],
            roles=roles,
            trace_ids=traces,
            latency_microseconds=round((self.moments[3] - self.moments[0]) * 1e6),
            degraded=self.degraded,
            answered_at=self.answered_at,
        )
