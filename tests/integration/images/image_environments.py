"""The environment of an image, made from its lock without a download.

The environment that runs the tests has every package of every lock at the same version, so hard
links to its files are the packages as pip would install them.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;]+)", re.MULTILINE)


def normal(name: str) -> str:
    """A project's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: Path) -> dict[str, str]:
    return {normal(name): version for name, version in _PINNED.findall(lock.read_text())}


def installed(site: Path) -> dict[str, importlib.metadata.Distribution]:
    found = importlib.metadata.distributions(path=[str(site)])
    return {normal(each.metadata["Name"]): each for each in found}


def site_of(environment: Path) -> Path:
    (site,) = environment.glob("lib/python3*/site-packages")
    return site


def needed(
    names: Iterable[str], distributions: dict[str, importlib.metadata.Distribution]
) -> set[str]:
    """The packages and all that they need of what is there, by name."""
    found: set[str] = set()
    waiting = [normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found or name not in distributions:
            continue
        found.add(name)
        for text in distributions[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(normal(requirement.name))
    return found


def make_environment(target: Path, wanted: dict[str, str], source: Path) -> Path:
    """A virtual environment with just the `wanted` versions, out of the one at `source`.

    Raises `LookupError` that names what `source` lacks.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = target / "lib" / version / "site-packages"
    site.mkdir(parents=True)
    (target / "bin").mkdir()
    base = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    for name in ("python", "python3", version):
        (target / "bin" / name).symlink_to(base)
    (target / "pyvenv.cfg").write_text(
        f"home = {base.parent}\ninclude-system-site-packages = false\n"
        f"version = {'.'.join(map(str, sys.version_info[:3]))}\n"
    )
    link_packages(site, wanted, source)
    return target


def link_packages(site: Path, wanted: dict[str, str], source: Path) -> None:
    """Link the `wanted` packages of the environment at `source` into the folder `site`."""
    there = installed(site_of(source))
    lacking = {
        f"{name}=={version}"
        for name, version in wanted.items()
        if name not in there or there[name].version != version
    }
    if lacking:
        raise LookupError(f"{source} lacks {', '.join(sorted(lacking))}: run `make install triton`")
    for name in wanted:
        for file in there[name].files or ():
            old, new = Path(str(file.locate())), Path(os.path.normpath(site / file))
            if not old.is_file() or (".." in file.parts and "bin" not in file.parts):
                continue
            new.parent.mkdir(parents=True, exist_ok=True)
            if new.exists():  # a file of two packages
                continue
            if file.parts[0] == ".." and old.read_bytes()[:2] == b"#!":
                _script(old, new)
            else:
                _link(old, new)


def _script(old: Path, new: Path) -> None:
    """A program of the package, started by this environment's Python."""
    _, _, body = old.read_text(encoding="utf-8").partition("\n")
    new.write_text(f"#!/usr/bin/env python3\n{body}", encoding="utf-8")
    new.chmod(0o755)


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # another file system
        shutil.copy2(old, new)


def install_checkout(site: Path, work: Path, *folders: str) -> None:
    """pip installs the library of this checkout into the folder `site`, as Containerfiles do."""
    work.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, work / name)
    for folder in folders:
        shutil.copytree(
            ROOT / folder, work / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
            "--ignore-requires-python", "--target", str(site), str(work),
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def megabytes(folder: Path) -> float:
    """What the files take in an image's layer."""
    return sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir()) / 1e6
