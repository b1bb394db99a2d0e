"""Deployments by real processes: at the same time, and killed on their way."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from zeroskew.rollout.gitops_deploy import deploy
from zeroskew.rollout.gitops_remote import GitRemote

pytestmark = pytest.mark.integration

HERE = Path(__file__)
git_world = SimpleNamespace(**runpy.run_path(str(HERE.with_name("git_world.py"))))
deployment = runpy.run_path(str(HERE.with_name("deployments.py")))["deployment"]


def start(repository, model, *versions, **environment):
    process = subprocess.Popen(
        [sys.executable, str(HERE.with_name("deployer.py")), repository.url, model, *versions],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def let_go(*processes):
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def told(process):
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return [line.split(maxsplit=2) for line in output.splitlines()]


def wait_for(path):
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} never came")


def test_two_models_at_once_both_arrive(repository):
    first, second = (
        start(repository, "alpha", "1", "2", "3"),
        start(repository, "beta", "1", "2", "3"),
    )
    let_go(first, second)
    assert [word for _, word, _ in told(first) + told(second)] == ["merged"] * 6
    subjects = repository.log()
    for model in ("alpha", "beta"):
        mine = [each for each in subjects if each.startswith(model)]
        assert mine == [f"{model}: version {number}" for number in (3, 2, 1)]
    assert len(subjects) == 7
    assert all(" " not in parents for parents in repository.log("%P"))


def test_two_deployers_of_one_model_never_go_back(repository):
    odd, even = start(repository, "alpha", "1", "3", "5"), start(repository, "alpha", "2", "4", "6")
    let_go(odd, even)
    said = {int(number): word for number, word, _ in told(odd) + told(even)}
    assert said[6] == "merged"
    merged = sorted((number for number, word in said.items() if word == "merged"), reverse=True)
    assert repository.log() == [f"alpha: version {number}" for number in merged] + ["First"]
    assert {word for number, word in said.items() if number not in merged} <= {"refused"}


def test_two_deployers_of_one_version_make_one_commit(repository):
    rivals = start(repository, "alpha", "1"), start(repository, "alpha", "1")
    let_go(*rivals)
    said = [line for each in rivals for line in told(each)]
    # In the same second both make the same commit, and each is right to say that it is there.
    assert {word for _, word, _ in said} in ({"merged", "already"}, {"merged"})
    assert {commit for _, _, commit in said} == {repository.tip()}
    assert repository.log() == ["alpha: version 1", "First"]


def test_killed_between_commit_and_push_and_again_is_one_commit(repository, fresh_git):
    shim, reached = fresh_git / "bin/git", fresh_git / "reached"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/bin/sh\ncase " $* " in *" push "*) touch {reached}; exec sleep 60;; esac\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    shim.chmod(0o755)
    process = start(repository, "alpha", "1", PATH=f"{shim.parent}:{os.environ['PATH']}")
    let_go(process)
    wait_for(reached)
    (sleeper,) = children(process.pid)
    process.kill()
    process.wait()
    os.kill(sleeper, signal.SIGKILL)
    assert repository.log() == ["First"]
    done = deploy(*deployment(1, "alpha"), GitRemote(repository.url, author=git_world.AUTHOR))
    assert done.outcome == "merged"
    assert repository.log() == ["alpha: version 1", "First"]


def test_killed_while_the_remote_takes_the_push_and_again_is_one_commit(repository, fresh_git):
    reached = fresh_git / "reached"
    repository.hook("pre-receive", f"[ -e {reached} ] || {{ touch {reached}; sleep 1; }}")
    process = start(repository, "alpha", "1")
    let_go(process)
    wait_for(reached)
    process.kill()
    process.wait()
    deploy(*deployment(1, "alpha"), GitRemote(repository.url, author=git_world.AUTHOR))
    time.sleep(1.2)
    assert repository.log() == ["alpha: version 1", "First"]


def test_an_interrupt_ends_git_and_leaves_no_folder(repository, fresh_git):
    reached = fresh_git / "reached"
    repository.hook("pre-receive", f"touch {reached}; sleep 5; exit 1")
    process = start(repository, "alpha", "1")
    let_go(process)
    wait_for(reached)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=4) != 0
    process.stdout.close()
    assert list((fresh_git / "tmp").iterdir()) == []
    assert repository.log() == ["First"]


def children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in listed]
