"""KFP component `materialise`: newest feature values into the online store."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def materialise(
    model: str, start_time: str, end_time: str, views: list, measures: dsl.Output[dsl.Metrics]
) -> None:
    """Write what became known up to `end_time`; without `start_time`, since the last run."""
    from zeroskew.steps.materialise import materialise_views

    measures.metadata.update(materialise_views(model, start_time, end_time, views))
