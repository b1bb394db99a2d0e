"""Deployments over HTTP with a password: who gets to see the token, and what a broken line does."""

import base64
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from zeroskew.errors import ConfigError, DeployError
from zeroskew.rollout.gitops_deploy import Delivery, deploy, rollback
from zeroskew.rollout.gitops_remote import GitRemote

pytestmark = pytest.mark.integration

HERE = Path(__file__)
git_world = SimpleNamespace(**runpy.run_path(str(HERE.with_name("git_world.py"))))
deployment = runpy.run_path(str(HERE.with_name("deployments.py")))["deployment"]
USER, TOKEN, over_http = git_world.USER, git_world.TOKEN, git_world.over_http
SECRETS = (TOKEN, quote(TOKEN, safe=""), base64.b64encode(f"{USER}:{TOKEN}".encode()).decode())


def remote(url, token=TOKEN, **fields):
    return GitRemote(url, author=git_world.AUTHOR, username=USER, token=token, **fields)


def test_a_deployment_and_its_way_back_over_http(repository):
    with over_http(repository) as (url, asked):
        deploy(*deployment(41), remote(url))
        deploy(*deployment(42), remote(url))
        rollback("flight_delay", 41, "late", remote(url))
    assert repository.log()[0] == "flight_delay: back to version 41"
    assert any(header for _, _, header in asked)


def test_the_token_is_in_no_argument_no_file_and_no_output(
    repository, fresh_git, monkeypatch, capfd
):
    """Every git is seen by a stand-in before it starts; tracing that is asked for stays off."""
    shim, told = fresh_git / "bin/git", fresh_git / "told"
    shim.parent.mkdir()
    real = shutil.which("git")
    shim.write_text(
        f'#!/bin/sh\nprintf "%s " "$@" >> {told}\ngrep -r . "$TMPDIR" >> {told} 2>&1\n'
        f'exec {real} "$@"\n'
    )
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    traces = fresh_git / "traces"
    for name in ("GIT_TRACE", "GIT_TRACE_CURL", "GIT_TRACE_PACKET", "GIT_TRACE2_EVENT"):
        monkeypatch.setenv(name, str(traces))
    monkeypatch.setenv("GIT_TRACE_REDACT", "0")
    with over_http(repository) as (url, _):
        target = remote(url)
        done = deploy(*deployment(41), target)
        wrong = "wrong" + TOKEN
        with pytest.raises(DeployError, match="may not read") as refused:
            deploy(*deployment(42), remote(url, wrong))
    assert "push" in told.read_text(errors="replace")
    said = capfd.readouterr()
    seen = [told.read_text(errors="replace"), repr(target), repr(done), str(refused.value)]
    seen += [said.out, said.err, repository.show("models/flight_delay/version.yaml")]
    for secret in (*SECRETS, wrong):
        assert not any(secret in text for text in seen)
    assert not traces.exists()


def test_a_remote_that_repeats_the_token_is_not_repeated(repository):
    repository.hook("pre-receive", f"echo 'welcome {TOKEN}'; exit 1")
    with over_http(repository) as (url, _), pytest.raises(DeployError) as refused:
        deploy(*deployment(41), remote(url))
    assert "welcome ***" in str(refused.value)
    assert TOKEN not in str(refused.value)


def test_the_token_follows_no_redirect(repository, tmp_path):
    with over_http(repository) as (there, asked):

        def elsewhere(handler):
            handler.reply(302, {"Location": there + handler.path.partition(".git")[2]}, b"")
            return True

        with (
            over_http(repository, answer=elsewhere) as (url, _),
            pytest.raises(DeployError, match="redirect"),
        ):
            deploy(*deployment(41), remote(url))
    assert asked == []


