"""KFP component `publish`: what Triton serves of a version, where the cluster finds it."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def publish(model: str, version: int, models: str, target: str = "") -> str:
    """Write the version's Triton repository below `models`; its address is the output."""
    from zeroskew.steps.publish import publish_version

    return publish_version(model, version, models, target)
