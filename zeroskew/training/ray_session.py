"""A Ray runtime for as long as it is needed: a given cluster, or one started and ended here."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zeroskew.errors import TrainingError

MEND = (
    "check ZEROSKEW_RAY and, if the cluster asks for a token, RAY_AUTH_TOKEN; without ZEROSKEW_RAY "
    "this machine does the work"
)
CONNECT_SECONDS = 10.0
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Threads that wait for each other give their core away: the machine may be shared.
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_MEMORY_MONITOR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@contextmanager
def ray_session(address: str = "") -> Iterator[None]:
    """Connect to `address`, or start a Ray runtime and end it with the block.

    Raises `TrainingError` if the cluster does not answer.
    """
    if address:
        _require_listener(address)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    _authenticate(own=not address)
    import ray

    if ray.is_initialized():
        yield
        return
    # Ray's sockets lie in its temporary folder, and a socket's path holds 107 characters.
    folder = None if address else Path(tempfile.mkdtemp(prefix="zs-", dir="/tmp"))
    try:
        if address:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        else:
            ray.init(
                num_cpus=os.cpu_count(),
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                configure_logging=True,
                _temp_dir=str(folder),
            )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TrainingError(
            f"Ray does not answer: {first}",
            where=address or "local Ray",
            mend=MEND,
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _require_listener(address: str) -> None:
    """Ask at the door: Ray itself would knock for many minutes before it gives up."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # `auto` and the like, which Ray resolves
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise TrainingError(
            f"Ray does not answer: {error.strerror or error}", where=address, mend=MEND
        ) from None


def _authenticate(*, own: bool) -> None:
    """Choose Ray's token authentication by the environment, before Ray reads it.

    A Ray of our own gets a token of this process, where Ray would write one into the home folder,
    which a container may not have. A given cluster gets the token that the environment names.
    """
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if os.environ.get("RAY_AUTH_MODE") or not (own or named):
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    if not named:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
