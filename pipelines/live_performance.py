"""The performance pipeline, to be run on a schedule: what came true of what was answered."""

from pathlib import Path

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.model_page import model_page
from components.performance import performance
from pipelines.pod import Images, place
from zeroskew.steps.model_folder import read_config


def live_performance_pipeline(model: str | Path, images: Images | None = None) -> GraphComponent:
    """The pipeline of one model's folder, for `kfp.local` or the compiler.

    Its run-time parameters are `version` (number or alias), `days` of answers, and `model`, the
    folder as the step sees it.
    """
    config, images = read_config(model), images or Images()
    name = f"{config.name.replace('_', '-')}-live-performance"

    @dsl.pipeline(name=name, description=f"Measures {config.name} on labels that have arrived.")
    def pipeline(
        version: str = "champion", days: int = 30, model: str = Path(model).as_posix()
    ) -> None:
        measured = place(
            performance(model=model, version=version, days=days),
            images, config.resources,
        )  # fmt: skip
        # The dashboard then has the page of the day, with this in it.
        place(model_page(model=model, days=days), images, config.resources).after(measured)

    return pipeline
