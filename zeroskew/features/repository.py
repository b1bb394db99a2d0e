"""A model's folder opened as a feature repository: configuration, definitions, Feast's store.

`open_repository` is the one door. It applies the definitions to the registry only when they have
changed, so opening is cheap and safe from several processes at once.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from zeroskew.errors import ConfigError, DataError, FeatureStoreError, ZeroskewError
from zeroskew.features import definition_hashes as hashes
from zeroskew.features.definitions import Definitions, line_in, load_definitions
from zeroskew.features.row import FeatureRow

if TYPE_CHECKING:
    from feast import FeatureStore, RepoConfig

CONFIG_FILE = "feature_store.yaml"
HASH_TAG = "zeroskew.dev/definitions"
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)\}|(?P<plain>[A-Za-z_]\w*))")

TYPE_NAMES = {
    "BYTES": "bytes",
    "STRING": "string",
    "INT32": "int32",
    "INT64": "int64",
    "DOUBLE": "float64",
    "FLOAT": "float32",
    "BOOL": "bool",
    "UNIX_TIMESTAMP": "timestamp",
}
"""Names of `Repository.feature_types`, by Feast's value type; lists add `_list`."""

NUMERIC = frozenset({"int32", "int64", "float32", "float64", "bool"})


@dataclass(frozen=True)
class Repository:
    """An opened model folder. `definitions` come from features.py, `store` is Feast's own."""

    folder: Path
    project: str
    config: RepoConfig
    store: FeatureStore
    definitions: Definitions

    def service(self, name: str) -> Any:
        """The `feast.FeatureService`. Raises `ConfigError` that lists the known ones."""
        self._defined_service(name)
        return self.store.registry.get_feature_service(name, self.project, allow_cache=True)

    def view(self, name: str) -> Any:
        """A stored feature view with inferred keys and types filled in, as the registry has it."""
        if name not in self.definitions.feature_views:
            raise _unknown("feature view", name, self.definitions.feature_views, self.folder)
        return self.store.registry.get_any_feature_view(name, self.project, allow_cache=True)

    def schema_version(self, service: str) -> str:
        """SHA-256 of everything that decides the service's values, request-time code included."""
        views = {name: self.view(name) for name in self.definitions.feature_views}
        return hashes.schema_version(
            self.service(service), views, self.definitions.on_demand, self.folder
        )

    def feature_types(self, service: str) -> dict[str, str]:
        """Type of every feature in service order, on-demand outputs included.

        Types are `float64`, `float32`, `int64`, `int32`, `string`, `bool`, `timestamp`, `bytes`,
        and these with `_list`. Raises `ConfigError` if two views give a feature of one name.
        """
        types: dict[str, str] = {}
        origin: dict[str, str] = {}
        for projection in self.service(service).feature_view_projections:
            for feature in projection.features:
                if feature.name in types:
                    raise ConfigError(
                        f"feature {feature.name} comes from both {origin[feature.name]} and "
                        f"{projection.name_to_use()}",
                        where=f"feature service {service}",
                        mend="rename one of them, or leave it out of the service",
                    )
                types[feature.name] = type_name(feature.dtype)
                origin[feature.name] = projection.name_to_use()
        return types

    def _defined_service(self, name: str) -> Any:
        if name not in self.definitions.services:
            raise _unknown("feature service", name, self.definitions.services, self.folder)
        return self.definitions.services[name]


def type_name(dtype: Any) -> str:
    """Zeroskew's name of a Feast type; unknown ones keep Feast's name in lower case."""
    name = dtype.to_value_type().name
    if name.endswith("_LIST"):
        inner = name.removesuffix("_LIST")
        return f"{TYPE_NAMES.get(inner, inner.lower())}_list"
    return TYPE_NAMES.get(name, name.lower())


