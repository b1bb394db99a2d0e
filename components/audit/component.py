"""KFP component `audit`: what was served beside the point-in-time join."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def audit(
    model: str,
    start_time: str,
    end_time: str,
    version: str,
    limit: int,
    max_mismatch: float,
    findings: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    measures: dsl.Output[dsl.Metrics],
) -> None:
    """Compare the prediction log with the join, row by row; `gate` acts on the findings."""
    from zeroskew.steps.audit import audit_predictions

    measures.metadata.update(
        audit_predictions(
            model, start_time, end_time, version, limit, max_mismatch, findings.path, report.path
        )
    )
