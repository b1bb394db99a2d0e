"""Step `validate_sources`: entity rows and feature sources against the model's definitions.

What is checked is whether they can be joined at all: columns, types, keys, event times, and whether
the range holds anything. Limits on values belong to the joined rows (`validate_training_set`).
Sources are scanned for what is counted, never read whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from zeroskew.errors import DataError, ZeroskewError
from zeroskew.features import moments
from zeroskew.model_config import ModelConfig, Validation
from zeroskew.pages import Badge, Page, Tile
from zeroskew.pages.page import Tone
from zeroskew.steps.files import write_json, write_text
from zeroskew.steps.ingest import scan
from zeroskew.steps.model_folder import parse_range, read_config
from zeroskew.steps.step import ProgressLines, step
from zeroskew.steps.validation_findings import as_json
from zeroskew.validation import Finding, Outcome, ValidationReport, validate

if TYPE_CHECKING:
    from zeroskew.features.join import JoinView
    from zeroskew.features.repository import Repository

ENTITY_ROWS = "entity rows"


@step("findings", "report")
def validate_feature_sources(
    model: str | Path,
    start_time: str,
    end_time: str,
    entity_rows: str | Path,
    findings: str | Path,
    report: str | Path,
) -> dict[str, int]:
    """Check every table that the model's feature service needs in a range of time.

    Writes `findings` (JSON for `gate`) and `report` (HTML). Returns the number of `tables`, the
    `rows` in the range and the `failed` checks. Bad data does not raise; a definition that cannot
    be understood does (`ConfigError`).
    """
    from zeroskew.features.repository import open_repository

    config = read_config(model)
    start, end = parse_range(start_time, end_time)
    progress = ProgressLines()
    repository = open_repository(model)
    views = service_views(repository, config.feature_service)
    tables: list[tuple[str, str, int, list[Finding]]] = []
    rows = scan(str(entity_rows))
    found = _entity_rows(config, repository, views, rows)
    tables.append((ENTITY_ROWS, config.entity_rows.path, _count(rows), found))
    for done, (name, view) in enumerate(views.items(), 1):
        progress("feature sources", done, len(views))
        place = name if isinstance(view, DataError) else view.place
        tables.append((name, place, *_source(view, start, end)))
    checks = [
        Finding(f"{table}.{f.column}" if f.column else table, f.measure, f.limit, f.value,
                f.outcome, f.detail)
        for table, _, _, listed in tables for f in listed
    ]  # fmt: skip
    verdict = _report(config.name, checks)
    write_json(findings, as_json(verdict))
    write_text(report, _page(config.name, tables, verdict).render())
    return {
        "tables": len(tables),
        "rows": sum(count for _, _, count, _ in tables),
        "failed": len(verdict.failed),
    }


def service_views(repository: Repository, service: str) -> dict[str, JoinView | DataError]:
    """The stored views that a service reads, on-demand views' inputs included, ready to scan.

    In place of a view whose source cannot be opened stands the error that says why.
    """
    from zeroskew.features.retrieval import join_views

    asked: dict[str, tuple[Any, list[str]]] = {}
    for projection in repository.service(service).feature_view_projections:
        on_demand = repository.definitions.on_demand.get(projection.name)
        for one in (
            [projection]
            if on_demand is None
            else on_demand.source_feature_view_projections.values()
        ):
            view = repository.view(one.name).with_projection(one)
            asked.setdefault(one.name_to_use(), (view, []))[1].extend(f.name for f in one.features)
    opened: dict[str, JoinView | DataError] = {}
    for name, (view, features) in asked.items():
        try:
            references = [f"{name}:{feature}" for feature in features]
            opened |= {v.name: v for v in join_views([view], references, repository.folder)}
        except DataError as error:
            opened[name] = error
    return opened


def _entity_rows(
    config: ModelConfig,
    repository: Repository,
    views: dict[str, JoinView | DataError],
    rows: pl.LazyFrame,
) -> list[Finding]:
    settings = config.entity_rows
    held = rows.collect_schema()
    keyed = [view for view in views.values() if not isinstance(view, DataError)]
    keys = list(dict.fromkeys(key for view in keyed for key in view.keys))
    requests = {
        field.name
        for view in repository.definitions.on_demand.values()
        for source in view.source_request_sources.values()
        for field in source.schema
    } & set(settings.request_columns)
    needed = [settings.event_timestamp, settings.label, *keys, *sorted(requests)]
    if settings.label_timestamp:
        needed.append(settings.label_timestamp)
    found = [_column(name, name in held) for name in needed]
    for name in (settings.event_timestamp, settings.label_timestamp):
        if name is not None and name in held:
            found.append(_moment(name, held[name]))
            found.append(_nulls(rows, name, allowed=name != settings.event_timestamp))
    for key in keys:
        if key in held:
            # A question about an unknown entity is a question all the same.
            found.append(_nulls(rows, key, allowed=True))
    return found


def _source(
    view: JoinView | DataError, start: datetime, end: datetime
) -> tuple[int, list[Finding]]:
    """Rows that can matter to the range, and what is wrong with the table."""
    try:
        if isinstance(view, DataError):
            raise view
        held = view.frame.collect_schema()
        found = list(_schema(view, held))
        kind = held.get(view.timestamp)
        if any(f.outcome is Outcome.FAILED for f in found) or not isinstance(kind, pl.Datetime):
            return 0, found
        moment = pl.col(view.timestamp)
        inside = moment < moments.literal(end, kind)
        if view.ttl:
            inside &= moment >= moments.literal(start - view.ttl, kind)
        keys = list(view.keys.values())
        counted = view.frame.select(
            pl.len().alias("rows"),
            inside.sum().alias("inside"),
            moment.null_count().alias("no time"),
            *(pl.col(key).null_count().alias(f"key {key}") for key in keys),
        ).collect(engine="streaming").row(0, named=True)  # fmt: skip
    except ZeroskewError as error:
        detail = f"{error.where}: {error.what}" if error.where else error.what
        return 0, [Finding("", "readable", "yes", "no", Outcome.FAILED, detail)]
    except (OSError, pl.exceptions.PolarsError) as error:
        detail = str(error).splitlines()[0]
        return 0, [Finding("", "readable", "yes", "no", Outcome.FAILED, detail)]
    found.append(_at_most_none(view.timestamp, counted["no time"], counted["rows"]))
    found += [_at_most_none(key, counted[f"key {key}"], counted["rows"]) for key in keys]
    outcome = Outcome.PASSED if counted["inside"] else Outcome.FAILED
    found.append(
        Finding("", "rows in range", "≥ 1", f"{counted['inside']:,}", outcome,
                "" if counted["inside"] else f"the table has {counted['rows']:,} rows in all")
    )  # fmt: skip
    return counted["inside"], found


def _schema(view: JoinView, held: pl.Schema) -> Iterator[Finding]:
    declared = {source: view.types.get(output) for source, output in view.features.items()}
    expected = {name: str(kind) for name, kind in declared.items() if kind is not None}
    frame = pl.DataFrame(schema=held)
    checked = validate(frame, expected, Validation(), None, where=view.name, strict_columns=False)
    for finding in checked.checks:
        known = finding.column in expected or finding.outcome is Outcome.FAILED
        if finding.measure in ("column", "type") and known:
            yield finding
    others = [*view.keys.values(), *(name for name, kind in declared.items() if kind is None)]
    yield from (_column(name, name in held) for name in dict.fromkeys(others))
    yield _column(view.timestamp, view.timestamp in held)
    for name in (view.timestamp, view.created_timestamp):
        if name is not None and name in held:
            yield _moment(name, held[name])


def _column(name: str, there: bool) -> Finding:
    outcome = Outcome.PASSED if there else Outcome.FAILED
    return Finding(name, "column", "there", "there" if there else "missing", outcome)


def _moment(name: str, kind: pl.DataType) -> Finding:
    if not isinstance(kind, pl.Datetime):
        return Finding(name, "type", "timestamp", str(kind), Outcome.FAILED)
    if kind.time_zone is None:
        return Finding(name, "time zone", "", "none", Outcome.NOTED, "read as UTC")
    return Finding(name, "type", "timestamp", str(kind), Outcome.PASSED)


def _nulls(rows: pl.LazyFrame, name: str, *, allowed: bool) -> Finding:
    nulls, total = rows.select(pl.col(name).null_count(), pl.len().alias("n")).collect().row(0)
    if allowed:
        outcome = Outcome.NOTED if nulls else Outcome.PASSED
        return Finding(name, "nulls", "", f"{nulls:,} of {total:,}", outcome)
    return _at_most_none(name, nulls, total)


def _at_most_none(name: str, nulls: int, total: int) -> Finding:
    outcome = Outcome.FAILED if nulls else Outcome.PASSED
    return Finding(name, "nulls", "0", f"{nulls:,} of {total:,}", outcome)


def _count(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect().item())


def _report(model: str, checks: list[Finding]) -> ValidationReport:
    from zeroskew.profiles import Profile

    return ValidationReport(
        where=f"sources of {model}",
        checks=tuple(checks),
        profile=Profile({}, 0),
        columns=(),
        reference_rows=None,
    )


def _page(
    model: str, tables: list[tuple[str, str, int, list[Finding]]], verdict: ValidationReport
) -> Page:
    badge = Badge("passed", "good") if verdict.passed else Badge("failed", "bad")
    page = Page(f"{model}: sources", "Can they be joined at all?", badge=badge)
    page.metrics(
        [
            Tile("Tables", len(tables)),
            Tile("Checks", len(verdict.checks)),
            Tile("Failed", len(verdict.failed), tone="bad" if verdict.failed else "good"),
        ]
    )
    page.section("Tables").table(
        ["Table", "Where", "Rows in range", "Failed"],
        [
            [name, where, rows, sum(f.outcome is Outcome.FAILED for f in found)]
            for name, where, rows, found in tables
        ],
    )
    tones: dict[Outcome, Tone] = {Outcome.FAILED: "bad", Outcome.NOTED: "muted"}
    shown = [f for f in verdict.findings if f.outcome in tones]
    if shown:
        page.section("Findings").table(
            ["Column", "Measure", "Limit", "Value", "Outcome", "Detail"],
            [
                [
                    f.column,
                    f.measure,
                    f.limit,
                    f.value,
                    Badge(f.outcome, tones[f.outcome]),
                    f.detail,
                ]  # type: ignore[arg-type]
                for f in shown
            ],
            align="llrrll",
        )
    return page
