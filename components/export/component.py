"""KFP component `export`: the checkpoint as ONNX graphs, quantized and gated."""

from kfp import dsl

from components.image import TRAINER_IMAGE


@dsl.component(base_image=TRAINER_IMAGE, install_kfp_package=False)
def export(
    model: str,
    checkpoint: dsl.Input[dsl.Model],
    training_set: dsl.Input[dsl.Dataset],
    exported: dsl.Output[dsl.Model],
    measures: dsl.Output[dsl.Metrics],
) -> None:
    """Write FP32 and INT8 ONNX; the one that passed the gates of model.yaml is model.onnx."""
    from zeroskew.steps.export import export_graphs

    summary = export_graphs(model, checkpoint.path, training_set.path, exported.path)
    exported.metadata.update(summary)
    measures.metadata.update({k: v for k, v in summary.items() if isinstance(v, int | float)})
