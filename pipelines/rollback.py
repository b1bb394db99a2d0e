"""The rollback pipeline: what a DriftMonitor with `action: RollBack` starts, not a training."""

from pathlib import Path

from kfp import dsl, kubernetes
from kfp.dsl.graph_component import GraphComponent

from components.rollback import rollback
from pipelines.deployment import GIT_KEYS, GIT_SECRET
from pipelines.pod import Images, place
from zeroskew.steps.model_folder import read_config


def rollback_pipeline(model: str | Path, images: Images | None = None) -> GraphComponent:
    """The pipeline of one model's folder, for `kfp.local` or the compiler.

    Run-time parameters: `to` (number or alias), `reason`, `mode` and `request` as of the component,
    and `model`, the folder as the step sees it.
    """
    config, images = read_config(model), images or Images()
    name = f"{config.name.replace('_', '-')}-rollback"

    @dsl.pipeline(name=name, description=f"Brings the version before of {config.name} back.")
    def pipeline(
        to: str = "previous", reason: str = "asked for by hand", mode: str = "merge",
        request: str = "none", model: str = Path(model).as_posix(),
    ) -> None:  # fmt: skip
        committed = place(
            rollback(model=model, to=to, reason=reason, mode=mode, request=request),
            images, config.resources, minutes=15,
        )  # fmt: skip
        kubernetes.use_secret_as_env(committed, GIT_SECRET, GIT_KEYS, optional=True)

    return pipeline
