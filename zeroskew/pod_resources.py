"""`resources` of model.yaml: what the pod of each step asks the cluster for.

A *request* is what the scheduler keeps free for a pod, and a *limit* is the most that the pod may
use. Requests are small by default, so that every step finds a place on a node with two CPUs. Limits
are larger, so that a step uses what the node has left.

`Resources.of(step)` gives the amounts of one step: what model.yaml says of the step, else what it
says under `default`, else the table in this file.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = [
    "STEPS",
    "Cpu",
    "Memory",
    "PodResources",
    "Resources",
    "StepResources",
    "cores",
    "mebibytes",
]

_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)")
_MEMORY = re.compile(r"(\d+)(Ki|Mi|Gi|Ti|M|G|T)?")
_BYTES = {
    "": 1, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


def _text(value: object) -> object:
    """A number of YAML as the text that Kubernetes takes."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if isinstance(value, float) else str(value) if is_number else value


def _is_cpu(text: str) -> str:
    if not _CPU.fullmatch(text) or cores(text) <= 0:
        raise ValueError(f"{text!r} is not an amount of CPU; write for example 2, 0.5 or 500m")
    return text


def _is_memory(text: str) -> str:
    if not _MEMORY.fullmatch(text) or mebibytes(text) < 1:
        raise ValueError(
            f"{text!r} is not an amount of memory; write a whole number with its unit, "
            "for example 512Mi or 4Gi"
        )
    return text


Cpu = Annotated[str, BeforeValidator(_text), AfterValidator(_is_cpu)]
"""An amount of CPU as Kubernetes writes it: cores, or thousandths of a core with an `m`."""
Memory = Annotated[str, BeforeValidator(_text), AfterValidator(_is_memory)]
"""An amount of memory as Kubernetes writes it: a whole number of bytes, with a unit."""


def cores(cpu: str) -> float:
    """`"500m"` → 0.5."""
    match = _CPU.fullmatch(cpu)
    if match is None:
        raise ValueError(f"{cpu!r} is not an amount of CPU")
    return float(match[1]) / (1000 if match[2] else 1)


def mebibytes(memory: str) -> float:
    """`"1Gi"` → 1024."""
    match = _MEMORY.fullmatch(memory)
    if match is None:
        raise ValueError(f"{memory!r} is not an amount of memory")
    return int(match[1]) * _BYTES[match[2] or ""] / 2**20


_SIZES = {"cpu": cores, "memory": mebibytes}


@dataclass(frozen=True, slots=True)
class PodResources:
    """All four amounts of one pod."""

    cpu: str
    """Request."""
    memory: str
    """Request."""
    cpu_limit: str
    memory_limit: str


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Amounts(_Section):
    """CPU and memory; what is left out stays at its default."""

    cpu: Cpu | None = None
    memory: Memory | None = None


class StepResources(_Section):
    """Requests and limits of one step's pod, as in a pod's own `resources`."""

    requests: Amounts = Amounts()
    limits: Amounts = Amounts()

    @model_validator(mode="after")
    def _limits_hold_requests(self) -> StepResources:
        for name, size in _SIZES.items():
            wanted, most = getattr(self.requests, name), getattr(self.limits, name)
            if wanted is not None and most is not None and size(most) < size(wanted):
                raise ValueError(f"the limit of {name}, {most}, is below the request, {wanted}")
        return self


# Pydantic finds the method `register` of Python's abstract classes, which no object of a model has.
warnings.filterwarnings("ignore", message='Field name "register" in "Resources" shadows')


class Resources(_Section):
    """What the steps of the pipelines ask for. Each field but the first three is a step."""

    gpu: Annotated[int, Field(ge=0)] = 0
    """GPUs of the training step, which then needs the trainer's CUDA image."""
    gpu_type: str = "nvidia.com/gpu"
    default: StepResources = StepResources()
    """For every step that says nothing itself."""
    audit: StepResources = StepResources()
    deploy: StepResources = StepResources()
    drift_report: StepResources = StepResources()
    evaluate: StepResources = StepResources()
    export: StepResources = StepResources()
    freshness: StepResources = StepResources()
    gate: StepResources = StepResources()
    ingest: StepResources = StepResources()
    join: StepResources = StepResources()
    materialise: StepResources = StepResources()
    model_page: StepResources = StepResources()
    performance: StepResources = StepResources()
    predict: StepResources = StepResources()
    publish: StepResources = StepResources()
    register: StepResources = StepResources()
    rollback: StepResources = StepResources()
    train: StepResources = StepResources()
    validate_sources: StepResources = StepResources()
    validate_training_set: StepResources = StepResources()

    @model_validator(mode="after")
    def _defaults_fit_steps(self) -> Resources:
        for step in STEPS:
            for name, size in _SIZES.items():
                wanted, most = (
                    self._written(step, "requests", name),
                    self._written(step, "limits", name),
                )
                if wanted and most and size(most) < size(wanted):
                    raise ValueError(
                        f"{step}: the limit of {name}, {most}, is below the request, {wanted}; "
                        "one of the two comes from `default`"
                    )
        return self

    def of(self, step: str) -> PodResources:
        """The amounts of one step, by its component's name (`validate_sources`).

        Of a request and a limit, the one that model.yaml does not give yields to the one it does.
        """
        cpu, cpu_limit = self._pair(step, "cpu")
        memory, memory_limit = self._pair(step, "memory")
        return PodResources(cpu, memory, cpu_limit, memory_limit)

    def _pair(self, step: str, name: str) -> tuple[str, str]:
        built_in, size = _BUILT_IN.get(step, _SMALL), _SIZES[name]
        wanted = self._written(step, "requests", name)
        most = self._written(step, "limits", name)
        request, limit = (
            wanted or getattr(built_in, name),
            most or getattr(built_in, f"{name}_limit"),
        )
        if size(limit) < size(request):
            return (limit, limit) if wanted is None else (request, request)
        return request, limit

    def _written(self, step: str, kind: str, name: str) -> str | None:
        own: str | None = getattr(getattr(getattr(self, step), kind), name)
        return own or getattr(getattr(self.default, kind), name)


STEPS = tuple(name for name in Resources.model_fields if name not in ("gpu", "gpu_type", "default"))
"""Every step that can be named in `resources`."""
_SMALL = PodResources("100m", "512Mi", "1", "2Gi")
_READS = PodResources("250m", "1Gi", "2", "8Gi")
_WHOLE_TABLE = PodResources("500m", "2Gi", "4", "16Gi")
_BUILT_IN: Mapping[str, PodResources] = {
    "audit": _READS,
    "evaluate": _READS,
    "export": _READS,
    "join": _WHOLE_TABLE,
    "materialise": PodResources("250m", "1Gi", "4", "8Gi"),
    "model_page": _READS,
    "performance": _READS,
    "predict": _WHOLE_TABLE,
    "train": _WHOLE_TABLE,
    "validate_sources": _READS,
    "validate_training_set": _READS,
    **dict.fromkeys(
        ("drift_report", "freshness", "ingest", "publish", "register"),
        PodResources("100m", "512Mi", "1", "4Gi"),
    ),
}
