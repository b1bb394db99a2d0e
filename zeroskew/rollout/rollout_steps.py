"""What a rollout does, in order: copy requests, judge, shift weight, wait.

The words of `ModelRollout.spec.strategy` and of the `rollout` section in model.yaml alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"


class Section(BaseModel):
    """A part of a manifest (camelCase) or of model.yaml (snake_case)."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def cel(*rules: tuple[str, str]) -> dict[str, Any]:
    """(rule, message) pairs for a schema; API servers before 1.25 pass over them."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": text} for rule, text in rules]}


def as_timedelta(duration: str) -> timedelta:
    """Of a Gateway API duration (GEP-2257), such as `1h30m`."""
    parts = re.findall(r"([0-9]+)(ms|h|m|s)", duration)
    return timedelta(milliseconds=sum(int(amount) * _UNITS[unit] for amount, unit in parts))


def between(low: str, high: str) -> Callable[[str], str]:
    """A check of a duration, for pydantic."""

    def check(text: str) -> str:
        if not as_timedelta(low) <= as_timedelta(text) <= as_timedelta(high):
            raise ValueError(f"must be between {low} and {high}")
        return text

    return check


def duration_field(low: str, high: str) -> Any:
    """The same for a schema."""
    rule = f"duration(self) >= duration('{low}') && duration(self) <= duration('{high}')"
    return Field(
        pattern=_DURATION,
        max_length=32,
        json_schema_extra=cel((rule, f"must be between {low} and {high}")),
    )


Timeout = Annotated[str, duration_field("1ms", "10m"), AfterValidator(between("1ms", "10m"))]
Interval = Annotated[str, duration_field("10s", "24h"), AfterValidator(between("10s", "24h"))]
Length = Annotated[str, duration_field("1s", "720h"), AfterValidator(between("1s", "720h"))]


class SetMirror(Section):
    """The challenger gets copies of requests, as a shadow; its answers reach nobody."""

    percent: Annotated[int, Field(ge=0, le=100)]
    """Of the requests; 0 ends it."""


class AnalysisStep(Section):
    """Goes on once the challenger passes its metrics; waits as long as they are inconclusive."""

    duration: Length = "10m"
    """Shortest time to look at it."""


class Pause(Section):
    """Waits; without a duration, for the annotation `zeroskew.dev/approve: <version>`."""

    duration: Length | None = None


class Step(Section):
    """Exactly one of the four."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    set_mirror: SetMirror | None = None
    analysis: AnalysisStep | None = None
    set_weight: Annotated[int, Field(ge=1, le=100)] | None = None
    """Percent of the requests that the challenger answers."""
    pause: Pause | None = None

    @model_validator(mode="after")
    def _one(self) -> Step:
        if len(self.model_fields_set) != 1 or getattr(self, self.kind) is None:
            raise ValueError(
                "a step is exactly one of setMirror, analysis, setWeight and pause, "
                "with its value (`pause: {}` waits for approval)"
            )
        return self

    @property
    def kind(self) -> str:
        """Name of the field that is set."""
        return next(iter(self.model_fields_set), "pause")

    @property
    def shifts(self) -> bool:
        """Whether it changes who gets which requests."""
        return self.kind in ("set_mirror", "set_weight")


def _step(**verb: Any) -> Step:
    return Step(**verb)


def _default_steps() -> tuple[Step, ...]:
    steps = [
        _step(set_mirror=SetMirror(percent=100)),
        _step(analysis=AnalysisStep()),
        _step(set_mirror=SetMirror(percent=0)),
    ]
    for weight in (5, 25, 50):
        steps += [_step(set_weight=weight), _step(analysis=AnalysisStep())]
    return (*steps, _step(set_weight=100))


_STEP_RULES = cel(
    (
        "self.filter(s, has(s.setWeight)).map(s, s.setWeight).isSorted()",
        "weights never fall: a challenger that fails is taken off by itself",
    ),
    (
        "self.filter(s, has(s.pause) && !has(s.pause.duration)).size() <= 1",
        "only one pause without a duration: an approval is for a version, not for a step",
    ),
    (
        # A server estimates what a rule may cost, and refuses a CRD whose rules cost too much:
        # comparing numbers is cheap, comparing strings is not.
        "self.filter(s, has(s.setWeight) || has(s.setMirror) && s.setMirror.percent > 0)"
        ".map(s, has(s.setWeight) ? 1 : 0).isSorted()",
        "requests are mirrored before the first setWeight only",
    ),
)


class Strategy(Section):
    """After the last step the version is promoted, whatever its weight was."""

    steps: Annotated[
        tuple[Step, ...], Field(min_length=1, max_length=32, json_schema_extra=_STEP_RULES)
    ] = _default_steps()
    """In order. The default is a shadow, then 5, 25 and 50 percent, each judged."""

    @model_validator(mode="after")
    def _possible(self) -> Strategy:
        check_order(self.steps)
        return self


def traffic_after(steps: Sequence[Step]) -> tuple[int, int]:
    """Weight and mirror, in percent, that the challenger has once `steps` are done."""
    weight, mirror = 0, 0
    for step in steps:
        if step.set_weight is not None:
            weight = step.set_weight
        elif step.set_mirror is not None:
            mirror = step.set_mirror.percent
    return weight, mirror


def check_order(steps: Sequence[Step]) -> None:
    """Raises `ValueError`, with the step and the reason, for an order that cannot be done."""
    weight = mirror = approvals = 0
    judged = True
    for number, step in enumerate(steps):

        def refuse(reason: str, at: int = number) -> None:
            raise ValueError(f"steps[{at}]: {reason}")

        if step.set_mirror is not None:
            if step.set_mirror.percent and weight:
                refuse("requests are mirrored before the first setWeight only")
            if mirror and not judged:
                refuse("mirroring needs an analysis before it ends or changes")
            mirror, judged = step.set_mirror.percent, not step.set_mirror.percent
        elif step.set_weight is not None:
            if mirror:
                refuse("end mirroring (`setMirror: {percent: 0}`) before setWeight")
            if step.set_weight < weight:
                refuse("weights never fall: a challenger that fails is taken off by itself")
            weight = step.set_weight
        elif step.analysis is not None:
            if not mirror and not weight:
                refuse("nothing to judge: the challenger has neither a mirror nor weight yet")
            if weight == 100:
                refuse("nothing to compare with: the champion has no requests at weight 100")
            judged = True
        elif step.pause is not None and step.pause.duration is None:
            approvals += 1
            if approvals > 1:
                refuse(
                    "only one pause without a duration: an approval is for a version, not for a "
                    "step"
                )
    if mirror:
        raise ValueError("end mirroring (`setMirror: {percent: 0}`) before the last step")
