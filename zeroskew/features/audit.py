"""The consistency audit: what was served, row by row, beside what the join gives for it today.

    rows = LoggedRows(AuditLog(filesystem, {"7": "lake/predictions/model=fraud/version=7"}),
                      Selection(since=yesterday))
    result = audit(repository, "fraud", rows)
    result.rate, result.by_cause        # 0.0013, {"stale_materialisation": 41, …}

The log is read in chunks; each is joined offline as of its rows' own event times, by the join that
makes training sets, and compared value by value. Rows that differ are looked up once more for the
reason (see `audit_causes`). Memory is bounded by the chunk and by what of the sources a chunk asks
for, not by the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime

from zeroskew.features.audit_check import Check
from zeroskew.features.audit_compare import check_tolerances
from zeroskew.features.audit_log import CHUNK_ROWS, LoggedRows
from zeroskew.features.audit_result import AuditResult, moment_text
from zeroskew.features.audit_tally import Tally
from zeroskew.features.repository import Repository

Progress = Callable[[str, int, int], None]

EXAMPLES = 5


def audit(
    repository: Repository,
    service: str,
    rows: LoggedRows,
    *,
    model: str = "",
    registered: Callable[[str], str | None] | None = None,
    redacted: Collection[str] = (),
    tolerances: Mapping[str, float] | None = None,
    examples: int = EXAMPLES,
    chunk_rows: int = CHUNK_ROWS,
    on_progress: Progress | None = None,
) -> AuditResult:
    """Compare logged rows with the point-in-time join of the same entities and times.

    `registered`: the hash of the definitions that a model version was registered with, or None if
    that is not known, for the cause `changed_definition`; asked for versions of rows that differ.
    `redacted`: columns that the log does not hold as they were served.
    `tolerances`: `float64` or `float32` to a relative tolerance; exact without. `examples`: kept
    per feature and cause.

    Raises `DataError` if the log or a source cannot be read or an entity key is not in the log,
    `SchemaError` if the two do not fit together, and `ConfigError` on a tolerance that is none.
    """
    started = time.monotonic()
    tolerances = dict(tolerances or {})
    check_tolerances(tolerances)
    check = Check.of(repository, service, rows, redacted, tolerances, registered)
    tally = Tally(check.kinds, check.places, check.keys, examples)
    if on_progress:
        on_progress("rows audited", 0, rows.total)
    for chunk, done in rows.chunks(check.wanted, check.plan.view_names, chunk_rows):
        check.chunk(chunk, tally)
        if on_progress and done < rows.total:
            on_progress("rows audited", done, rows.total)
    if on_progress:
        on_progress("rows audited", rows.total, rows.total)
    chosen = rows.selection
    period, periods = tally.periods()
    return AuditResult(
        model=model or repository.project,
        service=service,
        schema_version=check.schema_version,
        versions=tuple(sorted(tally.versions)),
        roles=tuple(sorted(tally.roles)),
        since=moment_text(chosen.since) if chosen.since else None,
        until=moment_text(chosen.until) if chosen.until else None,
        by=chosen.by,
        fraction=rows.fraction,
        rows=tally.rows,
        different=tally.different,
        features=tally.features(),
        examples=tally.examples(),
        periods=periods,
        period=period,
        not_audited=check.not_audited if tally.rows else {},
        tolerances=tolerances,
        audited_at=moment_text(datetime.now(UTC).replace(microsecond=0)),
        seconds=round(time.monotonic() - started, 3),
    )
