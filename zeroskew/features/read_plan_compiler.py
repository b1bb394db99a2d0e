"""From Feast's definitions to a read plan: the only module of the online side's reading half that
knows Feast, run when a model is exported or a reader opened, never inside a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroskew.errors import ConfigError
from zeroskew.features import redis_layout as layout
from zeroskew.features.read_plan import (
    PlanFeature,
    PlanGroup,
    PlanKey,
    PlanTransform,
    PlanView,
    ReadPlan,
)
from zeroskew.features.repository import TYPE_NAMES

if TYPE_CHECKING:
    from zeroskew.features.repository import Repository

KIND_OF_FEAST = TYPE_NAMES | {
    "JSON": "json",
    "UUID": "uuid",
    "TIME_UUID": "time_uuid",
    "DECIMAL": "decimal",
}
KIND_OF_FEAST |= {
    f"{feast}_LIST": f"{kind}_list"
    for feast, kind in KIND_OF_FEAST.items()
    if f"{kind}_list" in layout.KINDS
}
"""Kinds of `redis_layout` by the name of Feast's value type."""


def kind_of(dtype: Any, what: str) -> str:
    """Kind of a Feast field type. Raises `ConfigError` on one the online store does not carry."""
    name = dtype.to_value_type().name
    kind = KIND_OF_FEAST.get(name)
    if kind is None:
        raise ConfigError(
            f"{what} has the type {name}, which is not served online",
            mend="use a number, string, bytes, boolean, timestamp, JSON, or a list of one of them",
        )
    return kind


def compile_read_plan(
    repository: Repository, service: str | Sequence[str], *, full_feature_names: bool = False
) -> ReadPlan:
    """The plan that reads a feature service, or a list of `view:feature` references.

    `full_feature_names` answers as `view__feature`, as in Feast. Raises `ConfigError` on unknown
    names, on two features of one name, and on types or keys that Redis cannot hold.
    """
    if isinstance(service, str):
        version = repository.schema_version(service)
        wanted: Any = repository.service(service)
        name = service
    else:
        version, wanted, name = "", list(service), ", ".join(service)
    return compile_plan(
        repository.store,
        wanted,
        name=name,
        version=version,
        full_feature_names=full_feature_names,
        on_demand=repository.definitions.on_demand,
    )


def compile_plan(
    store: Any,
    features: Any,
    *,
    name: str,
    version: str = "",
    full_feature_names: bool = False,
    on_demand: Mapping[str, Any] | None = None,
) -> ReadPlan:
    """As `compile_read_plan`, from a `feast.FeatureStore` and a FeatureService or references.

    `on_demand`: the views as features.py defines them; the registry's functions, being pickles,
    do not know their file.
    """
    from feast import utils
    from feast.errors import FeastError
    from feast.infra.online_stores.helpers import compute_versioned_name

    config = store.config
    if getattr(config, "entity_key_serialization_version", 3) != 3:
        raise ConfigError(
            "entity_key_serialization_version must be 3",
            where="feature_store.yaml",
            mend="set it to 3 and materialise again",
        )
    registry = store.registry
    try:
        refs = utils._get_features(registry, store.project, features, allow_cache=False)
        views, computed = utils._get_feature_views_to_use(
            registry, store.project, features, allow_cache=False, hide_dummy_entity=False
        )
        utils._validate_feature_refs(refs, full_feature_names)
        grouped, grouped_on_demand = utils._group_feature_refs(refs, views, computed)
    except (FeastError, KeyError, ValueError) as error:
        raise ConfigError(f"{name} cannot be read: {error}", where=store.project) from None
    requested = {_split(ref) for ref in refs}
    versioned = bool(getattr(config.registry, "enable_online_feature_view_versioning", False))
    entity_kinds = _entity_kinds(views)

    groups: dict[tuple[PlanKey, ...], tuple[list[PlanView], list[PlanFeature]]] = {}
    for view, chosen in grouped:
        if not hasattr(view, "entity_columns") or hasattr(view, "source_request_sources"):
            raise ConfigError(
                f"on-demand view {view.name} is written to the online store; only computed ones "
                "are served",
                mend="drop write_to_online_store, or read it with Feast's own SDK",
            )
        called = view.projection.name_to_use()
        stored = compute_versioned_name(view, versioned)
        keys = _keys(view, entity_kinds)
        plan_views, plan_features = groups.setdefault(keys, ([], []))
        ttl = view.ttl
        plan_views.append(
            PlanView(
                called,
                layout.event_time_field(stored),
                round(ttl.total_seconds() * 1_000_000) if ttl else 0,
            )
        )
        order = [field.name for field in view.features]
        fields = {field.name: field for field in [*view.projection.features, *view.features]}
        for feature in sorted(chosen, key=order.index):
            plan_features.append(
                PlanFeature(
                    name=f"{called}__{feature}" if full_feature_names else feature,
                    field=layout.feature_field(stored, feature),
                    kind=kind_of(fields[feature].dtype, f"feature {called}:{feature}"),
                    view=len(plan_views) - 1,
                    requested=(called, feature) in requested,
                )
            )
    names = [f"{v}__{f}" if full_feature_names else f for v, f in map(_split, refs)]
    transforms = tuple(
        _transform(view, (on_demand or {}).get(view.name, view), chosen, full_feature_names)
        for view, chosen in grouped_on_demand
    )
    plan = ReadPlan(
        project=store.project,
        service=name,
        schema_version=version,
        groups=tuple(
            PlanGroup(keys, tuple(v), tuple(sorted(f, key=lambda feature: feature.kind)))
            for keys, (v, f) in groups.items()
        ),
        names=tuple(dict.fromkeys(names)),
        transforms=transforms,
    )
    _refuse_twins(plan)
    return plan