def feature_row(
    repository: Repository,
    service: str,
    *,
    exclude: Sequence[str] = (),
    categorical: Sequence[str] = (),
) -> FeatureRow:
    """Which features of a service enter the graph, and how: numbers, or categories.

    Numbers and booleans are numeric, strings are categorical, integers named in `categorical` are,
    too. Raises `ConfigError` on a name that the service does not have and on a type that cannot
    enter a graph and is not excluded.
    """
    types = repository.feature_types(service)
    for field, names in (("inputs.exclude", exclude), ("inputs.categorical", categorical)):
        for name in names:
            if name not in types:
                raise ConfigError(
                    f"feature service {service} has no feature {name!r}",
                    where=field,
                    mend=f"it has: {', '.join(types)}",
                )
    numbers: list[str] = []
    categories: list[str] = []
    for name, kind in types.items():
        if name in exclude:
            continue
        if name in categorical or kind == "string":
            if kind in ("float32", "float64", "timestamp") or kind.endswith("_list"):
                raise ConfigError(
                    f"feature {name} is a {kind} and cannot be a category",
                    where="inputs.categorical",
                    mend="leave it out of `categorical`, or make it an integer or a string",
                )
            categories.append(name)
        elif kind in NUMERIC:
            numbers.append(name)
        else:
            raise ConfigError(
                f"feature {name} is a {kind}, which is neither a number nor a category",
                where=f"feature service {service}",
                mend="add it to inputs.exclude in model.yaml, or compute a number from it",
            )
    if not numbers and not categories:
        raise ConfigError(f"feature service {service} leaves no input for the model")
    return FeatureRow(tuple(numbers), tuple(categories))


def open_repository(folder: str | Path) -> Repository:
    """Open a model's folder, and bring the registry up to date with its features.py.

    Variables `${NAME}` in feature_store.yaml come from the environment. One that is not set is a
    `ConfigError`, except in `online_store`: joining and training need no online store, and whoever
    connects to it says what is missing.
    """
    folder = Path(folder).absolute()
    raw = _read_config(folder)
    definitions = load_definitions(folder)
    return _open(folder, raw, definitions)


def _open(folder: Path, raw: dict[str, Any], definitions: Definitions) -> Repository:
    from feast import FeatureStore
    from feast.errors import FeastError
    from feast.repo_config import RepoConfig
    from google.protobuf.message import DecodeError
    from pydantic import ValidationError

    from zeroskew.features.registry_file import STORE_TYPE, registry_lock

    where = str(folder / CONFIG_FILE)
    registry_file = _local_registry(raw, folder)
    if registry_file is not None:
        given = raw["registry"] if isinstance(raw["registry"], dict) else {}
        raw["registry"] = {
            "registry_store_type": STORE_TYPE,
            **given,
            "path": str(registry_file),
        }
    try:
        config = RepoConfig(**raw)
        config.repo_path = folder
        # Feast imports the stores' classes lazily; a wrong `type` should be found here.
        _ = config.offline_store, config.online_store
    except (ValidationError, FeastError, ValueError, ImportError, AttributeError) as error:
        raise ConfigError(_first_line(error), where=where) from None
    try:
        with registry_lock(registry_file):
            store = FeatureStore(config=config)
            _apply_if_changed(store, definitions)
    except ZeroskewError:
        raise
    except DecodeError:
        raise FeatureStoreError(
            "the registry is not one of Feast's, or is cut short",
            where=str(registry_file or raw.get("registry")),
            mend="delete it: it is made anew from the definitions (what was materialised so far "
            "is then materialised again)",
        ) from None
    except FileNotFoundError as error:
        raise DataError(
            f"a feature source is not there: {error.filename or error}",
            where=str(folder / "features.py"),
            mend="write the data first, or declare every column in the view's `schema`",
        ) from None
    except OSError as error:
        raise FeatureStoreError(
            f"the registry cannot be read or written: {error.strerror or error}",
            where=str(registry_file or raw.get("registry")),
            mend="make room, or correct its path or permissions",
        ) from None
    except Exception as error:
        # Feast tries request-time functions on sample values, so anything may come out of here.
        raise ConfigError(
            f"Feast refuses the definitions: {type(error).__name__}: {_first_line(error)}",
            where=line_in(folder, error) or str(folder / "features.py"),
        ) from error
    return Repository(folder, config.project, config, store, definitions)


