"""KFP component `freshness`: how far the online store is behind its sources."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def freshness(model: str, metrics: dsl.Output[dsl.Metrics]) -> None:
    """Look at the store that the model is served from, and keep the report for the operator."""
    from zeroskew.steps.freshness import look_at_store

    for name, value in look_at_store(model).items():
        metrics.log_metric(name, value)
