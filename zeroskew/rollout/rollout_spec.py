"""`ModelRollout.spec`: what a manifest may say, and a clear no to everything else.

The same classes make the CRD's schema (zeroskew/rollout/crd.py) and check a manifest that no schema
checked. What the schema cannot say, because it would need loops over steps, is checked here only;
the operator then puts the text of the `ConfigError` into a condition.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from zeroskew.errors import ConfigError
from zeroskew.rollout.rollout_judging import Analysis
from zeroskew.rollout.rollout_steps import Section, Strategy, Timeout
from zeroskew.rollout.traffic_plan import Entrance, GatewayRef

S = TypeVar("S", bound=Section)

_DNS = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_OBJECT: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_SERVICE = _OBJECT | {"required": ["predictor"], "properties": {"predictor": _OBJECT}}
_CONTAINERS = {"type": "array", "minItems": 1, "maxItems": 16, "items": _OBJECT}
_RUNTIME = _OBJECT | {"required": ["containers"], "properties": {"containers": _CONTAINERS}}

Labels = Annotated[
    dict[
        Annotated[str, Field(max_length=317)],
        Annotated[str, Field(max_length=63, pattern=_LABEL)],
    ],
    Field(max_length=64),
]
Annotations = Annotated[
    dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=4096)]],
    Field(max_length=64),
]
DnsLabel = Annotated[str, Field(pattern=f"^{_DNS}$", max_length=63)]
DnsName = Annotated[str, Field(pattern=rf"^{_DNS}(\.{_DNS})*$", max_length=253)]
Host = Annotated[str, Field(pattern=rf"^(\*\.)?{_DNS}(\.{_DNS})*$", max_length=253)]


class ModelRef(Section):
    """A registered version. Whoever writes the manifest resolves aliases: here it is a number."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", max_length=63)]
    version: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$", max_length=9)]


class Template(Section):
    """Specs of the objects that serve the version, as they are; `zeroskew.rollout.manifests`
    renders them. The operator names them `<rollout>-<version>`, labels and owns them."""

    labels: Annotated[Labels, Field(default_factory=dict)]
    """Of every object."""
    annotations: Annotated[Annotations, Field(default_factory=dict)]
    """Of the InferenceService."""
    inference_service: Annotated[dict[str, Any], Field(json_schema_extra=_SERVICE)]
    """An InferenceService's spec (serving.kserve.io/v1beta1)."""
    serving_runtime: Annotated[dict[str, Any], Field(json_schema_extra=_RUNTIME)]
    """A ServingRuntime's spec (serving.kserve.io/v1alpha1)."""
    pod_disruption_budget: Annotated[
        dict[str, Any] | None, Field(json_schema_extra=_OBJECT | {"minProperties": 1})
    ] = None
    """A PodDisruptionBudget's spec (policy/v1)."""

    @model_validator(mode="after")
    def _serves(self) -> Template:
        if not isinstance(self.inference_service.get("predictor"), dict):
            raise ValueError("inferenceService: needs an object `predictor`")
        containers = self.serving_runtime.get("containers")
        if not isinstance(containers, list) or not 1 <= len(containers) <= 16:
            raise ValueError("servingRuntime: needs a list `containers` of 1 to 16")
        if not all(isinstance(each, dict) for each in containers):
            raise ValueError("servingRuntime: every one of `containers` must be an object")
        if self.pod_disruption_budget == {}:
            raise ValueError("podDisruptionBudget: must not be empty; leave it out instead")
        return self


class Gateway(Section):
    """A Gateway of the Gateway API that the model's requests come through."""

    name: DnsName
    namespace: DnsLabel | None = None
    """Unset: that of the rollout."""
    section_name: DnsName | None = None
    """One listener; unset: all."""


class Entry(Section):
    """Where requests come in; what model.yaml can say of it."""

    port: Annotated[int, Field(ge=1, le=65535)] = 80
    """Of the versions' Services (KServe's is 80)."""
    hosts: Annotated[tuple[Host, ...], Field(max_length=16)] = ()
    """None: every host of the gateway."""
    gateway_refs: Annotated[tuple[Gateway, ...], Field(max_length=8)] = ()
    timeout: Timeout = "10s"
    """Of a whole request."""
    model_path: Annotated[
        str, Field(pattern=r"^(/[A-Za-z0-9_.~-]+)+$", max_length=256)
    ] | None = None  # fmt: skip
    """Prefix of the path; unset: `/v2/models/<model>`."""


class Service(Entry):
    """Where requests come in."""

    gateway_refs: Annotated[tuple[Gateway, ...], Field(min_length=1, max_length=8)]


