"""The batch prediction pipeline: scores for a Parquet of entity rows, point-in-time correct."""

from pathlib import Path

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.predict import predict
from pipelines.pod import Images, place
from zeroskew.steps.model_folder import read_config


def batch_prediction_pipeline(model: str | Path, images: Images | None = None) -> GraphComponent:
    """The pipeline of one model's folder, for `kfp.local` or the compiler.

    Run-time parameters: `entity_rows`, Parquet with the entity keys, the event time and the request
    columns, below the data endpoint or a whole path; `output`, where the predictions go besides the
    artifact (empty: nowhere); `version`, an alias or a number of the registry; and `model`, the
    folder as the step sees it.
    """
    config, images = read_config(model), images or Images()
    name = f"{config.name.replace('_', '-')}-batch-prediction"

    @dsl.pipeline(name=name, description=f"Scores a table of entity rows with {config.name}.")
    def pipeline(
        entity_rows: str,
        version: str = "champion",
        output: str = "",
        model: str = Path(model).as_posix(),
    ) -> dsl.Dataset:
        scored = place(
            predict(model=model, entity_rows=entity_rows, version=version, output=output),
            images, config.resources, minutes=240,
        )  # fmt: skip
        return scored.outputs["predictions"]

    return pipeline
