"""Holds one server process and ends it when the process that asked for it is gone.

Run as a script (`python -I -S tether.py PARENT FD GRACE COMMAND…`), standard library only. A parent
killed by SIGKILL runs no clean-up, and Linux's parent-death signal is bound to the *thread* that
started the child, so neither is enough alone: this process watches its parent (a pipe that closes,
and the parent's id), and the server itself gets the parent-death signal of this process.

GRACE: seconds the server may take to end. PARENT 0 means nobody: it runs until this process gets
SIGTERM.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 0.25


def _die_with_me() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main(arguments: list[str]) -> int:
    """Run the command until it ends, the parent is gone or SIGTERM comes; its exit status."""
    parent, pipe, grace = int(arguments[0]), int(arguments[1]), float(arguments[2])
    command = arguments[3:]
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = subprocess.Popen(command, preexec_fn=_die_with_me, close_fds=False)
    os.set_inheritable(pipe, False)
    while server.poll() is None and not stopping:
        with contextlib.suppress(InterruptedError):
            ended, _, _ = select.select([pipe], [], [], LOOK_SECONDS)
            stopping = stopping or bool(ended and not os.read(pipe, 1))
        stopping = stopping or bool(parent and os.getppid() != parent)
    if server.poll() is None:
        server.terminate()
        deadline = time.monotonic() + grace
        while server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if server.poll() is None:
            server.kill()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
