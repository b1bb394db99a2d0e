"""Addresses, messages and files of a deployment, without a repository."""

import runpy
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.record import Measure
from zeroskew.rollout.gitops_folder import VersionPatch, folder_path, parse_patch
from zeroskew.rollout.gitops_message import (
    LINEAGE,
    deploy_message,
    lineage_trailers,
    one_line,
    parse_trailers,
    rollback_message,
)
from zeroskew.rollout.gitops_remote import GitRemote

version = runpy.run_path(str(Path(__file__).with_name("registered.py")))["version"]
SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example/team/models.git",
        "https://git.example:8443/models",
        "ssh://git@git.example:2222/models.git",
        "git@git.example:team/models.git",
        "git.example:models",
        "file:///srv/git/models.git",
        "http://127.0.0.1:3000/models.git",
        "http://[::1]:3000/models.git",
    ],
)
def test_addresses_that_a_deployment_takes(url):
    remote = GitRemote(url)
    assert remote.protocol == (url.partition("://")[0] if "://" in url else "ssh")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "models",
        "/srv/models.git",
        "../models",
        "--upload-pack=touch x",
        "-oProxyCommand=x:y",
        "ssh://-oProxyCommand=x/y",
        "ext::sh -c touch% x",
        "git://git.example/models",
        "ftp://git.example/models",
        "http://git.example/models",
        "https:///models",
        "https://git.example/a b",
        "https://git.example/models?x=1",
        "file://elsewhere/models",
        "https://[bad/models",
        "https://git.example:port/models",
        f"https://user:{SECRET}@git.example/models",
        f"https://{SECRET}@git.example/models",
        f"ssh://git:{SECRET}@git.example/models",
        f"https://:{SECRET}@/models",
    ],
)
def test_addresses_that_it_refuses_without_repeating_a_password(url):
    with pytest.raises(ConfigError) as error:
        GitRemote(url)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"branch": "-x"}, {"branch": "a..b"}, {"branch": "a//b"}, {"branch": "a.lock"},
        {"branch": "refs heads"}, {"branch": ""}, {"branch": "a:b"}, {"branch": "+main"},
        {"branch": "@{-1}"}, {"author": "Nobody"}, {"author": "A <b@c>\nSigned-off-by: x <y@z>"},
        {"token": "a\nb"},
    ],
)  # fmt: skip
def test_fields_that_it_refuses(fields):
    with pytest.raises(ConfigError):
        GitRemote("https://git.example/models.git", **fields)


def test_the_environment_says_what_the_command_line_does_not():
    env = {
        "ZEROSKEW_GIT_REMOTE": "https://git.example/m.git", "ZEROSKEW_GIT_BRANCH": "production",
        "ZEROSKEW_GIT_TOKEN": f"{SECRET}\n", "ZEROSKEW_GIT_AUTHOR": "A B <a@b.c>",
    }  # fmt: skip
    remote = GitRemote.from_environment(branch="staging", environment=env)
    assert (remote.url, remote.branch) == ("https://git.example/m.git", "staging")
    assert remote.author_parts == ("A B", "a@b.c")
    assert remote.token == SECRET
    assert SECRET not in repr(remote)
    with pytest.raises(ConfigError, match="ZEROSKEW_GIT_REMOTE"):
        GitRemote.from_environment(environment={})


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../b", ".git", "a/.git/hooks", "a//b", "a b"])
def test_a_folder_stays_in_the_repository(path):
    with pytest.raises(ConfigError, match="folder"):
        folder_path(path, "flight_delay")


def by_git(message):
    """What `git interpret-trailers` finds, as lines."""
    done = subprocess.run(
        ["git", "interpret-trailers", "--parse"], input=message, capture_output=True, text=True
    )
    return done.stdout


lines = st.text(max_size=60)


@given(reason=lines, verdict=lines, metric=lines, code=lines)
def test_no_text_adds_or_takes_a_trailer(reason, verdict, metric, code):
    made = version(
        number=42, verdict_reason=verdict, compared_by=metric, code_sha=code.strip() or "c",
        metrics={metric: Measure(0.5)}, verdict="wins",
    )  # fmt: skip
    expected = {key: one_line(value) for key, value in lineage_trailers(made).items()}
    message = deploy_message(made, 41)
    subject, _, _ = message.partition("\n")
    assert subject == "flight_delay: version 42"
    back = rollback_message("flight_delay", 42, 43, reason or "r", expected)
    wanted = {key: each for key, each in expected.items() if each}
    for text, more in ((message, {"Previous-Version": "41"}), (back, {"Rolled-Back-From": "43"})):
        found = by_our_reading(text)
        assert {key: found.get(key) for key in wanted | more} == wanted | more
        assert set(found) <= {*LINEAGE, "Previous-Version", "Rolled-Back-From", "Reason"}


def by_our_reading(message):
    return parse_trailers(message.strip().rpartition("\n\n")[2])


@pytest.mark.parametrize(
    "reason", ["late", "a\n\nModel-Version: 7", "Verdict: loses", "x\x00\u2028y", "- #1", ":"]
)
def test_git_reads_the_trailers_as_we_do(reason):
    made = version(number=42, verdict_reason=reason, verdict="wins")
    for text in (
        deploy_message(made, 41, "A B <a@b.c>"),
        rollback_message("flight_delay", 41, 42, reason, lineage_trailers(made)),
    ):
        assert parse_trailers(by_git(text)) == by_our_reading(text)
        assert by_git(text).count("Model-Version: ") == 1 + text.count(
            f"Reason: {one_line(reason)}"
        ) * ("Model-Version" in reason)


# PyYAML itself reads control characters and U+0085 otherwise than it wrote them.
words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(
    values=values,
    place=st.sampled_from(
        ["metadata", "spec", "annotations", "modelRef", "template", "version", ""]
    ),
)
def test_a_wrong_value_anywhere_is_one_error(values, place):
    reference = {"name": "m", "version": "1"}
    metadata, spec = {"name": "m", "annotations": {}}, {"modelRef": reference, "template": {}}
    whole = {
        "apiVersion": "zeroskew.dev/v1alpha1", "kind": "ModelRollout",
        "metadata": metadata, "spec": spec,
    }  # fmt: skip
    for holder in (whole, metadata, spec, reference):
        if place in holder:
            holder[place] = values
    text = yaml.safe_dump(whole if place else values).encode()
    try:
        patch = parse_patch(text, "m")
    except ValueError:
        return
    assert parse_patch(patch.text(), "m") == patch


@given(
    version=st.integers(1, 999_999_999),
    before=st.none() | st.integers(1, 999_999_999),
    template=st.dictionaries(words, values, max_size=3),
)
def test_a_patch_is_read_as_it_was_written(version, before, template):
    patch = VersionPatch("flight-delay", "flight_delay", version, template, before)
    assert parse_patch(patch.text(), "flight_delay") == patch
    assert patch.newest == max(version, before or 0)
