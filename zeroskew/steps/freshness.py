"""Step `freshness`: how far the online store is behind, and what in it is near its end."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from zeroskew.endpoints import Endpoints
from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import step

if TYPE_CHECKING:
    from zeroskew.monitoring.freshness import Freshness


@step()
def look_at_store(model: str | Path) -> dict[str, float]:
    """Measure the views that a model is served from, and keep the report for the operator.

    Returns the seconds that each view is behind its source, as `<view>_lag`, as far as that is
    known. Raises `ConfigError`, `OnlineStoreUnavailable`, or `ServingError` if the report cannot be
    kept.
    """
    found = freshness_of(model)
    kept = keep_freshness(found)
    for problem in found.problems:
        print(problem, flush=True)
    print(f"{found.model}: {kept}", flush=True)
    return {f"{view.view}_lag": view.lag for view in found.views if view.lag is not None}


def freshness_of(model: str | Path, now: datetime | None = None) -> Freshness:
    """`now`: default, the clock. Raises `ConfigError` or `OnlineStoreUnavailable`."""
    from zeroskew.monitoring.freshness import measure_freshness

    config = read_config(model)
    return measure_freshness(model, config.feature_service, config.name, now=now)


def keep_freshness(found: Freshness) -> str:
    """Beside the prediction log; returns where. Raises `ServingError`."""
    from zeroskew.monitoring.reports import write_report

    return write_report(Endpoints.from_environment().prediction_log, found.report())
