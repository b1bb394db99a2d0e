"""Fetching, committing and pushing, and what a refusal means: try again, or tell somebody.

A push never forces. Where somebody else was faster, the server says so and the caller looks again;
where the server says no, no second try would help.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from zeroskew.errors import ConfigError, DeployError
from zeroskew.rollout.gitops_clone import LARGEST_FILE, GitClone, Said, last_words

_RACE = re.compile(
    r"fetch first|non-fast-forward|needs force|stale info|failed to update ref|cannot lock ref"
    r"|incorrect old value|reference already exists|failed to lock|unable to lock"
)
_ANSWER = re.compile(r"^!\t(?P<ref>\S+)\t(?P<why>.*)$", re.MULTILINE)
_NOT_ALLOWED = re.compile(
    r"Authentication failed|could not read (Username|Password)|Permission denied|"
    r"returned error: (401|403)|Host key verification failed|HTTP Basic: Access denied"
)
_NOT_THERE = re.compile(r"couldn't find remote ref")
_NO_REPOSITORY = re.compile(
    r"repository .* not found|does not appear to be a git repository|returned error: 404"
    r"|no such repository|not exported|Repository not found"
)
_REDIRECTED = re.compile(r"returned error: 30\d|unable to update url base from redirection")
_HOPELESS = re.compile(
    r"No space left|File too large|file size limit|unable to redirect|not allowed|dubious ownership"
    r"|SSL certificate|certificate verif|does not support push options"
    r"|object format|unable to create|Bad configuration|No such file or directory",
    re.IGNORECASE,
)


def fetch(clone: GitClone, branch: str, *, history: bool = False) -> str | None:
    """Commit at the tip of a remote branch; None if there is no such branch.

    Without `history` it is the only commit that is fetched. Raises `DeployError` where no further
    try would help, `ConnectionError` where one might.
    """
    kept = f"refs/remotes/origin/{branch}"
    said = clone.ask(
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-auto-maintenance",
        f"--filter=blob:limit={LARGEST_FILE + 1}",
        *([] if history else ["--depth=1"]),
        "origin",
        f"+refs/heads/{branch}:{kept}",
        network=True,
    )
    if said.code:
        if _NOT_THERE.search(said.error):
            return None
        raise _failure(clone, said, "read")
    return clone.run("rev-parse", "--verify", f"{kept}^{{commit}}").decode().strip()


def commit(clone: GitClone, parent: str, files: Mapping[str, bytes], message: str) -> str:
    """A commit on `parent` that holds `files` as they are, by path. Nothing is pushed."""
    clone.run("read-tree", parent)
    for path, text in files.items():
        blob = clone.run("hash-object", "-w", "--no-filters", "--stdin", given=text)
        entry = f"100644,{blob.decode().strip()},{path}"
        clone.run("update-index", "--add", "--cacheinfo", entry)
    # Objects that the filter left out stay out; the remote has them.
    tree = clone.run("write-tree", "--missing-ok").decode().strip()
    signed = clone.ask("config", "--type=bool", "commit.gpgSign").output.strip() == b"true"
    said = clone.ask(
        "commit-tree", tree, "-p", parent, *(["-S"] if signed else []), given=message.encode()
    )
    if said.code:
        raise DeployError(f"no commit: {last_words(said.error)}", where=clone.remote.url)
    return said.output.decode().strip()


def committer(clone: GitClone) -> str:
    """`Name <mail>` of who commits. Raises `ConfigError` if nobody is set."""
    said = clone.ask("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
    who = said.output.decode(errors="replace").rpartition(">")[0]
    if said.code or not who:
        raise ConfigError(
            "nobody is set as the author of the commit",
            where="author",
            mend="set ZEROSKEW_GIT_AUTHOR, or user.name and user.email in git's configuration",
        )
    return who + ">"


def push(clone: GitClone, made: str, branch: str, options: Sequence[str] = ()) -> bool:
    """Move the remote's `branch` forward to the commit `made`, or create it there.

    False if the branch is not where it was fetched. `options`: push options, for servers that take
    some. Raises `DeployError` if the server says no, `ConnectionError` if the connection broke:
    whether the remote has the commit is not known then.
    """
    said = clone.ask(
        "push",
        "--porcelain",
        "--no-verify",
        *(f"--push-option={each}" for each in options),
        "origin",
        f"{made}:refs/heads/{branch}",
        network=True,
    )
    if said.code == 0:
        return True
    answer = _ANSWER.search(clone.remote.hidden(said.output.decode(errors="replace")))
    if answer is None:
        raise _failure(clone, said, "write to")
    if _RACE.search(answer["why"]):
        return False
    remote = [
        line.removeprefix("remote:").strip()
        for line in said.error.splitlines()
        if line.startswith("remote:")
    ]
    told = "; ".join(line for line in remote if line)[:400]
    raise DeployError(
        f"the push to {branch} was refused: {last_words(answer['why'])}"
        + (f" ({last_words(told)})" if told else ""),
        where=clone.remote.url,
        mend="let the account push to the branch, or use `--mode branch` and merge it yourself",
    )


def _failure(clone: GitClone, said: Said, what: str) -> Exception:
    words = last_words(said.error)
    where = clone.remote.url
    if _NOT_ALLOWED.search(said.error):
        return DeployError(
            f"this account may not {what} the repository: {words}",
            where=where,
            mend="check ZEROSKEW_GIT_USERNAME and ZEROSKEW_GIT_TOKEN, or ZEROSKEW_GIT_SSH_KEY and "
            "ZEROSKEW_GIT_KNOWN_HOSTS",
        )
    if _NO_REPOSITORY.search(said.error):
        return DeployError(
            f"there is no such repository, or this account may not see it: {words}", where=where
        )
    if _REDIRECTED.search(said.error):
        return DeployError(
            "the repository's address is a redirect, which may not be followed with a token",
            where=where,
            mend="give the address that it leads to, often the same with .git at its end",
        )
    if _HOPELESS.search(said.error):
        return DeployError(f"cannot {what} the repository: {words}", where=where)
    return ConnectionError(words)
