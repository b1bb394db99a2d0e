"""The front model as Triton's Python backend sees it: tensors in, tensors out.

`<repository>/<model>/<version>/model.py` imports `TritonPythonModel` from here. All requests that
Triton hands over at once are one batch of `Front`. The network is the graph beside this front's
files, run in this process, or `<model>_net`, called in process (BLS) in the very version that this
front belongs to.
"""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]
from numpy.typing import NDArray

from zeroskew.errors import OnlineStoreUnavailable, ServingError, ZeroskewError
from zeroskew.export.scoring import Scorer
from zeroskew.features.online_reader import MISSING, STALE, OnlineReader
from zeroskew.features.redis_connection import connect
from zeroskew.profiles import Profile
from zeroskew.serving.circuit_breaker import CircuitBreaker
from zeroskew.serving.feature_lookup import FeatureLookup
from zeroskew.serving.front import Answer, Front, Request, Score
from zeroskew.serving.front_settings import GRAPH_FILE, FrontEndpoints, FrontSettings
from zeroskew.serving.measures import Measures
from zeroskew.serving.metrics_publisher import MetricsPublisher
from zeroskew.serving.prediction_log import LogSchema, LogSettings, PredictionLog
from zeroskew.serving.request_columns import (
    EVENT_TIMESTAMP,
    BadRequest,
    read_column,
    read_event_times,
    request_columns,
)
from zeroskew.serving.request_identity import identify
from zeroskew.serving.request_transforms import RequestTransforms, TransformFailed

RECORD_SECONDS = 0.05
FLUSH_SECONDS = 20.0
"""How long an unload waits for the log to reach its sink; the rest stays in the spool."""


class NetworkFailed(ServingError):
    """`<model>_net` answered with an error."""


