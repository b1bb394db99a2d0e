"""Step `performance`: what came true of what a model answered, kept for who watches it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from zeroskew.endpoints import Endpoints
from zeroskew.steps.files import write_json
from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import step

if TYPE_CHECKING:
    from zeroskew.monitoring.performance import LivePerformance


def live_performance(
    model: str | Path,
    versions: Sequence[str],
    log: str,
    *,
    since: datetime,
    until: datetime,
    now: datetime,
) -> LivePerformance:
    """`measure_performance` with the labels, the slices and the label gate of model.yaml.

    The endpoints must be exported. Raises `ConfigError`, `DataError` or `ServingError`.
    """
    from zeroskew.features.read_plan_compiler import compile_read_plan
    from zeroskew.features.repository import open_repository
    from zeroskew.monitoring.label_source import label_source
    from zeroskew.monitoring.performance import measure_performance
    from zeroskew.rollout.rollout_steps import as_timedelta

    config = read_config(model)
    plan = compile_read_plan(open_repository(model), config.feature_service)
    labels = label_source(config, Endpoints.from_environment().data, tuple(plan.entity_columns))
    gate = config.monitoring.trigger.labels
    return measure_performance(
        log, config.name, versions, labels, since=since, until=until, now=now,
        max_delay=as_timedelta(gate.max_delay) if gate else timedelta(days=7),
        slices=config.evaluation.slices,
    )  # fmt: skip


@step("performance")
def measure_live_performance(
    model: str | Path, version: str, days: int, performance: str | Path
) -> dict[str, float]:
    """Measure the last `days` of a version (number or alias) and keep the report.

    `performance` (JSON) is the report, too; the result holds `auc` and `coverage` as far as they
    are known. Raises as `live_performance`, and `RegistryError`.
    """
    from zeroskew.monitoring.reports import write_report
    from zeroskew.registry import Registry

    endpoints, now = Endpoints.from_environment(), datetime.now(UTC)
    name = read_config(model).name
    number = str(Registry.from_environment().resolve(name, version))
    found = live_performance(
        model, [number], endpoints.prediction_log,
        since=now - timedelta(days=days), until=now, now=now,
    )  # fmt: skip
    report = found.report(number)
    kept = write_report(endpoints.prediction_log, report)
    write_json(performance, report.to_json())
    print(f"{name} version {number}: {kept}", flush=True)
    known = {"auc": report.value, "coverage": report.details["coverage"]["fraction"]}
    return {key: float(value) for key, value in known.items() if value is not None}
