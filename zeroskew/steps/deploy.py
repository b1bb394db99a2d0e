"""Step `deploy`: a registered version, committed to the repository that the cluster follows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zeroskew.steps.files import write_json
from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import step

if TYPE_CHECKING:
    from zeroskew.rollout.gitops_deploy import Mode
    from zeroskew.rollout.merge_request import Request


@step("delivered")
def deploy_version(
    model: str | Path,
    version: int,
    storage_uri: str,
    image: str,
    namespace: str,
    remote: str,
    branch: str,
    mode: str,
    request: str,
    delivered: str | Path,
) -> dict[str, Any]:
    """Commit the version and its lineage; see `zeroskew.rollout.gitops_deploy`.

    Empty `remote` and `branch` are those of the environment. `delivered` (JSON) and the result hold
    `outcome` (`merged`, `branch` or `already`), `version`, `before`, `branch`, `commit` and
    `request`.

    Raises `ConfigError`, `RegistryError` and `DeployError` as the library does; then nothing has
    changed, and repeating the step is safe.
    """
    from zeroskew.registry import Registry
    from zeroskew.rollout.gitops_deploy import Delivery, deploy
    from zeroskew.rollout.gitops_remote import GitRemote
    from zeroskew.rollout.version_manifest import version_manifest

    config = read_config(model)
    target = GitRemote.from_environment(remote, branch)
    delivery = Delivery(mode=cast("Mode", mode), request=cast("Request", request))
    found = Registry.from_environment().version(config.name, version)
    manifest = version_manifest(
        found, config, storage_uri=storage_uri, image=image, namespace=namespace
    )
    result = asdict(deploy(manifest, found, target, delivery))
    write_json(delivered, result)
    print(
        f"{result['outcome']}: {config.name} version {version}, {result['commit'][:12]}", flush=True
    )
    return result
