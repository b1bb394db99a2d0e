"""An audit as Prometheus text: for a node's textfile collector, a push gateway or a test.

The format is Prometheus' text exposition format, version 0.0.4. Every number is a gauge: it speaks
of the newest audit, not of all audits so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from zeroskew.features.audit_compare import OUTCOMES
from zeroskew.features.audit_result import AuditResult

PREFIX = "zeroskew_audit_"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def prometheus_text(result: AuditResult) -> str:
    """Rows, differing rows, their share with its interval, values by feature, outcome and cause."""
    return "".join(f"{line}\n" for line in _lines(result))


def _lines(result: AuditResult) -> Iterator[str]:
    model = {"model": result.model}
    yield from _gauge("rows", "Logged rows compared with the join", [(model, result.rows)])
    yield from _gauge(
        "different_rows", "Rows with a difference in any feature", [(model, result.different)]
    )
    if result.rows:
        low, high = result.interval
        yield from _gauge(
            "mismatch_ratio", "Share of rows with a difference", [(model, result.rate)]
        )
        yield from _gauge(
            "mismatch_ratio_bound",
            "Bounds of the 95 % interval of that share",
            [({**model, "bound": "low"}, low), ({**model, "bound": "high"}, high)],
        )
    values: list[tuple[Mapping[str, str], float]] = []
    for counts in result.features:
        named = {**model, "feature": counts.feature}
        for outcome in OUTCOMES:
            values.append(({**named, "outcome": outcome}, float(getattr(counts, outcome))))
    yield from _gauge("values", "Values by feature and outcome", values)
    yield from _gauge(
        "differences",
        "Values that differ, by feature, outcome and likely cause",
        [
            ({**model, "feature": f.feature, "outcome": outcome, "cause": cause}, float(count))
            for f in result.features
            for outcome, causes in f.causes.items()
            for cause, count in causes.items()
        ],
    )
    at = datetime.fromisoformat(result.audited_at).timestamp()
    yield from _gauge("timestamp_seconds", "When the audit ended", [(model, at)])
    yield from _gauge("duration_seconds", "How long it took", [(model, result.seconds)])


def _gauge(name: str, text: str, samples: list[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {text}."
    yield f"# TYPE {PREFIX}{name} gauge"
    for labels, value in samples:
        told = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
        yield f"{PREFIX}{name}{{{told}}} {value!r}"
