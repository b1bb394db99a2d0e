"""Where the programs of the tests' servers are: built by servers/build.sh, or one's own.

`KUBEBUILDER_ASSETS` may name a folder that has some of them (envtest's has etcd, kube-apiserver and
kubectl); what is in it goes before what was built, and needs no Go.
"""

import hashlib
import os
from pathlib import Path

SERVERS = Path(__file__).with_name("servers")


class MissingProgram(Exception):
    """Says which program, and what brings it, in one line."""


def program(name: str) -> Path:
    """A server's program. Raises `MissingProgram`."""
    own = os.environ.get("KUBEBUILDER_ASSETS")
    if own and (Path(own) / name).is_file():
        return Path(own) / name
    return built(name)


def built(name: str) -> Path:
    """A program, or a file such as a CRD, that build.sh has put there. Raises `MissingProgram`."""
    for part in sorted(SERVERS.iterdir()):
        if part.is_dir() and name in _names(part):
            path = _store() / f"{part.name}-{_checksum(part)}" / name
            if path.is_file():
                return path
            raise MissingProgram(
                f"no {name}: run tests/cluster/servers/build.sh {part.name}, or set "
                "KUBEBUILDER_ASSETS to a folder that has it"
            )
    raise MissingProgram(f"no part in {SERVERS} makes {name}")


def absent(*names: str) -> str | None:
    """Why a test or a measurement that starts these cannot run, in one line."""
    try:
        for name in names:
            program(name)
    except MissingProgram as missing:
        return str(missing)
    return None


def _names(part: Path) -> list[str]:
    lists = (part / kind for kind in ("programs", "files"))
    lines = (line for each in lists if each.is_file() for line in each.read_text().splitlines())
    return [line.split()[0] for line in lines if line]


def _store() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zeroskew/servers"


def _checksum(part: Path) -> str:
    """As build.sh computes it."""
    files = (each for each in part.rglob("*") if each.is_file())
    ordered = sorted(files, key=lambda each: f"./{each.relative_to(part).as_posix()}".encode())
    return hashlib.sha256(b"".join(each.read_bytes() for each in ordered)).hexdigest()[:16]
