"""A monitor on the terminal: what was measured, what follows, what it waits for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from zeroskew.cluster.ages import age
from zeroskew.cluster.monitor_reading import MonitorView

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["draw_monitor"]

TONES = {
    "Stable": "green", "Moderate": "yellow", "Failed": "red", "Error": "red", "True": "green",
    "False": "red", "Unknown": "yellow", "Warning": "yellow", "Drifted": "bold red",
    "Succeeded": "green", "Inconclusive": "yellow",
}  # fmt: skip


def draw_monitor(view: MonitorView, now: datetime | None = None) -> Any:
    """A rich renderable."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    now, status = now or datetime.now(UTC), view.status
    head = Table.grid(padding=(0, 2))
    head.add_row("name", Text(f"{view.name}  (namespace {view.namespace})", "bold"))
    head.add_row("model", Text(f"{view.model}, version {status.version or 'not measured yet'}"))
    head.add_row("phase", Text(status.phase, TONES.get(status.phase, "bold cyan")))
    head.add_row("", Text(status.message or "the operator has not looked at it yet"))
    if status.last_measurement_time is not None:
        measured = f"{age(status.last_measurement_time, now)} ago, {status.samples:,} predictions"
        head.add_row("measured", Text(measured))
    if status.run is not None:
        run = status.run
        head.add_row("run", Text(f"{run.name}: {run.phase}, for {age(run.triggered_at, now)}"))
    if status.answer is not None:
        answer = status.answer
        head.add_row("request", Text(f"{answer.value}: {answer.reason}, {answer.message}"))
    parts: list[RenderableType] = [head]
    if status.metrics:
        table = _table("metric", "state", "failed in a row", "what was seen")
        for each in status.metrics:
            tone = TONES.get(each.state, "")
            table.add_row(
                each.name, Text(each.state, tone), str(each.failed_in_a_row), Text(each.message)
            )
        parts += [Text("\nmetrics", "bold"), table]
    if status.history:
        table = _table("run", "phase", "asked for", "message")
        for over in status.history[:5]:
            tone = TONES.get(over.phase, "")
            table.add_row(
                over.name, Text(over.phase, tone), age(over.triggered_at, now), Text(over.message)
            )
        parts += [Text("\nruns", "bold"), table]
    if status.conditions:
        table = _table("condition", "status", "reason", "since", "message")
        for said in status.conditions:
            table.add_row(
                said.type, said.status, said.reason, age(said.last_transition_time, now),
                Text(said.message),
            )  # fmt: skip
        parts += [Text("\nconditions", "bold"), table]
    if view.events:
        table = _table("age", "type", "reason", "message")
        for event in view.events:
            tone = TONES.get(event.type, "")
            table.add_row(
                age(event.at, now), Text(event.type, tone), event.reason, Text(event.message)
            )
        parts += [Text("\nevents", "bold"), table]
    parts += [Text(f"not shown: {each}", "dim") for each in view.unseen]
    return Group(*parts)


def _table(*columns: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
