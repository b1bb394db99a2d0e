"""Hashes of feature definitions: one for what the registry holds, one for what decides a value.

Both come from the imported module, not from the registry: Feast keeps request-time functions there
as pickles, and a pickle's bytes say nothing stable about the code.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from zeroskew.features.definitions import Definitions

_VOLATILE = frozenset({"meta", "created_timestamp", "last_updated_timestamp"})
_PRIMITIVE = (str, bytes, int, float, bool, complex, type(None))


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
