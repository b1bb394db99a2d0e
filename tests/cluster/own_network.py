"""A network and a root folder of a test's own, for servers that take fixed ports and fixed paths.

    with OwnNetwork(folder, addresses=["10.77.0.1"], mounts={"/certs": certificates}) as network:
        network.let_in("127.0.0.1", 6443)       # that port of this host, at the same place there
        process = subprocess.Popen(network.command("some-server"))

Nothing of it is seen outside: it is a network namespace with a loopback interface alone, and a
mount namespace whose root is this machine's but for /var, which is empty, and the mounts. The
addresses are on its loopback interface, for what refuses 127.0.0.1. `unshare` makes it, in a user
namespace where this process has no rights of its own.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_TOOLS = ("unshare", "nsenter", "ip", "mount", "chroot")
# Arguments: the new root, how many addresses, they, then pairs of a path there and a folder here.
_SETUP = """
set -e
root=$1; count=$2; shift 2
mount --make-rprivate /
ip link set lo up
while [ "$count" -gt 0 ]; do ip address add "$1/32" dev lo; count=$((count - 1)); shift; done
mount -t tmpfs none "$root"
for each in /*; do
  [ "$each" != /var ] || continue
  if [ -L "$each" ]; then cp -P "$each" "$root$each"
  elif [ -d "$each" ]; then mkdir "$root$each"; mount --rbind "$each" "$root$each"
  fi
done
mkdir -p "$root/var/tmp"
while [ "$#" -gt 0 ]; do mkdir -p "$root$1"; mount --bind "$2" "$root$1"; shift 2; done
echo ready
exec chroot "$root" cat
"""


class NotPermitted(Exception):
    """This machine lets nobody make a network of his own; says why in one line."""


class OwnNetwork:
    """Lives while it is entered. Raises `NotPermitted`.

    `folder`: an empty one; `mounts`: folders of this host by where they are to be seen.
    """

    def __init__(
        self, folder: Path, *, addresses: Sequence[str] = (), mounts: Mapping[str, Path] = {}
    ) -> None:
        self._root, self._addresses, self._mounts = folder / "root", addresses, mounts
        self._inside: list[str] = []
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "OwnNetwork":
        if missing := [tool for tool in _TOOLS if not shutil.which(tool)]:
            raise NotPermitted(f"a network of one's own needs {' and '.join(missing)}")
        self._root.mkdir()
        ways = [[]] if os.geteuid() == 0 else []
        said = ""
        for more in [*ways, ["--user", "--map-root-user"]]:
            mounts = [str(part) for pair in self._mounts.items() for part in pair]
            holder = subprocess.Popen(
                ["unshare", "--net", "--mount", *more, "sh", "-c", _SETUP, "sh", str(self._root),
                 str(len(self._addresses)), *self._addresses, *mounts],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert holder.stdout is not None
            assert holder.stderr is not None
            if holder.stdout.readline() == "ready\n":
                user = ["--user", "--preserve-credentials"] if more else []
                spaces = [*user, "--net", "--mount", "--root", "--wd"]
                self._inside = ["nsenter", "--target", str(holder.pid), *spaces]
                # It ends with this process, whatever becomes of that: its input does.
                self._open.callback(_end, holder)
                return self
            said = holder.stderr.read().strip().partition("\n")[0]
            _end(holder)
        raise NotPermitted(f"a network of one's own is not permitted here: {said}")

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def command(self, *command: object) -> list[str]:
        """What runs a command inside."""
        return [*self._inside, *map(str, command)]

    def let_in(self, host: str, port: int) -> None:
        """Whoever asks this port of 127.0.0.1 inside, speaks with that of `host` outside."""
        # The path of a Unix socket has at most 107 bytes.
        folder = self._open.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))
        way = f"{folder}/way"
        for place, command in (("out", []), ("in", self.command())):
            relay = subprocess.Popen(
                [*command, sys.executable, __file__, place, way, host, str(port)],
                stdout=subprocess.PIPE, text=True, preexec_fn=_die_with_parent,
            )  # fmt: skip
            self._open.callback(_end, relay)
            assert relay.stdout is not None
            assert relay.stdout.readline() == "ready\n", f"no relay {place} to {host}:{port}"


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _die_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


async def _relay(place: str, way: str, host: str, port: int) -> None:
    async def passes(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def connected(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            far, on = await (
                asyncio.open_unix_connection(way)
                if place == "in"
                else asyncio.open_connection(host, port)
            )
        except OSError:
            back.close()
            return
        await asyncio.gather(passes(near, on), passes(far, back))

    server = await (
        asyncio.start_server(connected, "127.0.0.1", port)
        if place == "in"
        else asyncio.start_unix_server(connected, way)
    )
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_relay(*sys.argv[1:4], int(sys.argv[4])))
