"""The process that ships the prediction log: `python -m zeroskew.serving.log_shipper FOLDER`.

Started by `PredictionLog` for its own folder of the spool. Standard input is the lifeline: a line
says that there is something to do, `close SECONDS` that the owner wants to end, and its end that
the owner has: what is left is shipped then, within a deadline, and the process ends. Between its
own segments it looks for folders of the same spool whose owners are gone, and ships those, too.

By hand, for a folder that a dead server has left: `… log_shipper FOLDER < /dev/null`.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from zeroskew.errors import ZeroskewError
from zeroskew.serving.log_folder import SinkFailed, SpoolFolder, say
from zeroskew.serving.log_sink import Sink, open_sink
from zeroskew.serving.log_spool import (
    BROKEN,
    LOCK,
    OPEN,
    READY,
    SHIPPER_LOCK,
    Lock,
    close_segments,
    other_folders,
    remove_folder,
    segments,
)

POLL_SECONDS = 1.0
ADOPT_EVERY_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 30.0
ORPHAN_SECONDS = 60.0
"""How long a shipper whose owner died tries to reach the sink; a later one goes on."""
OWNER_GONE_SECONDS = 5.0
"""How long a dying owner may hold its lock after its end of the lifeline closed."""


class Lifeline:
    """What the owner says, and until when there is time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._deadline = descriptor, float("inf")
        self._text = b""
        self._ended = self.asked = False
        """`asked`: the owner said `close`."""

    @property
    def closing(self) -> bool:
        return self._deadline != float("inf")

    @property
    def expired(self) -> bool:
        return time.monotonic() >= self._deadline

    def wait(self, seconds: float, *, only_close: bool = False) -> None:
        """Until the owner says something (or wants to close), at most `seconds`."""
        until = min(time.monotonic() + seconds, self._deadline)
        while (left := until - time.monotonic()) > 0:
            if self._ended:
                time.sleep(left)
                return
            if select.select([self._descriptor], [], [], left)[0]:
                was_closing = self.closing
                self._hear(os.read(self._descriptor, 4096))
                if not only_close or self.closing != was_closing:
                    return

    def _hear(self, said: bytes) -> None:
        now = time.monotonic()
        if not said:
            self._ended = True
            self._deadline = min(self._deadline, now + ORPHAN_SECONDS)
        *lines, self._text = (self._text + said).split(b"\n")
        for line in lines:
            if line.startswith(b"close "):
                self.asked = True
                self._deadline = now + float(line[6:])


class Shipper:
    """Brings segments to the sink, however often it takes."""

    def __init__(self, sink: Sink, lifeline: Lifeline) -> None:
        self._sink, self._lifeline = sink, lifeline
        self._failing = 0

    def drain(self, folder: SpoolFolder) -> bool:
        """Ship all that is ready; False if time ran out before."""
        while waiting := folder.waiting():
            for number in waiting:
                while not self._try(folder, number):
                    self._lifeline.wait(self._pause(), only_close=True)
                    if self._lifeline.expired:
                        return False
                if self._lifeline.expired:
                    return False
        return True

    def help(self, folder: SpoolFolder, own: SpoolFolder) -> bool:
        """Ship what somebody else has left, as long as nothing of `own` waits; whether all was.

        A sink that refuses is not waited for here: our own segments would wait with it, unseen.
        """
        for number in folder.waiting():
            if self._lifeline.closing or own.waiting() or not self._try(folder, number):
                return False
        return True

    def _try(self, folder: SpoolFolder, number: int) -> bool:
        try:
            folder.ship(number, self._sink)
        except SinkFailed as error:
            self._failing += 1
            if self._failing == 1:
                say(f"the sink refuses, it is tried again until it takes: {error}")
            return False
        if self._failing:
            say(f"the sink takes again, after {self._failing} failures")
        self._failing = 0
        return True

    def _pause(self) -> float:
        longest = 1.0 if self._lifeline.closing else LONGEST_WAIT_SECONDS
        return min(longest, 0.25 * 2 ** min(self._failing, 10)) * random.uniform(0.5, 1.0)  # noqa: S311


class Adoption:
    """Looks for folders of the same spool whose owners are gone, ships and removes them."""

    def __init__(self, own: SpoolFolder, shipper: Shipper) -> None:
        self._own, self._shipper = own, shipper
        self._next = 0.0
        self._said: set[Path] = set()

    def look(self) -> None:
        """Every now and then; goes on at the next call if something of our own came between."""
        if time.monotonic() < self._next:
            return
        for path in other_folders(self._own.path):
            self._adopt(path)
            if self._own.waiting():
                return
        self._next = time.monotonic() + ADOPT_EVERY_SECONDS

    def _adopt(self, path: Path) -> None:
        shipping = Lock.take(path / SHIPPER_LOCK)
        if shipping is None:
            return
        try:
            finish(path, lambda folder: self._shipper.help(folder, self._own))
        except (OSError, ValueError, KeyError, ZeroskewError) as error:
            if path not in self._said:
                self._said.add(path)
                say(f"{path} cannot be shipped: {type(error).__name__}: {error}")
        finally:
            shipping.release()


def finish(path: Path, ship: Callable[[SpoolFolder], bool]) -> None:
    """Ship what a dead owner has left and remove its folder, if it is dead.

    The caller holds the shipper's lock. Raises on a folder that this cannot read.
    """
    writing = Lock.take(path / LOCK)
    if writing is None:
        return
    try:
        close_segments(path)
        if segments(path, READY) and not ship(SpoolFolder(path)):
            return
        if not any(segments(path, suffix) for suffix in (OPEN, READY, BROKEN)):
            remove_folder(path)
    finally:
        writing.release()


def run(path: Path, lifeline: Lifeline) -> None:
    """Ship `path` until its owner is gone or closes."""
    while (shipping := Lock.take(path / SHIPPER_LOCK)) is None:
        if not path.exists() or lifeline.expired:
            return
        lifeline.wait(0.1, only_close=True)
    own = SpoolFolder(path)
    shipper = Shipper(open_sink(own.sink), lifeline)
    adoption = Adoption(own, shipper)
    while not lifeline.closing and shipper.drain(own):
        if not lifeline.closing:
            adoption.look()
        if not own.waiting():
            lifeline.wait(POLL_SECONDS)
    shipper.drain(own)
    if not lifeline.asked:
        _after_the_owner(path, shipper, lifeline)
    shipping.release()


def _after_the_owner(path: Path, shipper: Shipper, lifeline: Lifeline) -> None:
    """What a killed owner had not closed; its lock is free a moment after its pipe closed."""
    until = time.monotonic() + OWNER_GONE_SECONDS
    while path.exists() and time.monotonic() < until and not lifeline.expired:
        finish(path, shipper.drain)
        time.sleep(0.05)


def main(arguments: list[str]) -> int:
    """Ship one folder until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(10)
    pa.set_cpu_count(1)
    run(Path(arguments[0]).absolute(), Lifeline(0))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
