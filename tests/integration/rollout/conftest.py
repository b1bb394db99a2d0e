"""Git as a fresh machine has it, and a repository to deploy to."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

WORLD = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("git_world.py"))))


@pytest.fixture
def fresh_git(tmp_path, monkeypatch):
    """No configuration of git's but an empty one, no credentials, temporary files of our own."""
    home = tmp_path / "home"
    (home / "tmp").mkdir(parents=True)
    (home / "gitconfig").touch()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(home / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("REMOTE", "BRANCH", "AUTHOR", "USERNAME", "TOKEN", "SSH_KEY", "KNOWN_HOSTS"):
        monkeypatch.delenv(f"ZEROSKEW_GIT_{name}", raising=False)
    return home


@pytest.fixture
def repository(fresh_git, tmp_path):
    return WORLD.Repository(tmp_path / "remote")
