"""A rollout on the terminal, in the manner of Argo Rollouts' plugin: everything at a glance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from zeroskew.cluster.ages import age
from zeroskew.cluster.rollout_reading import RolloutView, VersionLine
from zeroskew.rollout.rollout_state import MetricSeen

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["draw_rollout", "interval_of"]

TONES = {
    "Succeeded": "bold green", "RolledBack": "bold red", "Failed": "bold red",
    "RollingBack": "bold red", "Paused": "bold yellow", "WaitingApproval": "bold yellow",
    "Waiting": "bold yellow", "Passed": "green", "Inconclusive": "yellow", "Error": "red",
    "True": "green", "False": "red", "Unknown": "yellow", "Warning": "yellow",
}  # fmt: skip
_MARKS = {"done": ("✔", "green"), "current": ("▶", "bold cyan"), "ahead": ("·", "dim")}
_READY = {"True": "ready", "False": "not ready", "Unknown": "not known"}


def draw_rollout(view: RolloutView, now: datetime | None = None, problem: str = "") -> Any:
    """A rich renderable. `problem`: why what is shown may be out of date."""
    from rich.console import Group
    from rich.text import Text

    now = now or datetime.now(UTC)
    parts: list[RenderableType] = []
    if problem:
        parts.append(Text(f"out of date: {problem}", "bold yellow"))
    parts.append(_head(view, now))
    for title, drawn in (
        ("steps", _steps(view)),
        ("versions", _versions(view)),
        ("metrics, with their 95 % intervals", _metrics(view)),
        ("conditions", _conditions(view, now)),
        ("events", _events(view, now)),
    ):
        if drawn is not None:
            parts += [Text(f"\n{title}", "bold"), drawn]
    parts += [Text(f"not shown: {each}", "dim") for each in view.unseen]
    return Group(*parts)


def interval_of(metric: MetricSeen) -> str:
    """`0.021 [0.015, 0.029]`; what has no bound is said so."""
    if metric.value is None:
        return "not known"
    low = "-∞" if metric.low is None else f"{metric.low:.4g}"
    high = "∞" if metric.high is None else f"{metric.high:.4g}"
    return f"{metric.value:.4g} [{low}, {high}]"


def _head(view: RolloutView, now: datetime) -> Any:
    from rich.table import Table
    from rich.text import Text

    status = view.status
    table = Table.grid(padding=(0, 2))
    table.add_row("name", Text(f"{view.name}  (namespace {view.namespace})", "bold"))
    table.add_row("model", Text(f"{view.model}, version {view.wanted} is wanted"))
    table.add_row("phase", Text(status.phase, TONES.get(status.phase, "bold cyan")))
    table.add_row("", Text(status.message or "the operator has not looked at it yet"))
    if not view.observed:
        text = f"the spec is newer ({view.generation}) than what the operator has seen "
        table.add_row("", Text(f"{text}({status.observed_generation})", "yellow"))
    run = status.run
    if run is not None:
        since = f", for {age(run.traffic_since, now)}" if run.traffic_since else ""
        traffic = f"weight {run.weight} %, mirror {run.mirror} %{since}"
        table.add_row("trial", Text(f"version {run.version}, attempt {run.key}: {traffic}"))
    if view.paused or view.suspended:
        by = "spec.suspend" if view.suspended else "annotation"
        text = f"by {by}" + (" and annotation" if view.paused and view.suspended else "")
        table.add_row("paused", Text(text, "bold yellow"))
    if view.refusal:
        table.add_row("refused", Text(view.refusal, "bold red"))
    return table


def _steps(view: RolloutView) -> Any:
    from rich.text import Text

    if not view.steps:
        return Text(view.steps_unknown) if view.steps_unknown else None
    # In one flow: a terminal of 24 lines has to hold the metrics, too.
    flow = Text()
    for number, step in enumerate(view.steps, 1):
        mark, tone = _MARKS[step.state]
        flow.append(f"{mark} {number} {step.text}".replace(" ", "\u00a0"), tone)
        flow.append("  " if number < len(view.steps) else "")
    return flow


def _versions(view: RolloutView) -> Any:
    if not view.versions:
        return None
    table = _table("version", "role", "weight", "mirror", "ready", "")
    for each in view.versions:
        table.add_row(
            each.version, each.role, f"{each.weight} %", f"{each.mirror} %", _ready(each),
            _plain(each.message),
        )  # fmt: skip
    return table


def _ready(version: VersionLine) -> Text:
    from rich.text import Text

    return Text(_READY[version.ready], TONES[version.ready])


def _metrics(view: RolloutView) -> Any:
    from rich.text import Text

    run = view.status.run
    if run is None or run.tally.outcome is None:
        return None
    tally = run.tally
    if not tally.metrics:
        return Text(f"{tally.outcome}: {tally.message}", TONES.get(str(tally.outcome), ""))
    table = _table("metric", "outcome", "value", "must be", f"{tally.pairs:,} pairs")
    for each in tally.metrics:
        outcome = f"{each.outcome} (dry run)" if each.dry_run else each.outcome
        table.add_row(
            _plain(f"{each.name} {each.slice}".strip()),
            Text(outcome, TONES.get(each.outcome, "")),
            _plain(interval_of(each)),
            _plain(_wanted(each)),
            "",
        )
    return table


def _wanted(metric: MetricSeen) -> str:
    parts = []
    if metric.least is not None:
        parts.append(f"≥ {metric.least:g}")
    if metric.most is not None:
        parts.append(f"≤ {metric.most:g}")
    return " and ".join(parts)


def _conditions(view: RolloutView, now: datetime) -> Any:
    from rich.text import Text

    if not view.status.conditions:
        return None
    table = _table("condition", "status", "reason", "since", "message")
    for each in view.status.conditions:
        table.add_row(
            each.type, Text(each.status, TONES[each.status]), each.reason,
            age(each.last_transition_time, now), _plain(each.message),
        )  # fmt: skip
    return table


def _events(view: RolloutView, now: datetime) -> Any:
    from rich.text import Text

    if not view.events:
        return None
    table = _table("age", "type", "reason", "message")
    for each in view.events:
        table.add_row(
            age(each.at, now), Text(each.type, TONES.get(each.type, "")), each.reason,
            _plain(each.message),
        )  # fmt: skip
    return table


def _table(*columns: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _plain(text: str) -> Text:
    """What a cluster says is no markup."""
    from rich.text import Text

    return Text(text)
