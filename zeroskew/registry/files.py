"""The files of a version: which there are, what they hash to, and how they travel.

`files.json` beside them lists every file with its SHA-256 and size, and the version's tag
`files_sha256` is the hash of that list: nothing that the store or the network does to a file goes
unnoticed. Models travel as ONNX and JSON; pickles are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zeroskew.errors import DataError, RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

LIST = "files.json"
RECORD = "record.json"
PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".dill")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class FileList:
    """Relative path → (SHA-256, bytes). The record is one of the files; it travels as text."""

    files: Mapping[str, tuple[str, int]]
    record: str = ""

    @property
    def text(self) -> str:
        entries = {path: {"sha256": d, "bytes": n} for path, (d, n) in self.files.items()}
        return json.dumps(entries, sort_keys=True, indent=1)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @classmethod
    def parse(cls, text: str, *, where: str) -> FileList:
        try:
            raw = json.loads(text)
            files = {path: (str(e["sha256"]), int(e["bytes"])) for path, e in raw.items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            raise RegistryError("the list of files cannot be read", where=where) from None
        for path in files:
            _safe(path, where)
        return cls(files)


def collect(files: Mapping[str, Path]) -> dict[str, Path]:
    """Every file by the path it gets in the version; a folder brings all below it.

    Raises `DataError` if something is missing, empty of files, a pickle, or given twice.
    """
    found: dict[str, Path] = {}
    for key, path in files.items():
        _safe(key, "files")
        path = Path(path)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file())
            if not inside:
                raise DataError("the folder holds no file", where=str(path))
            named = {f"{key}/{p.relative_to(path).as_posix()}": p for p in inside}
        elif path.is_file():
            named = {key: path}
        else:
            raise DataError("there is no such file", where=str(path), mend="run the step before")
        for name, source in named.items():
            if name in found or name in (LIST, RECORD):
                raise DataError(f"two files claim the name {name!r}", where=str(source))
            if source.suffix.lower() in PICKLES:
                raise DataError(
                    "a pickle runs code when it is loaded and is not registered",
                    where=str(source),
                    mend="register ONNX, safetensors, JSON or Parquet",
                )
            found[name] = source.absolute()
    return found


def list_files(files: Mapping[str, Path], record: Mapping[str, Any]) -> FileList:
    """Hash the files, and the record as the text it is kept as."""
    text = json.dumps(record, indent=1, sort_keys=True)
    listed = {name: (file_sha256(path), path.stat().st_size) for name, path in files.items()}
    listed[RECORD] = (hashlib.sha256(text.encode()).hexdigest(), len(text.encode()))
    return FileList(listed, text)


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def upload(
    client: MlflowClient,
    run_id: str,
    files: Mapping[str, Path],
    listed: FileList,
    on_progress: Progress | None = None,
) -> None:
    """Put files, record and list into a run's artifacts, then check that all arrived in full.

    Safe to repeat: the same names are written over with the same content.
    """
    sources: dict[str, Path | str] = {**files, RECORD: listed.record, LIST: listed.text}
    with tempfile.TemporaryDirectory(prefix="zeroskew-upload-") as folder:
        # MLflow names an artifact after its file: links give each the name it is to have.
        for done, (name, source) in enumerate(sources.items(), 1):
            staged = Path(folder, name)
            staged.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, Path):
                staged.symlink_to(source)
            else:
                staged.write_text(source, encoding="utf-8")
            parent = PurePosixPath(name).parent.as_posix()
            client.log_artifact(run_id, str(staged), None if parent == "." else parent)
            if on_progress:
                on_progress("registering files", done, len(sources))
    sizes = {name: size for name, (_, size) in listed.files.items()}
    sizes[LIST] = len(listed.text.encode())
    there = dict(_stored(client, run_id, None))
    if lost := sorted(name for name, size in sizes.items() if there.get(name) != size):
        raise RegistryError(
            f"{len(lost)} files did not arrive in full: {', '.join(lost[:5])}",
            where=f"run {run_id}",
            mend="check the artifact store and register again",
        )


def _stored(
    client: MlflowClient, run_id: str, path: str | None
) -> Iterator[tuple[str, int | None]]:
    for entry in client.list_artifacts(run_id, path):
        if entry.is_dir:
            yield from _stored(client, run_id, entry.path)
        else:
            yield entry.path, entry.file_size


def fetch(
    client: MlflowClient,
    run_id: str,
    list_sha256: str,
    target: Path,
    *,
    where: str,
    only: tuple[str, ...] = (),
    on_progress: Progress | None = None,
) -> Path:
    """Bring a version's files into the new folder `target`, every one checked by its hash.

    `only` names files or folders; empty brings everything. The folder appears whole or not at
    all; one that holds these very files already is left as it is. Raises `RegistryError` if a
    file is gone, differs from what was registered, or the folder holds something else.
    """
    with _beside(target) as folder:
        text = _fetch_one(client, run_id, LIST, folder, where).read_text(encoding="utf-8")
        if hashlib.sha256(text.encode()).hexdigest() != list_sha256:
            raise RegistryError(
                f"{LIST} is not the one that was registered",
                where=where,
                mend="the artifact store was changed; register the version again",
            )
        wanted = FileList.parse(text, where=where).files
        if only:
            wanted = {
                name: entry
                for name, entry in wanted.items()
                if any(name == part or name.startswith(f"{part.rstrip('/')}/") for part in only)
            }
            if not wanted:
                known = sorted(
                    {name.partition("/")[0] for name in FileList.parse(text, where="").files}
                )
                raise RegistryError(
                    f"it has no file {' or '.join(only)}",
                    where=where,
                    mend=f"it has: {', '.join(known)}",
                )
        if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
            if _holds(target, wanted):
                return target
            raise RegistryError(
                "the folder exists and holds something else",
                where=str(target),
                mend="give a new folder, or remove this one",
            )
        for done, (name, (digest, _)) in enumerate(wanted.items(), 1):
            if file_sha256(_fetch_one(client, run_id, name, folder, where)) != digest:
                raise RegistryError(
                    f"{name} is not the file that was registered (its SHA-256 differs)",
                    where=where,
                    mend="the artifact store was changed or is broken; register the version again",
                )
            if on_progress:
                on_progress("downloading files", done, len(wanted))
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder, target)
    return target


def _fetch_one(client: MlflowClient, run_id: str, name: str, folder: Path, where: str) -> Path:
    """Download one file to `folder/name`; MLflow itself may put it anywhere below a folder."""
    from mlflow.exceptions import MlflowException

    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    gone = RegistryError(
        f"{name} is gone from the artifact store",
        where=where,
        mend="restore the artifact store, or register the version again",
    )
    with tempfile.TemporaryDirectory(dir=folder) as arrival:
        try:
            arrived = Path(client.download_artifacts(run_id, name, arrival))
        except FileNotFoundError as error:
            raise gone from error
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST" and "No such" not in str(error):
                raise
            raise gone from error
        if not arrived.is_file():
            raise gone
        os.replace(arrived, target)
    return target


def _holds(target: Path, wanted: Mapping[str, tuple[str, int]]) -> bool:
    return target.is_dir() and all(
        (target / name).is_file() and file_sha256(target / name) == digest
        for name, (digest, _) in wanted.items()
    )


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A temporary folder on the target's own disk, gone afterwards unless it was renamed."""
    near = target.absolute().parent
    near.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=near))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _safe(path: str, where: str) -> None:
    pure = PurePosixPath(path)
    if (
        not path
        or pure.is_absolute()
        or ".." in pure.parts
        or "\\" in path
        or pure.as_posix() != path
    ):
        raise RegistryError(f"{path!r} is not a plain relative path", where=where)
