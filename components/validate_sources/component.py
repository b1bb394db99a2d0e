"""KFP component `validate_sources`: can sources and entity rows be joined."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate_sources(
    model: str,
    start_time: str,
    end_time: str,
    entity_rows: dsl.Input[dsl.Dataset],
    findings: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    measures: dsl.Output[dsl.Metrics],
) -> None:
    """Check the raw tables of a model against its definitions; `gate` acts on the findings."""
    from zeroskew.steps.validate_sources import validate_feature_sources

    summary = validate_feature_sources(
        model, start_time, end_time, entity_rows.path, findings.path, report.path
    )
    measures.metadata.update(summary)