def _split(ref: str) -> tuple[str, str]:
    view, _, feature = ref.partition(":")
    return view, feature


def _entity_kinds(views: Sequence[Any]) -> dict[str, str]:
    """Feast answers with one type per column: the last view that has it decides."""
    kinds = {}
    for view in views:
        for column in view.entity_columns:
            called = view.projection.join_key_map.get(column.name, column.name)
            kinds[called] = kind_of(column.dtype, f"join key {column.name} of {view.name}")
    return kinds


def _keys(view: Any, kinds: dict[str, str]) -> tuple[PlanKey, ...]:
    from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL

    keys = []
    for column in sorted(view.entity_columns, key=lambda c: c.name):
        called = view.projection.join_key_map.get(column.name, column.name)
        if column.name == DUMMY_ENTITY_ID:
            keys.append(PlanKey(column.name, called, "string", constant=DUMMY_ENTITY_VAL))
            continue
        if kinds[called] not in layout.KEY_KINDS:
            raise ConfigError(
                f"join key {column.name} of {view.name} is a {kinds[called]}; Redis keys hold "
                "integers, strings, bytes and timestamps",
            )
        keys.append(PlanKey(column.name, called, kinds[called]))
    return tuple(keys)


def _transform(
    view: Any, defined: Any, chosen: Sequence[str], full_feature_names: bool
) -> PlanTransform:
    called = view.projection.name_to_use()
    function = getattr(defined.feature_transformation, "udf", None)
    request = {
        field.name: kind_of(field.dtype, f"request column {field.name}")
        for source in view.source_request_sources.values()
        for field in source.schema
    }
    inputs = tuple(
        f"{projection.name_to_use()}__{field.name}" if full_feature_names else field.name
        for projection in view.source_feature_view_projections.values()
        for field in projection.features
    )
    outputs = {
        f"{called}__{field.name}" if full_feature_names else field.name: kind_of(
            field.dtype, f"feature {called}:{field.name}"
        )
        for field in view.features
        if field.name in chosen
    }
    return PlanTransform(
        name=called,
        function=_place(function),
        mode=str(view.mode),
        inputs=inputs,
        request=request,
        outputs=outputs,
    )


def _place(function: Any) -> str:
    """Feast's decorator overwrites `__module__`; the code still knows its file."""
    code = getattr(function, "__code__", None)
    return f"{Path(code.co_filename).name}:{function.__qualname__}" if code else ""


def _refuse_twins(plan: ReadPlan) -> None:
    seen: dict[str, str] = {}
    for group in plan.groups:
        for feature in group.features:
            view = group.views[feature.view].name
            if feature.name in seen:
                raise ConfigError(
                    f"feature {feature.name} comes from both {seen[feature.name]} and {view}",
                    where=plan.service,
                    mend="ask for full feature names, or give one view an alias",
                )
            seen[feature.name] = view
