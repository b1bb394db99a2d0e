"""Feast's registry as a local file that two processes may write and none can tear.

Feast overwrites its registry file in place: a reader at the wrong moment gets half a registry, a
killed writer leaves one for good. Here the file is replaced in one step, and whoever reads, changes
and writes holds a lock meanwhile. The bytes are Feast's own, so its tools read the same file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feast.infra.registry.file import FileRegistryStore

STORE_TYPE = "zeroskew.features.registry_file.AtomicFileRegistryStore"


class AtomicFileRegistryStore(FileRegistryStore):
    """Feast's file registry, written to a temporary sibling and renamed."""

    def _write_registry(self, registry_proto: Any) -> None:
        from feast.utils import _utc_now

        registry_proto.version_id = str(uuid.uuid4())
        registry_proto.last_updated.FromDatetime(_utc_now())
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._filepath.with_name(f".{self._filepath.name}.{uuid.uuid4().hex}")
        try:
            with open(temporary, "wb") as file:
                file.write(registry_proto.SerializeToString())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._filepath)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def registry_lock(path: Path | None) -> Iterator[None]:
    """Hold the registry file at `path` against other processes; None (not a local file) is free."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
