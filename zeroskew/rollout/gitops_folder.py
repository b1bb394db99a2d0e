"""What a model has in the repository: who owns which file, and what a deployment may write.

    models/flight_delay/
      kustomization.yaml   people's: which files make the ModelRollout
      rollout.yaml         people's: gateways, steps, limits
      version.yaml         the platform's: the version and its template, a patch on rollout.yaml

The first deployment writes all three, the later ones version.yaml and nothing else. So a comment,
an order or a step that somebody tuned cannot be lost: no program rewrites the file it is in. One
file for both would need an editor that changes YAML around the comments; a patch needs what Argo CD
and Flux have built in, its diff in a merge request is the deployment, and CODEOWNERS can give the
two to different people. Whoever wants to change the template adds a patch of their own below
version.yaml in kustomization.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from zeroskew.errors import ConfigError, DeployError
from zeroskew.rollout.crd import GROUP, KIND, VERSION
from zeroskew.rollout.gitops_clone import GitClone
from zeroskew.rollout.manifests import to_yaml
from zeroskew.rollout.names import PREFIX

ROLLOUT_FILE, VERSION_FILE, KUSTOMIZATION = "rollout.yaml", "version.yaml", "kustomization.yaml"
ROLLED_BACK_FROM = PREFIX + "rolled-back-from"
"""Annotation of the ModelRollout: the newest version that was taken back. None older may come
again by a mere deployment, such as a pipeline's step that is tried once more."""

_KUSTOMIZATIONS = (KUSTOMIZATION, "kustomization.yml", "Kustomization")
_API = f"{GROUP}/{VERSION}"
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_FOLDER_PART = re.compile(r"(?!\.)[\w.-]+", re.ASCII)
_VERSION_HEAD = (
    "# Written by `zeroskew rollout deploy` and `rollback`, and overwritten by the next: changes"
    "\n# belong into rollout.yaml, or into a patch of yours in kustomization.yaml.\n"
)
_ROLLOUT_HEAD = (
    "# Yours: written once, never touched again. The version and its template come from"
    "\n# version.yaml.\n"
)
_KUSTOMIZATION_TEXT = f"""# Yours: written once. Patches of your own go below version.yaml.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
- {ROLLOUT_FILE}
patches:
- path: {VERSION_FILE}
  target:
    kind: {KIND}
"""


@dataclass(frozen=True, slots=True)
class VersionPatch:
    """version.yaml: what the platform says of a ModelRollout."""

    rollout: str
    """Name of the object."""
    model: str
    version: int
    template: Mapping[str, Any]
    rolled_back_from: int | None = None

    def text(self) -> bytes:
        """The file; the same for the same patch."""
        metadata: dict[str, Any] = {"name": self.rollout}
        if self.rolled_back_from is not None:
            metadata["annotations"] = {ROLLED_BACK_FROM: str(self.rolled_back_from)}
        document = {
            "apiVersion": _API,
            "kind": KIND,
            "metadata": metadata,
            "spec": {
                "modelRef": {"name": self.model, "version": str(self.version)},
                "template": dict(self.template),
            },
        }
        return (_VERSION_HEAD + to_yaml([document])).encode()

    @property
    def newest(self) -> int:
        """The highest version that this branch has seen."""
        return max(self.version, self.rolled_back_from or 0)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model's folder as a commit has it; see `read_folder`."""

    path: str
    patch: VersionPatch | None
    patch_text: bytes
    has_rollout: bool
    has_kustomization: bool

    def changes(self, patch: VersionPatch, manifest: Mapping[str, Any] | None) -> dict[str, bytes]:
        """Files by path that a commit must write for `patch` to be what the cluster gets.

        `manifest` is the whole ModelRollout, for the files that are not there yet.
        """
        wanted = {}
        if (text := patch.text()) != self.patch_text:
            wanted[VERSION_FILE] = text
        if not self.has_kustomization:
            wanted[KUSTOMIZATION] = _KUSTOMIZATION_TEXT.encode()
            if not self.has_rollout and manifest is not None:
                wanted[ROLLOUT_FILE] = _people_part(manifest)
        return {f"{self.path}/{name}": text for name, text in wanted.items()}


def patch_of(manifest: Mapping[str, Any]) -> VersionPatch:
    """The platform's part of what `rollout_manifest` made."""
    spec = manifest["spec"]
    return VersionPatch(
        rollout=manifest["metadata"]["name"],
        model=spec["modelRef"]["name"],
        version=int(spec["modelRef"]["version"]),
        template=spec["template"],
    )


def folder_path(given: str, model: str) -> str:
    """`given`, or `models/<model>`. Raises `ConfigError` if it leads out of the repository."""
    path = given.rstrip("/") or f"models/{model}"
    if len(path) > 500 or not all(_FOLDER_PART.fullmatch(each) for each in path.split("/")):
        raise ConfigError(
            f"{path!r} cannot be a folder of the repository",
            where="folder",
            mend="give a path within the repository, of letters, digits, -, _, . and /",
        )
    return path


