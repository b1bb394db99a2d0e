"""A model's features.py: imported under a private name, its Feast objects gathered by kind."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from zeroskew.errors import ConfigError, ZeroskewError


@dataclass(frozen=True)
class Definitions:
    """What features.py defines, by name. `feature_views` holds stream and batch views as well."""

    feature_views: dict[str, Any] = field(default_factory=dict)
    on_demand: dict[str, Any] = field(default_factory=dict)
    services: dict[str, Any] = field(default_factory=dict)
    entities: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Any] = field(default_factory=dict)
    others: tuple[Any, ...] = ()
    folder: Path = Path()

    def objects(self) -> list[Any]:
        """Every Feast object, as `FeatureStore.apply` takes them."""
        groups = (self.sources, self.entities, self.feature_views, self.on_demand, self.services)
        return [item for group in groups for item in group.values()] + list(self.others)


def load_definitions(folder: Path) -> Definitions:
    """Import `<folder>/features.py` and gather its Feast objects.

    Modules beside it can be imported as `from . import transforms` or `import transforms`; neither
    is left in `sys.modules` under a plain name, so two models may both have a `transforms.py`.
    Raises `ConfigError` with file and line for whatever is wrong with the file.
    """
    script = folder / "features.py"
    if not script.is_file():
        raise ConfigError(
            "there is no features.py",
            where=str(folder),
            mend="give the folder of a model, such as pipelines/flight_delay",
        )
    module = _import_privately(script)
    return _gather(module, folder)


def _import_privately(script: Path) -> ModuleType:
    folder = script.parent
    package = "_zeroskew_model_" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    before = dict(sys.modules)
    for name in [n for n in sys.modules if n == package or n.startswith(package + ".")]:
        del sys.modules[name]
    _give_functions_their_modules_back()
    parent = ModuleType(package)
    parent.__path__ = [str(folder)]
    sys.modules[package] = parent
    name = f"{package}.features"
    spec = importlib.util.spec_from_file_location(name, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    except ZeroskewError:
        raise
    except SyntaxError as error:
        raise ConfigError(
            f"syntax error: {error.msg}",
            where=f"{error.filename or script}:{error.lineno}",
            mend="correct the line; `python -m py_compile` on the file says the same",
        ) from None
    except Exception as error:
        raise _import_error(error, script) from error
    finally:
        sys.path.remove(str(folder))
        _forget_neighbours(folder, before)
    return module


def _give_functions_their_modules_back() -> None:
    """Undo what Feast's decorator did to functions of modules that stay imported.

    It sets their `__module__` to `__main__`, and when the same function is decorated once more,
    looks for its source there, in the wrong file.
    """
    foreign = (sys.prefix, sys.base_prefix)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or name == "__main__" or file.startswith(foreign):
            continue
        for value in list(vars(module).values()):
            if (
                isinstance(value, FunctionType)
                and value.__module__ == "__main__"
                and value.__code__.co_filename == file
            ):
                value.__module__ = name


def _forget_neighbours(folder: Path, before: dict[str, ModuleType]) -> None:
    """Drop top-level modules that came out of the model's folder: their names are everybody's."""
    home = str(folder.resolve())
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or name in before or not file:
            continue
        path = Path(file).resolve()
        if str(path.parent) == home or str(path.parent.parent) == home:
            del sys.modules[name]


def line_in(folder: Path, error: BaseException) -> str | None:
    """`file:line` of the innermost frame of an error that lies in the model's folder."""
    where = None
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).parent == folder:
            where = f"{frame.filename}:{frame.lineno}"
    return where


def _import_error(error: Exception, script: Path) -> ConfigError:
    where = line_in(script.parent, error) or str(script)
    missing = error.args[0] if isinstance(error, KeyError) and error.args else None
    if isinstance(missing, str) and missing.isupper():
        return ConfigError(
            f"the environment variable {missing} is not set",
            where=where,
            mend=f"export {missing}=…, or run through the `zeroskew` command, which sets defaults",
        )
    return ConfigError(f"{type(error).__name__}: {error}", where=where)


def _gather(module: ModuleType, folder: Path) -> Definitions:
    from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView, Project
    from feast.data_source import DataSource
    from feast.permissions.permission import Permission

    groups: dict[str, dict[str, Any]] = {
        "feature_views": {},
        "on_demand": {},
        "services": {},
        "entities": {},
        "sources": {},
    }
    kinds = (
        (OnDemandFeatureView, "on_demand"),
        (FeatureView, "feature_views"),
        (FeatureService, "services"),
        (Entity, "entities"),
        (DataSource, "sources"),
    )
    others: list[Any] = []
    for value in _values(module):
        for kind, group in kinds:
            if isinstance(value, kind):
                known = groups[group].setdefault(value.name, value)
                if known is not value and not known == value:
                    raise ConfigError(
                        f"two different definitions are called {value.name!r}",
                        where=str(folder / "features.py"),
                        mend="rename one of them",
                    )
                break
        else:
            if isinstance(value, Project | Permission):
                others.append(value)
    for view in list(groups["feature_views"].values()):
        for source in (view.batch_source, getattr(view, "stream_source", None)):
            if source is not None:
                groups["sources"].setdefault(source.name, source)
    return Definitions(**groups, others=tuple(others), folder=folder)


def _values(module: ModuleType) -> Iterator[Any]:
    """Module-level values, and those in module-level lists, tuples and dicts."""
    for name, value in list(vars(module).items()):
        if name.startswith("__"):
            continue
        if isinstance(value, list | tuple):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()
        else:
            yield value
