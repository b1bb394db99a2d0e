"""KFP component `rollback`: the version before, in the repository that the cluster follows."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def rollback(
    model: str, to: str, reason: str, delivered: dsl.Output[dsl.Artifact],
    remote: str = "", branch: str = "", mode: str = "merge", request: str = "none",
) -> NamedTuple("Commit", [("commit", str), ("outcome", str)]):  # type: ignore[valid-type]  # fmt: skip
    """Commit the way back; Argo CD or Flux brings it to the cluster."""
    from zeroskew.steps.rollback import roll_back

    result = roll_back(model, to, reason, remote, branch, mode, request, delivered.path)
    delivered.metadata.update(result)
    return result["commit"], result["outcome"]
