"""KFP component `validate_training_set`: may this training set train a model."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate_training_set(
    model: str,
    training_set: dsl.Input[dsl.Dataset],
    findings: dsl.Output[dsl.Artifact],
    profile: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    measures: dsl.Output[dsl.Metrics],
) -> None:
    """Measure nulls, ranges, categories and shift since the champion; `gate` acts on it."""
    from zeroskew.steps.validate_training_set import check_training_set

    summary = check_training_set(model, training_set.path, findings.path, profile.path, report.path)
    measures.metadata.update(summary)
