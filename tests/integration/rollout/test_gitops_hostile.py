"""Repositories that hold what a deployment must not touch, or refuse it: one error, no change."""

import os
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from zeroskew.errors import DeployError
from zeroskew.rollout import gitops_clone
from zeroskew.rollout.gitops_deploy import Delivery, deploy, rollback
from zeroskew.rollout.gitops_remote import GitRemote

pytestmark = pytest.mark.integration

HERE = Path(__file__)
git_world = SimpleNamespace(**runpy.run_path(str(HERE.with_name("git_world.py"))))
deployments = SimpleNamespace(**runpy.run_path(str(HERE.with_name("deployments.py"))))
deployment, rendered = deployments.deployment, deployments.rendered
FOLDER = "models/flight_delay"
KUSTOMIZATION = f"{FOLDER}/kustomization.yaml"
VERSION, ROLLOUT = f"{FOLDER}/version.yaml", f"{FOLDER}/rollout.yaml"
HEAD = "apiVersion: zeroskew.dev/v1alpha1\nkind: ModelRollout\n"


def refused(repository, match, **delivery):
    tips = {branch: repository.tip(branch) for branch in repository.branches()}
    remote = GitRemote(repository.url, author=git_world.AUTHOR)
    with pytest.raises(DeployError, match=match) as error:
        deploy(*deployment(42), remote, Delivery(**delivery))
    assert {branch: repository.tip(branch) for branch in repository.branches()} == tips
    assert repository.url in str(error.value)


