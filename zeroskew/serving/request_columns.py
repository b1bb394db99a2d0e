"""What a request sends: one tensor per entity key and per request column, and who is refused.

Every tensor has the shape `[rows, 1]`. Nothing here knows Triton: arrays in, columns or a refusal
out, so that one bad request never touches another of its batch.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from zeroskew.errors import ConfigError, ServingError
from zeroskew.features.read_plan import ReadPlan

EVENT_TIMESTAMP = "event_timestamp"
"""Optional input, int64: when each row is asked, microseconds since 1970 UTC; else: now."""

LONGEST = 4096
"""Bytes of one text or key; more is no key of anybody."""
AHEAD_SECONDS = 300
"""How far a client's clock may be ahead of ours."""

TRITON_TYPES: Mapping[str, str] = {
    "int64": "INT64",
    "int32": "INT32",
    "float64": "FP64",
    "float32": "FP32",
    "bool": "BOOL",
    "string": "BYTES",
    "uuid": "BYTES",
    "time_uuid": "BYTES",
    "json": "BYTES",
    "decimal": "BYTES",
    "bytes": "BYTES",
    "timestamp": "INT64",
}
"""Datatype of the Open Inference Protocol by kind; timestamps are seconds since 1970 UTC."""


class BadRequest(ServingError):
    """The request itself is wrong; the same again would be refused again."""


@dataclass(frozen=True, slots=True)
class RequestColumn:
    """One input tensor of the front model."""

    name: str
    kind: str
    entity: bool
    optional: bool = False

    @property
    def datatype(self) -> str:
        return TRITON_TYPES[self.kind]


def request_columns(plan: ReadPlan, optional: Collection[str] = ()) -> tuple[RequestColumn, ...]:
    """The inputs of a model that reads `plan`: entity keys, then request columns.

    `optional`: request columns that may be left out. Raises `ConfigError` on a column that cannot
    be sent or is not one.
    """
    entities, given = plan.entity_columns, plan.request_columns
    for name, kind in {**entities, **given}.items():
        if kind not in TRITON_TYPES:
            raise ConfigError(f"a {kind} cannot be sent in a request", where=f"column {name}")
        if name == EVENT_TIMESTAMP:
            raise ConfigError(
                f"the name {EVENT_TIMESTAMP!r} is taken by the moment of the request",
                where=f"request columns of {plan.service}",
                mend="rename the column",
            )
    if unknown := sorted(set(optional) - set(given)):
        raise ConfigError(
            f"{', '.join(unknown)} is no request column",
            where="serving.optional_columns in model.yaml",
            mend=f"request columns are: {', '.join(given) or 'none'}",
        )
    columns = [RequestColumn(name, kind, entity=True) for name, kind in entities.items()]
    columns += [
        RequestColumn(name, kind, entity=False, optional=name in optional)
        for name, kind in given.items()
        if name not in entities
    ]
    return tuple(columns)


def read_column(column: RequestColumn, array: NDArray[Any] | None, rows: int) -> list[Any]:
    """The values of one tensor `[rows, 1]`, `None` for missing. Raises `BadRequest`."""
    if array is None:
        if column.optional:
            return [None] * rows
        raise BadRequest(f"input `{column.name}` ({column.datatype}) is missing")
    if array.shape != (rows, 1):
        raise BadRequest(
            f"input `{column.name}` has the shape {list(array.shape)}, not [{rows}, 1] as the "
            "first input has"
        )
    values = array[:, 0].tolist()
    kind = column.kind
    if kind in ("float64", "float32"):
        return _finite(column, values)
    if column.datatype == "BYTES":
        return _texts(column, values)
    return values


def _finite(column: RequestColumn, values: list[float]) -> list[Any]:
    for row, value in enumerate(values):
        if value - value == 0.0:
            continue
        if value != value and column.optional:
            values[row] = None  # type: ignore[call-overload]
            continue
        raise BadRequest(
            f"input `{column.name}`: row {row} is {value}; only finite numbers are taken"
            + ("" if column.optional else " (serving.optional_columns allows NaN for missing)")
        )
    return values


def _texts(column: RequestColumn, values: list[Any]) -> list[Any]:
    raw = column.kind == "bytes"
    for row, value in enumerate(values):
        if len(value) > LONGEST:
            raise BadRequest(
                f"input `{column.name}`: row {row} has {len(value)} bytes; {LONGEST} are the most"
            )
        if raw or type(value) is str:
            continue
        try:
            values[row] = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadRequest(
                f"input `{column.name}`: row {row} is not UTF-8 (byte {error.start})"
            ) from None
    return values


def read_event_times(array: NDArray[Any] | None, rows: int) -> list[int] | None:
    """Moments of the rows, microseconds; None if the request names none. Raises `BadRequest`."""
    if array is None:
        return None
    if array.shape != (rows, 1):
        raise BadRequest(
            f"input `{EVENT_TIMESTAMP}` has the shape {list(array.shape)}, not [{rows}, 1]"
        )
    moments: list[int] = array[:, 0].tolist()
    latest = (time.time() + AHEAD_SECONDS) * 1e6
    for row, moment in enumerate(moments):
        if not 0 <= moment <= latest:
            raise BadRequest(
                f"input `{EVENT_TIMESTAMP}`: row {row} is {moment}; give microseconds since 1970 "
                "UTC that are not in the future"
            )
    return moments
