"""The commit message of a deployment: what a version is made of, findable for ever.

    git log --format='%h %(trailers:key=Model-Version,valueonly)' -- models/flight_delay

Facts are trailers, as `git interpret-trailers` reads them; the words around them are for people.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from zeroskew.registry import ModelVersion

LINEAGE = (
    "Model",
    "Model-Version",
    "Data-Hash",
    "Feature-Service",
    "Feature-Schema-Version",
    "Code-SHA",
    "ONNX-SHA256",
    "Precision",
    "Training-Run",
    "Metric",
    "Margin",
    "Compared-With",
    "Verdict",
)
"""Trailers that say what a version is made of; a rollback's commit repeats them."""
PREVIOUS, FROM, REASON = "Previous-Version", "Rolled-Back-From", "Reason"

_LONGEST = 1_000
_GRAPH = "model.onnx"


def lineage_trailers(version: ModelVersion) -> dict[str, str]:
    """What the registry knows of a version, by trailer. Raises `RegistryError` without a record."""
    record = version.record
    metric = record.metrics.get(record.compared_by)
    values = {
        "Model": version.name,
        "Model-Version": str(version.version),
        "Data-Hash": record.data_hash,
        "Feature-Service": record.feature_service,
        "Feature-Schema-Version": record.feature_schema_version,
        "Code-SHA": record.code_sha,
        "ONNX-SHA256": record.onnx_sha256.get(_GRAPH, ""),
        "Precision": record.precision,
        "Training-Run": version.run_id,
        "Metric": f"{record.compared_by} {metric}" if metric else "",
        "Margin": f"{record.difference} (needed: {record.margin})" if record.difference else "",
        "Compared-With": "" if record.compared_against is None else str(record.compared_against),
        "Verdict": record.verdict,
    }
    return {key: value for key, value in values.items() if value}


def deploy_message(version: ModelVersion, previous: int | None, signed_off: str = "") -> str:
    """Subject, the verdict's reason, trailers. `signed_off`: `Name <mail>`, if anybody does."""
    trailers = lineage_trailers(version)
    if previous is not None:
        trailers[PREVIOUS] = str(previous)
    reason = version.record.verdict_reason
    return _message(f"{version.name}: version {version.version}", reason, trailers, signed_off)


def rollback_message(
    model: str,
    to: int,
    rolled_back: int,
    reason: str,
    lineage: Mapping[str, str],
    signed_off: str = "",
) -> str:
    """As `deploy_message`, for the way back. `lineage`: trailers of the commit gone back to."""
    trailers = {"Model": model, "Model-Version": str(to)}
    trailers |= {key: lineage[key] for key in LINEAGE[2:] if key in lineage}
    trailers |= {FROM: str(rolled_back), REASON: reason}
    subject = f"{model}: back to version {to}"
    return _message(subject, f"From version {rolled_back}: {reason}", trailers, signed_off)


def parse_trailers(text: str) -> dict[str, str]:
    """Trailers as `git log --format=%(trailers:only,unfold)` prints them."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {key: value for key, colon, value in pairs if colon}


def _message(subject: str, body: str, trailers: Mapping[str, str], signed_off: str) -> str:
    lines = [f"{key}: {one_line(value)}" for key, value in trailers.items()]
    if signed_off:
        lines.append(f"Signed-off-by: {one_line(signed_off)}")
    wrapped = textwrap.fill(one_line(body), 72, break_long_words=False, break_on_hyphens=False)
    return "\n\n".join(part for part in (subject, wrapped, "\n".join(lines)) if part) + "\n"


def one_line(text: str) -> str:
    """`text` without line breaks, which could add a trailer, and without control characters."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(plain.split())[:_LONGEST]
