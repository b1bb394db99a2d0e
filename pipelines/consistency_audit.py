"""The consistency audit pipeline: is what was served what training sees, on a schedule."""

from pathlib import Path

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.audit import audit
from components.gate import gate
from pipelines.pod import Images, place
from zeroskew.steps.model_folder import read_config


def consistency_audit_pipeline(model: str | Path, images: Images | None = None) -> GraphComponent:
    """The pipeline of one model's folder, for `kfp.local` or the compiler.

    Run-time parameters: `start_time` and `end_time` of the answers (default: those of the last
    day), `version` (a number or an alias; empty: every version that logged, for whom
    no report is kept), `limit` (about so many rows; 0: all),
    `max_mismatch` (the share of rows that may differ; beyond it the run fails, its report kept)
    and `model`, the folder as the step sees it. It only reads, so it may be retried.
    """
    config, images = read_config(model), images or Images()
    name = f"{config.name.replace('_', '-')}-consistency-audit"

    @dsl.pipeline(name=name, description=f"Compares what {config.name} served with the join.")
    def pipeline(
        start_time: str = "now-1d",
        end_time: str = "now",
        version: str = "champion",
        limit: int = 0,
        max_mismatch: float = 0.0,
        model: str = Path(model).as_posix(),
    ) -> None:
        audited = place(
            audit(
                model=model, start_time=start_time, end_time=end_time, version=version,
                limit=limit, max_mismatch=max_mismatch,
            ),
            images, config.resources, minutes=240,
        )  # fmt: skip
        judged = place(
            gate(findings=audited.outputs["findings"]), images, config.resources, minutes=10
        )
        judged.set_display_name("gate: served is joined")

    return pipeline
