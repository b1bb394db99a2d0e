"""Step `materialise`: what became known since the last run, into the online store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zeroskew.steps.model_folder import parse_moment, read_config
from zeroskew.steps.step import ProgressLines, step


@step()
def materialise_views(
    model: str | Path, start_time: str, end_time: str, views: Sequence[str]
) -> dict[str, float]:
    """Materialise feature views (all, if `views` is empty) up to `end_time`.

    An empty `start_time` continues each view where its last materialisation stopped. Returns the
    rows written by view, `written` in all, `kept` (online values that were as new already) and
    `seconds`.

    Raises `ConfigError`, `OnlineStoreUnavailable` and `DataError` as the library does.
    """
    from zeroskew.features.materialise import materialise
    from zeroskew.features.repository import open_repository

    read_config(model)
    end = parse_moment(end_time, field="end_time")
    start = parse_moment(start_time, field="start_time") if start_time else None
    report = materialise(
        open_repository(model),
        views=list(views) or None,
        start=start,
        end=end,
        on_progress=ProgressLines(),
    )
    return {
        **{view.view: view.written for view in report.views},
        "written": report.written,
        "kept": sum(view.kept for view in report.views),
        "seconds": round(sum(view.seconds for view in report.views), 3),
    }
