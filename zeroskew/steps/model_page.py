"""Step `model_page`: everything about a model on one page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from zeroskew.endpoints import Endpoints
from zeroskew.steps.files import write_text
from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import step

if TYPE_CHECKING:
    from zeroskew.monitoring.model_facts import ModelFacts


@step("page")
def write_model_page(model: str | Path, days: int, page: str | Path) -> None:
    """Write the page (HTML) of the model's folder, with at most `days` days of predictions.

    Raises `ConfigError` for a folder or a number of days that makes no sense, `DataError` if the
    page cannot be written. What cannot be read is told on the page.
    """
    from zeroskew.pages.model_page import model_page

    write_text(page, model_page(facts_of(model, days=days)).render())


def facts_of(
    model: str | Path,
    *,
    days: int = 30,
    log: str = "",
    until: datetime | None = None,
    analyses: Mapping[str, str] | None = None,
) -> ModelFacts:
    """What the endpoints know of the model's folder; see `gather_facts`.

    `log`: default, the prediction log of the environment. Raises `ConfigError`.
    """
    from zeroskew.monitoring.gather_facts import gather_facts, registry_if_any

    config = read_config(model)
    return gather_facts(
        config.name,
        registry=registry_if_any(),
        log=log or Endpoints.from_environment().prediction_log,
        days=days,
        roles=config.monitoring.roles,
        until=until,
        analyses=analyses,
    )
