"""The materialisation pipeline: newest feature values into the online store, on a schedule."""

from pathlib import Path

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.freshness import freshness
from components.materialise import materialise
from pipelines.pod import Images, place
from zeroskew.steps.model_folder import read_config


def materialisation_pipeline(model: str | Path, images: Images | None = None) -> GraphComponent:
    """The pipeline of one model's folder, for `kfp.local` or the compiler.

    Run-time parameters: `end_time` (default `now`), `start_time` (default: where the last run
    stopped), `views` (default: all) and `model`, the folder as the step sees it. Repeating or
    interrupting it is safe: newer values win, so it may be retried.
    """
    config, images = read_config(model), images or Images()
    name = f"{config.name.replace('_', '-')}-materialisation"

    @dsl.pipeline(name=name, description=f"Writes the features of {config.name} online.")
    def pipeline(
        end_time: str = "now",
        start_time: str = "",
        views: list = [],  # noqa: B006 (KFP reads the default, nothing can change it)
        model: str = Path(model).as_posix(),
    ) -> None:
        written = place(
            materialise(model=model, start_time=start_time, end_time=end_time, views=views),
            images, config.resources, minutes=240,
        )  # fmt: skip
        place(freshness(model=model), images, config.resources, minutes=20).after(written)

    return pipeline
