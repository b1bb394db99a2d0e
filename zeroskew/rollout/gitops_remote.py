"""Where deployments are committed, as whom, and with which credentials.

The address comes from the command line or `ZEROSKEW_GIT_REMOTE`, credentials from the environment
only (a Secret in a cluster). No credential is ever part of an address, an argument or a message.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from zeroskew.errors import ConfigError

PREFIX = "ZEROSKEW_GIT_"
ANY_USER = "zeroskew"
"""Name for hosts that go by the token alone."""

_SCP = re.compile(r"(?:[\w.+-]+@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?![/\\]{2})[^\s:][^\s]*", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_BRANCH_PART = re.compile(r"(?![.+-])[\w.+-]+(?<!\.lock)(?<!\.)", re.ASCII)
_AUTHOR = re.compile(r"(?P<name>[^<>\x00-\x1f]*[^<>\s\x00-\x1f]) <(?P<mail>[^<>\s@]+@[^<>\s@]+)>")


@dataclass(frozen=True, slots=True)
class GitRemote:
    """A branch of a remote repository. Raises `ConfigError` for what cannot be one.

    `https://`, `ssh://`, `git@host:path` and `file://`; `http://` on this machine only, since it
    would show the token to everybody on the way.
    """

    url: str
    branch: str = "main"
    author: str = ""
    """`Name <mail>` of author and committer. Default: what git's configuration says."""
    username: str = ""
    """For HTTPS; hosts that go by the token alone take any."""
    token: str = field(default="", repr=False)
    """For HTTPS; without one, git's own credential helpers are asked."""
    ssh_key: str = ""
    """Path of a private key; default: what ssh is configured to use."""
    known_hosts: str = ""
    """Path of the file that says which host keys are right; default: ssh's own."""
    timeout_seconds: float = 120
    """For one exchange with the remote."""

    def __post_init__(self) -> None:
        _check_url(self.url)
        check_branch(self.branch)
        if self.author and not _AUTHOR.fullmatch(self.author):
            raise ConfigError(
                f"{self.author!r} is no author", where="author", mend="write `Name <mail@host>`"
            )
        if "\n" in self.token + self.username or "\r" in self.token + self.username:
            raise ConfigError(
                "the credentials hold a line break",
                where=f"{PREFIX}TOKEN, {PREFIX}USERNAME",
                mend="make the Secret without one: `--from-literal`, or `printf` instead of `echo`",
            )

    @classmethod
    def from_environment(
        cls,
        url: str = "",
        branch: str = "",
        *,
        author: str = "",
        environment: dict[str, str] | None = None,
    ) -> GitRemote:
        """What was given, and `ZEROSKEW_GIT_REMOTE`, `_BRANCH`, `_AUTHOR` for what was not;
        credentials from `ZEROSKEW_GIT_USERNAME`, `_TOKEN`, `_SSH_KEY` and `_KNOWN_HOSTS`.
        """
        env = os.environ if environment is None else environment

        def read(name: str) -> str:
            return env.get(PREFIX + name) or ""

        if not (url or read("REMOTE")):
            raise ConfigError(
                "no git repository is named",
                where=f"--remote, {PREFIX}REMOTE",
                mend="give the address of the repository that Argo CD or Flux follows",
            )
        return cls(
            url=url or read("REMOTE"),
            branch=branch or read("BRANCH") or "main",
            author=author or read("AUTHOR"),
            username=read("USERNAME"),
            token=read("TOKEN").rstrip("\r\n"),
            ssh_key=read("SSH_KEY"),
            known_hosts=read("KNOWN_HOSTS"),
        )

    @property
    def protocol(self) -> str:
        """The only protocol that git may speak here."""
        return self.url.partition("://")[0].lower() if "://" in self.url else "ssh"

    @property
    def author_parts(self) -> tuple[str, str] | None:
        """Name and mail, if an author is set."""
        match = _AUTHOR.fullmatch(self.author)
        return (match["name"], match["mail"]) if match else None

    def hidden(self, text: str) -> str:
        """`text` without the token, in any of the forms in which it travels."""
        if not self.token:
            return text
        basic = [f"{user}:{self.token}".encode() for user in (self.username, ANY_USER)]
        encoded = [base64.b64encode(each).decode() for each in basic]
        for secret in (self.token, quote(self.token, safe=""), *encoded):
            text = text.replace(secret, "***")
        return text


def check_branch(name: str) -> str:
    """`name`. Raises `ConfigError` if a branch cannot be called that."""
    parts = name.split("/")
    if len(name) > 200 or ".." in name or not all(_BRANCH_PART.fullmatch(each) for each in parts):
        raise ConfigError(
            f"{name!r} cannot be a branch",
            where="branch",
            mend="use letters, digits, -, _, . and / between them",
        )
    return name


def _check_url(url: str) -> None:
    if "://" not in url:
        if not _SCP.fullmatch(url):
            raise ConfigError(
                "the address of the git repository makes no sense",
                where="remote",
                mend="write https://host/path.git, ssh://git@host/path.git, git@host:path.git or "
                "file:///path",
            )
        return
    try:
        parts = urlsplit(url)
        host, password = parts.hostname or "", parts.password
        _ = parts.port
    except ValueError:
        raise ConfigError("the address of the git repository makes no sense", where="remote") from (
            None
        )
    # Not echoed: somebody may have put a token in it.
    if password is not None or (parts.username and parts.scheme in ("http", "https")):
        raise ConfigError(
            "the address of the git repository holds credentials",
            where="remote",
            mend=f"take them out and set {PREFIX}USERNAME and {PREFIX}TOKEN",
        )
    if parts.scheme not in ("https", "http", "ssh", "file"):
        raise ConfigError(
            f"{parts.scheme}:// is no protocol for a deployment",
            where="remote",
            mend="use https, ssh or file",
        )
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise ConfigError(
            "http:// shows the token to everybody on the way",
            where="remote",
            mend="use https:// or ssh://",
        )
    named = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9a-fA-F:]+", host))
    if (parts.scheme == "file") == named or parts.query or parts.fragment or re.search(r"\s", url):
        raise ConfigError(
            "the address of the git repository makes no sense",
            where="remote",
            mend="write https://host/path.git, ssh://git@host/path.git or file:///path",
        )
