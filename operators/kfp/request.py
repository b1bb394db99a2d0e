"""What a run is made of, in the form that Kubeflow Pipelines can keep.

Its database takes 255 characters for a name or a description, and none beyond the basic plane of
Unicode (backend/src/apiserver/model/run.go; the connection's charset is utf8 with at most three
bytes). What it cannot keep it has started all the same: the Workflow runs, without a row. So a text
is made to fit before it is sent, and a name that does not fit is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from operators.kfp.client import KfpRefused
from zeroskew.monitoring.trigger_spec import PipelineRef

__all__ = ["LONGEST_TEXT", "RunRequest", "check_name", "fitting", "typed_parameters"]

LONGEST_TEXT = 255
"""Characters, not bytes, of a display name or a description."""
_PLANE = 0xFFFF


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run as whoever asks for it says it."""

    pipeline: PipelineRef | None
    """None: a spec that no longer names one; the run is refused."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Texts by name; they become values of the types that the pipeline declares."""
    description: str = ""
    """For people; cut to what the server can keep."""


def fitting(text: str, limit: int = LONGEST_TEXT) -> str:
    """The text with at most `limit` characters, each of the basic plane and printable."""
    plain = "".join(
        letter if ord(letter) <= _PLANE and not 0xD800 <= ord(letter) <= 0xDFFF else "\ufffd"
        for letter in " ".join(text.replace("\0", " ").split())
    )
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def check_name(name: str) -> str:
    """The name, if the server can keep it as it is. Raises `KfpRefused`."""
    if name != fitting(name) or not name:
        raise KfpRefused(
            f"{name[:80]!r} cannot be the name of a run: it may have {LONGEST_TEXT} characters of "
            "the basic plane of Unicode"
        )
    return name


def typed_parameters(given: Mapping[str, str], pipeline_spec: Mapping[str, Any]) -> dict[str, Any]:
    """In the types that the pipeline declares (`root.inputDefinitions` of its spec).

    Raises `KfpRefused` for one that the pipeline does not have, a text that is not a value of its
    type, or one that the server cannot keep.
    """
    # With platform settings, the pipeline is one of two documents.
    spec = pipeline_spec.get("pipeline_spec") or pipeline_spec
    root = (spec.get("root") or {}).get("inputDefinitions") or {}
    declared = root.get("parameters") or {}
    made: dict[str, Any] = {}
    for name, text in given.items():
        if name not in declared and spec:
            names = ", ".join(sorted(declared)) or "none"
            raise KfpRefused(f"the pipeline has no parameter {name!r}; it has {names}")
        if any(ord(letter) > _PLANE for letter in text):
            raise KfpRefused(
                f"parameter {name!r}: {text[:80]!r} has a character beyond the basic plane of "
                "Unicode, which Kubeflow Pipelines cannot keep"
            )
        kind = (declared.get(name) or {}).get("parameterType", "STRING")
        try:
            made[name] = _typed(text, kind)
        except ValueError:
            raise KfpRefused(f"parameter {name!r}: {text!r} is no {kind}") from None
    return made


def _typed(text: str, kind: str) -> Any:
    if kind == "STRING":
        return text
    value = json.loads(text)
    wanted = {"NUMBER_INTEGER": int, "NUMBER_DOUBLE": (int, float), "BOOLEAN": bool,
              "LIST": list, "STRUCT": dict}.get(kind, object)  # fmt: skip
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind.startswith("NUMBER")):  # type: ignore[arg-type]
        raise ValueError
    return value
