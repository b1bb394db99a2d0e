"""Step `audit`: what a model served, by its prediction log, beside the point-in-time join."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroskew.endpoints import Endpoints
from zeroskew.errors import ConfigError, ServingError, ValidationFailed, ZeroskewError
from zeroskew.steps.files import write_json, write_text
from zeroskew.steps.model_folder import parse_range, read_config
from zeroskew.steps.step import ProgressLines, step

if TYPE_CHECKING:
    from zeroskew.features.audit_log import AuditLog, By
    from zeroskew.features.audit_result import AuditResult
    from zeroskew.model_config import ModelConfig

ROLES = ("champion", "canary", "shadow")


@step("result", "report")
def audit_predictions(
    model: str | Path,
    start_time: str,
    end_time: str,
    version: str,
    limit: int,
    max_mismatch: float,
    result: str | Path,
    report: str | Path,
) -> dict[str, Any]:
    """Audit what was answered in a range of time; `gate` acts on the result.

    `version`: a number or alias; empty: every version that logged. `limit`: about so many rows, a
    sample by request; 0: all. Writes JSON `result` (with `error`, if the share of rows that differ
    exceeds `max_mismatch`) and the page `report`. Returns the numbers for a chart.

    Raises `ConfigError`, `DataError`, `SchemaError` and `ServingError` as `audit_model` does.
    """
    from zeroskew.steps.audit_page import audit_page

    since, until = parse_range(start_time, end_time)
    found = audit_model(
        model,
        version=version,
        since=since,
        until=until,
        limit=limit or None,
        on_progress=ProgressLines(),
    )
    write_json(result, found.to_json() | {"error": _error(found, max_mismatch)})
    write_text(report, audit_page(found, max_mismatch))
    keep_report(found, Endpoints.from_environment().prediction_log)
    low, high = found.interval
    measures: dict[str, Any] = {"rows": found.rows, "different": found.different}
    if found.rows:
        measures |= {"mismatch_rate": found.rate, "rate_low": low, "rate_high": high}
    measures |= {f"cause_{cause}": count for cause, count in found.by_cause.items()}
    return measures | {"seconds": found.seconds}


def audit_model(
    model: str | Path,
    *,
    version: str = "",
    roles: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    by: By = "answered_at",
    limit: int | None = None,
    fraction: float = 1.0,
    seed: int = 0,
    tolerances: Mapping[str, float] | None = None,
    examples: int = 5,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> AuditResult:
    """Audit the prediction log of a model's folder; see `features.audit.audit`.

    The endpoints must be in the environment (`Endpoints.export`), as a step and the command see to.
    `version`: a number, an alias of the registry, or empty for every version that logged. Raises
    `ConfigError` on roles, ranges and shares that make no sense, `RegistryError` on an alias that
    is not there, `ServingError` if the log cannot be listed, and what `audit` raises.
    """
    from zeroskew.features.audit import audit
    from zeroskew.features.audit_log import LoggedRows, Selection
    from zeroskew.features.repository import open_repository

    config = read_config(model)
    if strange := [role for role in roles if role not in ROLES]:
        raise ConfigError(
            f"{strange[0]!r} is no role", where="role", mend=f"one of {', '.join(ROLES)}"
        )
    selection = Selection(since, until, by, tuple(roles), limit, fraction, seed)
    endpoints = Endpoints.from_environment()
    rows = LoggedRows(open_log(config, endpoints, version), selection)
    return audit(
        open_repository(model),
        config.feature_service,
        rows,
        model=config.name,
        registered=_registered(config.name, endpoints),
        redacted=tuple(config.serving.log.redact),
        tolerances=tolerances,
        examples=examples,
        on_progress=on_progress,
    )


def open_log(config: ModelConfig, endpoints: Endpoints, version: str = "") -> AuditLog:
    """The log of one version or, without one, of all that logged. Raises `ServingError`."""
    from pyarrow import fs

    from zeroskew.features.audit_log import AuditLog
    from zeroskew.serving.log_schema import age_name, parquet_name
    from zeroskew.serving.log_sink import check_sink, sink_filesystem
    from zeroskew.serving.log_spool import quoted

    system, root = sink_filesystem(check_sink(endpoints.prediction_log))
    folder = f"{root}/model={quoted(config.name)}"
    if version:
        from zeroskew.registry import Registry

        if not version.isdigit():
            version = str(Registry.from_environment().resolve(config.name, version))
        folders = {version: f"{folder}/version={quoted(version)}"}
        return AuditLog(system, folders, parquet_name, age_name)
    try:
        listed = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    except OSError as error:
        raise ServingError(
            f"the prediction log cannot be read: {error}", where=endpoints.prediction_log
        ) from None
    folders = {
        each.base_name.removeprefix("version="): each.path
        for each in sorted(listed, key=lambda each: each.path)
        if each.base_name.startswith("version=")
    }
    return AuditLog(system, folders, parquet_name, age_name)


def keep_report(found: AuditResult, log: str) -> str:
    """Keep the result beside the log, where monitors and pages look for it; returns where.

    An audit of several versions at once is about none of them, and is not kept: empty then. Raises
    `ServingError` if it cannot be written.
    """
    from zeroskew.monitoring.reports import Report, write_report

    if len(found.versions) != 1:
        return ""
    low, high = found.interval
    return write_report(
        log,
        Report(
            "consistency", found.model, found.versions[0], datetime.fromisoformat(found.audited_at),
            found.rate if found.rows else None, low, high, found.rows,
            "" if found.rows else "nothing was logged in this time",
            {
                "since": found.since,
                "until": found.until,
                "causes": found.by_cause,
                "features": {
                    each.feature: {
                        "values": each.values, "different": each.different, "rate": each.rate,
                        "causes": each.by_cause,
                    }
                    for each in found.features
                    if each.values
                },
            },
        ),
    )  # fmt: skip


def _registered(model: str, endpoints: Endpoints) -> Callable[[str], str | None]:
    """Hash of the definitions that a version was registered with, as far as that is known.

    An audit needs no registry: without one, changed definitions are told apart less often. None is
    made for it, either.
    """
    embedded = endpoints.mlflow.removeprefix("sqlite:///")
    if embedded != endpoints.mlflow and not Path(embedded).is_file():
        return lambda version: None

    def ask(version: str) -> str | None:
        from zeroskew.registry import Registry

        try:
            found = Registry.from_environment().version(model, version)
            return found.record.feature_schema_version
        except ZeroskewError:
            return None

    return ask


def _error(found: AuditResult, max_mismatch: float) -> dict[str, str | None] | None:
    """What `gate` says, in its form; no rows are no error: nobody asked."""
    if not found.rows or not found.exit_code(max_mismatch):
        return None
    causes = ", ".join(f"{count:,} × {cause}" for cause, count in found.by_cause.items())
    worst = max(found.features, key=lambda each: each.different)
    error = ValidationFailed(
        f"{found.different:,} of {found.rows:,} rows were served other features than the join "
        f"gives ({found.rate:.2%}, limit {max_mismatch:.2%}), most often {worst.feature}: {causes}",
        where=f"model {found.model}",
        mend="see the report of the audit: it has examples with the evidence for each cause",
    )
    return {"what": error.what, "where": error.where, "mend": error.mend}
