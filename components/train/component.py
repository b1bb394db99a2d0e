"""KFP component `train`: hyperparameter search, final fit, calibration."""

from kfp import dsl

from components.image import TRAINER_IMAGE


@dsl.component(base_image=TRAINER_IMAGE, install_kfp_package=False)
def train(
    model: str,
    training_set: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Output[dsl.Model],
    measures: dsl.Output[dsl.Metrics],
) -> None:
    """Search with Ray Tune and fit with Ray Train; a safetensors checkpoint comes out."""
    from zeroskew.steps.train import train_model

    summary = train_model(model, training_set.path, checkpoint.path)
    checkpoint.metadata.update(summary)
    measures.metadata.update({k: v for k, v in summary.items() if isinstance(v, int | float)})
