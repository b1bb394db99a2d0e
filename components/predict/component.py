"""KFP component `predict`: scores for a table of entity rows."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def predict(
    model: str,
    entity_rows: str,
    version: str,
    output: str,
    predictions: dsl.Output[dsl.Dataset],
) -> None:
    """Join each row with its features as of its own time, and score it with a version's graph."""
    from zeroskew.steps.predict import predict_entity_rows

    predictions.metadata.update(
        predict_entity_rows(model, entity_rows, version, output, predictions.path)
    )
