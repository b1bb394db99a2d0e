"""The process that runs one compiled pipeline through `kfp.local`, and leaves nothing behind.

    python -m pipelines.orchestrate JOB.json

`pipelines.run` starts it. It is a process of its own because `kfp.local` is set up globally and
prints freely, and because somebody has to collect what a step leaves running: Linux hands orphans
to this process (a subreaper), which ends them when the pipeline ends, when it gets SIGTERM or
SIGINT, and when the process that started it is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 8.0
LOOK_SECONDS = 0.5
_STEP = b"ephemeral_component.py"


def main(job_file: str) -> int:
    """Run the pipeline of a job file; 0, or 1 when a step failed."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    threading.Thread(target=_watch, args=(job["parent"],), daemon=True).start()
    try:
        return _run(job)
    finally:
        end_descendants()


def _run(job: dict[str, Any]) -> int:
    from kfp import components, local

    warnings.simplefilter("ignore")
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=job["pipeline_root"],
        workspace_root=job["pipeline_root"] + "/.workspace",
    )
    pipeline = components.load_component_from_text(job["pipeline"])
    try:
        pipeline(**job["arguments"])
    except RuntimeError as error:  # what kfp.local raises when a step failed
        print(error, flush=True)
        return 1
    return 0


def end_descendants(grace: float = GRACE_SECONDS) -> None:
    """Interrupt every process below this one, wait, and kill what is still there.

    Collects children that ended, so it is for when no step is waited for.
    """
    asked: set[int] = set()
    deadline = time.monotonic() + grace
    while found := descendants():
        late = time.monotonic() > deadline
        for pid in found - asked if not late else found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGINT)
        asked |= found
        time.sleep(0.05)
        if time.monotonic() > deadline + grace:
            return


def descendants() -> set[int]:
    """Ids of the living processes below this one; children that ended are collected."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return _below(_living())


def _living() -> dict[int, int]:
    """Process id → its parent's, of all that are not zombies."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # The name, in brackets, may hold anything; state and parent come after it.
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry.parent.name)] = int(parent)
    return parents


def _below(parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    edge = {os.getpid()}
    while edge := {pid for pid, parent in parents.items() if parent in edge} - found:
        found |= edge
    return found


def _leftovers() -> set[int]:
    """What lives below this process while no step does.

    A step's shell is this process's child and carries KFP's file name in its command. kfp.local
    reads a step's output until nobody holds it open, so a process that a step left running would
    keep the pipeline waiting for ever.
    """
    parents = _living()
    for pid, parent in parents.items():
        with contextlib.suppress(OSError):
            if parent == os.getpid() and _STEP in Path(f"/proc/{pid}/cmdline").read_bytes():
                return set()
    return _below(parents)


def _stop(number: int, _frame: object) -> None:
    for again in (signal.SIGTERM, signal.SIGINT):
        signal.signal(again, signal.SIG_IGN)
    end_descendants()
    # Not an exception: kfp.local would go on to report a step that failed.
    sys.stdout.flush()
    os._exit(128 + number)


def _watch(parent: int) -> None:
    """End what a step left running, and everything once the process that started this is gone."""
    seen: set[int] = set()
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
        found = _leftovers()
        for pid in found & seen:  # still there at the second look: not one that is just ending
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        seen = found
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
