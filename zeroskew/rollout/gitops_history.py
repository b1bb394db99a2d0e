"""A version as a branch had it before, for the way back."""

from __future__ import annotations

from zeroskew.errors import DeployError
from zeroskew.rollout.gitops_clone import GitClone
from zeroskew.rollout.gitops_folder import VERSION_FILE, VersionPatch, parse_patch
from zeroskew.rollout.gitops_message import parse_trailers

_COMMITS = 2_000
"""That changed the file; looked at from the newest on."""


def deployed_before(
    clone: GitClone, tip: str, folder: str, model: str, version: int
) -> tuple[VersionPatch, dict[str, str]]:
    """version.yaml as it last was at `version` before `tip`, and the trailers of that commit.

    The clone must have the branch's history. Raises `DeployError` if it never was.
    """
    path = f"{folder}/{VERSION_FILE}"
    told = clone.run("rev-list", f"--max-count={_COMMITS}", tip, "--", path)
    for made in told.decode().split():
        entry = clone.entry(made, path)
        if entry is None or entry.mode not in ("100644", "100755"):
            continue
        text = clone.read(entry, path)
        # Reading YAML takes longer than git does, and most commits are of other versions.
        if f'"{version}"' not in (plain := text.decode(errors="replace")) and (
            f"'{version}'" not in plain
        ):
            continue
        try:
            patch = parse_patch(text, model)
        except ValueError:
            continue
        if patch.version == version:
            trailers = clone.run("log", "-1", "--format=%(trailers:only,unfold)", made)
            return patch, parse_trailers(trailers.decode(errors="replace"))
    raise DeployError(
        f"version {version} of {model} was never deployed to {clone.remote.branch}",
        where=clone.remote.url,
        mend=f"name a version that `git log -- {path}` shows",
    )
