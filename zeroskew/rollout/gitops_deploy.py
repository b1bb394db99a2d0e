"""Deployments and rollbacks as commits, in the repository that Argo CD or Flux follows.

    remote = GitRemote.from_environment("https://git.example/models.git")
    deploy(rollout_manifest(…), version, remote)
    rollback("flight_delay", 41, "late answers since noon", remote)

The branch decides, not what this process remembers: every try fetches it, sees what is there,
commits on top and pushes without force. So a deployment that is repeated, or killed anywhere,
ends as one commit; of two at once, the second one looks again at what the first one left.
A version never replaces a newer one, nor one that was rolled back; the way back is `rollback`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from zeroskew.errors import ConfigError, DeployError
from zeroskew.registry import ModelVersion
from zeroskew.rollout.gitops_clone import GitClone
from zeroskew.rollout.gitops_folder import (
    ModelFolder,
    VersionPatch,
    folder_path,
    patch_of,
    read_folder,
)
from zeroskew.rollout.gitops_history import deployed_before
from zeroskew.rollout.gitops_message import deploy_message, one_line, rollback_message
from zeroskew.rollout.gitops_push import commit, committer, fetch, push
from zeroskew.rollout.gitops_remote import GitRemote, check_branch
from zeroskew.rollout.merge_request import Request, gitlab_options, open_pull_request

TRIES = 8
"""Of fetch, commit and push, while others are faster."""
LOST_TRIES = 3
"""Of these, with a connection that breaks."""
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0


Mode = Literal["merge", "branch"]
Outcome = Literal["merged", "branch", "already"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a commit reaches the branch that the cluster follows."""

    mode: Mode = "merge"
    """`merge` pushes it there. `branch` pushes `zeroskew/<model>-<version>` for people to merge."""
    request: Request = "none"
    """With `branch`: opens a merge request on GitLab or a pull request on GitHub."""
    api: str = ""
    """Address of GitHub's API; default: that of the remote's host."""
    folder: str = ""
    """Of the model in the repository; default `models/<model>`."""
    sign_off: bool = False
    """Adds `Signed-off-by`. Signatures are git's own configuration (commit.gpgSign)."""

    def __post_init__(self) -> None:
        for name, kind in (("mode", Mode), ("request", Request)):
            if (given := getattr(self, name)) not in get_args(kind):
                allowed = ", ".join(get_args(kind))
                raise ConfigError(f"{given!r} is no {name}", where=name, mend=f"use {allowed}")
        if self.request != "none" and self.mode != "branch":
            raise ConfigError(
                "a merge request needs a branch of its own",
                where="--request",
                mend="use `--mode branch`",
            )


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a deployment."""

    outcome: Outcome
    """`already`: the repository had it, nothing was committed."""
    version: int
    before: int | None
    """Version that the followed branch had."""
    branch: str
    commit: str
    """Tip of `branch`: the commit that was made, or what was found there."""
    request: str = ""
    """Address of the pull request, where one was opened or found."""


@dataclass(frozen=True, slots=True)
class _Change:
    patch: VersionPatch
    message: Callable[[str], str]
    """From who signs off, or an empty text."""


_Plan = Callable[[GitClone, str, ModelFolder], _Change | None]
"""From the clone, the base's tip and what it holds to what is wanted; None: it is there already."""


def deploy(
    manifest: Mapping[str, Any],
    version: ModelVersion,
    remote: GitRemote,
    delivery: Delivery | None = None,
    *,
    again: bool = False,
) -> Delivered:
    """Commit the version of `manifest`, which `rollout_manifest` made, with its lineage.

    `again`: also a version that was rolled back. Raises `DeployError` if the branch has a newer
    one, if the repository refuses, or if it holds what a deployment must not touch;
    `RegistryError` for a version without lineage. Then nothing has changed.
    """
    delivery = delivery or Delivery()
    wanted = patch_of(manifest)
    if (wanted.model, wanted.version) != (version.name, version.version):
        raise ConfigError(
            f"the manifest is of {wanted.model} version {wanted.version}, the lineage of "
            f"{version.name} version {version.version}",
            where="deploy",
        )

    def plan(clone: GitClone, base: str, folder: ModelFolder) -> _Change | None:
        now = folder.patch
        if now is not None:
            _check_newer(wanted, now, remote, again)
            same = now.version == wanted.version and now.template == wanted.template
            if same and folder.has_kustomization:
                return None
        previous = None if now is None else now.version
        # A newer one that was taken back stays taken back.
        taken = now.newest if now is not None and now.newest > wanted.version else None
        patch = replace(wanted, rolled_back_from=taken)
        return _Change(patch, lambda who: deploy_message(version, previous, who))

    return _Sender(
        plan, remote, delivery, model=wanted.model, version=wanted.version, manifest=manifest,
        own_branch=lambda before: f"zeroskew/{wanted.model}-{wanted.version}",
    ).send()  # fmt: skip