def read_folder(clone: GitClone, commit: str, path: str, model: str) -> ModelFolder:
    """The folder in `commit`.

    Raises `DeployError` if it is or holds anything that a deployment must leave alone: a link, a
    submodule, a file that is no YAML or another object's, settings that ignore version.yaml.
    """
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        above = "/".join(parts[:depth])
        entry = clone.entry(commit, above)
        if entry is None:
            return ModelFolder(path, None, b"", False, False)
        if entry.kind != "tree":
            raise _refused(clone, above, f"is {_what(entry.mode)}, not a folder")
    names = clone.entries(commit, f"{path}/")

    def read(name: str) -> bytes:
        entry = names.get(f"{path}/{name}")
        if entry is None:
            return b""
        if entry.mode not in ("100644", "100755"):
            raise _refused(clone, f"{path}/{name}", f"is {_what(entry.mode)}, not a file")
        return clone.read(entry, f"{path}/{name}") or b"\n"

    found = {name: read(name) for name in (ROLLOUT_FILE, VERSION_FILE, *_KUSTOMIZATIONS)}
    patch = None
    if found[ROLLOUT_FILE]:
        _check_rollout(clone, f"{path}/{ROLLOUT_FILE}", found[ROLLOUT_FILE], model)
    if found[VERSION_FILE]:
        patch = _parse_patch(clone, f"{path}/{VERSION_FILE}", found[VERSION_FILE], model)
    kustomization = next((name for name in _KUSTOMIZATIONS if found[name]), "")
    if kustomization:
        _check_kustomization(clone, f"{path}/{kustomization}", found[kustomization])
    return ModelFolder(
        path, patch, found[VERSION_FILE], bool(found[ROLLOUT_FILE]), bool(kustomization)
    )


def parse_patch(text: bytes, model: str) -> VersionPatch:
    """version.yaml as a value. Raises `ValueError`, with what is wrong, if it is not `model`'s."""
    documents = _documents(text)
    if len(documents) != 1:
        raise ValueError("does not hold one object")
    (document,) = documents
    spec, metadata = document.get("spec"), document.get("metadata")
    if (document.get("apiVersion"), document.get("kind")) != (_API, KIND):
        raise ValueError(f"is no {KIND} of {_API}")
    if not isinstance(spec, dict) or not isinstance(metadata, dict):
        raise ValueError("has no metadata or no spec")
    reference, template = spec.get("modelRef"), spec.get("template")
    if not isinstance(reference, dict) or not isinstance(template, dict):
        raise ValueError("has no spec.modelRef or no spec.template")
    if reference.get("name") != model:
        raise ValueError(f"is of the model {reference.get('name')!r}, not {model}")
    annotations = metadata.get("annotations") or {}
    before = annotations.get(ROLLED_BACK_FROM) if isinstance(annotations, dict) else None
    return VersionPatch(
        rollout=str(metadata.get("name")),
        model=model,
        version=_version(reference.get("version")),
        template=template,
        rolled_back_from=None if before is None else _version(before),
    )


def _parse_patch(clone: GitClone, path: str, text: bytes, model: str) -> VersionPatch:
    try:
        return parse_patch(text, model)
    except ValueError as error:
        raise _refused(clone, path, str(error)) from None


def _check_rollout(clone: GitClone, path: str, text: bytes, model: str) -> None:
    try:
        documents = _documents(text)
    except ValueError as error:
        raise _refused(clone, path, str(error)) from None
    rollouts = [each for each in documents if each.get("kind") == KIND]
    if len(rollouts) != 1:
        raise _refused(clone, path, f"holds {len(rollouts)} objects of kind {KIND}, not one")
    spec = rollouts[0].get("spec")
    if not isinstance(spec, dict):
        raise _refused(clone, path, "has no spec")
    if "template" in spec:
        raise _refused(
            clone, path, "holds spec.template", f"take it out: {VERSION_FILE} brings the version's"
        )
    reference = spec.get("modelRef")
    name = reference.get("name", model) if isinstance(reference, dict) else model
    if name != model:
        raise _refused(clone, path, f"is of the model {name!r}, not {model}")


def _check_kustomization(clone: GitClone, path: str, text: bytes) -> None:
    try:
        documents = _documents(text)
    except ValueError as error:
        raise _refused(clone, path, str(error)) from None
    found = documents[0] if len(documents) == 1 else {}
    listed = [found.get("patches"), found.get("patchesStrategicMerge")]
    patches = [each for part in listed if isinstance(part, list) for each in part]
    paths = [each.get("path") if isinstance(each, dict) else each for each in patches]
    if not any(str(each).removeprefix("./") == VERSION_FILE for each in paths):
        raise _refused(
            clone,
            path,
            f"does not apply {VERSION_FILE}, so that a deployment would change nothing",
            f"add to its patches: `{{path: {VERSION_FILE}, target: {{kind: {KIND}}}}}`",
        )


def _people_part(manifest: Mapping[str, Any]) -> bytes:
    spec = {key: value for key, value in manifest["spec"].items() if key != "template"}
    spec["modelRef"] = {"name": spec["modelRef"]["name"]}
    return (_ROLLOUT_HEAD + to_yaml([{**manifest, "spec": spec}])).encode()


def _documents(text: bytes) -> list[dict[str, Any]]:
    """Raises `ValueError`, with what is wrong, unless all documents are mappings."""
    try:
        documents = list(yaml.safe_load_all(text.decode()))
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"is no YAML{line}: {getattr(error, 'problem', None) or error}") from None
    except (RecursionError, ValueError):
        raise ValueError("is no YAML that can be read") from None
    documents = [each for each in documents if each is not None]
    if not all(isinstance(each, dict) for each in documents):
        raise ValueError("is no Kubernetes object")
    return documents


def _version(value: Any) -> int:
    if not _NUMBER.fullmatch(str(value)):
        raise ValueError(f"names {value!r}, which is no version")
    return int(value)


def _what(mode: str) -> str:
    kinds = {"120000": "a symbolic link", "160000": "a submodule", "040000": "a folder"}
    return kinds.get(mode, "a file")


def _refused(clone: GitClone, path: str, what: str, mend: str | None = None) -> DeployError:
    return DeployError(
        f"{path} {what}",
        where=clone.remote.url,
        mend=mend or "mend it in the repository; nothing was changed",
    )
