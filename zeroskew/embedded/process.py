"""A child process that never outlives its parent, with its output in a file.

    with ChildProcess(["valkey-server", …], log=folder / "valkey.log") as child:
        child.wait_until(ready, seconds=10)

`stop` ends it politely; if this process dies in any way, SIGKILL included, `tether.py` does. With
`detached=True` it stays, until somebody sends SIGTERM to `pid`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from zeroskew.errors import EmbeddedError

_TETHER = Path(__file__).with_name("tether.py")


class ChildProcess:
    """One server of the local stack. Not started until `start` or `with`."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        detached: bool = False,
        keep_open: Sequence[int] = (),
        grace_seconds: float = 10.0,
    ) -> None:
        """`keep_open`: file descriptors (locks) that the child holds for as long as it lives.

        `grace_seconds`: how long it may take to end before it is killed.
        """
        self.command = [str(part) for part in command]
        self.log = log
        self.name = name or Path(self.command[0]).name
        self._environment = dict(environment) if environment is not None else None
        self._folder = folder
        self._detached = detached
        self._keep_open = tuple(keep_open)
        self._grace = grace_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: int | None = None

    @property
    def pid(self) -> int:
        """Process to send SIGTERM to (it ends the server, then itself)."""
        if self._process is None:
            raise EmbeddedError(f"{self.name} has not been started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> ChildProcess:
        """Start it; raises `EmbeddedError` if the program is not there."""
        if self.running:
            return self
        if not Path(self.command[0]).exists():
            raise EmbeddedError(f"there is no {self.command[0]}", where=self.name)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        read_end, write_end = os.pipe()
        # A detached one holds both ends, so that its pipe never closes.
        ends = (read_end, write_end) if self._detached else (read_end,)
        try:
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(
                    [
                        sys.executable, "-I", "-S", str(_TETHER),
                        "0" if self._detached else str(os.getpid()), str(read_end),
                        str(self._grace), *self.command,
                    ],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    env=self._environment, cwd=self._folder, start_new_session=True,
                    pass_fds=(*ends, *self._keep_open),
                )  # fmt: skip
        except OSError as error:
            os.close(write_end)
            raise EmbeddedError(f"{self.name} does not start: {error}") from None
        finally:
            os.close(read_end)
        if self._detached:
            os.close(write_end)
        else:
            self._pipe = write_end
        return self

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Call `ready` until it says yes.

        Raises `EmbeddedError`, with the last lines of the log, if the process ends first or the
        time is over; the process is stopped then.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            ended = not self.running
            if ended or time.monotonic() > deadline:
                self.stop()
                what = "ended at once" if ended else f"was not ready within {seconds:.0f} s"
                raise EmbeddedError(
                    f"{self.name} {what}\n{self.last_lines()}",
                    where=" ".join(self.command[:2]),
                    mend=f"the whole log is {self.log}",
                )
            time.sleep(0.01)

    def last_lines(self, count: int = 12) -> str:
        """The end of its output."""
        try:
            text = self.log.read_bytes()[-16_384:].decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join("    " + line for line in text.splitlines()[-count:])

    def stop(self) -> None:
        """End it and wait; safe to call twice."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        if self._process is not None:
            if self._detached and self.running:
                self._process.terminate()
            self._process.wait()

    def __enter__(self) -> ChildProcess:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
