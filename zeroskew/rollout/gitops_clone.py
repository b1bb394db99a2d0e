"""A private, bare clone of one remote branch, for one deployment.

Nothing is checked out. Files are read from and written to git's own objects, so a repository's
links, submodules, filters and hooks have nothing to act on. What git may do is narrowed down:

* it speaks the protocol of the remote's address only, and to that host only (no redirects, which
  would take the token elsewhere); commands that need no remote may speak none;
* it gets the token from its environment, through `GIT_ASKPASS`, and hands it to no helper that
  would store it;
* it ends in time, and can neither write more than a limit to the disk nor ask at a terminal.

The rest is left to git's configuration: proxies, certificates, signing.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from zeroskew.errors import DeployError
from zeroskew.rollout.gitops_remote import ANY_USER, PREFIX, GitRemote

LARGEST_FILE = 1 << 20
"""Bytes of a manifest (a Kubernetes object has 1.5 MiB at most)."""
LARGEST_FETCH = 1 << 28
"""Bytes of any one file that git writes: a remote cannot fill the disk."""
LOCAL_SECONDS = 60

_KEPT = re.compile(r"GIT_(CONFIG_(GLOBAL|SYSTEM|NOSYSTEM)|SSL_\w+|PROXY_\w+|ASKPASS|SSH_COMMAND)")
_ASKPASS = f"""#!/bin/sh
case "$1" in
  Username*) printf '%s\\n' "${{{PREFIX}USERNAME:-{ANY_USER}}}" ;;
  *) printf '%s\\n' "${PREFIX}TOKEN" ;;
esac
"""
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
    "fetch.recurseSubmodules=no",
    "push.recurseSubmodules=no",
    "push.followTags=false",
    "push.gpgSign=if-asked",
    "fetch.writeCommitGraph=false",
    "log.showSignature=false",
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a git command answered. `error` holds no credentials."""

    code: int
    output: bytes
    error: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a tree: `kind` is blob, tree or commit (of a submodule)."""

    mode: str
    kind: str
    object: str


class GitClone:
    """As a context manager: the folder is gone at the end.

    Methods raise `DeployError` for what git refuses, with its words.
    """

    def __init__(self, remote: GitRemote) -> None:
        self.remote = remote
        self._folder = Path()

    def __enter__(self) -> GitClone:
        if shutil.which("git") is None:
            raise DeployError("git is not installed", where="deploy", mend="install git")
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="zeroskew-deploy-"))
            askpass = self._folder / "askpass"
            askpass.write_text(_ASKPASS, encoding="ascii")
            askpass.chmod(0o700)
        except OSError as error:
            shutil.rmtree(self._folder, ignore_errors=True) if self._folder != Path() else None
            raise DeployError(f"no temporary folder: {error.strerror}", where="deploy") from None
        try:
            self.run("init", "--quiet", "--bare", "--template=", str(self._folder / "git"))
            self.run("config", "remote.origin.url", self.remote.url)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, *arguments: str, given: bytes = b"", network: bool = False) -> bytes:
        """Output of a git command that must end well."""
        said = self.ask(*arguments, given=given, network=network)
        if said.code:
            raise DeployError(
                f"`git {arguments[0]}` failed: {last_words(said.error)}", where=self.remote.url
            )
        return said.output

    def ask(self, *arguments: str, given: bytes = b"", network: bool = False) -> Said:
        """What a git command says. Only with `network` may it reach the remote."""
        seconds = self.remote.timeout_seconds if network else LOCAL_SECONDS
        settings = [part for each in self._settings() for part in ("-c", each)]
        where = [] if arguments[0] == "init" else [f"--git-dir={self._folder / 'git'}"]
        try:
            process = subprocess.Popen(
                ["git", *settings, *where, "--literal-pathspecs", *arguments],
                cwd=self._folder,
                env=self._environment(network),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise DeployError(f"git cannot be run: {error.strerror}", where="deploy") from None
        try:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                limits = (LARGEST_FETCH, LARGEST_FETCH)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
            output, error_output = process.communicate(given, timeout=seconds)
        except subprocess.TimeoutExpired:
            self._end(process)
            return Said(124, b"", f"no answer within {seconds:g} s")
        except BaseException:
            self._end(process)
            raise
        return Said(
            process.returncode, output, self.remote.hidden(error_output.decode(errors="replace"))
        )

    def entry(self, commit: str, path: str) -> Entry | None:
        """What a commit's tree holds at `path`."""
        return self.entries(commit, path).get(path)

    def entries(self, commit: str, path: str) -> dict[str, Entry]:
        """As `entry`; with a `/` at the end of `path`, everything in that folder, by full path."""
        found = {}
        for line in self.run("ls-tree", "-z", "--full-tree", commit, path).split(b"\0"):
            if line:
                about, _, name = line.partition(b"\t")
                found[name.decode(errors="replace")] = Entry(*about.decode("ascii").split())
        return found

    def read(self, entry: Entry, path: str) -> bytes:
        """Bytes of a blob. Raises `DeployError` above `LARGEST_FILE`."""
        size = self.ask("cat-file", "-s", entry.object)
        if size.code:
            # The filter of a fetch leaves out large files, and now and then, in a second fetch, a
            # small one; git then gets it.
            size = self.ask("cat-file", "-s", entry.object, network=True)
        where = f"{self.remote.url}: {path}"
        if size.code:
            raise DeployError(f"the file cannot be fetched: {last_words(size.error)}", where=where)
        if int(size.output) > LARGEST_FILE:
            raise DeployError(f"the file has more than {LARGEST_FILE >> 10} KiB", where=where)
        return self.run("cat-file", "blob", entry.object)

    def _settings(self) -> list[str]:
        # Else a helper of the user's would write the token of this run to a disk.
        return [*_SETTINGS, *(["credential.helper="] if self.remote.token else [])]

    def _environment(self, network: bool) -> dict[str, str]:
        remote = self.remote
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GIT_", PREFIX)) or _KEPT.fullmatch(name)
        }
        env |= {
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": remote.protocol if network else "none",
            "GIT_ADVICE": "0",
        }
        if parts := remote.author_parts:
            for who in ("AUTHOR", "COMMITTER"):
                env[f"GIT_{who}_NAME"], env[f"GIT_{who}_EMAIL"] = parts
        if not network:
            return env
        if remote.token:
            env |= {"GIT_ASKPASS": str(self._folder / "askpass"), f"{PREFIX}TOKEN": remote.token}
            if remote.username:
                env[f"{PREFIX}USERNAME"] = remote.username
        else:
            env.setdefault("GIT_ASKPASS", "true")
        if remote.protocol == "ssh":
            env["GIT_SSH_COMMAND"] = self._ssh(env.get("GIT_SSH_COMMAND", "ssh"))
        return env

    def _ssh(self, program: str) -> str:
        options = ["-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oForwardAgent=no"]
        if self.remote.ssh_key:
            options += ["-i", self.remote.ssh_key, "-oIdentitiesOnly=yes"]
        if self.remote.known_hosts:
            options.append(f"-oUserKnownHostsFile={self.remote.known_hosts}")
        return " ".join([program, *map(shlex.quote, options)])

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def last_words(text: str, lines: int = 4) -> str:
    """The end of what git said, in one line."""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in said if not line.startswith(("hint:", "warning:"))]
    shown = "; ".join(said[-lines:])
    return "".join(c for c in shown if c.isprintable())[:600] or "it said nothing"
