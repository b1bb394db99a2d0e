"""Step `gate`: ends a run whose validation found something outside its limits.

Apart from the validation itself, because KFP keeps nothing of a step that fails, and the report of
a failed validation is the one somebody will want to read.
"""

from __future__ import annotations

from pathlib import Path

from zeroskew.errors import ValidationFailed
from zeroskew.steps.files import read_json
from zeroskew.steps.step import step


@step()
def require_passed(findings: str | Path) -> None:
    """Raise `ValidationFailed`, with its table, if the findings of a validation say so.

    `findings` is the JSON file that a validation step wrote; its `error` holds `what`, `where` and
    `mend`, or is None if everything passed.
    """
    error = read_json(findings)["error"]
    if error is not None:
        raise ValidationFailed(error["what"], where=error["where"], mend=error["mend"])
