"""What a batch must satisfy before it may train a model.

    report = validate(frame, schema, config.validation, reference, where="April to June")
    report.raise_if_failed()          # a table of column, measure, limit and value
    Path("report.html").write_text(report.html())
    report.profile.save("profile.json")   # the reference of the next batch

The gates stand in model.yaml (`zeroskew.model_config.Validation`). What cannot be judged, for want
of rows or of a reference, is shown as such and never fails a batch.
"""

from zeroskew.validation.checks import validate
from zeroskew.validation.report import Finding, Outcome, ValidationReport

__all__ = ["Finding", "Outcome", "ValidationReport", "validate"]
