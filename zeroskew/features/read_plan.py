"""How to read one feature service from Redis: everything that does not depend on the entity.

A plan is compiled once per (service, definitions) by `read_plan_compiler`, travels as JSON beside
the model, and is all that serving knows of the feature definitions. Views that share an entity
share a Redis hash, so they form one group: one HMGET per entity, whatever the number of views.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from zeroskew.features.redis_layout import KEY_KINDS, KINDS, key_head

FORMAT = 1


@dataclass(frozen=True, slots=True)
class PlanKey:
    """One join key of a group."""

    join_key: str
    """Name inside the Redis key."""
    column: str
    """Name the caller uses: the join key, or its alias in the service."""
    kind: str
    """`int64`, `string`, …: see `redis_layout.KEY_KINDS`."""
    constant: str | None = None
    """Value of the stand-in key of views without an entity; the caller gives no column then."""


@dataclass(frozen=True, slots=True)
class PlanView:
    """A feature view, or one alias of it."""

    name: str
    """As the service calls it (its alias if it has one)."""
    event_time_field: bytes
    ttl_micros: int
    """Age above which a value is stale; 0: never."""


@dataclass(frozen=True, slots=True)
class PlanFeature:
    """One feature in a group's hash."""

    name: str
    """Name in the answer."""
    field: bytes
    kind: str
    """A key of `redis_layout.KINDS`."""
    view: int
    """Position of its view in the group."""
    requested: bool = True
    """False: only read because a request-time transform takes it."""


@dataclass(frozen=True, slots=True)
class PlanGroup:
    """What shares one Redis hash."""

    keys: tuple[PlanKey, ...]
    """Sorted by join key, as they stand in the Redis key."""
    views: tuple[PlanView, ...]
    features: tuple[PlanFeature, ...]
    """Features of one kind stand together: they are decoded together."""

    @property
    def fields(self) -> tuple[bytes, ...]:
        """Hash fields in the order they are asked for: features, then event times."""
        return tuple(f.field for f in self.features) + tuple(v.event_time_field for v in self.views)


@dataclass(frozen=True, slots=True)
class PlanTransform:
    """A request-time transform (Feast's on-demand feature view) of the service."""

    name: str
    function: str
    """`file.py:qualified.name` of the function, the file in the model's folder."""
    mode: str
    """`python` (dict of lists in and out) or `pandas`."""
    inputs: tuple[str, ...]
    """Stored features it takes."""
    request: Mapping[str, str]
    """Columns that the request brings, with their kind."""
    outputs: Mapping[str, str]
    """What it makes, with the kind; requested names only."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Everything needed to read a feature service."""

    project: str
    service: str
    schema_version: str
    """Hash of the definitions that the plan was compiled from."""
    groups: tuple[PlanGroup, ...]
    names: tuple[str, ...]
    """Every answer in the service's order, outputs of transforms included."""
    transforms: tuple[PlanTransform, ...] = ()

    def __post_init__(self) -> None:
        for group in self.groups:
            if [k.join_key for k in group.keys] != sorted(k.join_key for k in group.keys):
                raise ValueError("the join keys of a group must be sorted")
            for key in group.keys:
                if key.kind not in KEY_KINDS:
                    raise ValueError(f"join key {key.join_key}: no entity can be a {key.kind}")
            for feature in group.features:
                if feature.kind not in KINDS:
                    raise ValueError(f"feature {feature.name}: unknown kind {feature.kind}")

    @property
    def entity_columns(self) -> dict[str, str]:
        """Columns that the caller gives, with their kind."""
        return {
            key.column: key.kind
            for group in self.groups
            for key in group.keys
            if key.constant is None
        }

    @property
    def request_columns(self) -> dict[str, str]:
        """Columns that the request itself brings for transforms, with their kind."""
        return {name: kind for t in self.transforms for name, kind in t.request.items()}

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of every answer, in order."""
        found = {f.name: f.kind for group in self.groups for f in group.features}
        for transform in self.transforms:
            found.update(transform.outputs)
        return {name: found[name] for name in self.names}

    @property
    def stored_names(self) -> tuple[str, ...]:
        """Features read from the store, in the order of `ServedRows.status`."""
        return tuple(f.name for group in self.groups for f in group.features)

    @property
    def view_names(self) -> tuple[str, ...]:
        """Views read from the store, in the order of `ServedRows.event_times`."""
        return tuple(view.name for group in self.groups for view in group.views)

    def key_head(self, group: PlanGroup) -> bytes:
        """Bytes before the first entity value in the keys of `group`."""
        return key_head([key.join_key for key in group.keys])

    def to_json(self) -> dict[str, Any]:
        """As JSON; bytes are base64."""
        raw = asdict(self)
        raw["format"] = FORMAT
        for group in raw["groups"]:
            for view in group["views"]:
                view["event_time_field"] = _text(view["event_time_field"])
            for feature in group["features"]:
                feature["field"] = _text(feature["field"])
        return json.loads(json.dumps(raw))

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ReadPlan:
        """Raises `ValueError` or `KeyError` on what is no plan of this format."""
        if raw.get("format") != FORMAT:
            raise ValueError(f"a read plan of format {raw.get('format')!r}; this reads {FORMAT}")
        return cls(
            project=raw["project"],
            service=raw["service"],
            schema_version=raw["schema_version"],
            groups=tuple(_group(group) for group in raw["groups"]),
            names=tuple(raw["names"]),
            transforms=tuple(
                PlanTransform(**{**t, "inputs": tuple(t["inputs"])}) for t in raw["transforms"]
            ),
        )


def _group(raw: Mapping[str, Any]) -> PlanGroup:
    return PlanGroup(
        keys=tuple(PlanKey(**key) for key in raw["keys"]),
        views=tuple(
            PlanView(**{**view, "event_time_field": _bytes(view["event_time_field"])})
            for view in raw["views"]
        ),
        features=tuple(
            PlanFeature(**{**feature, "field": _bytes(feature["field"])})
            for feature in raw["features"]
        ),
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
