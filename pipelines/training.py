"""The training pipeline: from labelled questions to a registered model version.

    ingest → validate_sources → gate → join → validate_training_set → gate
           → train → export → evaluate → register (→ publish → deploy)
    drift_report, where a monitor's decision started the run

`training_pipeline(folder)` makes it for one model's folder: resources come from model.yaml when the
pipeline is made, times when it runs. A validation and the gate behind it are two steps because KFP
keeps nothing of a step that fails, and the report of a failed validation is what one wants to see.
"""

from pathlib import Path
from typing import NamedTuple

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.drift_report import drift_report
from components.evaluate import evaluate
from components.export import export
from components.gate import gate
from components.ingest import ingest
from components.join import join
from components.register import register
from components.train import train
from components.validate_sources import validate_sources
from components.validate_training_set import validate_training_set
from pipelines.deployment import Deployment, deploy_winner
from pipelines.pod import Images, place, place_on_trainer
from zeroskew.steps.model_folder import read_config


class Outcome(NamedTuple):
    """What the pipeline ends with: the registered version and what became of it."""

    version: int
    verdict: str


def training_pipeline(
    model: str | Path, images: Images | None = None, deployment: Deployment | None = None
) -> GraphComponent:
    """The pipeline of one model's folder, for `kfp.local` or the compiler.

    With a `deployment`, on a cluster, a version that did not lose is brought to its users.

    Its run-time parameters are `start_time` (included) and `end_time` (excluded), as ISO 8601 or
    relative (`now-90d`), `decision`, the checksum of the monitor's that asked for it, if one did,
    and `model`, the folder as the steps see it. Its outputs are `version` and `verdict`.
    """
    config, images = read_config(model), images or Images()
    name = f"{config.name.replace('_', '-')}-training"

    @dsl.pipeline(name=name, description=f"Trains and registers {config.name}.")
    def pipeline(
        start_time: str, end_time: str, decision: str = "", model: str = Path(model).as_posix()
    ) -> Outcome:
        with dsl.If(decision != "", name="drifted"):
            place_on_trainer(
                drift_report(model=model, decision=decision), images, config.resources, minutes=30
            )
        rows = place(
            ingest(model=model, start_time=start_time, end_time=end_time), images, config.resources
        )
        start, end = rows.outputs["start_time"], rows.outputs["end_time"]
        entity_rows = rows.outputs["entity_rows"]

        sources = place(
            validate_sources(model=model, start_time=start, end_time=end, entity_rows=entity_rows),
            images, config.resources,
        )  # fmt: skip
        usable = place(
            gate(findings=sources.outputs["findings"]), images, config.resources, minutes=10
        )
        usable.set_display_name("gate: sources")

        joined = place(
            join(model=model, start_time=start, end_time=end, entity_rows=entity_rows),
            images, config.resources, minutes=240,
        ).after(usable)  # fmt: skip
        training_set = joined.outputs["training_set"]

        measured = place(
            validate_training_set(model=model, training_set=training_set),
            images, config.resources,
        )  # fmt: skip
        allowed = place(
            gate(findings=measured.outputs["findings"]), images, config.resources, minutes=10
        )
        allowed.set_display_name("gate: training set")

        fitted = place_on_trainer(
            train(model=model, training_set=training_set),
            images, config.resources, gpu=config.resources.gpu, attempts=2, minutes=24 * 60,
        ).after(allowed)  # fmt: skip
        checkpoint = fitted.outputs["checkpoint"]
        graphs = place_on_trainer(
            export(model=model, checkpoint=checkpoint, training_set=training_set),
            images, config.resources,
        )  # fmt: skip
        exported = graphs.outputs["exported"]
        judged = place(
            evaluate(model=model, training_set=training_set, exported=exported),
            images, config.resources,
        )  # fmt: skip
        version = place(
            register(
                model=model,
                training_set=training_set,
                profile=measured.outputs["profile"],
                checkpoint=checkpoint,
                exported=exported,
                evaluation=judged.outputs["evaluation"],
            ),
            images, config.resources, minutes=20,
        )  # fmt: skip
        if deployment is not None:
            deploy_winner(
                model, version.outputs["version"], version.outputs["verdict"],
                images, config.resources, deployment,
            )  # fmt: skip
        return Outcome(version.outputs["version"], version.outputs["verdict"])

    return pipeline
