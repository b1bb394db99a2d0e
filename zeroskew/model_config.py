"""model.yaml as one typed object: everything a model's owner decides and the library must obey.

A wrong field is a `ConfigError` that names the field and the line it stands on. `load_model_config`
reads the file; the rest of the library takes the object.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zeroskew.errors import ConfigError
from zeroskew.monitoring.monitor_config import MonitoringSection
from zeroskew.pod_resources import Cpu, Memory, Resources
from zeroskew.rollout.rollout_config import RolloutSection
from zeroskew.schedule.schedule_config import Schedules

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EntityRows(_Section):
    """The labelled questions a model learns from: one row per prediction that could be asked."""

    path: str
    """Parquet file or folder; relative paths start at the data endpoint."""
    event_timestamp: str = "event_timestamp"
    """When the question is asked; features are taken as of this moment."""
    label: str
    """Column with 0 or 1."""
    label_timestamp: str | None = None
    """When the label became known. Rows whose label was not known at the end of the training
    range do not exist for that training."""
    request_columns: tuple[str, ...] = ()
    """Columns that a live request would carry itself (input of request-time transforms)."""


class Split(_Section):
    """Time-ordered shares of the training range: first train, then validation, then test."""

    validation: Share = 0.15
    test: Share = 0.15

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Split:
        if self.validation + self.test >= 0.9:
            raise ValueError("validation + test must stay below 0.9: the rest trains")
        return self


class Inputs(_Section):
    """Which columns of the feature service enter the graph, and how.

    Features not named are numeric if their Feast type is a number and categorical if it is a
    string. `max_categories` most frequent training values get an embedding of their own, the rest
    share one.
    """

    exclude: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    """Integer features that are identifiers, not amounts."""
    max_categories: Annotated[int, Field(ge=1, le=4096)] = 64


class ColumnGate(_Section):
    """Limits of one column; what is not set falls back to the model-wide limit."""

    max_null_rate: Share | None = None
    min: float | None = None
    max: float | None = None
    max_out_of_range: Share | None = None
    """Share of values allowed outside [min, max]."""
    categories: tuple[str, ...] | None = None
    max_unseen: Share | None = None
    """Share of values allowed outside `categories` or, without them, outside the reference."""
    max_psi: Positive | None = None


class Validation(_Section):
    """What a batch must satisfy before it may train a model."""

    max_null_rate: Share = 0.2
    max_out_of_range: Share = 0.01
    max_unseen: Share = 0.05
    max_psi: Positive = 0.25
    min_rows: Annotated[int, Field(ge=1)] = 500
    columns: dict[str, ColumnGate] = {}
    ignore: tuple[str, ...] = ()
    """Columns without a distribution-shift gate (a calendar month shifts by nature)."""


class FloatRange(_Section):
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError("a log range must start above 0")
        return self


class SearchSpace(_Section):
    """What Ray Tune may try. A list is a choice, a range is sampled."""

    hidden: tuple[tuple[Annotated[int, Field(ge=1, le=8192)], ...], ...] = ((256, 128),)
    learning_rate: FloatRange = FloatRange(low=3e-4, high=1e-2, log=True)
    weight_decay: FloatRange = FloatRange(low=1e-6, high=1e-2, log=True)
    dropout: FloatRange = FloatRange(low=0.0, high=0.4)
    embedding: tuple[Annotated[int, Field(ge=1, le=256)], ...] = (8,)

    @model_validator(mode="after")
    def _something_to_try(self) -> SearchSpace:
        for name in ("hidden", "embedding"):
            if not getattr(self, name):
                raise ValueError(f"{name} offers no value to try")
        if any(not layers for layers in self.hidden):
            raise ValueError("hidden: a network needs at least one layer")
        if self.dropout.high >= 1.0 or self.dropout.low < 0.0:
            raise ValueError("dropout must stay within [0, 1)")
        return self


class Training(_Section):
    seed: int = 7
    trials: Annotated[int, Field(ge=1, le=10_000)] = 8
    search_epochs: Annotated[int, Field(ge=1)] = 6
    """Longest a trial of the search runs; ASHA stops most of them earlier."""
    search_rows: Annotated[int, Field(ge=1_000)] = 100_000
    """Newest training rows that the search sees; the final fit takes all."""
    epochs: Annotated[int, Field(ge=1)] = 20
    patience: Annotated[int, Field(ge=1)] = 3
    """Epochs without a better validation loss before the final fit stops."""
    batch_size: Annotated[int, Field(ge=2)] = 1024
    workers: Annotated[int, Field(ge=1)] = 1
    """Ray Train workers of the final fit (GPUs or nodes)."""
    use_gpu: bool | Literal["auto"] = "auto"
    class_weight: Literal["balanced", "none"] = "balanced"
    space: SearchSpace = SearchSpace()


class Evaluation(_Section):
    metric: Literal["auc", "pr_auc", "log_loss", "brier"] = "auc"
    """What champion and challenger are compared by; losses count downwards."""
    margin: float = Field(default=0.0, ge=0.0)
    """The challenger must be better by more than this, in units of the metric."""
    bootstrap: Annotated[int, Field(ge=10, le=10_000)] = 200
    slices: tuple[str, ...] = ()
    """Columns whose values get metrics of their own."""
    threshold: Share = 0.5
    """Score from which the confusion matrix counts a positive."""


class Latency(_Section):
    batch: Annotated[int, Field(ge=1)] = 32
    max_milliseconds: Positive | None = None
    """Largest p99 of one batch on the exporting machine; unset: recorded, not gated."""


class Export(_Section):
    precision: Literal["int8", "fp32", "auto"] = "int8"
    calibration_rows: Annotated[int, Field(ge=100)] = 2_000
    max_metric_loss: Positive = 0.002
    """How much worse than FP32 (in the evaluation metric) INT8 may be."""
    max_score_difference: Positive = 0.1
    max_psi: Positive = 0.02
    """PSI of INT8 scores against FP32 scores."""
    latency: Latency = Latency()
    max_batch: Annotated[int, Field(ge=1, le=65_536)] = 1024
    tensorrt: tuple[Annotated[str, Field(pattern=r"^(SM)?[0-9]{2,3}$|^current$")], ...] = ()
    """GPU compute capabilities to build plans for (`SM89`), or `current` for the GPU at hand."""


class Cost(_Section):
    """Prices, so that lineage can say what a version cost. Zero where nobody pays by the hour."""

    currency: str = "USD"
    per_cpu_hour: Annotated[float, Field(ge=0.0)] = 0.0
    per_gpu_hour: Annotated[float, Field(ge=0.0)] = 0.0


class Batching(_Section):
    """How Triton puts requests together before the front sees them."""

    max_queue_delay_microseconds: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """How long a request may wait for company; 0: a batch is what queued while one was served."""
    max_queue_size: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests that may wait; one more is refused at once. Unset: no limit of Triton's own, because
    any queue policy makes its batcher (2.51) sleep for up to half a second now and then with
    requests in the queue: set it where refusing matters more than the tail of the latency."""
    queue_timeout_milliseconds: Annotated[float, Field(gt=0, le=60_000)] | None = None
    """How long a request may wait before it is refused. Unset: no limit, for the same reason."""
    max_batch: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Most rows of one request and of one batch; unset: that of `export.max_batch`."""


class FeatureLookup(_Section):
    """What a request waits for from the online store, and what it gets without it."""

    timeout_milliseconds: Annotated[float, Field(gt=0, le=10_000)] = 50.0
    """One round trip, however many rows share it."""
    on_failure: Literal["error", "degrade"] = "error"
    """`error`: the request fails at once, with the reason. `degrade`: every stored feature counts
    as missing, is imputed inside the graph, and the answer says `degraded`."""
    breaker_failures: Annotated[int, Field(ge=1)] = 5
    """Failures in a row after which the store is left alone."""
    breaker_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """How long, before one request tries again."""


class PredictionLogging(_Section):
    """The prediction log; where it goes is an endpoint (ZEROSKEW_PREDICTION_LOG)."""

    enabled: bool = True
    flush_seconds: Annotated[float, Field(ge=0.2, le=3600)] = 30.0
    """Age at which what is spooled becomes a Parquet file."""
    segment_mib: Annotated[int, Field(ge=1, le=1024)] = 16
    """Size at which it does so earlier."""
    spool_mib: Annotated[int, Field(ge=1, le=1_048_576)] = 1024
    """Disk that may hold predictions while the sink is down; beyond it they are dropped, and
    counted."""
    redact: dict[str, Literal["drop", "hash"]] = {}
    """Columns that never reach the disk as they are: `drop` leaves a null, `hash` a keyed digest
    (ZEROSKEW_LOG_KEY), equal for equal values."""


class Serving(_Section):
    """The front model inside Triton: batching, lookup, log, and its place in a cluster."""

    instances: Annotated[int, Field(ge=1, le=64)] = 1
    """Fronts that work at the same time, each a process of its own."""
    network: Literal["auto", "inline", "triton"] = "auto"
    """Who computes the score: `triton` calls `<model>_net`, `inline` runs the same graph with ONNX
    Runtime in the front's own process. `auto`: inline on a CPU, where the way to `<model>_net` and
    back costs many times what the network does; triton on a GPU."""
    optional_columns: tuple[str, ...] = ()
    """Request columns that a request may leave out; they then count as missing."""
    batching: Batching = Batching()
    features: FeatureLookup = FeatureLookup()
    log: PredictionLogging = PredictionLogging()
    device: Literal["gpu", "cpu"] = "cpu"
    """What `<model>_net` runs on in a cluster: TensorRT, or ONNX Runtime."""
    cpu: Cpu = "500m"
    """What the scheduler keeps free for each pod; autoscaling counts in shares of it."""
    memory: Memory = "1Gi"
    cpu_limit: Cpu = "2"
    """The most that a pod uses; never less than `cpu`."""
    memory_limit: Memory = "2Gi"
    gpu_type: str = "nvidia.com/gpu"
    min_replicas: Annotated[int, Field(ge=1, le=1000)] = 2
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 10
    target_cpu_percent: Annotated[int, Field(ge=1, le=100)] = 60
    """Mean CPU utilisation that autoscaling keeps, as a share of `cpu`."""

    @model_validator(mode="after")
    def _range_of_replicas(self) -> Serving:
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas must not be below min_replicas")
        return self


class ModelConfig(_Section):
    """A model's folder, as model.yaml says it."""

    name: Name
    description: str = ""
    feature_service: str
    entity_rows: EntityRows
    split: Split = Split()
    inputs: Inputs = Inputs()
    validation: Validation = Validation()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    export: Export = Export()
    serving: Serving = Serving()
    rollout: RolloutSection = RolloutSection()
    monitoring: MonitoringSection = MonitoringSection()
    schedules: Schedules = {}
    """Pipelines that run by a clock, each under a name of its own."""
    cost: Cost = Cost()
    resources: Resources = Resources()


