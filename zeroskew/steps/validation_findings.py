"""How a validation tells `gate` what it found, in a JSON file between two steps."""

from __future__ import annotations

from typing import Any

from zeroskew.errors import ValidationFailed
from zeroskew.validation import ValidationReport


def as_json(report: ValidationReport) -> dict[str, Any]:
    """The report, and under `error` the parts of the `ValidationFailed` it amounts to, or None."""
    said: dict[str, Any] | None = None
    try:
        report.raise_if_failed()
    except ValidationFailed as error:
        said = {"what": error.what, "where": error.where, "mend": error.mend}
    return report.to_json() | {"error": said}
