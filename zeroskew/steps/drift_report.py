"""Step `drift_report`: what a decision was made from, side by side, for people."""

from __future__ import annotations

import html
from datetime import UTC, datetime, timedelta
from pathlib import Path

from zeroskew.endpoints import Endpoints
from zeroskew.errors import DataError, ZeroskewError
from zeroskew.steps.files import write_text
from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import step


@step("page")
def write_drift_report(model: str | Path, decision: str, page: str | Path) -> None:
    """Write Evidently's page about the window of a decision, known by its checksum.

    It is for people and decides nothing: what keeps it from being drawn is told on the page, and
    fails no run. Raises `ConfigError` for a folder that is no model's.
    """
    read_config(model)
    try:
        draw_decision(model, decision, page)
    except ZeroskewError as error:
        print(error, flush=True)
        text = html.escape(str(error))
        write_text(page, f"<!doctype html><meta charset=utf-8><p>There is no report.<pre>{text}")


def draw_decision(model: str | Path, decision: str, page: str | Path) -> None:
    """Raises `ConfigError` where Evidently is not installed, `DataError` if nobody has made such a
    decision or its window cannot be compared, `ServingError` if the log cannot be read."""
    from zeroskew.monitoring.evidently_report import write_evidently_report
    from zeroskew.monitoring.monitor_state import Decision
    from zeroskew.monitoring.reports import find_decision
    from zeroskew.rollout.rollout_state import from_json

    config, log = read_config(model), Endpoints.from_environment().prediction_log
    record = find_decision(log, config.name, decision)
    if record is None:
        raise DataError(f"there is no decision {decision!r} about {config.name}", where=log)
    made = from_json(Decision, record.details["decision"])
    write_evidently_report(
        log, config.name, made.champion, made.window_start, made.window_end, page,
        roles=config.monitoring.roles,
        notes=[f"Decision {made.short} of {made.at:%Y-%m-%d %H:%M} UTC.", made.message],
    )  # fmt: skip


def draw_window(
    model: str | Path, version: str, hours: float, page: str | Path, until: datetime | None = None
) -> None:
    """The same for the last hours of a version (number). Raises as `draw_decision`."""
    from zeroskew.monitoring.evidently_report import write_evidently_report

    config, log = read_config(model), Endpoints.from_environment().prediction_log
    end = until or datetime.now(UTC)
    write_evidently_report(
        log, config.name, version, end - timedelta(hours=hours), end, page,
        roles=config.monitoring.roles,
    )  # fmt: skip
