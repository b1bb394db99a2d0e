"""Step `rollback`: the version before, as a commit in the repository that the cluster follows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zeroskew.errors import RegistryError
from zeroskew.steps.files import write_json
from zeroskew.steps.model_folder import read_config
from zeroskew.steps.step import step

if TYPE_CHECKING:
    from zeroskew.rollout.gitops_deploy import Mode
    from zeroskew.rollout.merge_request import Request


@step("delivered")
def roll_back(
    model: str | Path,
    to: str,
    reason: str,
    remote: str,
    branch: str,
    mode: str,
    request: str,
    delivered: str | Path,
) -> dict[str, Any]:
    """Commit the way back; see `zeroskew.rollout.gitops_deploy.rollback`.

    `to`: a number, or an alias of the registry such as `previous`. Empty `remote` and `branch` are
    those of the environment. `delivered` (JSON) and the result hold `outcome` (`merged`, `branch`
    or `already`), `version`, `before`, `branch`, `commit` and `request`.

    Raises `ConfigError`, `RegistryError` and `DeployError` as the library does; then nothing has
    changed, and repeating the step is safe.
    """
    from zeroskew.registry import Registry
    from zeroskew.rollout.gitops_deploy import Delivery, rollback
    from zeroskew.rollout.gitops_remote import GitRemote

    name = read_config(model).name
    target = GitRemote.from_environment(remote, branch)
    delivery = Delivery(mode=cast("Mode", mode), request=cast("Request", request))
    version = int(to) if to.isdigit() else Registry.from_environment().resolve(name, to)
    if version < 1:
        raise RegistryError(f"there is no version {to} of {name}")
    result = asdict(rollback(name, version, reason, target, delivery))
    write_json(delivered, result)
    print(f"{result['outcome']}: {name} version {version}, {result['commit'][:12]}", flush=True)
    return result
