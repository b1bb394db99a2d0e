"""The shipper as its owner sees it: a child process that is started again when it dies.

Its standard input is the lifeline (see `log_shipper`): it closes with this process, however this
process ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 30.0
HEALTHY_SECONDS = 60.0
"""Who lived that long is started again at once."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ShipperProcess:
    """For one thread at a time."""

    def __init__(self, folder: Path, python: str) -> None:
        self._command = [_interpreter(python), "-P", "-m", "zeroskew.serving.log_shipper"]
        self._command.append(str(folder))
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._next = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self.starts = 0
        self.error: str | None = None
        """Why there is no shipper, if there is none."""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def tend(self) -> None:
        """Start it, or start it again after a pause if it has died."""
        now = time.monotonic()
        if self._process is not None:
            status = self._process.poll()
            if status is None:
                if now - self._started > HEALTHY_SECONDS:
                    self._pause = FIRST_PAUSE_SECONDS
                return
            self.error = f"the shipper ended with status {status}"
            self._drop()
            self._next = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        if now < self._next:
            return
        try:
            self._start()
        except OSError as error:
            self.error = f"the shipper does not start: {error}"
            self._next = now + LONGEST_PAUSE_SECONDS

    def wake(self) -> None:
        """Say that there is a segment."""
        self._say(b"\n")

    def close(self, seconds: float) -> None:
        """Let it ship what is left, at most for `seconds`; then it is ended."""
        until = time.monotonic() + seconds
        if self._process is None or self._process.poll() is not None:
            self._drop()
            try:
                self._start()
            except OSError as error:
                self.error = f"the shipper does not start: {error}"
        if self._process is None:
            return
        self._say(f"close {max(0.0, seconds - 0.5):.3f}\n".encode())
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
        except OSError:
            pass
        try:
            self._process.wait(max(0.05, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            # Nothing is lost: what it was at is done again, to the same effect.
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start(self) -> None:
        # The child sees the packages that this process sees, whatever interpreter hosts it.
        path = os.pathsep.join(p for p in sys.path if p)
        environment = {**os.environ, "PYTHONPATH": path, **dict.fromkeys(_THREADS, "1")}
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            # Ctrl-C in a terminal is for the owner, which then closes the log in good order.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._started = time.monotonic()
        self.starts += 1
        self.error = None

    def _say(self, what: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            # A full pipe has been heard anyway; a broken one is found by `tend`.
            with contextlib.suppress(OSError, ValueError):
                os.write(self._process.stdin.fileno(), what)

    def _drop(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process = None


def _interpreter(named: str) -> str:
    """A Python to run: inside Triton's stub, `sys.executable` need not be one."""
    if Path(named).name.startswith("python") and os.access(named, os.X_OK):
        return named
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in (version, "python3"):
        if os.access(Path(sys.prefix) / "bin" / name, os.X_OK):
            return str(Path(sys.prefix) / "bin" / name)
    return shutil.which(version) or shutil.which("python3") or named