def test_a_token_is_given_to_no_helper_and_without_one_the_helpers_are_asked(repository, fresh_git):
    helper, told = fresh_git / "helper", fresh_git / "told"
    helper.write_text(
        f"#!/bin/sh\necho $1 >> {told}\n"
        f"[ $1 = get ] && echo 'username={USER}' && echo 'password={TOKEN}'\n"
    )
    helper.chmod(0o755)
    (fresh_git / "gitconfig").write_text(f"[credential]\nhelper = {helper}\n")
    with over_http(repository) as (url, _):
        deploy(*deployment(41), remote(url))
        assert not told.exists()
        deploy(*deployment(42), GitRemote(url, author=git_world.AUTHOR))
    assert "get" in told.read_text().split()


def test_no_credentials_at_all_end_at_once(repository):
    with over_http(repository) as (url, _), pytest.raises(DeployError, match="GIT_TOKEN"):
        deploy(*deployment(41), GitRemote(url, author=git_world.AUTHOR))


def test_an_account_that_may_only_read(repository):
    def read_only(handler):
        if "receive-pack" in handler.path:
            handler.reply(403, {}, b"")
            return True
        return False

    with (
        over_http(repository, answer=read_only) as (url, _),
        pytest.raises(DeployError, match="may not write to"),
    ):
        deploy(*deployment(41), remote(url))
    assert repository.log() == ["First"]


@pytest.mark.parametrize("heard", [False, True], ids=["before", "after"])
def test_a_push_whose_connection_breaks_is_made_once(repository, heard):
    """The remote dies before or after it took the commit; either way it answers nothing."""
    broken = []

    def die(handler):
        if not broken and handler.path.endswith("/git-receive-pack"):
            broken.append(handler.path)
            if heard:
                handler.ask_git(handler.path, "")
            handler.connection.shutdown(socket.SHUT_RDWR)
            return True
        return False

    with over_http(repository, answer=die) as (url, _):
        done = deploy(*deployment(41), remote(url))
    assert broken
    assert (done.outcome, done.commit) == ("merged", repository.tip())
    assert repository.log() == ["flight_delay: version 41", "First"]


def test_a_remote_that_is_down_or_silent_ends_in_time(repository):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a/models.git"
        with pytest.raises(DeployError, match="cannot be reached: no answer within"):
            deploy(*deployment(41), remote(url, timeout_seconds=0.3))
    with pytest.raises(DeployError, match="cannot be reached"):
        deploy(*deployment(41), remote(url))


def test_a_repository_that_is_not_there(repository):
    with over_http(repository) as (url, _), pytest.raises(DeployError, match="no such repository"):
        deploy(*deployment(41), remote(url.replace("models", "none")))


def test_gitlab_is_asked_by_push_options(repository, tmp_path):
    told = tmp_path / "told"
    count = "for i in $(seq 0 $((GIT_PUSH_OPTION_COUNT-1)))"
    repository.hook(
        "post-receive", f'{count}; do eval echo \\"\\$GIT_PUSH_OPTION_$i\\"; done > {told}'
    )
    delivery = Delivery(mode="branch", request="gitlab")
    with over_http(repository) as (url, _):
        deploy(*deployment(42), remote(url), delivery)
        options = told.read_text().splitlines()
        assert options[:3] == [
            "merge_request.create",
            "merge_request.target=main",
            "merge_request.title=flight_delay: version 42",
        ]
        assert "Data-Hash: abab" in options[3]
        git_world.git("config", "receive.advertisePushOptions", "false", cwd=repository.bare)
        with pytest.raises(DeployError, match="push options"):
            deploy(*deployment(43), remote(url), delivery)