class Window(Section):
    """How far back a version counts as known good."""

    revisions: Annotated[int, Field(ge=0, le=100)] = 3
    """A version promoted as one of the last so many before the present one needs no steps to come
    back: it is made ready and gets all requests. 0: every version takes every step."""


class Rollback(Section):
    """What happens to a version that is taken off or was replaced."""

    on_deletion: bool = True
    """When the rollout is deleted in mid-run, take the challenger off the route first; this matters
    if its objects outlive it (`kubectl delete --cascade=orphan`). False: all stays as it is."""
    scale_down_delay_seconds: Annotated[int, Field(ge=0, le=604_800)] = 300
    """How long a version that gets no requests any more is kept."""
    window: Window = Window()


class RolloutSpec(Section):
    """How one model version replaces another: `ModelRollout.spec`."""

    model_ref: ModelRef
    template: Template
    service: Service
    strategy: Strategy = Strategy()
    analysis: Analysis = Analysis()
    progress_deadline_seconds: Annotated[int, Field(ge=30, le=604_800)] = 1800
    """Longest wait for something that the cluster has to do: a version that gets ready, a route
    that is accepted. Analyses, pauses and approvals have no deadline."""
    rollback: Rollback = Rollback()
    revision_history_limit: Annotated[int, Field(ge=1, le=100)] = 10
    """Promoted versions that the status remembers."""
    suspend: bool = False
    """Freezes the rollout with the weights as they are; a challenger that fails is still taken
    off."""

    @model_validator(mode="after")
    def _judges_every_step(self) -> RolloutSpec:
        check_judged(self.strategy, self.analysis)
        return self

    @property
    def entrance(self) -> Entrance:
        service = self.service
        return Entrance(
            path=service.model_path or f"/v2/models/{self.model_ref.name}",
            timeout=service.timeout,
            port=service.port,
            hosts=service.hosts,
            gateways=tuple(
                GatewayRef(each.name, each.namespace, each.section_name)
                for each in service.gateway_refs
            ),
        )

    @property
    def template_digest(self) -> str:
        """16 hex digits; changes with the objects of the version."""
        return _digest(self.template.model_dump(mode="json", by_alias=True))

    @property
    def run_digest(self) -> str:
        """16 hex digits; changes with whatever makes a rollout start over: version, template,
        steps and metrics."""
        parts = {"modelRef", "template", "strategy", "analysis"}
        whole = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return _digest({name: whole[name] for name in parts})


def check_judged(strategy: Strategy, analysis: Analysis) -> None:
    """Raises `ValueError` if a step has no metric that can be judged then."""
    weight = 0
    for number, step in enumerate(strategy.steps):
        weight = step.set_weight or weight
        if step.analysis is not None and not analysis.applicable(mirrored=not weight):
            raise ValueError(
                f"strategy.steps[{number}]: no metric can be judged at weight {weight}: "
                "Disagreement, ScoreDifference and FeatureMismatch need mirrored requests"
            )


def parse_spec(raw: object, *, where: str = "ModelRollout") -> RolloutSpec:
    """`raw`: the spec, as JSON gives it.

    Raises `ConfigError` that names every wrong field by its path.
    """
    return parse_section(RolloutSpec, raw, where=where)


def parse_section(kind: type[S], raw: object, *, where: str) -> S:
    """A spec of this kind, strictly: a number in quotes is no number.

    Raises `ConfigError` that names every wrong field by its path.
    """
    if not isinstance(raw, dict):
        raise ConfigError("spec must be an object", where=where)
    try:
        text = json.dumps(raw)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"spec is not JSON: {error}", where=where) from None
    try:
        return kind.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = error.errors()
        # A list whose only item is wrong is called too short, too.
        lines = [
            _explain(each)
            for each in problems
            if each["type"] != "too_short"
            or not any(_within(other["loc"], each["loc"]) for other in problems)
        ]
    raise ConfigError(
        lines[0] if len(lines) == 1 else f"{len(lines)} wrong fields\n  " + "\n  ".join(lines),
        where=where,
    )


def _within(inner: tuple[Any, ...], outer: tuple[Any, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _explain(problem: Any) -> str:
    field = "spec" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]
    )
    if problem["type"] == "extra_forbidden":
        return f"unknown field `{field}`"
    if problem["type"] == "missing":
        return f"required field `{field}` is missing"
    message = str(problem["msg"]).removeprefix("Value error, ").replace("Tuple", "List")
    if deeper := _PATH.match(message):
        # Checks of a whole section say which of its fields they mean.
        field, message = f"{field}.{deeper[1]}", message[deeper.end() :]
    return f"`{field}`: {message}"


_PATH = re.compile(r"([a-z]\w*(?:\[\d+\])?(?:\.\w+(?:\[\d+\])?)*): ")


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
