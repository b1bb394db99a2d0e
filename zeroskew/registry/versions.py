"""A registered version as it is read, and the words that its tags and aliases use."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from zeroskew.errors import RegistryError
from zeroskew.record import VersionRecord

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
STAGE, STAGING, PRODUCTION, ARCHIVED = "stage", "Staging", "Production", "Archived"

IDENTITY = "identity"
"""Tag: hash of the record and the files. Registering the same again finds the version by it."""
COMPLETE = "complete"
"""Tag: `true` from the moment a version exists; a version without it was made by another tool."""
FILES_SHA256 = "files_sha256"
PROMOTIONS = "promotions_run"
"""Tag of the registered model: id of the run that holds the promotion log."""
KIND = "zeroskew.kind"

OWN_TAGS = frozenset({STAGE, IDENTITY, COMPLETE, FILES_SHA256, "format"})
"""Tags of a version besides those of its record."""

NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
ALIAS = re.compile(r"^(?![vV][0-9]+$)[A-Za-z0-9_-]{1,255}$")


class Anything(enum.Enum):
    """`ANY`: the caller does not care what an alias pointed to before."""

    ANY = "any"


ANY = Anything.ANY
Expected = int | None | Literal[Anything.ANY]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version with what MLflow says of it."""

    name: str
    version: int
    stage: str
    """Staging, Production or Archived; empty if another tool made the version."""
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    run_id: str
    created: datetime

    @property
    def complete(self) -> bool:
        return self.tags.get(COMPLETE) == "true"

    @property
    def record(self) -> VersionRecord:
        """The lineage record. Raises `RegistryError` if the tags do not hold a whole one."""
        return VersionRecord.from_tags(self.tags, where=f"{self.name} version {self.version}")


def read_version(raw: MlflowVersion, aliases: Mapping[str, Any]) -> ModelVersion:
    number = int(raw.version)
    return ModelVersion(
        name=raw.name,
        version=number,
        stage=raw.tags.get(STAGE, ""),
        aliases=tuple(sorted(a for a, v in aliases.items() if int(v) == number)),
        tags=dict(raw.tags),
        run_id=raw.run_id or "",
        created=datetime.fromtimestamp(raw.creation_timestamp / 1000, UTC),
    )


def check_name(name: str) -> str:
    if not NAME.match(name):
        raise RegistryError(
            f"{name!r} is not a model name",
            where="registry",
            mend="a model is named after its folder: lower case letters, digits, underscores",
        )
    return name


def check_alias(alias: str) -> str:
    if not ALIAS.match(alias):
        raise RegistryError(
            f"{alias!r} is not an alias",
            where="registry",
            mend="use letters, digits, - and _ (and not v1, v2, …: those mean versions)",
        )
    return alias
