"""One audit's check of a chunk of logged rows: joined again, compared, differences explained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zeroskew.errors import DataError
from zeroskew.features.audit_causes import (
    UNEXPLAINED,
    ViewEvidence,
    computed_causes,
    stored_causes,
)
from zeroskew.features.audit_compare import MATCH, MISSING, Codes, comparable, outcomes
from zeroskew.features.audit_evidence import EvidenceView
from zeroskew.features.audit_log import LoggedRows, own
from zeroskew.features.audit_tally import Tally
from zeroskew.features.read_plan import PlanTransform, ReadPlan
from zeroskew.features.repository import Repository
from zeroskew.features.service_join import join_service

_REQUESTED: Mapping[str, pl.DataType] = {
    "int64": pl.Int64(), "int32": pl.Int32(), "float64": pl.Float64(), "float32": pl.Float32(),
    "bool": pl.Boolean(),
}  # fmt: skip


@dataclass
class Check:
    """What all chunks of one audit have in common; made by `of`."""

    repository: Repository
    service: str
    plan: ReadPlan
    schema_version: str
    kinds: dict[str, str]
    """Declared type of every feature that is compared."""
    places: dict[str, str]
    """View of each."""
    not_audited: dict[str, str]
    wanted: list[str]
    """Columns to read: keys, request columns, features."""
    transform_of: dict[str, PlanTransform]
    views: list[EvidenceView]
    tolerances: Mapping[str, float]
    registered: Callable[[str], str | None] | None
    known: dict[str, bool] = field(default_factory=dict)
    """Versions that were asked about: whether they have other definitions than the present."""

    @classmethod
    def of(
        cls,
        repository: Repository,
        service: str,
        rows: LoggedRows,
        redacted: Collection[str],
        tolerances: Mapping[str, float],
        registered: Callable[[str], str | None] | None,
    ) -> Check:
        from zeroskew.features.read_plan_compiler import compile_read_plan

        plan = compile_read_plan(repository, service)
        every = (*plan.entity_columns, *plan.request_columns, *plan.names, *plan.stored_names)
        held = {n for n in every if rows.log.column(n) in rows.columns} - set(redacted)
        for key in plan.entity_columns:
            if rows.total and key not in held:
                raise DataError(
                    f"the log does not hold the entity key {key!r} as it was asked"
                    + (" (it is redacted)" if key in redacted else ""),
                    where="prediction log",
                    mend="rows whose entity is not known cannot be joined again; log it in clear, "
                    "in a bucket that fewer can read",
                )
        transform_of = {n: t for t in plan.transforms for n in t.outputs}
        stored = {f.name: group.views[f.view].name for group in plan.groups for f in group.features}
        kinds: dict[str, str] = {}
        not_audited: dict[str, str] = {}
        for name, kind in plan.kinds.items():
            needs = transform_of[name].request if name in transform_of else {}
            lacking = [each for each in needs if each not in held]
            if name in redacted:
                not_audited[name] = "redacted in the log"
            elif name not in held:
                not_audited[name] = "the log has no such column"
            elif lacking:
                not_audited[name] = f"computed from {', '.join(lacking)}, not in the log in clear"
            elif not comparable(kind):
                not_audited[name] = f"a {kind} has no value to compare"
            else:
                kinds[name] = kind
        places = {n: transform_of[n].name if n in transform_of else stored[n] for n in kinds}
        version = repository.schema_version(service)
        return cls(
            repository, service, plan, version, kinds, places, not_audited,
            [n for n in dict.fromkeys(every) if n in held], transform_of,
            _evidence_views(repository, plan), tolerances, registered,
        )  # fmt: skip

    @property
    def keys(self) -> dict[str, tuple[str, ...]]:
        """Entity columns that decide a feature's value: of its view, or all for a computed one."""
        found = {
            feature.name: tuple(key.column for key in group.keys if key.constant is None)
            for group in self.plan.groups
            for feature in group.features
        }
        return {name: found.get(name, tuple(self.plan.entity_columns)) for name in self.kinds}

    def chunk(self, rows: pl.DataFrame, tally: Tally) -> None:
        """Compare one chunk and count it.

        Features and request columns that its files do not have, as those of an older version, are
        passed over. Raises what `join_service` raises.
        """
        joined = self._joined(rows)
        found = {
            name: self._outcomes(rows, joined, name)
            for name in self.kinds
            if name in rows.columns and self._requested(name) <= set(rows.columns)
        }
        causes, evidence = self._causes(rows, found)
        tally.add(rows, joined, found, causes, evidence)

    def _requested(self, name: str) -> set[str]:
        """Request columns that a feature is computed from."""
        return set(self.transform_of[name].request) if name in self.transform_of else set()

    def _joined(self, rows: pl.DataFrame) -> pl.DataFrame:
        wanted = [*self.plan.entity_columns, *self.plan.request_columns]
        questions = rows.select(own("event_time"), *(n for n in wanted if n in rows.columns))
        # What is computed from them is not compared, but the join computes it all the same.
        questions = questions.with_columns(
            pl.lit(None, _REQUESTED.get(kind, pl.String())).alias(name)
            for name, kind in self.plan.request_columns.items()
            if name not in rows.columns
        )
        return join_service(
            self.repository, self.service, questions, event_timestamp=own("event_time")
        )

    def _outcomes(self, rows: pl.DataFrame, joined: pl.DataFrame, name: str) -> Codes:
        kind = self._kind(name)
        return outcomes(
            rows.get_column(name),
            joined.get_column(name),
            kind,
            tolerance=self.tolerances.get(kind, 0.0),
            infinite_is_missing=name in self.transform_of,
        )

    def _kind(self, name: str) -> str:
        """Declared type of a stored or computed feature, or of a function's input."""
        if name in self.kinds:
            return self.kinds[name]
        return next(f.kind for g in self.plan.groups for f in g.features if f.name == name)

    # --- causes ----------------------------------------------------------------------------------

    def _causes(
        self, rows: pl.DataFrame, found: Mapping[str, Codes]
    ) -> tuple[dict[str, Codes], dict[str, tuple[Any, ViewEvidence]]]:
        """Cause of every value by feature, and by view the evidence with the rows it is of."""
        causes: dict[str, Codes] = {}
        evidence: dict[str, tuple[Any, ViewEvidence]] = {}
        for view in self.views:
            named = [name for name in view.features if name in found]
            differs = np.zeros(rows.height, np.bool_)
            for name in named:
                differs |= found[name] != MATCH
            which = np.flatnonzero(differs)
            if not len(which):
                continue
            part = rows[which]
            nothing = np.ones(len(which), np.bool_)
            for name in named:
                nothing &= (found[name][which] == MISSING) | (
                    part.get_column(name).is_null().to_numpy()
                )
            kinds = {name: self.kinds[name] for name in named}
            told = view.gather(part, kinds, nothing, self._outdated(part))
            altered = view.altered(part, told, kinds, self.tolerances)
            evidence[view.join.name] = which, told
            stale = part.get_column(own("stale"))
            for name in named:
                outcome = found[name][which]
                if not outcome.any():
                    continue
                expired = stale.list.contains(name).fill_null(False).to_numpy()
                cause = np.full(rows.height, UNEXPLAINED, np.uint8)
                cause[which] = stored_causes(outcome, expired, altered[name], told)
                causes[name] = cause
        for name, transform in self.transform_of.items():
            if name in found and found[name].any():
                causes[name] = self._computed(rows, found, name, transform)
        for name, outcome in found.items():
            if outcome.any() and name not in causes:
                causes[name] = np.full(rows.height, UNEXPLAINED, np.uint8)
        return causes, evidence

    def _outdated(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """Rows of versions that were registered with other definitions than the present ones."""
        versions = rows.get_column(own("model_version"))
        for version in versions.unique().drop_nulls():
            if version not in self.known:
                found = self.registered(version) if self.registered else None
                self.known[version] = found is not None and found != self.schema_version
        outdated = [version for version, other in self.known.items() if other]
        return np.asarray(versions.is_in(outdated).fill_null(False).to_numpy())

    def _computed(
        self, rows: pl.DataFrame, found: Mapping[str, Codes], name: str, transform: PlanTransform
    ) -> Codes:
        which = np.flatnonzero(found[name])
        part = rows[which]
        inputs: list[Codes] = []
        for each in transform.inputs:
            if each in found:
                inputs.append(found[each][which])
                continue
            view = next((v for v in self.views if each in v.features), None)
            if view is None or each not in rows.columns:
                # Whether the input was the same, nobody can say.
                return np.full(rows.height, UNEXPLAINED, np.uint8)
            inputs.append(self._outcomes(part, view.joined_inputs(part), each))
        cause = np.full(rows.height, UNEXPLAINED, np.uint8)
        degraded = part.get_column(own("degraded")).fill_null(False).to_numpy()
        cause[which] = computed_causes(found[name][which], inputs, degraded)
        return cause


def _evidence_views(repository: Repository, plan: ReadPlan) -> list[EvidenceView]:
    """Every stored view that the service reads; none where a warehouse holds the history."""
    from zeroskew.features import offline_store

    if not offline_store.is_ours(repository.config):
        return []
    projections: dict[str, Any] = {}
    for projection in repository.service(plan.service).feature_view_projections:
        computed = repository.definitions.on_demand.get(projection.name)
        sources: Sequence[Any] = (
            [projection] if computed is None
            else list(computed.source_feature_view_projections.values())
        )  # fmt: skip
        for source in sources:
            projections.setdefault(source.name_to_use(), source)
    made = []
    for group in plan.groups:
        for at, view in enumerate(group.views):
            features = [f.name for f in group.features if f.view == at]
            if features and view.name in projections:
                projection = projections[view.name]
                found = repository.view(projection.name).with_projection(projection)
                made.append(EvidenceView.of(repository, found, features))
    return made
