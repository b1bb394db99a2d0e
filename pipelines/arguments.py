"""Arguments of a pipeline that were written as texts, in the types that the pipeline declares.

Schedules in model.yaml and `--parameter name=value` on the command line are such texts; numbers,
lists and the like are JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kfp.dsl.graph_component import GraphComponent
from kfp.pipeline_spec.pipeline_spec_pb2 import ParameterType

from zeroskew.errors import ConfigError

__all__ = ["typed_arguments"]

_TYPES: Mapping[str, tuple[type, ...]] = {
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


def typed_arguments(
    pipeline: GraphComponent, given: Mapping[str, str], *, where: str
) -> dict[str, Any]:
    """The arguments of a run. Raises `ConfigError`, with `where` in it, for one that the pipeline
    does not have, a text that is not of its type, and one that it needs and that is not given."""
    declared = pipeline.pipeline_spec.root.input_definitions.parameters
    if unknown := sorted(set(given) - set(declared)):
        raise ConfigError(
            f"the pipeline has no parameter {unknown[0]!r}",
            where=where,
            mend=f"it has {', '.join(sorted(declared))}",
        )
    missing = [name for name, each in declared.items() if not each.is_optional]
    if missing := sorted(set(missing) - set(given)):
        raise ConfigError(
            f"the pipeline cannot run without {', '.join(missing)}",
            where=where,
            mend="give each a value",
        )
    kinds = {
        name: ParameterType.ParameterTypeEnum.Name(each.parameter_type)
        for name, each in declared.items()
    }
    return {name: _typed(text, kinds[name], f"{where}: {name}") for name, text in given.items()}


def _typed(text: str, kind: str, where: str) -> Any:
    wanted = _TYPES.get(kind)
    if wanted is None:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        name = kind.removeprefix("NUMBER_").lower()
        raise ConfigError(f"{text!r} is not a value of type {name}", where=where)
    return value