def rollback(
    model: str,
    to: int,
    reason: str,
    remote: GitRemote,
    delivery: Delivery | None = None,
) -> Delivered:
    """Commit the version `to` as this branch had it last, and keep what it replaces from returning.

    Needs no registry: template and lineage come from the branch's history. Raises `DeployError` if
    the branch never had that version, has an older one, or got another one while this was on its
    way (what shall be taken back is then somebody's decision).
    """
    delivery = delivery or Delivery()
    reason = one_line(reason)
    if not reason:
        raise ConfigError("a rollback needs a reason", where="--reason")
    seen: list[int] = []

    def plan(clone: GitClone, base: str, folder: ModelFolder) -> _Change | None:
        now = folder.patch
        if now is None:
            raise DeployError(
                f"{folder.path} holds no version of {model}", where=f"{remote.url}, {remote.branch}"
            )
        if now.version == to:
            return None
        seen.append(now.version)
        if now.version != seen[0]:
            raise DeployError(
                f"version {now.version} was deployed while version {seen[0]} was rolled back",
                where=f"{remote.url}, {remote.branch}",
                mend="look again, and repeat the rollback if it is still wanted",
            )
        if now.version < to:
            raise DeployError(
                f"{remote.branch} has version {now.version}: going to {to} is no rollback",
                where=model,
                mend="use `zeroskew rollout deploy`",
            )
        patch, lineage = deployed_before(clone, base, folder.path, model, to)
        wanted = VersionPatch(now.rollout, model, to, patch.template, rolled_back_from=now.newest)
        return _Change(
            wanted, lambda who: rollback_message(model, to, now.version, reason, lineage, who)
        )

    return _Sender(
        plan, remote, delivery, model=model, version=to, history=True,
        own_branch=lambda before: f"zeroskew/{model}-{before}-back-to-{to}",
    ).send()  # fmt: skip


class _Sender:
    """One deployment on its way; `made` is the commit of the last try."""

    def __init__(
        self,
        plan: _Plan,
        remote: GitRemote,
        delivery: Delivery,
        *,
        model: str,
        version: int,
        own_branch: Callable[[int | None], str],
        manifest: Mapping[str, Any] | None = None,
        history: bool = False,
    ) -> None:
        self._plan, self._remote, self._delivery = plan, remote, delivery
        self._model, self._version, self._own_branch = model, version, own_branch
        self._manifest, self._history = manifest, history
        self._path = folder_path(delivery.folder, model)
        self._made = ""

    def send(self) -> Delivered:
        """Try until it is there. Raises `DeployError` if that cannot be."""
        lost = 0
        with GitClone(self._remote) as clone:
            who = committer(clone)
            for attempt in range(TRIES):
                if attempt:
                    time.sleep(_wait(attempt))
                try:
                    if (delivered := self._try(clone, who)) is not None:
                        return delivered
                except ConnectionError as error:
                    lost += 1
                    if lost == LOST_TRIES:
                        raise DeployError(
                            f"the repository cannot be reached: {error}",
                            where=self._remote.url,
                            mend="repeat it later: what has arrived is seen then",
                        ) from None
        raise DeployError(
            f"{self._remote.branch} moved {TRIES} times while version {self._version} was pushed",
            where=self._remote.url,
            mend="repeat it",
        )

    def _try(self, clone: GitClone, who: str) -> Delivered | None:
        """None if somebody else was faster."""
        remote, separate = self._remote, self._delivery.mode == "branch"
        base = _tip(clone, remote, self._history)
        folder = read_folder(clone, base, self._path, self._model)
        before = None if folder.patch is None else folder.patch.version
        change = self._plan(clone, base, folder)
        if change is None:
            # A try whose answer was lost may have been heard.
            outcome: Outcome = "merged" if base == self._made else "already"
            return Delivered(outcome, self._version, before, remote.branch, base)
        branch, parent = remote.branch, base
        if separate:
            branch = check_branch(self._own_branch(before))
            if (tip := fetch(clone, branch, history=self._history)) is not None:
                parent, folder = tip, read_folder(clone, tip, self._path, self._model)
        files = folder.changes(change.patch, self._manifest)
        message = change.message(who if self._delivery.sign_off else "")
        if files:
            self._made = commit(clone, parent, files, message)
            options = gitlab_options(self._delivery.request, remote.branch, message)
            if not push(clone, self._made, branch, options):
                return None
            parent = self._made
        outcome = "already" if parent != self._made else "branch" if separate else "merged"
        address = _request(remote, self._delivery, branch, message)
        return Delivered(outcome, self._version, before, branch, parent, address)


def _tip(clone: GitClone, remote: GitRemote, history: bool) -> str:
    tip = fetch(clone, remote.branch, history=history)
    if tip is None:
        raise DeployError(
            f"there is no branch {remote.branch}",
            where=remote.url,
            mend="make it, with a first commit, or name another one with --branch",
        )
    return tip


def _check_newer(wanted: VersionPatch, now: VersionPatch, remote: GitRemote, again: bool) -> None:
    where = f"{remote.url}, {remote.branch}"
    if wanted.version < now.version:
        raise DeployError(
            f"version {wanted.version} of {wanted.model} is older than {now.version}, which is "
            "deployed",
            where=where,
            mend="go back with `zeroskew rollout rollback`, which says why in the history",
        )
    if now.version < wanted.version <= now.newest and not again:
        raise DeployError(
            f"{wanted.model} was rolled back from version {now.newest} to {now.version}, and "
            f"{wanted.version} is no newer than that",
            where=where,
            mend="deploy a newer version, or this one once more with --again",
        )


def _request(remote: GitRemote, delivery: Delivery, branch: str, message: str) -> str:
    if delivery.request != "github":
        return ""
    subject, _, body = message.partition("\n\n")
    return open_pull_request(remote, branch, subject, body, api=delivery.api)


def _wait(attempt: int) -> float:
    longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt)
    return random.uniform(longest / 2, longest)  # noqa: S311 (spreads rivals, guards nothing)
