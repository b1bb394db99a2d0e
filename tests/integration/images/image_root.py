"""A pod's view of an image: a read-only root, `/tmp` of its own, user 10001.

To be used by root inside namespaces of its own (mounts, network, processes): everything mounted
here is gone with them. The base of the image is this machine's own system.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

USER = 10001
ARTIFACTS = "/artifacts"
"""Where KFP's launcher would put the files of a step."""


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


@dataclass(frozen=True)
class Ended:
    """How a program in a pod ended."""

    code: int
    output: str
    seconds: float
    peak_mib: float
    """Resident memory of its largest process."""


class ImageRoot:
    """The root of one image, mounted at `root`."""

    def __init__(self, root: Path, environment: Path, containerfile: Path, code: Path | None):
        """`environment` appears as /opt/venv, `code` as /opt/zeroskew."""
        self.root = root
        self.variables = _variables(containerfile)
        root.mkdir()
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", root)
        for name in ("usr", "etc", "opt/venv", "opt/zeroskew", "proc", "dev", "tmp", "mlflow"):
            (root / name).mkdir(parents=True)
        (root / ARTIFACTS[1:]).mkdir()
        for name in ("bin", "sbin", "lib", "lib64"):
            there = Path("/", name)
            if there.is_symlink():
                (root / name).symlink_to(os.readlink(there))
            elif there.is_dir():
                (root / name).mkdir()
                self._bind(there, name)
        self._bind(Path("/usr"), "usr")
        self._bind(environment, "opt/venv")
        if code is not None:
            self._bind(code, "opt/zeroskew")
        base = Path(sys.base_prefix)
        if not base.is_relative_to("/usr"):
            (root / base.relative_to("/")).mkdir(parents=True, exist_ok=True)
            self._bind(base, str(base.relative_to("/")))
        self._etc()
        mount("-t", "proc", "proc", root / "proc")
        mount("--rbind", "/dev", root / "dev")
        # What containerd gives a pod.
        mount("-t", "tmpfs", "-o", "size=64m,mode=1777", "tmpfs", root / "dev/shm")
        mount("-o", "remount,ro", root)

    def share(self, folder: Path, inside: str) -> None:
        """Let user 10001 write to `folder` as `inside`."""
        os.chown(folder, USER, USER)
        mount("--bind", folder, self.root / inside.lstrip("/"))

    def fresh_tmp(self) -> None:
        """Every pod has a /tmp of its own."""
        tmp = self.root / "tmp"
        if os.path.ismount(tmp):
            subprocess.run(["umount", "--lazy", tmp], check=True)
        mount("-t", "tmpfs", "-o", "mode=1777,size=8g", "tmpfs", tmp)

    def command(self, *program: str, **variables: str) -> list[str]:
        """The command line that starts `program` in here."""
        told = self.variables | variables
        return [
            "chroot", f"--userspec={USER}:{USER}", str(self.root),
            "/usr/bin/env", "-i", *(f"{name}={value}" for name, value in told.items()),
            "/bin/sh", "-c", 'cd /opt/zeroskew && exec "$@"', "-", *program,
        ]  # fmt: skip

    def run(self, log: Path, *program: str, **variables: str) -> Ended:
        """Start a program in a fresh /tmp and wait for its end."""
        self.fresh_tmp()
        started = time.monotonic()
        with log.open("wb") as output:
            child = subprocess.Popen(
                self.command(*program, **variables), stdout=output, stderr=output
            )
            _, status, usage = os.wait4(child.pid, 0)
        return Ended(
            os.waitstatus_to_exitcode(status), log.read_text(errors="replace"),
            time.monotonic() - started, usage.ru_maxrss / 1024,
        )  # fmt: skip

    def _bind(self, there: Path, name: str) -> None:
        mount("--bind", there, self.root / name)
        mount("-o", "remount,bind,ro", self.root / name)

    def _etc(self) -> None:
        """This machine's, with hosts by which the manifests' names are the loopback address."""
        for name in ("ssl", "ca-certificates", "alternatives"):
            if (there := Path("/etc", name)).is_dir():
                (self.root / "etc" / name).mkdir()
                self._bind(there, f"etc/{name}")
        for name in ("ld.so.cache", "ld.so.conf", "mime.types", "protocols", "services"):
            if (there := Path("/etc", name)).is_file():
                shutil.copy(there, self.root / "etc" / name)
        names = " ".join(f"{name}.zeroskew.svc" for name in ("redis", "mlflow", "bucket"))
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost {names}\n")
        (self.root / "etc/passwd").write_text(f"zeroskew:x:{USER}:{USER}::/tmp:/bin/sh\n")
        (self.root / "etc/group").write_text(f"zeroskew:x:{USER}:\n")
        (self.root / "etc/nsswitch.conf").write_text("hosts: files\n")


def _variables(containerfile: Path) -> dict[str, str]:
    """The variables that an image's last stage sets."""
    last = containerfile.read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    found: dict[str, str] = {}
    for line in re.findall(r"^ENV (.*)$", last, re.MULTILINE):
        found |= dict(pair.split("=", 1) for pair in line.split())
    found = {name: "" if "${" in value else value for name, value in found.items()}
    return found | {"PATH": "/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"}


def loopback_up() -> None:
    """A new network namespace has its loopback device down."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
