"""Runs of a command, each under a name that is never run twice.

    runs = LocalRuns(folder, ("python", "-m", "pipelines.run", …, "--end", "{windowEnd}"))

Beside a run's output stand what it was started with and, once it has ended, its exit status; so a
run goes on when whoever started it ends, and is known to whoever comes next.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zeroskew.errors import ConfigError
from zeroskew.monitoring.monitor_observations import RunObserved
from zeroskew.monitoring.monitor_state import Decision
from zeroskew.rollout.rollout_state import to_json

# The status appears whole or not at all.
_WRAPPER = """
"$@"
code=$?
echo $code > "$ZEROSKEW_RUN_STATUS.partial"
mv "$ZEROSKEW_RUN_STATUS.partial" "$ZEROSKEW_RUN_STATUS"
exit $code
"""


class NamedCommands:
    """Child processes in sessions of their own, each known by a name."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()

    def begin(self, name: str, command: Sequence[str], **noted: Any) -> None:
        """Does nothing if there ever was a run of this name. `noted`: JSON, kept beside it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            note = os.open(self.folder / f"{name}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return
        with os.fdopen(note, "w") as file, (self.folder / f"{name}.log").open("wb") as output:
            child = subprocess.Popen(
                ["sh", "-c", _WRAPPER, "sh", *command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env=os.environ | {"ZEROSKEW_RUN_STATUS": str(self.folder / f"{name}.status")},
            )  # fmt: skip
            json.dump(
                {
                    "pid": child.pid,
                    "began": _began(child.pid),
                    "command": list(command),
                    "at": datetime.now(UTC).isoformat(),
                    **noted,
                },
                file,
            )

    def look(self, name: str) -> RunObserved:
        """Missing, Running, Succeeded or Failed."""
        status, noted = (self.folder / f"{name}.{part}" for part in ("status", "json"))
        with suppress(FileNotFoundError):
            code = status.read_text().strip()
            ended = datetime.fromtimestamp(status.stat().st_mtime, UTC)
            if code == "0":
                return RunObserved("Succeeded", name, finished_at=ended)
            message = f"status {code}, see {self.folder / f'{name}.log'}"
            return RunObserved("Failed", name, message, ended)
        try:
            note: dict[str, Any] = json.loads(noted.read_text())
        except FileNotFoundError:
            return RunObserved("Missing")
        except ValueError:
            # Whoever started it was killed between the two; nobody knows what became of it.
            return RunObserved("Failed", name, f"{noted} does not say which process it is")
        if _reaped(note["pid"]) or _began(note["pid"]) != note["began"]:
            return RunObserved("Failed", name, "its process ended without a status")
        return RunObserved("Running", name)

    def stop(self, name: str) -> None:
        """Ends it and all that it started."""
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            note = json.loads((self.folder / f"{name}.json").read_text())
            if _began(note["pid"]) == note["began"]:
                os.killpg(note["pid"], signal.SIGTERM)


class LocalRuns(NamedCommands):
    """Runs of one command, filled in from the decision that each is for."""

    def __init__(self, folder: str | Path, command: Sequence[str]) -> None:
        """`command`: program and arguments; `{champion}`, `{windowEnd}` and other fields of the
        decision are put in. Raises `ConfigError` for a field that no decision has."""
        super().__init__(folder)
        self._command = tuple(command)
        fields = {name: "x" for name in _fields(None)}
        for part in self._command:
            _filled(part, fields)

    def start(self, name: str, decision: Decision) -> None:
        """Does nothing if there ever was a run of this name."""
        filled = [_filled(part, _fields(decision)) for part in self._command]
        self.begin(name, filled, decision=to_json(decision))


def _fields(decision: Decision | None) -> dict[str, str]:
    names = ("checksum", "reason", "message", "dominantMetric", "champion", "previous", "model",
             "windowStart", "windowEnd")  # fmt: skip
    raw = {} if decision is None else to_json(decision)
    return {name: str(raw.get(name, "")) for name in names}


def _filled(part: str, fields: dict[str, str]) -> str:
    try:
        return part.format_map(fields)
    except (KeyError, ValueError, IndexError) as error:
        raise ConfigError(
            f"{part!r} names no field of a decision: {error}",
            where="the command of a run",
            mend=f"use {', '.join('{' + name + '}' for name in fields)}; write braces twice",
        ) from None


def _began(pid: int) -> str:
    """When a process began, in the kernel's words: a number that was used again has another."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def _reaped(pid: int) -> bool:
    """Whether it has ended, as far as it is a child of ours."""
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return not Path(f"/proc/{pid}").exists()
