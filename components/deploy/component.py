"""KFP component `deploy`: a registered version in the repository that the cluster follows."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(
    model: str, version: int, storage_uri: str, image: str, namespace: str,
    delivered: dsl.Output[dsl.Artifact],
    remote: str = "", branch: str = "", mode: str = "merge", request: str = "none",
) -> NamedTuple("Commit", [("commit", str), ("outcome", str)]):  # type: ignore[valid-type]  # fmt: skip
    """Commit the version with its lineage; Argo CD or Flux brings it to the cluster."""
    from zeroskew.steps.deploy import deploy_version

    result = deploy_version(
        model, version, storage_uri, image, namespace, remote, branch, mode, request, delivered.path
    )
    delivered.metadata.update(result)
    return result["commit"], result["outcome"]
