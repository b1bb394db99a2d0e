"""The CustomResourceDefinition of ModelRollout, made from the classes that check its manifests.

    python -m zeroskew.rollout.crd > manifests/crds/zeroskew.dev_modelrollouts.yaml

The spec's schema is that of `RolloutSpec`, the status' that of `RolloutStatus`: neither is written
by hand. Bounds hold on every server; the CEL rules from Kubernetes 1.25 on.
"""

from __future__ import annotations

import copy
import re
import sys
from typing import Any

import yaml
from pydantic import TypeAdapter

from zeroskew.rollout.names import LONGEST
from zeroskew.rollout.rollout_spec import RolloutSpec
from zeroskew.rollout.rollout_state import RolloutStatus

GROUP, VERSION, KIND, PLURAL = "zeroskew.dev", "v1alpha1", "ModelRollout", "modelrollouts"

_COLUMNS = (
    ("Phase", "string", ".status.phase", 0),
    ("Wanted", "string", ".spec.modelRef.version", 0),
    ("Stable", "string", ".status.stable", 0),
    ("Weight", "integer", ".status.run.weight", 0),
    ("Mirror", "integer", ".status.run.mirror", 0),
    ("Pairs", "integer", ".status.run.tally.pairs", 1),
    ("Suspended", "boolean", ".spec.suspend", 1),
    ("Message", "string", ".status.message", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)
_STATUS_TEXT, _STATUS_ITEMS = 32_768, 128


def modelrollout_crd() -> dict[str, Any]:
    """The object; the same for the same classes."""
    schema: dict[str, Any] = {
        "description": "Brings a model version to its users: shadow, canary, promotion, or back.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _structural(RolloutSpec.model_json_schema(by_alias=True)),
            "status": _status(),
        },
        "x-kubernetes-validations": [
            {
                # "-" and nine digits of a version follow it in an InferenceService's name.
                "rule": f"size(self.metadata.name) <= {LONGEST - 10}",
                "message": f"the name may have {LONGEST - 10} characters",
            }
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{PLURAL}.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "zeroskew"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": PLURAL[:-1],
                "shortNames": ["mro"],
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
                        for name, kind, path, priority in _COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _status() -> dict[str, Any]:
    made = _structural(TypeAdapter(RolloutStatus).json_schema(by_alias=True), described=False)
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
            case "array":
                node.setdefault("maxItems", _STATUS_ITEMS)
        for child in node.values():
            _loosen(child)


def _structural(schema: dict[str, Any], *, described: bool = True) -> dict[str, Any]:
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
        # A CRD cannot bound the names of a map's fields; `parse_spec` does.
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
            # Fields that no schema names are dropped by the server, and refused by `parse_spec`.
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


def as_yaml() -> str:
    """The text of manifests/crds/zeroskew.dev_modelrollouts.yaml."""
    head = "# Made by `python -m zeroskew.rollout.crd`: change the classes, not this file.\n"
    return head + yaml.dump(
        modelrollout_crd(), Dumper=_Plain, sort_keys=False, width=100, allow_unicode=True
    )


if __name__ == "__main__":
    sys.stdout.write(as_yaml())
