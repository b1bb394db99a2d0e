"""KFP component `evaluate`: held-out metrics, and the champion on the same rows."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    model: str,
    training_set: dsl.Input[dsl.Dataset],
    exported: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    curves: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Score the test rows with the exported graph and compare with the champion's."""
    from zeroskew.steps.evaluate import evaluate_against_champion

    shown = evaluate_against_champion(
        model, training_set.path, exported.path, evaluation.path, report.path
    )
    metrics.metadata.update(shown.metrics)
    curves.log_roc_curve(*shown.roc)
    curves.log_confusion_matrix(shown.categories, shown.confusion)
