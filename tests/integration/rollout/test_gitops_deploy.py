"""Deployments to real repositories: what a commit holds, and that one is made once."""

import runpy
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from zeroskew.errors import ConfigError, DeployError
from zeroskew.rollout import gitops_deploy
from zeroskew.rollout.gitops_deploy import Delivery, deploy, rollback
from zeroskew.rollout.gitops_remote import GitRemote
from zeroskew.rollout.rollout_spec import parse_spec

pytestmark = pytest.mark.integration

HERE = Path(__file__)
git_world = SimpleNamespace(**runpy.run_path(str(HERE.with_name("git_world.py"))))
deployments = SimpleNamespace(**runpy.run_path(str(HERE.with_name("deployments.py"))))
deployment, rendered = deployments.deployment, deployments.rendered
FOLDER = "models/flight_delay"
VERSION, ROLLOUT = f"{FOLDER}/version.yaml", f"{FOLDER}/rollout.yaml"


@pytest.fixture
def remote(repository):
    return GitRemote(repository.url, author=git_world.AUTHOR)


def deployed(repository, branch="main"):
    return yaml.safe_load(repository.show(VERSION, branch))["spec"]["modelRef"]["version"]


def built(repository, tmp_path):
    """What kustomize, and so Argo CD and Flux, make of the model's folder."""
    target = tmp_path / "checkout"
    git_world.git("clone", "--quiet", repository.url, str(target), cwd=tmp_path)
    kubectl = Path(sys.executable).with_name("kubectl")
    if not kubectl.exists():
        pytest.skip("kubectl is not installed here")
    command = [str(kubectl), "kustomize", str(target / FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (document,) = yaml.safe_load_all(done.stdout)
    return document


def test_the_first_deployment_makes_a_folder_that_builds_to_the_manifest(
    repository, remote, tmp_path
):
    done = deploy(*deployment(41), remote)
    assert (done.outcome, done.before, done.commit) == ("merged", None, repository.tip())
    document = built(repository, tmp_path)
    assert document == rendered(41)
    parse_spec(document["spec"])
    assert repository.show("README.md") == "Models of the team."


def test_the_message_holds_the_lineage_as_trailers(repository, remote):
    deploy(*deployment(41), remote)
    deploy(*deployment(42), remote, Delivery(sign_off=True))
    assert repository.log()[:2] == ["flight_delay: version 42", "flight_delay: version 41"]
    expected = {
        "Model-Version": "42",
        "Data-Hash": "ab" * 32,
        "Feature-Schema-Version": "cd" * 32,
        "Code-SHA": "1f3a9c2d4e5f60718293a4b5c6d7e8f901234567-dirty",
        "Training-Run": "0123456789abcdef0123456789abcdef",
        "Metric": "auc 0.7421 [0.7400, 0.7450]",
        "Margin": "0.0040 [0.0030, 0.0050] (needed: 0.002)",
        "Compared-With": "41",
        "Verdict": "wins",
        "Previous-Version": "41",
        "Signed-off-by": git_world.AUTHOR,
    }
    assert {key: repository.trailer(key) for key in expected} == expected
    assert repository.log("%an <%ae>|%cn <%ce>")[0] == f"{git_world.AUTHOR}|{git_world.AUTHOR}"


def test_the_same_version_again_makes_no_commit(repository, remote):
    deploy(*deployment(41), remote)
    tip = repository.tip()
    again = deploy(*deployment(41), remote)
    assert (again.outcome, again.commit, again.before) == ("already", tip, 41)
    assert repository.tip() == tip


def test_a_version_rendered_anew_is_a_commit(repository, remote):
    deploy(*deployment(41), remote)
    assert deploy(*deployment(41, image="registry.test/triton:2"), remote).outcome == "merged"
    assert "triton:2" in repository.show(VERSION)


def test_what_people_wrote_stays_as_it_is(repository, remote, tmp_path):
    deploy(*deployment(41), remote)
    tuned = repository.show(ROLLOUT).replace(
        "  service:\n",
        "  # Half of the fleet, agreed with operations.\n  suspend:   true\n  service:\n",
    )
    mine = repository.show(f"{FOLDER}/kustomization.yaml") + (
        '\n- patch: \'[{"op": "add", "path": "/spec/template/labels/team", "value": "delays"}]\''
        "\n  target: {kind: ModelRollout}\n"
    )
    repository.write({ROLLOUT: tuned, f"{FOLDER}/kustomization.yaml": mine, f"{FOLDER}/NOTE": "x"})
    deploy(*deployment(42), remote)
    assert repository.show(ROLLOUT) == tuned.strip()
    assert repository.show(f"{FOLDER}/kustomization.yaml") == mine.strip()
    assert git_world.git(
        "diff", "--name-only", "main~1", "main", cwd=repository.bare
    ).split() == [VERSION]  # fmt: skip
    document = built(repository, tmp_path)
    assert document["spec"]["suspend"] is True
    assert document["spec"]["template"]["labels"]["team"] == "delays"
    assert document["spec"]["modelRef"]["version"] == "42"


def test_a_rollout_that_was_written_by_hand_is_taken_up(repository, remote, tmp_path):
    mine = rendered(40)
    del mine["spec"]["template"]
    mine["spec"]["strategy"] = {"steps": [{"setWeight": 100}]}
    text = "# ours\n" + yaml.safe_dump(mine)
    repository.write({ROLLOUT: text})
    deploy(*deployment(41), remote)
    assert repository.show(ROLLOUT) == text.strip()
    document = built(repository, tmp_path)
    assert document["spec"]["strategy"] == {"steps": [{"setWeight": 100}]}
    assert document["spec"]["modelRef"]["version"] == "41"


def test_an_older_version_is_refused(repository, remote):
    deploy(*deployment(42), remote)
    tip = repository.tip()
    with pytest.raises(DeployError, match=r"older than 42.*\n.*rollout rollback"):
        deploy(*deployment(41), remote)
    assert repository.tip() == tip


def test_a_rollback_is_a_commit_that_brings_back_what_was_there(repository, remote, tmp_path):
    deploy(*deployment(41, image="registry.test/triton:old"), remote)
    deploy(*deployment(42), remote)
    done = rollback("flight_delay", 41, "late answers\nModel-Version: 99", remote)
    assert (done.outcome, done.before, done.version) == ("merged", 42, 41)
    assert repository.log()[0] == "flight_delay: back to version 41"
    assert repository.trailer("Rolled-Back-From") == "42"
    assert repository.trailer("Model-Version") == "41"
    assert repository.trailer("Reason") == "late answers Model-Version: 99"
    assert repository.trailer("Compared-With") == "40"
    document = built(repository, tmp_path)
    assert document["metadata"].pop("annotations") == {"zeroskew.dev/rolled-back-from": "42"}
    assert document == rendered(41, image="registry.test/triton:old")
    assert rollback("flight_delay", 41, "once more", remote).outcome == "already"


def test_what_was_rolled_back_does_not_return_by_itself(repository, remote):
    for number in (40, 41, 42):
        deploy(*deployment(number), remote)
    rollback("flight_delay", 41, "late", remote)
    rollback("flight_delay", 40, "late, too", remote)
    for number in (41, 42):
        with pytest.raises(DeployError, match="rolled back from version 42 to 40"):
            deploy(*deployment(number), remote)
    assert deploy(*deployment(41), remote, again=True).before == 40
    with pytest.raises(DeployError, match="rolled back from version 42"):
        deploy(*deployment(42), remote)
    assert deploy(*deployment(43), remote).outcome == "merged"
    assert "rolled-back-from" not in repository.show(VERSION)


def test_a_rollback_needs_somewhere_to_go(repository, remote):
    with pytest.raises(DeployError, match="holds no version"):
        rollback("flight_delay", 40, "late", remote)
    deploy(*deployment(42), remote)
    with pytest.raises(DeployError, match="version 40 of flight_delay was never deployed"):
        rollback("flight_delay", 40, "late", remote)
    with pytest.raises(DeployError, match="going to 43 is no rollback"):
        rollback("flight_delay", 43, "late", remote)
    with pytest.raises(ConfigError, match="reason"):
        rollback("flight_delay", 40, " \n", remote)


def test_a_branch_waits_for_people(repository, remote):
    deploy(*deployment(41), remote)
    tip = repository.tip()
    branch = "zeroskew/flight_delay-42"
    done = deploy(*deployment(42), remote, Delivery(mode="branch"))
    assert (done.outcome, done.branch, done.before) == ("branch", branch, 41)
    assert repository.tip() == tip
    assert deployed(repository, branch) == "42"
    assert repository.log(branch=branch)[1] == "flight_delay: version 41"
    assert deploy(*deployment(42), remote, Delivery(mode="branch")).outcome == "already"
    repository.write({f"{FOLDER}/NOTE": "reviewed"}, "Note", branch)
    newer = deploy(*deployment(42, image="registry.test/triton:2"), remote, Delivery(mode="branch"))
    assert newer.outcome == "branch"
    assert repository.show(f"{FOLDER}/NOTE", branch) == "reviewed"
    back = rollback("flight_delay", 41, "no", remote, Delivery(mode="branch"))
    assert back.outcome == "already"


def test_a_rollback_can_wait_for_people_too(repository, remote):
    deploy(*deployment(41), remote)
    deploy(*deployment(42), remote)
    done = rollback("flight_delay", 41, "late", remote, Delivery(mode="branch"))
    assert done.branch == "zeroskew/flight_delay-42-back-to-41"
    assert (deployed(repository), deployed(repository, done.branch)) == ("42", "41")
    again = rollback("flight_delay", 41, "late", remote, Delivery(mode="branch"))
    assert (again.outcome, again.commit) == ("already", done.commit)


def test_a_folder_and_a_branch_of_ones_own(repository):
    repository.write({"a": "b"}, branch="production")
    target = GitRemote(repository.url, "production", author=git_world.AUTHOR)
    deploy(*deployment(41), target, Delivery(folder="apps/prod/delays/"))
    assert repository.show("apps/prod/delays/version.yaml", "production")
    assert repository.log() == ["First"]


def test_nobody_or_nothing_named_is_said(repository, remote):
    with pytest.raises(ConfigError, match="nobody is set"):
        deploy(*deployment(41), GitRemote(repository.url))
    with pytest.raises(DeployError, match="no branch staging"):
        deploy(*deployment(41), GitRemote(repository.url, "staging", author=git_world.AUTHOR))
    with pytest.raises(ConfigError, match="manifest is of flight_delay version 41"):
        deploy(rendered(41), deployments.registered(42), remote)
    assert repository.branches() == ["main"]


def test_gits_configuration_says_who_commits_and_signs(repository, fresh_git):
    signer = fresh_git / "signer"
    signer.write_text(
        "#!/bin/sh\ncat >/dev/null\nprintf -- '-----BEGIN PGP SIGNATURE-----\\n\\nAAAA\\n"
        "-----END PGP SIGNATURE-----\\n'\nprintf '[GNUPG:] SIG_CREATED \\n' >&2\n"
    )
    signer.chmod(0o755)
    (fresh_git / "gitconfig").write_text(
        f"[user]\nname = Some Body\nemail = some@example.org\n"
        f"[commit]\ngpgSign = true\n[gpg]\nprogram = {signer}\n"
    )
    deploy(*deployment(41), GitRemote(repository.url))
    assert repository.log("%an")[0] == "Some Body"
    assert "BEGIN PGP SIGNATURE" in git_world.git("cat-file", "-p", "main", cwd=repository.bare)


def test_a_branch_that_moves_meanwhile_is_looked_at_again(repository, remote, monkeypatch):
    deploy(*deployment(41), remote)
    real, moves = gitops_deploy.push, iter(["one", "two"])

    def somebody_is_faster(*arguments):
        if word := next(moves, None):
            repository.write({f"models/other/{word}": word}, word)
        return real(*arguments)

    monkeypatch.setattr(gitops_deploy, "push", somebody_is_faster)
    assert deploy(*deployment(42), remote).outcome == "merged"
    assert repository.log()[:3] == ["flight_delay: version 42", "two", "one"]
    assert repository.log("%P")[0].count(" ") == 0


def test_a_newer_version_that_came_meanwhile_wins(repository, remote, monkeypatch):
    real = gitops_deploy.push

    def newer(*arguments):
        monkeypatch.setattr(gitops_deploy, "push", real)
        deploy(*deployment(43), remote)
        return real(*arguments)

    monkeypatch.setattr(gitops_deploy, "push", newer)
    with pytest.raises(DeployError, match="older than 43"):
        deploy(*deployment(42), remote)
    assert deployed(repository) == "43"


def test_a_rollback_takes_back_nothing_that_nobody_saw(repository, remote, monkeypatch):
    for number in (41, 42):
        deploy(*deployment(number), remote)
    real = gitops_deploy.push

    def newer(*arguments):
        monkeypatch.setattr(gitops_deploy, "push", real)
        deploy(*deployment(43), remote)
        return real(*arguments)

    monkeypatch.setattr(gitops_deploy, "push", newer)
    with pytest.raises(DeployError, match="version 43 was deployed while version 42"):
        rollback("flight_delay", 41, "late", remote)
    assert deployed(repository) == "43"


def test_a_branch_that_never_rests_ends_the_tries(repository, remote, monkeypatch):
    real, count = gitops_deploy.push, iter(range(100))

    def always_faster(*arguments):
        repository.write({"busy": str(next(count))}, "busy")
        return real(*arguments)

    monkeypatch.setattr(gitops_deploy, "push", always_faster)
    monkeypatch.setattr(gitops_deploy, "_wait", lambda attempt: 0)
    monkeypatch.setattr(gitops_deploy, "TRIES", 3)
    with pytest.raises(DeployError, match="moved 3 times"):
        deploy(*deployment(41), remote)
    assert next(count) == 3


def test_nothing_is_left_in_the_temporary_folder(repository, remote, fresh_git):
    deploy(*deployment(42), remote)
    with pytest.raises(DeployError):
        deploy(*deployment(41), remote)
    assert list((fresh_git / "tmp").iterdir()) == []


def test_models_deployed_at_once_by_threads_all_arrive(repository, remote):
    names = ["alpha", "beta", "gamma", "delta"]
    threads = [
        threading.Thread(target=deploy, args=(*deployment(7, name), remote)) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    subjects = repository.log()
    assert sorted(subjects[:-1]) == sorted(f"{name}: version 7" for name in names)
    assert all(parents.count(" ") == 0 for parents in repository.log("%P"))