def load_model_config(folder: str | Path) -> ModelConfig:
    """Read `<folder>/model.yaml`.

    Raises `ConfigError` that names the file, the line and the field.
    """
    path = Path(folder) / "model.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            "there is no model.yaml", where=str(folder), mend="give the folder of one model"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from None
    return parse_model_config(text, where=str(path))


def parse_model_config(text: str, *, where: str = "model.yaml") -> ModelConfig:
    """As `load_model_config`, from text; `where` names it in errors."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"not valid YAML: {problem}", where=f"{where}{line}") from None
    if not isinstance(raw, dict):
        raise ConfigError("must be a mapping of fields", where=where, mend="start with `name: …`")
    try:
        return ModelConfig.model_validate(raw, by_alias=False, by_name=True)
    except ValidationError as error:
        # A list whose only item is wrong is called too short, too.
        found = error.errors()
        inner = {each["loc"][:n] for each in found for n in range(len(each["loc"]))}
        lines = [
            _explain(root, where, each)
            for each in found
            if each["type"] != "too_short" or each["loc"] not in inner
        ]
        raise ConfigError(
            lines[0] if len(lines) == 1 else f"{len(lines)} wrong fields\n  " + "\n  ".join(lines)
        ) from None


def _explain(root: yaml.Node | None, where: str, problem: Any) -> str:
    location = tuple(problem["loc"])
    line = _line(root, location)
    field = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = sorted(_known_fields(location))
        return f"{where}:{line}: unknown field `{field}`; known here: {', '.join(known)}"
    if problem["type"] == "missing":
        return f"{where}:{line}: required field `{field}` is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}:{line}: `{field}`: {message}" if field else f"{where}:{line}: {message}"


def _line(node: yaml.Node | None, location: tuple[Any, ...]) -> int:
    """Line of the deepest part of `location` that the text holds."""
    line = 1
    for part in location:
        child, line = _child(node, part, line)
        if child is None:
            break
        node = child
    return line


def _child(node: yaml.Node | None, part: Any, line: int) -> tuple[yaml.Node | None, int]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None, line


def _known_fields(location: tuple[Any, ...]) -> Iterator[str]:
    section: Any = ModelConfig
    named = False
    for part in location[:-1]:
        if named or isinstance(part, int):
            # A key that the owner chose, or a place in a list.
            named = False
            continue
        field = section.model_fields.get(part)
        if field is None:
            break
        section = _item(field.annotation)
        if get_origin(section) is dict:
            section, named = _item(get_args(section)[1]), True
    yield from section.model_fields


def _item(annotation: Any) -> Any:
    """The section itself where a field holds a list of it, or may hold none."""
    while get_origin(annotation) in (tuple, list, Union, UnionType, Annotated):
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    return annotation
