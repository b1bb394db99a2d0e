"""KFP component `register`: a model version with its whole lineage."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    model: str,
    training_set: dsl.Input[dsl.Dataset],
    profile: dsl.Input[dsl.Artifact],
    checkpoint: dsl.Input[dsl.Model],
    exported: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    registered: dsl.Output[dsl.Model],
) -> NamedTuple("Version", [("version", int), ("verdict", str)]):  # type: ignore[valid-type]
    """Register the version in MLflow, and give it the alias or the stage its verdict earns."""
    from zeroskew.steps.register import register_version

    summary = register_version(
        model, training_set.path, profile.path, checkpoint.path, exported.path, evaluation.path,
        registered.path,
    )  # fmt: skip
    registered.metadata.update(summary)
    return summary["version"], summary["verdict"]