class TritonPythonModel:
    """Triton calls `initialize` once, `execute` per batch, `finalize` at the end."""

    def initialize(self, args: dict[str, Any]) -> None:
        """Open store and log. Raises on a version or an environment that cannot work."""
        folder = Path(args["model_repository"]) / str(args["model_version"])
        try:
            self._open(FrontSettings.read(folder), FrontEndpoints.from_environment(), folder, args)
        except ZeroskewError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        # What lives as long as the server need not be looked at by every collection.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)

    def _open(
        self,
        settings: FrontSettings,
        endpoints: FrontEndpoints,
        folder: Path,
        args: dict[str, Any],
    ) -> None:
        plan = settings.plan
        self._role, self._own_version = endpoints.role, str(settings.version)
        self._columns = request_columns(plan, settings.optional_columns)
        reader = OnlineReader(
            connect(endpoints.redis, redis_type=endpoints.redis_type),
            plan,
            seconds=settings.lookup["timeout_milliseconds"] / 1000,
        )
        self._breaker = CircuitBreaker(
            settings.lookup["breaker_failures"], settings.lookup["breaker_seconds"]
        )
        lookup = FeatureLookup(
            reader, self._breaker, degrade=settings.lookup["on_failure"] == "degrade"
        )
        transforms = RequestTransforms(plan, folder)
        features = (*plan.stored_names, *transforms.names)
        log = None
        if settings.log["enabled"] and endpoints.sink:
            log = PredictionLog(
                _schema(settings, features),
                LogSettings.from_json(
                    settings.log
                    if endpoints.flush_seconds is None
                    else {**settings.log, "flush_seconds": endpoints.flush_seconds}
                ),
                spool=endpoints.spool,
                sink=endpoints.sink,
            )
        self._log = log
        self._measures = Measures(features, plan.view_names)
        self._front = Front(
            plan, settings.row, lookup, transforms, self._network(settings, folder),
            measures=self._measures, log=log,
        )  # fmt: skip
        self._front.warm_up(lookup)
        self._publisher = MetricsPublisher(
            pb_utils,
            {"model": settings.model, "version": str(settings.version)},
            instance=str(args["model_instance_name"]),
            measures=self._measures,
            lookup=lookup,
            log=log,
            reference=_reference(settings),
        )
        self._publisher.start()
        self._ended = threading.Event()
        self._recorder = threading.Thread(target=self._record, name="record", daemon=True)
        self._recorder.start()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in order."""
        responses: list[Any] = [None] * len(requests)
        taken: list[int] = []
        read: list[Request] = []
        for at, request in enumerate(requests):
            try:
                read.append(self._read(request))
                taken.append(at)
            except BadRequest as error:
                responses[at] = self._refusal(error)
        if read and self._network_calls:
            # Spans of the network belong below the request's own, where Triton traces.
            self._trace = requests[taken[0]].trace()
        if read:
            try:
                answers = self._front.answer(read)
            except Exception as error:
                # A defect of ours must not take the batch's answers, or the process, with it.
                answers = [ServingError(f"internal error: {type(error).__name__}: {error}")] * len(
                    read
                )
            for at, request, answer in zip(taken, read, answers, strict=True):
                responses[at] = (
                    self._respond(requests[at], request, answer)
                    if isinstance(answer, Answer)
                    else self._refusal(answer)
                )
        if len(requests) == 1:
            # Sent now and recorded behind it. More of them go faster in one message, and are
            # recorded while the store looks up the next.
            final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
            requests[0].get_response_sender().send(responses[0], flags=final)
            responses = [None]
            self._front.record()
        return responses

    def _record(self) -> None:
        """Thread: what nothing came after."""
        while not self._ended.wait(RECORD_SECONDS):
            self._front.record()

    def finalize(self) -> None:
        """Flush the log, give back the connection."""
        self._ended.set()
        self._recorder.join(1)
        self._front.record()
        self._publisher.stop()
        if self._log is not None:
            self._log.close(FLUSH_SECONDS)

    def _read(self, request: Any) -> Request:
        tensors = {tensor.name(): tensor for tensor in request.inputs()}
        rows = 0
        columns: dict[str, list[Any]] = {}
        for column in self._columns:
            tensor = tensors.get(column.name)
            array = None if tensor is None else _array(tensor)
            if not rows and array is not None:
                rows = len(array)
            columns[column.name] = read_column(column, array, rows)
        moment = tensors.get(EVENT_TIMESTAMP)
        if not rows and moment is not None:
            rows = len(moment.as_numpy())
        if not rows:
            raise BadRequest("the request has no rows")
        return Request(
            identify(request.request_id(), request.parameters(), self._role, self._own_version),
            rows,
            columns,
            read_event_times(None if moment is None else moment.as_numpy(), rows),
        )

    def _network(self, settings: FrontSettings, folder: Path) -> Score:
        """Who computes the score: this process, if the version brings its graph here."""
        self._network_calls = not (folder / GRAPH_FILE).exists()
        if not self._network_calls:
            scorer = Scorer(folder / GRAPH_FILE)
            return lambda numeric, categorical: scorer.score(numeric, categorical)[:, None]
        self._net, self._version = f"{settings.model}_net", settings.version
        self._on_cpu = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0)
        widths = {"numeric": settings.row.numeric, "categorical": settings.row.categorical}
        self._tensors = [name for name, columns in widths.items() if columns]
        return self._score_by_triton

    def _score_by_triton(
        self, numeric: NDArray[np.float32], categorical: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        arrays = {"numeric": numeric, "categorical": categorical}
        answer = pb_utils.InferenceRequest(
            model_name=self._net,
            model_version=self._version,
            requested_output_names=["score"],
            inputs=[pb_utils.Tensor(name, arrays[name]) for name in self._tensors],
            # TensorRT would leave its output on the GPU, where nobody here can read it.
            preferred_memory=self._on_cpu,
            trace=self._trace,
        ).exec()
        if answer.has_error():
            raise NetworkFailed(answer.error().message(), where=self._net)
        return pb_utils.get_output_tensor_by_name(answer, "score").as_numpy()

    def _respond(self, raw: Any, request: Request, answer: Answer) -> Any:
        wanted = raw.requested_output_names()
        tensors = []
        for name in wanted:
            if name == "score":
                array: NDArray[Any] = answer.scores
            elif name == "degraded":
                array = np.full((request.rows, 1), answer.degraded)
            elif name == "request_id":
                # What a label that arrives later is joined on.
                array = np.full((request.rows, 1), request.identity.request_id.encode(), object)
            else:
                code = MISSING if name == "missing" else STALE
                texts = self._front.absent(answer.status, code)
                array = np.array([text.encode() for text in texts], object).reshape(-1, 1)
            tensors.append(pb_utils.Tensor(name, array))
        self._measures.outcome("answered")
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def _refusal(self, error: ZeroskewError) -> Any:
        code = pb_utils.TritonError.INTERNAL
        if isinstance(error, BadRequest | TransformFailed):
            code = pb_utils.TritonError.INVALID_ARG
        elif isinstance(error, OnlineStoreUnavailable):
            code = pb_utils.TritonError.UNAVAILABLE
        own = code == pb_utils.TritonError.INVALID_ARG
        self._measures.outcome("refused" if own else "failed")
        # One line: HTTP clients show the text as it comes.
        text = str(error) if own else str(error).split("\n")[0]
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))


def _array(tensor: Any) -> NDArray[Any]:
    try:
        return tensor.as_numpy()
    except Exception as error:
        raise BadRequest(f"input `{tensor.name()}` cannot be read: {error}") from None


def _reference(settings: FrontSettings) -> Profile | None:
    """Features and score in one profile: both keep bins of their own."""
    columns: dict[str, Any] = {}
    for raw in (settings.reference, settings.score_reference):
        if raw is not None:
            columns.update(Profile.from_json(raw).columns)
    return Profile(columns, 0) if columns else None


def _schema(settings: FrontSettings, features: tuple[str, ...]) -> LogSchema:
    plan = settings.plan
    kinds = {f.name: f.kind for group in plan.groups for f in group.features}
    for transform in plan.transforms:
        kinds.update(transform.outputs)
    return LogSchema(
        model=settings.model,
        version=str(settings.version),
        columns=plan.entity_columns | plan.request_columns | {n: kinds[n] for n in features},
        features=features,
        views=plan.view_names,
        reference=settings.reference,
        score_reference=settings.score_reference,
    )
