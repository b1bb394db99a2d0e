"""A registered version behind the local stack's Triton, and the repository it is served from."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from zeroskew.embedded import valkey
from zeroskew.embedded.triton import EmbeddedTriton
from zeroskew.endpoints import Endpoints
from zeroskew.errors import ServingError
from zeroskew.export.front_repository import write_serving_repository
from zeroskew.export.triton_repository import Backend
from zeroskew.registry import Registry


def registered_repository(
    model: str,
    version: int | str,
    out: str | Path,
    backend: Backend = "python",
    *,
    target: str | None = None,
) -> int:
    """Write the Triton repository of a registered version to the new folder or URL `out`.

    `version`: number or alias. Returns the number. Raises `RegistryError`, `ConfigError` or
    `ExportError`, and `ServingError` if `out` cannot be written.
    """
    registry = Registry.from_environment()
    number = registry.resolve(model, version)
    with tempfile.TemporaryDirectory() as scratch:
        files = registry.download(model, number, Path(scratch) / "version")
        if "://" not in str(out):
            write_serving_repository(files, out, backend, version=number, target=target)
            return number
        local = write_serving_repository(
            files, Path(scratch) / "models", backend, version=number, target=target
        )
        _upload(local, str(out))
    return number


def serve_version(
    model: str,
    version: int | str = "champion",
    *,
    ports: tuple[int, int, int] | None = None,
    environment: dict[str, str] | None = None,
) -> EmbeddedTriton:
    """Start a Triton that serves one registered version below the home folder; the caller stops it.

    The online store is the one of ZEROSKEW_REDIS, else the embedded one, which is started if it
    does not run. `ports`: HTTP, gRPC, metrics; None: free ones. Raises what `registered_repository`
    raises, and `EmbeddedError`.
    """
    endpoints = Endpoints.from_environment()
    home = Path(endpoints.home)
    if not endpoints.redis:
        endpoints = replace(endpoints, redis=valkey.ensure(home / "valkey"))
    folder = home / "serving" / model
    # Versions of other tensors do not live in one repository; a server of its own needs none.
    shutil.rmtree(folder / "models", ignore_errors=True)
    registered_repository(model, version, folder / "models")
    variables = endpoints.environment() | {"ZEROSKEW_SPOOL": str(folder / "spool")}
    server = EmbeddedTriton(
        folder / "models", folder, environment=variables | (environment or {}), ports=ports
    )
    return server.start()


def _upload(folder: Path, url: str) -> None:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        system.put(f"{folder}/", f"{path.rstrip('/')}/", recursive=True)
    except (OSError, ValueError, ImportError) as error:
        raise ServingError(f"cannot be written: {error}", where=url) from None
