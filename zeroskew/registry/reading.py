"""The half of the registry that changes nothing: versions, aliases, history, lineage, files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from zeroskew.endpoints import Endpoints
from zeroskew.errors import RegistryError
from zeroskew.registry import files as version_files
from zeroskew.registry.backend import Backend
from zeroskew.registry.promotions import Promotion, PromotionLog
from zeroskew.registry.versions import (
    CHALLENGER,
    CHAMPION,
    FILES_SHA256,
    PROMOTIONS,
    ModelVersion,
    check_alias,
    check_name,
    read_version,
)

if TYPE_CHECKING:
    from rich.tree import Tree

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Reader = TypeVar("Reader", bound="RegistryReader")


def talks(
    method: Callable[Concatenate[Reader, Arguments], Result],
) -> Callable[Concatenate[Reader, Arguments], Result]:
    @functools.wraps(method)
    def call(self: Reader, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with self.backend.talking():
            return method(self, *args, **kwargs)

    return call


class RegistryReader:
    """Look-ups; see `Registry`."""

    def __init__(self, tracking_uri: str, artifact_root: str = "") -> None:
        """`tracking_uri` is any of MLflow's; `artifact_root` (folder or URL) is where artifacts go
        unless the tracking server decides. Nothing is opened before the first use."""
        self.backend = Backend(tracking_uri, artifact_root)

    @classmethod
    def from_environment(cls) -> Self:
        """The registry that `ZEROSKEW_MLFLOW` names, or the embedded one."""
        endpoints = Endpoints.from_environment()
        return cls(endpoints.mlflow, endpoints.mlflow_artifacts)

    @talks
    def models(self) -> list[str]:
        """Names of the models registered by zeroskew, sorted; a server may hold others' as well."""
        found: list[str] = []
        token = None
        while True:
            page = self.backend.client.search_registered_models(page_token=token)
            found += [model.name for model in page if PROMOTIONS in model.tags]
            if not (token := page.token):
                return sorted(found)

    @talks
    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model, oldest first."""
        aliases = self.aliases(name)
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self.backend.client.search_model_versions(f"name='{name}'", page_token=token)
            found += [read_version(raw, aliases) for raw in page]
            if not (token := page.token):
                return sorted(found, key=lambda version: version.version)

    @talks
    def version(self, name: str, version: int | str) -> ModelVersion:
        """One version, by number or alias."""
        from mlflow.exceptions import MlflowException

        number = self.resolve(name, version)
        aliases = self.aliases(name)
        try:
            return read_version(self.backend.client.get_model_version(name, str(number)), aliases)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        there = ", ".join(str(v.version) for v in self.versions(name)) or "none"
        raise RegistryError(
            f"{name} has no version {number}", where=self.backend.shown, mend=f"it has: {there}"
        )

    @talks
    def aliases(self, name: str) -> dict[str, int]:
        """Alias → version. Raises `RegistryError` for a model that is not registered."""
        return {alias: int(v) for alias, v in self._model(name).aliases.items()}

    def alias(self, name: str, alias: str) -> int | None:
        """The version an alias points to, None if nothing has it (or there is no such model)."""
        check_alias(alias)
        with self.backend.talking():
            return self.aliases(name).get(alias) if self._find(name) else None

    def champion(self, name: str) -> int | None:
        """Version that answers users; None before the first promotion."""
        return self.alias(name, CHAMPION)

    @talks
    def resolve(self, name: str, version: int | str) -> int:
        """Number of a version given by number, digits or alias."""
        if isinstance(version, int):
            return version
        if version.isdigit():
            return int(version)
        aliases = self.aliases(name)
        if version not in aliases:
            there = ", ".join(f"{a} (version {v})" for a, v in sorted(aliases.items())) or "none"
            mend = f"its aliases: {there}; a number names a version"
            if version == CHAMPION:
                # Nobody is, until the first version was rolled out: a training makes a challenger.
                first = aliases.get(CHALLENGER, "N")
                mend += (
                    "; the first champion is the first version that was rolled out to its users: "
                    "apply its ModelRollout, or, where nothing is rolled out, say "
                    f"`zeroskew registry promote {name} {first} --reason first`"
                )
            raise RegistryError(
                f"{name} has no alias {version!r}", where=self.backend.shown, mend=mend
            )
        return aliases[version]

    @talks
    def history(self, name: str) -> list[Promotion]:
        """Every change of champion, oldest first; entries are never changed or removed."""
        run_id = self._model(name).tags.get(PROMOTIONS)
        return PromotionLog(self.backend.client, run_id, name).read()[0] if run_id else []

    @talks
    def lineage(self, name: str, version: int | str) -> Tree:
        """Which data, which code, which features, at what cost, beaten whom, by how much.

        A version that was deleted is told from the promotion log; parts that are missing are said
        to be. Print it with rich.
        """
        from zeroskew.registry.lineage import draw_deleted, draw_version

        number = self.resolve(name, version)
        entries = [
            entry for entry in self.history(name) if number in (entry.version, entry.replaced)
        ]
        if entries and number not in {v.version for v in self.versions(name)}:
            return draw_deleted(name, number, entries)
        found = self.version(name, number)
        return draw_version(found, entries, self._missing_run(found))

    @talks
    def download(
        self,
        name: str,
        version: int | str,
        path: str | Path,
        *,
        only: tuple[str, ...] = (),
        on_progress: version_files.Progress | None = None,
    ) -> Path:
        """Bring a version's files (all, or those under `only`) into the new folder `path`.

        Each file's SHA-256 is checked; the folder appears whole or not at all. Raises
        `RegistryError` if a file is gone or differs, or the folder holds something else.
        """
        found = self.version(name, version)
        where = f"{name} version {found.version}"
        if not found.complete or FILES_SHA256 not in found.tags:
            raise RegistryError(
                "it was not registered by zeroskew and has no list of files", where=where
            )
        return version_files.fetch(
            self.backend.client,
            found.run_id,
            found.tags[FILES_SHA256],
            Path(path),
            where=where,
            only=only,
            on_progress=on_progress,
        )

    def _find(self, name: str) -> Any:
        from mlflow.exceptions import MlflowException

        client = self.backend.client
        try:
            return client.get_registered_model(check_name(name))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _model(self, name: str) -> Any:
        found = self._find(name)
        if found is None:
            there = ", ".join(self.models()) or "none yet; a training pipeline registers the first"
            raise RegistryError(
                f"there is no model {name!r}", where=self.backend.shown, mend=f"registered: {there}"
            )
        return found

    def _missing_run(self, found: ModelVersion) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return self.backend.client.get_run(found.run_id).info.lifecycle_stage != "active"
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return True
            raise
