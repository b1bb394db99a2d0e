"""What a CRD's schema has and what the classes behind it have, compared.

What both refuse is compared on a real API server, in tests/cluster, which runs the CEL rules too.
"""

import copy

import jsonschema
from pydantic import BaseModel


def schema(crd, part):
    """`spec` or `status` of the only version."""
    (version,) = crd["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"][part]


def walk(node, path=""):
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from walk(node[key], f"{path}[]")


def validator(node):
    """OpenAPI's booleans as numbers, and closed, as `kubectl` checks it."""
    node = copy.deepcopy(node)
    for _, each in walk(node):
        for side in ("Minimum", "Maximum"):
            if each.pop(f"exclusive{side}", False):
                each[f"exclusive{side}"] = each.pop(side.lower())
        if "properties" in each and "x-kubernetes-preserve-unknown-fields" not in each:
            each["additionalProperties"] = False
    return jsonschema.Draft202012Validator(node)


def assert_typed_and_bounded(node, *, defaults):
    for path, each in walk(node):
        kind = each.get("type")
        assert kind, path
        if kind == "string":
            assert {"enum", "maxLength", "format"} & set(each), path
        elif kind in ("integer", "number"):
            assert {"minimum", "maximum"} <= set(each), path
        elif kind == "array":
            assert "maxItems" in each, path
        elif kind == "object" and not each.get("x-kubernetes-preserve-unknown-fields"):
            assert each.get("properties") or "maxProperties" in each, path
        assert not {"$ref", "anyOf", "oneOf", "allOf", "const", "title"} & set(each), path
        if not defaults:
            assert "default" not in each, path


def assert_same_fields(model, node, path="spec"):
    """The schema has the class' fields and no other, down to the last section."""
    names = {name for name, _, _ in fields(model)}
    assert set(node["properties"]) == names, path
    required = {name for name, field, _ in fields(model) if field.is_required()}
    assert set(node.get("required", ())) == required, path
    for name, _, below in fields(model):
        child = node["properties"][name]
        if below is not None:
            assert_same_fields(below, child.get("items", child), f"{path}.{name}")


def fields(model):
    """Aliases of a class' fields, with the class below each, if any."""
    for name, field in model.model_fields.items():
        found = [
            each for each in _types(field.annotation)
            if isinstance(each, type) and issubclass(each, BaseModel)
        ]  # fmt: skip
        yield field.alias or name, field, found[0] if found else None


def _types(annotation):
    yield annotation
    for each in getattr(annotation, "__args__", ()):
        yield from _types(each)


def filled(node, value):
    """With the schema's defaults, as a server fills them in; `value` itself is changed."""
    if isinstance(value, dict):
        for name, child in node.get("properties", {}).items():
            if name not in value and "default" in child:
                value[name] = copy.deepcopy(child["default"])
            if name in value:
                filled(child, value[name])
    if isinstance(value, list) and "items" in node:
        for item in value:
            filled(node["items"], item)
    return value


def paths(value, here=()):
    yield here
    if isinstance(value, dict):
        for name in sorted(value):
            yield from paths(value[name], (*here, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, (*here, index))
