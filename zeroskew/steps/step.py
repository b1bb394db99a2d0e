"""What every step of a pipeline does around its work: endpoints, progress lines, one clear error.

A step runs as the only work of its process, in a pod or below a local runner, and talks to the
outside through that process alone: progress is lines on standard output, a user's mistake is its
message on standard error instead of a traceback, and the same message as JSON in the file that
`ZEROSKEW_ERROR_FILE` names, if it is set.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

from zeroskew import errors
from zeroskew.endpoints import Endpoints
from zeroskew.errors import ZeroskewError
from zeroskew.steps.repeating import attempted

ERROR_FILE = "ZEROSKEW_ERROR_FILE"
_PROGRESS = re.compile(r"^\s*» (?P<what>.*) (?P<done>\d+)/(?P<total>\d+)$")
_QUIET_SECONDS = 0.3
_OURS = ("ZEROSKEW_", "AWS_", "MLFLOW_", "RAY_")

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def step(
    *outputs: str,
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Mark a function as a step: endpoints are exported first, mistakes are shown plainly, and what
    a store's bad minute broke is tried again (see `repeating`).

    `outputs`: parameters that name a file or folder which the step makes; none of it is left by an
    attempt that failed and is followed by another.
    """

    def marked(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(function)
        if unknown := set(outputs) - set(signature.parameters):
            raise TypeError(f"{function.__name__} has no parameter {', '.join(sorted(unknown))}")

        @functools.wraps(function)
        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            _show_mistakes_plainly()
            given = signature.bind(*args, **kwargs).arguments
            made = [Path(given[name]) for name in outputs if given.get(name)]
            with _exported(Endpoints.from_environment()):
                return attempted(lambda: function(*args, **kwargs), made)

        return run

    return marked


@contextmanager
def _exported(endpoints: Endpoints) -> Iterator[None]:
    """Variables for feature_store.yaml and child processes, gone again when the step is done.

    Empty ones are unset: a ConfigMap whose keys a pod names cannot leave one out, and boto3 takes
    an empty endpoint for a wrong one.
    """
    empty = [n for n, value in os.environ.items() if not value and n.startswith(_OURS)]
    before = {name: os.environ.get(name) for name in [*endpoints.environment(), *empty]}
    for name in empty:
        del os.environ[name]
    endpoints.export()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class ProgressLines:
    """`on_progress` for a process without a terminal: a line at most every 0.3 s, and every end."""

    def __init__(self) -> None:
        self._last = 0.0
        self._what = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what == self._what and done < total and now - self._last < _QUIET_SECONDS:
            return
        self._what, self._last = what, now
        print(f"» {what} {done}/{total}", flush=True)


def parse_progress(line: str) -> tuple[str, int, int] | None:
    """What `ProgressLines` printed, or None for any other line."""
    match = _PROGRESS.match(line)
    return (match["what"], int(match["done"]), int(match["total"])) if match else None


def write_error(error: ZeroskewError, path: str | Path) -> None:
    """Keep an error for whoever started this process; see `read_error`."""
    text = {
        "reason": error.reason,
        "what": error.what,
        "where": error.where,
        "mend": error.mend,
    }
    Path(path).write_text(json.dumps(text), encoding="utf-8")


def read_error(path: str | Path) -> ZeroskewError | None:
    """The error that a step's process left, of its own class, or None."""
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = getattr(errors, raw["reason"], ZeroskewError)
    error = kind.__new__(kind)
    if isinstance(error, errors.ValidationFailed):
        error.findings = ()
    ZeroskewError.__init__(error, raw["what"], where=raw["where"], mend=raw["mend"])
    return error


def _show_mistakes_plainly() -> None:
    """A ZeroskewError that nobody catches ends the process with its text, not its traceback."""
    shown_by = sys.excepthook
    if getattr(shown_by, "shows_zeroskew_errors", False):
        return

    ended_well = True

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        nonlocal ended_well
        ended_well = False
        if not isinstance(error, ZeroskewError):
            shown_by(kind, error, traceback)
            return
        sys.stdout.flush()
        print(f"error ({error.reason})\n{error}", file=sys.stderr, flush=True)
        if path := os.environ.get(ERROR_FILE):
            write_error(error, path)

    def leave_at_once() -> None:
        # Runs after the exit handlers of whatever the step imported.
        if ended_well:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    hook.shows_zeroskew_errors = True  # type: ignore[attr-defined]
    sys.excepthook = hook
    if os.environ.get(ERROR_FILE):
        # Only where a local runner waits for this very process: taking torch or MLflow apart,
        # module by module, takes more than a second of each step.
        atexit.register(leave_at_once)
