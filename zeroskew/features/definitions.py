"""A model's features.py: imported under a private name, gathered by kind, and hashed.

The hashes come from the imported module, not from the registry: Feast keeps request-time functions
there as pickles, and a pickle's bytes say nothing stable about the code.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import sys
import textwrap
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from zeroskew.errors import ConfigError, ZeroskewError

_VOLATILE = frozenset({"meta", "created_timestamp", "last_updated_timestamp"})
_PRIMITIVE = (str, bytes, int, float, bool, complex, type(None))


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


def definitions_hash(definitions: Definitions) -> str:
    """SHA-256 over everything `apply` would write: equal iff the registry needs no change."""
    import feast

    parts = [f"feast {feast.__version__}"]
    for item in definitions.objects():
        parts.append(f"{type(item).__name__} {item.name} {_proto_text(item)}")
        function = transformation_of(item)
        if function is not None:
            parts.append(function_source(function, definitions.folder))
    return _digest(sorted(parts))


def _proto_text(item: Any) -> str:
    proto = item.to_proto()
    spec = getattr(proto, "spec", proto)
    copy = type(spec)()
    copy.CopyFrom(spec)
    _clear_volatile(copy)
    return copy.SerializeToString(deterministic=True).hex()


def _clear_volatile(message: Any) -> None:
    """Times and pickles, at any depth: they differ between two imports of the same file."""
    for descriptor, value in message.ListFields():
        pickled = descriptor.name == "body" and descriptor.type == descriptor.TYPE_BYTES
        if pickled or descriptor.name in _VOLATILE:
            message.ClearField(descriptor.name)
        elif descriptor.type == descriptor.TYPE_MESSAGE:
            if descriptor.message_type.GetOptions().map_entry:
                parts = [part for part in value.values() if hasattr(part, "ListFields")]
            else:
                parts = [value] if hasattr(value, "ListFields") else list(value)
            for part in parts:
                _clear_volatile(part)


def schema_version(
    service: Any, views: dict[str, Any], on_demand: dict[str, Any], home: Path
) -> str:
    """SHA-256 over what decides a service's values: views, keys, types, TTLs, request-time code.

    Where a source lies is left out: the same features read from a laptop's disk and from a bucket
    are the same features.
    """
    described = []
    for projection in service.feature_view_projections:
        chosen = [(f.name, str(f.dtype)) for f in projection.features]
        part: dict[str, Any] = {
            "view": projection.name,
            "alias": projection.name_to_use(),
            "features": chosen,
            "keys": sorted(projection.join_key_map.items()),
        }
        if projection.name in on_demand:
            part["computed"] = _describe_on_demand(on_demand[projection.name], views, home)
        else:
            part["stored"] = _describe_view(views[projection.name])
        described.append(part)
    return _digest([json.dumps(described, sort_keys=True, default=str)])


def _describe_view(view: Any) -> dict[str, Any]:
    source = view.batch_source
    return {
        "ttl": view.ttl.total_seconds() if view.ttl else 0,
        "keys": sorted((c.name, str(c.dtype)) for c in view.entity_columns),
        "event": source.timestamp_field if source else "",
        "created": source.created_timestamp_column if source else "",
        "mapping": sorted(source.field_mapping.items()) if source else [],
    }


def _describe_on_demand(view: Any, views: dict[str, Any], home: Path) -> dict[str, Any]:
    function = transformation_of(view)
    return {
        "mode": str(view.mode),
        "request": sorted(
            (f.name, str(f.dtype)) for s in view.source_request_sources.values() for f in s.schema
        ),
        "inputs": sorted(
            (p.name_to_use(), f.name, str(f.dtype), _describe_view(views[p.name]))
            for p in view.source_feature_view_projections.values()
            for f in p.features
            if p.name in views
        ),
        "code": function_source(function, home) if function is not None else str(view.udf_string),
    }


def transformation_of(view: Any) -> FunctionType | None:
    """The request-time function of an on-demand view, or None for anything else."""
    function = getattr(getattr(view, "feature_transformation", None), "udf", None)
    return function if isinstance(function, FunctionType) else None


def function_source(function: FunctionType, folder: Path) -> str:
    """Source of a function and of everything it calls in the model's folder, comments left out."""
    home = folder.resolve()
    seen: set[int] = set()
    parts: list[str] = []

    def visit(item: Any, called: str) -> None:
        if isinstance(item, _PRIMITIVE) or (
            isinstance(item, tuple | frozenset | list | dict) and _plain(item)
        ):
            parts.append(f"{called} = {item!r}")
            return
        item = inspect.unwrap(item) if callable(item) else item
        if id(item) in seen or not isinstance(item, FunctionType | type) or not _below(item, home):
            return
        seen.add(id(item))
        parts.append(_normal_source(item))
        for inner in [item] if isinstance(item, FunctionType) else vars(item).values():
            if isinstance(inner, FunctionType):
                _follow(inner)

    def _follow(function: FunctionType) -> None:
        names = set(_names(function.__code__))
        for cell_name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            visit(cell.cell_contents, cell_name)
        for name in sorted(names):
            value = function.__globals__.get(name)
            if isinstance(value, ModuleType):
                file = getattr(value, "__file__", None)
                if file and Path(file).resolve().is_relative_to(home):
                    for attribute in sorted(names & set(vars(value))):
                        visit(getattr(value, attribute), f"{name}.{attribute}")
            elif name in function.__globals__:
                visit(value, name)

    seen.add(id(function))
    parts.append(_normal_source(function))
    _follow(function)
    return "\n".join(dict.fromkeys(parts))


def _below(item: Any, home: Path) -> bool:
    try:
        return Path(inspect.getfile(item)).resolve().is_relative_to(home)
    except (TypeError, OSError):
        return False


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_plain(k) and _plain(v) for k, v in value.items())
    if isinstance(value, tuple | list):
        return all(_plain(v) for v in value)
    return isinstance(value, _PRIMITIVE)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _normal_source(item: Any) -> str:
    """Source without comments, layout, docstring and decorators."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(item)))
    except (OSError, TypeError, SyntaxError):
        code = item.__code__ if isinstance(item, FunctionType) else None
        return code.co_code.hex() + repr(code.co_consts) if code else repr(item)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.decorator_list = []
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
