"""When which pipeline runs, and what becomes of times that were missed: `PipelineSchedule.spec`.

The words are those of Kubernetes' CronJob and of Kubeflow Pipelines' recurring runs.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from zeroskew.monitoring.trigger_spec import PipelineRef
from zeroskew.rollout.rollout_spec import parse_section
from zeroskew.rollout.rollout_steps import (
    Length,
    Section,
    as_timedelta,
    between,
    cel,
    duration_field,
)
from zeroskew.schedule.cron import (
    CRON_FIELDS,
    CRON_PATTERN,
    ZONE_PATTERN,
    Times,
    check_cron,
    check_zone,
)

__all__ = ["Argument", "Missed", "ScheduleSpec", "Timing", "parse_schedule"]

TimeField = Literal["scheduledTime", "previousTime"]

CATCH_UP = 10
"""How many missed times `RunAll` catches up with where nothing else is said."""
AT_ONCE = timedelta(minutes=1)
"""How late a run may begin under `Skip` where nothing else is said."""

_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
_ONE = cel(("has(self.value) != has(self.valueFrom)", "exactly one of value and valueFrom"))
_LIMIT = cel(
    ("!has(self.limit) || self.policy == 'RunAll'", "limit is for policy RunAll alone"),
)
_CRON = cel(
    *(
        (
            f"self.matches('^([^ ]+ +){{{place}}}({pattern})( |$)')",
            f"field {place + 1} is the {range_}",
        )
        for place, (range_, pattern) in enumerate(CRON_FIELDS.items())
    )
)
# The function fails, and with it the rule, for a zone that the server's database does not have.
_KNOWN_ZONE = cel(
    (
        "self != 'Local' && timestamp('2026-01-01T00:00:00Z').getHours(self) >= 0",
        "must be a name of the time zone database, such as Europe/Berlin",
    ),
)
_ALONE = (
    "self.concurrencyPolicy != 'Replace' || self.missed.policy != 'RunAll'",
    "concurrencyPolicy Replace would end each run that missed.policy RunAll catches up with",
)

Cron = Annotated[
    str,
    Field(pattern=CRON_PATTERN, max_length=128, json_schema_extra=_CRON),
    AfterValidator(check_cron),
]
Zone = Annotated[
    str,
    Field(pattern=ZONE_PATTERN, max_length=64, json_schema_extra=_KNOWN_ZONE),
    AfterValidator(check_zone),
]
Deadline = Annotated[str, duration_field("10s", "720h"), AfterValidator(between("10s", "720h"))]


class Argument(Section):
    """An argument of the pipeline: a text, or a time of the schedule."""

    model_config = ConfigDict(json_schema_extra=_ONE)

    name: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$", max_length=63)]
    value: Annotated[str, Field(max_length=1024)] | None = None
    """Numbers, lists and the like as JSON."""
    value_from: TimeField | None = None
    """In ISO 8601 and UTC: the time that the run is for, or the schedule's time before it. A run
    that catches up gets those of the time that was missed."""

    @model_validator(mode="after")
    def _one(self) -> Argument:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("exactly one of value and valueFrom")
        return self


class Missed(Section):
    """What becomes of a time at which no run could be started: the operator or Kubeflow Pipelines
    was down, or the run before was still going on."""

    model_config = ConfigDict(json_schema_extra=_LIMIT)

    policy: Literal["Skip", "RunLatest", "RunAll"] = "RunLatest"
    """Skip: it is left out. RunLatest: the newest one runs as soon as that is possible, the others
    are left out. RunAll: all run, one after the other, the oldest first."""
    starting_deadline: Deadline | None = None
    """A time is left out once it is so long ago. Unset: one minute for Skip, never for the
    others."""
    limit: Annotated[int, Field(ge=1, le=100)] | None = None
    """How many times RunAll catches up with, the newest ones; unset: 10."""

    @model_validator(mode="after")
    def _limit_fits(self) -> Missed:
        if self.limit is not None and self.policy != "RunAll":
            raise ValueError("limit is for policy RunAll alone")
        return self

    @property
    def deadline(self) -> timedelta | None:
        """How late a run may begin; None: however late."""
        if self.starting_deadline is not None:
            return as_timedelta(self.starting_deadline)
        return AT_ONCE if self.policy == "Skip" else None

    @property
    def most(self) -> int:
        """How many times that have passed may still get a run."""
        return (self.limit or CATCH_UP) if self.policy == "RunAll" else 1


class Timing(Section):
    """What model.yaml can say as well: everything but the pipeline."""

    schedule: Cron
    """Cron's five fields: minute, hour, day of the month, month, day of the week. Where neither day
    begins with `*`, one of the two suffices."""
    time_zone: Zone = "Etc/UTC"
    """Of the time zone database. Where clocks are put forward, a fixed time that does not exist
    runs right after; where they are put back, one that exists twice runs once."""
    parameters: Annotated[
        tuple[Argument, ...], Field(max_length=64, json_schema_extra=_BY_NAME)
    ] = ()
    suspend: bool = False
    """Nothing is started, and times that pass are left out; a run under way is followed to its
    end."""
    concurrency_policy: Literal["Forbid", "Replace"] = "Forbid"
    """While a run goes on: none besides it, or a new one in its place. There are never two."""
    missed: Missed = Missed()
    run_deadline: Length = "48h"
    """A run that has not ended so long after it began is stopped, and counts as failed."""
    history_limit: Annotated[int, Field(ge=1, le=50)] = 10
    """Runs that the status remembers. A failed run is not repeated: the next one is at the next
    time."""

    @model_validator(mode="after")
    def _fits_together(self) -> Timing:
        names = [parameter.name for parameter in self.parameters]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"parameters: more than one is named {', '.join(twice)}")
        if self.concurrency_policy == "Replace" and self.missed.policy == "RunAll":
            raise ValueError(_ALONE[1])
        return self

    @property
    def times(self) -> Times:
        return Times(self.schedule, self.time_zone)

    @property
    def clock(self) -> str:
        """What the times follow from; another one counts anew."""
        return f"{self.schedule} {self.time_zone}"


class ScheduleSpec(Timing):
    """`PipelineSchedule.spec`."""

    model_config = ConfigDict(json_schema_extra=cel(_ALONE))

    pipeline_ref: PipelineRef


def parse_schedule(raw: object, *, where: str = "PipelineSchedule") -> ScheduleSpec:
    """`raw`: the spec of a manifest, as JSON gives it.

    Raises `ConfigError` that names every wrong field by its path.
    """
    return parse_section(ScheduleSpec, raw, where=where)
