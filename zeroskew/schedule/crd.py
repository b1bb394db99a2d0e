"""The CustomResourceDefinition of PipelineSchedule.

python -m zeroskew.schedule.crd > manifests/crds/zeroskew.dev_pipelineschedules.yaml
"""

from __future__ import annotations

import sys

from zeroskew.rollout.crd_schema import Definition
from zeroskew.schedule.schedule_spec import ScheduleSpec
from zeroskew.schedule.schedule_state import ScheduleStatus

__all__ = ["KIND", "LONGEST_NAME", "PIPELINE_SCHEDULE", "PLURAL"]

KIND, PLURAL = "PipelineSchedule", "pipelineschedules"
LONGEST_NAME = 63
"""Of the object: names of runs begin with it."""

PIPELINE_SCHEDULE = Definition(
    kind=KIND,
    plural=PLURAL,
    short="psched",
    description="Runs a pipeline of Kubeflow Pipelines at the times of a cron expression, never "
    "two at once, in its newest version unless one is named.",
    spec=ScheduleSpec,
    status=ScheduleStatus,
    columns=(
        ("Pipeline", "string", ".spec.pipelineRef.name", 0),
        ("Schedule", "string", ".spec.schedule", 0),
        ("Last", "date", ".status.lastScheduleTime", 0),
        # As a date, kubectl would show a time to come as "<invalid>".
        ("Next", "string", ".status.nextScheduleTime", 0),
        ("Suspended", "boolean", ".spec.suspend", 0),
        ("Active", "string", ".status.active.name", 0),
        ("Result", "string", ".status.lastRun.phase", 1),
        ("Zone", "string", ".spec.timeZone", 1),
        ("Missed", "integer", ".status.missed", 1),
        ("OnTime", "string", '.status.conditions[?(@.type=="OnTime")].message', 1),
        ("Age", "date", ".metadata.creationTimestamp", 0),
    ),
    longest_name=LONGEST_NAME,
    made_by="zeroskew.schedule.crd",
)

if __name__ == "__main__":
    sys.stdout.write(PIPELINE_SCHEDULE.as_yaml())