class GitHub:
    """The two calls of GitHub's REST API that a pull request needs, on the git server's port."""

    def __init__(self):
        self.open, self.asked, self.status = {}, [], None

    def __call__(self, handler):
        path, _, query = handler.path.partition("?")
        if not path.startswith("/api/"):
            return False
        body = handler.read_body()
        self.asked.append((handler.command, path, handler.headers["Authorization"]))
        if self.status:
            handler.reply(self.status, {"Location": "/api/other"}, b"<html>")
            return True
        if handler.command == "GET":
            found = [each for head, each in self.open.items() if quote(head, safe="") in query]
            handler.reply(200, {}, json.dumps(found).encode())
            return True
        wanted = json.loads(body)
        if wanted["head"] in self.open:
            message = {"message": "Validation Failed", "errors": [{"message": "already exists"}]}
            handler.reply(422, {}, json.dumps(message).encode())
            return True
        url = f"https://github.example/pull/{len(self.open) + 7}"
        self.open[wanted["head"]] = {"html_url": url} | wanted
        handler.reply(201, {}, json.dumps(self.open[wanted["head"]]).encode())
        return True


def test_github_is_asked_once_for_a_pull_request(repository):
    hub = GitHub()
    with over_http(repository, answer=hub) as (url, _):
        api = url.partition("/remote/")[0] + "/api"
        delivery = Delivery(mode="branch", request="github", api=api)
        done = deploy(*deployment(42), remote(url), delivery)
        again = deploy(*deployment(42), remote(url), delivery)
        hub.status = 302
        with pytest.raises(DeployError, match="opened no pull request: 302"):
            deploy(*deployment(42), remote(url), delivery)
        with pytest.raises(ConfigError, match="needs a branch"):
            Delivery(request="github")
    assert done.request == again.request == "https://github.example/pull/7"
    assert again.outcome == "already"
    opened = hub.open["zeroskew/flight_delay-42"]
    assert (opened["title"], opened["base"]) == ("flight_delay: version 42", "main")
    assert "Data-Hash: " in opened["body"]
    assert {path for _, path, _ in hub.asked} == {"/api/repos/remote/models/pulls"}
    assert {header for _, _, header in hub.asked} == {f"Bearer {TOKEN}"}


def test_the_command_takes_the_token_from_the_environment(repository, monkeypatch):
    with over_http(repository) as (url, _):
        for number in (41, 42):
            deploy(*deployment(number), remote(url))
        environment = os.environ | {
            "ZEROSKEW_GIT_REMOTE": url, "ZEROSKEW_GIT_USERNAME": USER, "ZEROSKEW_GIT_TOKEN": TOKEN,
            "ZEROSKEW_GIT_AUTHOR": git_world.AUTHOR,
        }  # fmt: skip
        command = [str(Path(sys.executable).with_name("zeroskew")), "rollout", "rollback"]
        command += ["flight_delay", "--to", "41", "--reason", "late since noon"]
        runs = [
            subprocess.run([*command, *more], env=environment, capture_output=True, text=True)
            for more in ([], ["--json"], ["--to", "7"])
        ]
    assert [run.returncode for run in runs] == [0, 0, 1], runs[0].stderr
    assert "flight_delay version 41 is on main" in runs[0].stdout
    assert json.loads(runs[1].stdout)["outcome"] == "already"
    assert "never deployed" in runs[2].stderr
    assert "Traceback" not in runs[2].stderr
    assert not any(secret in run.stdout + run.stderr for run in runs for secret in SECRETS)


def test_ssh_is_told_the_key_and_the_hosts_it_may_trust(repository, fresh_git, monkeypatch):
    """In the place of ssh, a program that runs the far command here."""
    ssh, told = fresh_git / "bin/ssh", fresh_git / "told"
    ssh.parent.mkdir()
    ssh.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >> {told}\nfor last; do :; done\nexec sh -c "$last"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    target = GitRemote(
        f"ssh://git@git.example{repository.bare}",
        author=git_world.AUTHOR,
        ssh_key="/keys/my key",
        known_hosts="/keys/hosts; touch x",
    )
    deploy(*deployment(41), target)
    assert repository.log()[0] == "flight_delay: version 41"
    arguments = told.read_text().splitlines()
    assert arguments[arguments.index("-i") + 1] == "/keys/my key"
    assert "-oUserKnownHostsFile=/keys/hosts; touch x" in arguments
    assert {"-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oIdentitiesOnly=yes"} <= set(
        arguments
    )
