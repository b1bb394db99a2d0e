"""KFP component `performance`: AUC and calibration on labels that have arrived."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def performance(
    model: str, version: str, days: int, measured: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:  # fmt: skip
    """Measure what a version answered in the last days, and keep the report for the monitor."""
    from zeroskew.steps.performance import measure_live_performance

    for name, value in measure_live_performance(model, version, days, measured.path).items():
        metrics.log_metric(name, value)
