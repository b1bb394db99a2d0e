"""The connection to MLflow: quiet, without telemetry, locked where it can be, errors translated.

MLflow is imported on first use (seconds). Its defaults suit an interactive user: it reports usage
over the network, draws progress bars, logs migrations and waits minutes for a server that is
gone. What the environment does not say otherwise is set to the opposite here.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from zeroskew.errors import RegistryError, ZeroskewError

if TYPE_CHECKING:
    from mlflow import MlflowClient

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
"""Environment defaults, set before MLflow is imported."""

LOCK_SECONDS = 60.0


class Backend:
    """One tracking and registry server, or the embedded SQLite file that stands in for it."""

    def __init__(self, tracking_uri: str, artifact_root: str = "") -> None:
        if not tracking_uri:
            raise RegistryError(
                "no tracking URI is given",
                where="registry",
                mend="set ZEROSKEW_MLFLOW, or leave it unset for the embedded registry",
            )
        self.uri = tracking_uri
        self.shown = _without_password(tracking_uri)
        """The URI as messages may show it."""
        self.artifact_root = artifact_root
        self.database = _sqlite_file(tracking_uri)
        """The embedded database, or None where a server keeps the state."""
        self._client: MlflowClient | None = None
        self._threads = threading.RLock()
        self._depth = 0

    @property
    def client(self) -> MlflowClient:
        """MLflow's client. The first use migrates a new SQLite file (some seconds)."""
        if self._client is None:
            for name, value in QUIET.items():
                os.environ.setdefault(name, value)
            # Two first starts at once would both make the tables; a mere reader makes none.
            guard = nullcontext() if self._read_only() else self.locked()
            with self.talking(), guard:
                from mlflow import MlflowClient

                for name in ("mlflow", "alembic"):
                    logging.getLogger(name).setLevel(logging.ERROR)
                self._client = MlflowClient(self.uri, registry_uri=self.uri)
        return self._client

    def _read_only(self) -> bool:
        return (
            self.database is not None
            and self.database.exists()
            and not os.access(self.database, os.W_OK, effective_ids=True)
        )

    def experiment(self, name: str) -> str:
        """Id of the experiment `name`, created if it is not there."""
        from mlflow.exceptions import MlflowException

        for attempt in (1, 2):
            found = self.client.get_experiment_by_name(name)
            if found is not None:
                if found.lifecycle_stage != "active":
                    raise RegistryError(
                        f"experiment {name!r} was deleted",
                        where=self.shown,
                        mend=f"mlflow experiments restore --experiment-id {found.experiment_id}",
                    )
                return str(found.experiment_id)
            try:
                return str(self.client.create_experiment(name, self._artifacts_of(name)))
            except MlflowException as error:
                if attempt == 2 or error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        raise AssertionError("unreachable")

    def _artifacts_of(self, name: str) -> str | None:
        """Where the experiment's artifacts go; a server decides for itself."""
        if not self.artifact_root or urlsplit(self.uri).scheme in ("http", "https", "databricks"):
            return None
        if "://" in self.artifact_root:
            return f"{self.artifact_root.rstrip('/')}/{name}"
        return (Path(self.artifact_root).absolute() / name).as_uri()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude every other writer of the embedded registry, on this machine, until left.

        Does nothing for a server: MLflow offers no lock. Raises `RegistryError` after a minute.
        """
        if self.database is None:
            yield
            return
        with self._threads:
            if self._depth:
                yield
                return
            path = self.database.with_name(self.database.name + ".lock")
            with self.talking():
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                self._acquire(descriptor, path)
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
            finally:
                os.close(descriptor)

    def upsert(self, call: Callable[..., Any], *arguments: str) -> None:
        """Set a tag or an alias, also when another writer sets the same one at the same moment.

        MLflow's server looks for the row and then inserts it; of two that both found none, the
        second is refused by the database's constraint.
        """
        from mlflow.exceptions import MlflowException

        for attempt in range(5):
            try:
                call(*arguments)
                return
            except MlflowException as error:
                text = str(error).lower()
                if attempt == 4 or not any(word in text for word in ("constraint", "duplicate")):
                    raise
                time.sleep(0.05 * (attempt + 1))

    def _acquire(self, descriptor: int, path: Path) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RegistryError(
                        f"another process has been writing to it for {LOCK_SECONDS:.0f} s",
                        where=self.shown,
                        mend=f"end it (`fuser {path}` names it) and try again",
                    ) from None
                time.sleep(0.02)

    @contextmanager
    def talking(self) -> Iterator[None]:
        """Turn what MLflow, SQLAlchemy, the network or the disk raise into a `RegistryError`."""
        try:
            yield
        except ZeroskewError:
            raise
        except Exception as error:
            known = _explain(error)
            if known is None:
                raise
            what, mend = known
            what = what.replace(self.uri, self.shown)
            raise RegistryError(what, where=self.shown, mend=mend) from error


def _explain(error: Exception) -> tuple[str, str | None] | None:
    """What went wrong and what helps, or None for an error that is not the store's."""
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package {error.name} is missing", f"pip install {error.name}"
    module = type(error).__module__.partition(".")[0]
    if module not in ("mlflow", "sqlalchemy", "sqlite3", "requests", "urllib3", "alembic") and (
        not isinstance(error, OSError)
    ):
        return None
    text = str(error)
    low = text.lower()
    for signs, what, mend in _SYMPTOMS:
        if any(sign in low for sign in signs):
            return what, mend
    return text.splitlines()[0] if text else type(error).__name__, None


_SYMPTOMS = (
    (
        ("readonly database", "read-only file system", "permission denied"),
        "cannot be written to",
        "give this user write access to the database, its folder and the artifacts",
    ),
    (
        ("not a database", "malformed"),
        "is not a readable SQLite database",
        "restore the file from a backup; it is not one that a program may repair",
    ),
    (
        ("unable to open database",),
        "cannot be opened",
        "check the path and its permissions",
    ),
    (("database is locked",), "is locked by another program", "end that program and try again"),
    (
        ("no space left", "disk is full", "file too large", "quota exceeded"),
        "the disk is full (or this user's share of it)",
        "make room and try again",
    ),
    (
        ("max retries exceeded", "connection refused", "timed out", "name or service not known"),
        "does not answer",
        "check that the MLflow server runs there and that ZEROSKEW_MLFLOW names it",
    ),
    (
        ("out-of-date database schema",),
        "was made by another release of MLflow",
        "back it up, then run `mlflow db upgrade` with its URI",
    ),
)


def _sqlite_file(uri: str) -> Path | None:
    parts = urlsplit(uri)
    if parts.scheme != "sqlite" or not parts.path.removeprefix("/"):
        return None
    return Path(unquote(parts.path[1:])).absolute()


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    user, _, host = parts.netloc.rpartition("@")
    return uri.replace(parts.netloc, f"{user.partition(':')[0]}:…@{host}", 1)