def _apply_if_changed(store: FeatureStore, definitions: Definitions) -> None:
    from feast import Project
    from feast.errors import ProjectObjectNotFoundException

    wanted = hashes.definitions_hash(definitions)
    own = [item for item in definitions.others if isinstance(item, Project)]
    try:
        known = store.registry.get_project(store.project, allow_cache=False)
        if known.tags.get(HASH_TAG) == wanted:
            return
    except (ProjectObjectNotFoundException, FileNotFoundError):
        known = None
    base = own[0] if own else known or Project(name=store.project)
    project = Project(
        name=store.project,
        description=base.description,
        owner=base.owner,
        tags={**base.tags, HASH_TAG: wanted},
    )
    objects = [item for item in definitions.objects() if not isinstance(item, Project)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "on demand views are experimental"
        store.apply(objects)  # type: ignore[arg-type]
    _forget_gone(store, definitions)
    # Last, so that an apply that broke off is done again.
    store.registry.apply_project(project, commit=True)
    store.refresh_registry()


def _forget_gone(store: FeatureStore, definitions: Definitions) -> None:
    """Delete from the registry what features.py no longer defines.

    Not by `store.apply(objects_to_delete=…)`: that scans the whole online store for their values,
    and opening a repository must not even connect to it. Those values are never read again.
    """
    from feast.feature_view import DUMMY_ENTITY_NAME

    registry, project = store.registry, store.project
    names = {item.name for item in definitions.objects()} | {DUMMY_ENTITY_NAME}
    # Sources that stand inside other definitions.
    for view in definitions.on_demand.values():
        names |= set(view.source_request_sources)
    for view in definitions.feature_views.values():
        for source in (view.batch_source, getattr(view, "stream_source", None)):
            names |= {getattr(source, "name", ""), _inner_name(source)}
    names |= {_inner_name(source) for source in definitions.sources.values()}
    for listing, delete in (
        (registry.list_feature_services, registry.delete_feature_service),
        (registry.list_all_feature_views, registry.delete_feature_view),
        (registry.list_entities, registry.delete_entity),
        (registry.list_data_sources, registry.delete_data_source),
    ):
        for item in listing(project, allow_cache=False):
            if item.name not in names:
                delete(item.name, project)


def _inner_name(source: Any) -> str:
    return getattr(getattr(source, "batch_source", None), "name", "")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {CONFIG_FILE}",
            where=str(folder),
            mend="give the folder of a model, such as pipelines/flight_delay",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from None
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(
            f"is not YAML: {getattr(error, 'problem', error)}", where=f"{path}{line}"
        ) from None
    if not isinstance(raw, dict):
        raise ConfigError("holds no settings", where=str(path), mend="see Feast's documentation")
    for field in ("project", "registry"):
        if not raw.get(field):
            raise ConfigError(f"`{field}` is missing", where=str(path))
    return {
        key: _expand(value, path, text, key, strict=key != "online_store")
        for key, value in raw.items()
    }


def _expand(value: Any, path: Path, text: str, field: str, *, strict: bool) -> Any:
    if isinstance(value, dict):
        return {k: _expand(v, path, text, f"{field}.{k}", strict=strict) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, path, text, field, strict=strict) for v in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        if name in os.environ:
            return os.environ[name]
        if not strict:
            return match[0]
        line = text[: text.find(match[0])].count("\n") + 1
        raise ConfigError(
            f"`{field}` names the environment variable {name}, which is not set",
            where=f"{path}:{line}",
            mend=f"export {name}=…, or run through the `zeroskew` command, which sets defaults",
        )

    return _VARIABLE.sub(replace, value)


def _local_registry(raw: dict[str, Any], folder: Path) -> Path | None:
    """Path of the registry if it is a plain file that Feast's file registry would write."""
    registry = raw["registry"]
    if isinstance(registry, dict):
        if registry.get("registry_type", "file") != "file" or registry.get("registry_store_type"):
            return None
        registry = registry.get("path")
    if not isinstance(registry, str) or "://" in registry:
        return None
    return (folder / registry).absolute()


def _unknown(kind: str, name: str, known: dict[str, Any], folder: Path) -> ConfigError:
    listed = ", ".join(sorted(known)) or "none"
    return ConfigError(
        f"there is no {kind} {name!r}",
        where=str(folder / "features.py"),
        mend=f"it defines: {listed}",
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__
