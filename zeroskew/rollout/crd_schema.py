"""CustomResourceDefinitions out of the classes that check their manifests.

Pydantic's JSON schema becomes Kubernetes' structural schema (no references, no unions); what the
operator writes, the status, comes from its dataclass. Neither is written by hand. Bounds hold on
every server; the CEL rules from Kubernetes 1.25 on.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

GROUP, VERSION = "zeroskew.dev", "v1alpha1"
_STATUS_TEXT, _STATUS_ITEMS = 32_768, 128


@dataclass(frozen=True, slots=True)
class Definition:
    """A kind of ours."""

    kind: str
    plural: str
    short: str
    description: str
    spec: type[BaseModel]
    status: type
    """A dataclass."""
    columns: Sequence[tuple[str, str, str, int]]
    """Name, type, JSON path and priority of what `kubectl get` shows."""
    longest_name: int
    made_by: str
    """The module that prints it."""

    def crd(self) -> dict[str, Any]:
        """The object; the same for the same classes."""
        schema: dict[str, Any] = {
            "description": self.description,
            "type": "object",
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": structural(self.spec.model_json_schema(by_alias=True)),
                "status": _status(self.status),
            },
            "x-kubernetes-validations": [
                {
                    "rule": f"size(self.metadata.name) <= {self.longest_name}",
                    "message": f"the name may have {self.longest_name} characters",
                }
            ],
        }
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"{self.plural}.{GROUP}",
                "labels": {"app.kubernetes.io/part-of": "zeroskew"},
            },
            "spec": {
                "group": GROUP,
                "scope": "Namespaced",
                "names": {
                    "kind": self.kind,
                    "listKind": f"{self.kind}List",
                    "plural": self.plural,
                    "singular": self.plural[:-1],
                    "shortNames": [self.short],
                    "categories": ["zeroskew"],
                },
                "versions": [
                    {
                        "name": VERSION,
                        "served": True,
                        "storage": True,
                        "subresources": {"status": {}},
                        "additionalPrinterColumns": [
                            {"name": name, "type": kind, "jsonPath": path, "priority": priority}
                            for name, kind, path, priority in self.columns
                        ],
                        "schema": {"openAPIV3Schema": schema},
                    }
                ],
            },
        }

    def as_yaml(self) -> str:
        """The text of its file in manifests/crds."""
        head = f"# Made by `python -m {self.made_by}`: change the classes, not this file.\n"
        return head + yaml.dump(
            self.crd(), Dumper=_Plain, sort_keys=False, width=100, allow_unicode=True
        )


def _status(status: type) -> dict[str, Any]:
    made = structural(TypeAdapter(status).json_schema(by_alias=True), described=False)
    _loosen(made)
    conditions = made["properties"]["conditions"]
    conditions |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    return made


def _loosen(node: Any) -> None:
    """The operator writes the status: no defaults there, and bounds that only stop nonsense."""
    if isinstance(node, list):
        for item in node:
            _loosen(item)
    elif isinstance(node, dict):
        node.pop("default", None)
        match node.get("type"):
            case "string" if "enum" not in node and "format" not in node:
                node.setdefault("maxLength", _STATUS_TEXT)
            case "integer":
                node.setdefault("minimum", 0)
                node.setdefault("maximum", 2**53)
            case "number":
                # Whole: what YAML's writers make of 1e300, Kubernetes' own reader takes for a text.
                node.setdefault("minimum", -(10**18))
                node.setdefault("maximum", 10**18)
            case "array":
                node.setdefault("maxItems", _STATUS_ITEMS)
        for child in node.values():
            _loosen(child)


def structural(schema: dict[str, Any], *, described: bool = True) -> dict[str, Any]:
    """Pydantic's JSON schema as Kubernetes' structural schema: no references, no unions."""
    definitions = schema.pop("$defs", {})

    def walk(node: dict[str, Any]) -> dict[str, Any]:
        node = copy.deepcopy(node)
        if "anyOf" in node:
            (only,) = (each for each in node.pop("anyOf") if each.get("type") != "null")
            node = only | node
        if "$ref" in node:
            name = node.pop("$ref").rpartition("/")[2]
            # What is said where a section is used stands above what it says of itself.
            node = definitions[name] | node
        if "default" in node:
            if node["default"] is None:
                del node["default"]
            else:
                node["default"] = _without_none(node["default"])
        if "const" in node:
            node["enum"] = [node.pop("const")]
        for side in ("Minimum", "Maximum"):
            if (bound := node.pop(f"exclusive{side}", None)) is not None:
                node[side.lower()], node[f"exclusive{side}"] = bound, True
        # A CRD cannot bound the names of a map's fields; the classes do.
        node.pop("propertyNames", None)
        if text := node.get("description"):
            node["description"] = re.sub(r"\s+", " ", text)
        if "enum" in node:
            node.setdefault("type", "string")
        if "properties" in node:
            node["properties"] = {name: walk(child) for name, child in node["properties"].items()}
        if isinstance(node.get("items"), dict):
            node["items"] = walk(node["items"])
        if isinstance(node.get("additionalProperties"), dict):
            node["additionalProperties"] = walk(node["additionalProperties"])
        elif "additionalProperties" in node:
            # Fields that no schema names are dropped by the server, and refused by the classes.
            del node["additionalProperties"]
        dropped = {"title"} if described else {"title", "description"}
        return {key: value for key, value in node.items() if key not in dropped}

    return walk(schema)


def _without_none(value: Any) -> Any:
    """Unset fields of a default: Kubernetes has no null where a type is named."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
