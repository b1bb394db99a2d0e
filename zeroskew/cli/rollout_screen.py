"""What `zeroskew rollout watch` shows: a live view on a terminal, else a line per change.

The reading goes on in a thread of its own, so that clocks go on and Ctrl-C works while the API
server keeps somebody waiting.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Protocol

from zeroskew.cluster.rollout_following import Seen

__all__ = ["Display", "Lines", "Screen", "shown"]

FRAME_SECONDS = 0.25


class Display(Protocol):
    """Where snapshots go; a context manager around all of them."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, seen: Seen | None) -> None: ...


class Screen:
    """Redrawn in place; the last picture stays."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(
            console=Console(highlight=False), auto_refresh=False, vertical_overflow="crop"
        )

    @staticmethod
    def fitting() -> Display:
        """This one on a terminal, else lines."""
        return Screen() if sys.stdout.isatty() else Lines(json=False)

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        # The whole of the last picture, even if it is longer than the terminal.
        self._live.vertical_overflow = "visible"
        self._live.stop()

    def show(self, seen: Seen | None) -> None:
        """None: nothing is new but the time."""
        from zeroskew.cluster.rollout_drawing import draw_rollout

        if seen is not None:
            self._seen = seen
        if (last := getattr(self, "_seen", None)) is not None and last.view is not None:
            problem = "the rollout was deleted" if last.gone else last.problem
            self._live.update(draw_rollout(last.view, problem=problem), refresh=True)


class Lines:
    """A line whenever something else is to be said: for logs and for programs."""

    def __init__(self, *, json: bool) -> None:
        self._json, self._said = json, ""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, seen: Seen | None) -> None:
        from zeroskew.cli.cluster_options import print_json

        if seen is None or seen.view is None:
            return
        view = seen.view
        problem = "the rollout was deleted" if seen.gone else seen.problem
        text = f"{view.status.phase}: {view.status.message}"
        text = f"out of date: {problem}" if problem else text
        if self._json and not problem:
            text = view.resource_version
        if text == self._said:
            return
        self._said = text
        if not self._json:
            print(text, flush=True)
        elif problem:
            print(text, file=sys.stderr, flush=True)
        else:
            print_json(view)


def shown(
    followed: Iterator[Seen], display: Display, version: str | None, longest: timedelta | None
) -> Seen | None:
    """Shows every snapshot; the last one once the rollout has ended, None after `longest`.

    `version`: it has not, before this version is the one that the spec names. Raises what
    `followed` raises.
    """
    arrived: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_pump, args=(followed, arrived), daemon=True).start()
    ends = None if longest is None else time.monotonic() + longest.total_seconds()
    with display:
        while ends is None or time.monotonic() < ends:
            try:
                came = arrived.get(timeout=FRAME_SECONDS)
            except queue.Empty:
                display.show(None)
                continue
            if isinstance(came, BaseException):
                raise came
            display.show(came)
            if came.gone or _over(came, version):
                return came  # type: ignore[no-any-return]
    return None


def _pump(followed: Iterator[Seen], arrived: queue.Queue[Any]) -> None:
    try:
        for seen in followed:
            arrived.put(seen)
    except BaseException as error:
        arrived.put(error)


def _over(seen: Seen, version: str | None) -> bool:
    view = seen.view
    if view is None or seen.problem or (version is not None and view.wanted != version):
        return False
    return bool(view.outcome)
