"""A rollout followed as it goes: a snapshot at every change, whatever becomes of the connection.

    for seen in follow(cluster, "team", "flight-delay"):
        ...  # seen.view, or seen.problem while the server does not answer

A watch only says when to look again: everything is read anew then, so that nothing depends on an
event that was lost with a server or a connection.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from zeroskew.cluster.access import MODEL_ROLLOUT, Cluster
from zeroskew.cluster.rollout_reading import RolloutView, read_rollout
from zeroskew.errors import ClusterError

__all__ = ["Seen", "follow"]

LOOK_SECONDS = 5.0
"""Versions and events change without the rollout: they are read again so soon."""
SHORTEST_SECONDS = 0.5
"""Between two looks, however often the object changes."""
LONGEST_PAUSE = 10.0
_PASSING = frozenset({0, 408, 410, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Seen:
    """`view` is the newest one that could be read; `problem` says why there is none since."""

    view: RolloutView | None
    problem: str = ""
    gone: bool = False
    """The rollout was there, and was deleted."""


def follow(
    cluster: Cluster,
    namespace: str,
    name: str,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Seen]:
    """Endless, until the rollout is gone.

    Raises `ClusterError` if it cannot be read at first, or may not be read later; an API server
    that does not answer is waited for.
    """
    view: RolloutView | None = None
    failures = 0
    while True:
        try:
            fresh = read_rollout(cluster, namespace, name)
        except ClusterError as error:
            if view is not None and error.code == 404:
                yield Seen(view, gone=True)
                return
            if view is None or error.code not in _PASSING:
                raise
            failures += 1
            yield Seen(view, error.what)
            pause(min(LONGEST_PAUSE, 0.5 * 2**failures) * random.uniform(0.5, 1.0))  # noqa: S311
            continue
        failures, view = 0, fresh
        yield Seen(view)
        began = time.monotonic()
        try:
            _until_changed(cluster, namespace, name, view.resource_version)
        except ClusterError:
            # Not everybody who may read may watch; and the next look says what is wrong.
            pause(random.uniform(0.5, 1.0) * LOOK_SECONDS / 2)  # noqa: S311
        pause(max(0.0, SHORTEST_SECONDS - (time.monotonic() - began)))


def _until_changed(cluster: Cluster, namespace: str, name: str, version: str) -> None:
    """Returns at the first event after this resourceVersion, or after a while.

    Raises `ClusterError` if the watch cannot be had, or breaks off.
    """
    events = cluster.watch(
        MODEL_ROLLOUT.path(namespace),
        seconds=LOOK_SECONDS,
        fieldSelector=f"metadata.name={name}",
        resourceVersion=version,
    )
    with contextlib.closing(events):
        next(events, None)