def linked(repository, path, target):
    link = repository.work / path
    link.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, link)
    repository.push("A link")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("models", "models is a symbolic link, not a folder"),
        (FOLDER, "models/flight_delay is a symbolic link, not a folder"),
        (VERSION, "version.yaml is a symbolic link, not a file"),
        (ROLLOUT, "rollout.yaml is a symbolic link, not a file"),
        (KUSTOMIZATION, "kustomization.yaml is a symbolic link, not a file"),
    ],
)
def test_links_lead_nowhere(repository, tmp_path, path, what):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    linked(repository, path, outside if what.endswith("folder") else outside / "file")
    refused(repository, what)
    assert [each.name for each in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "precious"


def test_submodules_and_files_are_no_folders(repository):
    sub = f"160000,{repository.tip()},{FOLDER}"
    git_world.git("update-index", "--add", "--cacheinfo", sub, cwd=repository.work)
    git_world.git("commit", "--quiet", "-m", "Sub", cwd=repository.work)
    git_world.git("push", "--quiet", "origin", "HEAD:main", cwd=repository.work)
    refused(repository, "flight_delay is a submodule, not a folder")
    repository.write({"apps": "text"}, branch="main")
    refused(repository, "apps is a file, not a folder", folder="apps/delays")


@pytest.mark.parametrize(
    ("path", "text", "what"),
    [
        (VERSION, b"\xff\xfe\x00", "is not UTF-8"),
        (VERSION, "a: [1,\nb: }", "is no YAML, line 2"),
        (VERSION, "[" * 100_000, "is no YAML"),
        (VERSION, "", "does not hold one object"),
        (VERSION, "- a\n- b\n", "is no Kubernetes object"),
        (VERSION, "!!python/object/apply:os.system ['true']", "is no YAML"),
        (VERSION, "apiVersion: v1\nkind: Secret\n", "is no ModelRollout of zeroskew.dev/v1alpha1"),
        (VERSION, HEAD, "has no metadata or no spec"),
        (VERSION, HEAD + "metadata: {}\nspec: {}\n", "has no spec.modelRef"),
        (
            VERSION,
            HEAD + "metadata: {}\nspec: {template: {}, modelRef: {name: fraud, version: '1'}}\n",
            "is of the model 'fraud', not flight_delay",
        ),
        (
            VERSION,
            HEAD
            + "metadata: {}\nspec: {template: {}, modelRef: {name: flight_delay, version: x}}\n",
            "names 'x', which is no version",
        ),
        (ROLLOUT, "kind: Deployment\n", "holds 0 objects of kind ModelRollout"),
        (ROLLOUT, HEAD, "has no spec"),
        (ROLLOUT, HEAD + "spec: {template: {}}\n", "holds spec.template.*\n.*take it out"),
        (ROLLOUT, HEAD + "spec: {modelRef: {name: fraud}}\n", "is of the model 'fraud'"),
        (KUSTOMIZATION, "resources: [rollout.yaml]\n", "does not apply version.yaml"),
        (ROLLOUT, HEAD + "spec: {modelRef: 3, template: 1}\n", "holds spec.template"),
        (KUSTOMIZATION, "patches: 3\n", "does not apply version.yaml"),
        (KUSTOMIZATION, ": : :\n\t", "is no YAML"),
    ],
)
def test_files_that_are_not_what_they_should_be(repository, path, text, what):
    repository.write({path: text})
    refused(repository, f"{path} {what}")


@pytest.mark.parametrize("filters", [True, False], ids=["filter", "no filter"])
def test_a_file_that_is_too_large(fresh_git, tmp_path, filters):
    repository = git_world.Repository(tmp_path / "large", filters=filters)
    repository.write({VERSION: b"# " + b"x" * (gitops_clone.LARGEST_FILE + 1)})
    refused(repository, "more than 1024 KiB")


def test_large_files_beside_it_are_none_of_a_deployments_business(repository):
    repository.write({"weights.bin": os.urandom(3 << 20)})
    remote = GitRemote(repository.url, author=git_world.AUTHOR)
    assert deploy(*deployment(41), remote).outcome == "merged"
    assert deploy(*deployment(42), remote).outcome == "merged"
    assert rollback("flight_delay", 41, "late", remote).outcome == "merged"
    size = git_world.git("cat-file", "-s", "main:weights.bin", cwd=repository.bare)
    assert int(size) == 3 << 20


def test_a_remote_cannot_fill_the_disk(fresh_git, tmp_path, monkeypatch):
    """As on a full disk, git's write fails; what it had written is gone afterwards."""
    repository = git_world.Repository(tmp_path / "large", filters=False)
    repository.write({"weights.bin": os.urandom(3 << 20)})
    monkeypatch.setattr(gitops_clone, "LARGEST_FETCH", 1 << 20)
    refused(repository, "cannot read the repository|cannot be reached")
    assert list((fresh_git / "tmp").iterdir()) == []


def test_a_hook_that_refuses_is_quoted(repository):
    repository.hook("pre-receive", "echo 'Tickets only: see the wiki'; exit 1")
    refused(repository, r"push to main was refused: .*pre-receive hook declined.*Tickets only")


def test_a_protected_branch_leaves_the_way_through_a_merge_request(repository):
    repository.hook("update", '[ "$1" != refs/heads/main ] || { echo GH006: Protected; exit 1; }')
    refused(repository, r"refused.*hook declined.*Protected[^→]*→[^→]*--mode branch")
    remote = GitRemote(repository.url, author=git_world.AUTHOR)
    done = deploy(*deployment(42), remote, Delivery(mode="branch"))
    assert repository.tip(done.branch) == done.commit


def test_hooks_and_attributes_of_the_repository_do_nothing_here(repository, fresh_git):
    """Neither the repository's files nor hooks that git's configuration names run on our side."""
    hooks, ran = fresh_git / "hooks", fresh_git / "ran"
    hooks.mkdir()
    for name in ("pre-push", "pre-commit", "commit-msg", "post-commit", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\necho $0 >> {ran}\nexit 1\n")
        (hooks / name).chmod(0o755)
    (fresh_git / "gitconfig").write_text(
        f'[core]\nhooksPath = {hooks}\n[filter "evil"]\nclean = touch {ran}\nrequired = true\n'
    )
    repository.write({".gitattributes": "* filter=evil eol=crlf\n"})
    # Over HTTP the other side has a configuration of its own, and no part in these hooks.
    with git_world.over_http(repository) as (url, _):
        account = {"username": git_world.USER, "token": git_world.TOKEN}
        deploy(*deployment(42), GitRemote(url, author=git_world.AUTHOR, **account))
    assert not ran.exists()
    assert "\r" not in repository.show(VERSION)
    assert yaml.safe_load(repository.show(VERSION))["spec"]["template"]


def test_an_empty_repository_and_one_that_is_none(fresh_git, tmp_path):
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.mkdir()
    git_world.git("init", "--quiet", "--bare", ".", cwd=empty)
    for path, what in ((empty, "no branch main"), (other, "no such repository")):
        with pytest.raises(DeployError, match=what):
            deploy(*deployment(42), GitRemote(f"file://{path}", author=git_world.AUTHOR))


def test_broken_versions_in_the_history_are_passed_over(repository):
    remote = GitRemote(repository.url, author=git_world.AUTHOR)
    deploy(*deployment(41), remote)
    good = repository.show(VERSION)
    repository.write({VERSION: f"version: '41'\n{good}: :"}, "Broken")
    repository.write({VERSION: good + "\n"}, "Mended")
    deploy(*deployment(42), remote)
    rollback("flight_delay", 41, "late", remote)
    found = yaml.safe_load(repository.show(VERSION))
    assert found["spec"]["template"] == rendered(41)["spec"]["template"]
