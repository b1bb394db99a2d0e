"""Asking people to merge: a merge request on GitLab, a pull request on GitHub.

GitLab opens one by itself for a push with options
(https://docs.gitlab.com/topics/git/commit/#push-options-for-merge-requests), so it needs no token
beside git's. GitHub wants a call of its REST API
(https://docs.github.com/en/rest/pulls/pulls#create-a-pull-request) with a token that may write pull
requests; it is the one that pushes, `ZEROSKEW_GIT_TOKEN`.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, Literal
from urllib.parse import urlencode, urlsplit

from zeroskew.errors import ConfigError, DeployError
from zeroskew.rollout.gitops_remote import GitRemote

Request = Literal["none", "gitlab", "github"]

_SECONDS = 30
_LARGEST_ANSWER = 4 << 20
_SLUG = re.compile(r"/?(?P<owner>[\w.-]+)/(?P<name>[\w.-]+?)(\.git)?/?", re.ASCII)
_SCP = re.compile(r"(?:[^@/]+@)?(?P<host>[^:/]+):(?P<path>.*)")


def gitlab_options(request: Request, target: str, message: str) -> list[str]:
    """Push options that open a merge request to `target`; none for other hosts."""
    if request != "gitlab":
        return []
    subject, _, body = message.strip().partition("\n\n")
    # A push option is one line.
    body = body.replace("\n", "<br>")
    return [
        "merge_request.create",
        f"merge_request.target={target}",
        f"merge_request.title={subject}",
        f"merge_request.description={body}",
        "merge_request.remove_source_branch",
    ]


def open_pull_request(
    remote: GitRemote, branch: str, title: str, body: str, *, api: str = ""
) -> str:
    """Address of the pull request of `branch`: of a new one, or of one that is open already.

    Raises `ConfigError` without a token or for an address that is none of GitHub's, `DeployError`
    if GitHub refuses. The branch has been pushed by then; repeating the deployment asks again.
    """
    owner, name, default = _repository(remote)
    if not remote.token:
        raise ConfigError(
            "a pull request needs a token",
            where="ZEROSKEW_GIT_TOKEN",
            mend="set one that may write contents and pull requests of the repository",
        )
    base = (api or default).rstrip("/")
    parts = urlsplit(base)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ConfigError(f"{base!r} is no https address", where="--api")
    pulls = f"{base}/repos/{owner}/{name}/pulls"
    wanted = {"title": title, "head": branch, "base": remote.branch, "body": body}
    status, answer = _call(remote, pulls, wanted)
    if status == 422:
        query = {"head": f"{owner}:{branch}", "base": remote.branch, "state": "open"}
        found_status, found = _call(remote, f"{pulls}?{urlencode(query)}")
        if found_status == 200 and isinstance(found, list) and found:
            answer, status = found[0], 201
    address = answer.get("html_url") if isinstance(answer, dict) else None
    if status == 201 and isinstance(address, str):
        return address
    told = remote.hidden(_words(answer))
    raise DeployError(
        f"{branch} was pushed, but GitHub opened no pull request: {status} {told}",
        where=pulls,
        mend="check that the token may write pull requests, then repeat the deployment",
    )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token to another host."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        return None


def _call(remote: GitRemote, url: str, body: dict[str, str] | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer; None for anything else than JSON."""
    request = urllib.request.Request(  # noqa: S310 (the scheme was checked)
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "Authorization": f"Bearer {remote.token}",
            "Content-Type": "application/json",
            "User-Agent": "zeroskew",
        },
    )
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            status, text = answer.status, answer.read(_LARGEST_ANSWER)
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read(_LARGEST_ANSWER)
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", None) or error
        raise DeployError(
            f"the branch was pushed, but GitHub does not answer: {why}",
            where=url.partition("?")[0],
            mend="repeat the deployment: it asks for the pull request again",
        ) from None
    try:
        return status, json.loads(text)
    except ValueError:
        return status, None


def _words(answer: Any) -> str:
    if not isinstance(answer, dict):
        return "(an answer that is no JSON object)"
    errors = answer.get("errors")
    details = [e.get("message", "") for e in errors if isinstance(e, dict)] if errors else []
    said = "; ".join(str(part) for part in (answer.get("message"), *details) if part)
    return "".join(c for c in said if c.isprintable())[:300]


def _repository(remote: GitRemote) -> tuple[str, str, str]:
    """Owner, name, and the address of the API of the host."""
    if "://" in remote.url:
        parts = urlsplit(remote.url)
        host, path = parts.hostname or "", parts.path
    else:
        match = _SCP.fullmatch(remote.url)
        host, path = (match["host"], match["path"]) if match else ("", "")
    slug = _SLUG.fullmatch(path)
    if slug is None:
        raise ConfigError(
            f"{remote.url} is no repository of GitHub", where="--request", mend="use `none`"
        )
    api = "https://api.github.com" if host == "github.com" else f"https://{host}/api/v3"
    return slug["owner"], slug["name"], api
