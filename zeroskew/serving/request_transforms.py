"""Request-time transforms, run by the very functions that the point-in-time join runs.

A version carries its transforms.py; the read plan says which function of it computes what. The
functions get and give dicts of lists, `None` for a missing value, exactly as in the join.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from zeroskew.errors import ConfigError, ServingError
from zeroskew.features.read_plan import PlanTransform, ReadPlan

Columns = Mapping[str, Sequence[Any]]


class TransformFailed(ServingError):
    """A transform raised on these rows, or gave something else than one value per row."""


class RequestTransforms:
    """The transforms of one plan, in its order."""

    def __init__(self, plan: ReadPlan, folder: Path) -> None:
        """`folder` holds the files that the plan's functions are in.

        Raises `ConfigError` if a function is not there or not one that a server can run.
        """
        modules: dict[str, Any] = {}
        self._steps: list[tuple[PlanTransform, Callable[[dict[str, Any]], Any]]] = []
        for transform in plan.transforms:
            if transform.mode != "python":
                raise ConfigError(
                    f"mode {transform.mode!r} cannot be served: there is no pandas in the server",
                    where=f"on-demand feature view {transform.name}",
                    mend='declare it with mode="python" (a dict of lists in, a dict of lists out)',
                )
            file, _, path = transform.function.partition(":")
            if file not in modules:
                modules[file] = _load(folder / file)
            self._steps.append((transform, _find(modules[file], path, transform, file)))
        self.names = tuple(name for t in plan.transforms for name in t.outputs)
        """What is computed, in the order of `run`'s answer."""

    def run(self, columns: Columns, length: int) -> dict[str, list[Any]]:
        """Every output, as lists of `length` with `None` for missing (NaN and infinities, too).

        `columns` holds the stored features and the request's own columns. Raises `TransformFailed`.
        """
        made: dict[str, list[Any]] = {}
        for transform, function in self._steps:
            names = (*transform.inputs, *transform.request)
            # Copies: a function may change its lists, and the log shows them as they were.
            given = {name: list(columns[name]) for name in names}
            try:
                answer = function(given)
            except Exception as error:
                raise TransformFailed(
                    f"{type(error).__name__}: {error}",
                    where=f"request-time transform {transform.name}",
                ) from error
            for name in transform.outputs:
                made[name] = _checked(answer, name, length, transform.name)
        return made


def _checked(answer: Any, name: str, length: int, transform: str) -> list[Any]:
    values = answer.get(name) if isinstance(answer, Mapping) else None
    if values is None or len(values) != length:
        raise TransformFailed(
            f"does not give {length} values of {name!r}",
            where=f"request-time transform {transform}",
        )
    return [None if type(v) is float and not math.isfinite(v) else v for v in values]


def _load(path: Path) -> Any:
    name = f"zeroskew_transforms_{abs(hash(str(path)))}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(
            "the version lacks this file of request-time transforms",
            where=str(path),
            mend="register the version again; transforms must be functions of transforms.py",
        )
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(
            f"cannot be imported: {type(error).__name__}: {error}",
            where=str(path),
            mend="import what the server does not have inside the functions that need it, or "
            "install it in the Triton image",
        ) from error
    return module


def _find(module: Any, path: str, transform: PlanTransform, file: str) -> Any:
    found = module
    for part in path.split("."):
        found = getattr(found, part, None)
    # Where the function stands below a decorator, the name means Feast's view of it.
    found = getattr(getattr(found, "feature_transformation", None), "udf", found)
    if not callable(found):
        raise ConfigError(
            f"there is no function {path!r}",
            where=f"{file}, for on-demand feature view {transform.name}",
        )
    return found
