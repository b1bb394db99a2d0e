"""KFP component `model_page`: versions, lineage, drift, live performance, audits, decisions."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def model_page(model: str, days: int, page: dsl.Output[dsl.HTML]) -> None:
    """Draw the page of a model, as the registry and the prediction log know it now."""
    from zeroskew.steps.model_page import write_model_page

    write_model_page(model, days, page.path)
