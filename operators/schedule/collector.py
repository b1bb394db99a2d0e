"""What Prometheus can ask about schedules, made of what they remember when it asks.

The counts are those of the status, so that a restart of the operator does not set them back; what
is not there any more is not shown any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from operators.object_cache import ObjectKey
from zeroskew.schedule.missed_times import due_times
from zeroskew.schedule.schedule_spec import ScheduleSpec
from zeroskew.schedule.schedule_state import ScheduleStatus

__all__ = ["ScheduleCollector", "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """A schedule at its last turn; spec None: it is wrong."""

    spec: ScheduleSpec | None
    status: ScheduleStatus


class ScheduleCollector(Collector):
    """Register it once; `seen` is kept up to date by the reconciler."""

    def __init__(self) -> None:
        self.seen: dict[ObjectKey, Seen] = {}

    def collect(self) -> Iterable[Metric]:
        who = ["namespace", "schedule"]
        runs = CounterMetricFamily(
            "zeroskew_schedule_runs", "Runs by how they ended", labels=[*who, "outcome"]
        )
        missed = CounterMetricFamily(
            "zeroskew_schedule_missed", "Times that got no run", labels=who
        )
        failed = _gauge("failed_in_a_row", "Runs that failed since the last success")
        late = _gauge("late_seconds", "Since when a time waits for its run; 0: none waits")
        following = _gauge("next_timestamp_seconds", "When the next run is due")
        success = _gauge("last_success_timestamp_seconds", "When a run last succeeded")
        suspended = _gauge("suspended", "1: it is suspended")
        accepted = _gauge("accepted", "0: its spec is wrong")
        now = datetime.now(UTC)
        for key, seen in list(self.seen.items()):
            spec, status = seen.spec, seen.status
            runs.add_metric([*key, "succeeded"], status.succeeded)
            runs.add_metric([*key, "failed"], status.failed)
            missed.add_metric(key, status.missed)
            failed.add_metric(key, status.failed_in_a_row)
            accepted.add_metric(key, spec is not None)
            suspended.add_metric(key, status.suspended)
            if spec is not None:
                late.add_metric(key, _late(spec, status, now))
            if status.next_schedule_time is not None:
                following.add_metric(key, status.next_schedule_time.timestamp())
            if status.last_successful_time is not None:
                success.add_metric(key, status.last_successful_time.timestamp())
        return [runs, missed, failed, late, following, success, suspended, accepted]


def _late(spec: ScheduleSpec, status: ScheduleStatus, now: datetime) -> float:
    """How long the oldest time that has no run yet, and may still get one, has been waiting."""
    waiting = [*due_times(spec, status, now).waiting]
    run = status.active
    if run is not None and run.phase == "Requested":
        waiting.insert(0, run.scheduled_time)
    return max(0.0, (now - waiting[0]).total_seconds()) if waiting else 0.0


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"zeroskew_schedule_{name}", text, labels=["namespace", "schedule"])
