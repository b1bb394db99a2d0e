"""Why a served value is not the joined one, told from times and definitions, not guessed.

The log says how old the served value was, so it says which row of the source it came from: the row
whose time is the event time minus that age. Beside it stands the row that the join takes. What the
two are to each other, and to the moment of the answer, decides, in this order:

| cause | evidence |
|---|---|
| store_unavailable | the server answered without the store (`degraded`) |
| wrong_event_time | the served value is newer than the event time, or the joined one than the answer |
| other_entity | the source has the served values at that time, under exactly one other key |
| not_in_source | the source has no value of that time for the entity |
| value_rewritten | the store was behind, and what it had is not what the source has of that time |
| late_data | the joined row was created, or its file last changed, after the answer; or the served row was created after the event time, so that the join leaves it out |
| stale_materialisation | the joined row is newer, and was there in time |
| changed_definition | the same row, but the version was registered with other definitions, or expired it by another TTL |
| expired_served | the row is older than the TTL |
| value_rewritten | the same row under the same definitions, another value |
| different_transform | computed by the request from inputs that match |
| input_differs | computed by the request from an input that differs; see that one |
| unexplained | none of these |
"""  # noqa: E501

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zeroskew.features.audit_compare import MATCH, MISSING, Codes

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CAUSES = (
    "unexplained", "store_unavailable", "wrong_event_time", "other_entity", "not_in_source",
    "late_data", "stale_materialisation", "changed_definition", "expired_served",
    "value_rewritten", "different_transform", "input_differs",
)  # fmt: skip
(
    UNEXPLAINED, UNAVAILABLE, EVENT_TIME, OTHER_ENTITY, NOT_IN_SOURCE, LATE, STALE, DEFINITION,
    EXPIRED, REWRITTEN, TRANSFORM, INPUT,
) = range(len(CAUSES))  # fmt: skip

NO_TIME = np.iinfo(np.int64).min
CLOCKS = 60_000_000
"""Microseconds by which the clocks of a server and of a source may be apart."""
SECOND = 1_000_000


@dataclass(frozen=True)
class ViewEvidence:
    """What is known of n rows of which a view's values differ; times in microseconds, or NO_TIME.

    `joined_*`: the row that the join takes. `served_*`: the row of the source, if any, that has the
    time of the served value, whatever its age and whenever it was created.
    """

    event: Ints
    answered: Ints
    age_ms: Ints
    """As logged; NO_TIME where nothing was in the store."""
    degraded: Bools
    joined_time: Ints
    joined_created: Ints
    served_time: Ints
    served_created: Ints
    other_definition: Bools
    """The version was registered with another hash of the definitions than the present one."""
    elsewhere: Bools
    """Exactly one other entity has the served values at the served time."""
    ttl: int
    """Microseconds; 0: none."""
    created_counts: bool
    """The join leaves out what was created after the event time."""
    records_creation: bool
    changed_at: int
    """When the source's files last changed, if that can be known; else NO_TIME."""
    materialised_until: int
    """Up to which event time the view was ever materialised, by the registry; else NO_TIME."""

    @property
    def seen(self) -> Bools:
        return self.age_ms != NO_TIME

    @property
    def newer_joined(self) -> Bools:
        """The join takes a newer row than was served, or any where none was."""
        known = self.joined_time != NO_TIME
        return (
            known
            & (~self.seen | (age_of(self.event, self.joined_time) < self.age_ms))
            & ~(same_time(self.event, self.joined_time, self.age_ms))
        )

    @property
    def same_row(self) -> Bools:
        """The join takes the row that was served."""
        return same_time(self.event, self.joined_time, self.age_ms)


def age_of(event: Ints, time: Ints) -> Ints:
    """Age in milliseconds as the log writes it; 0 for NO_TIME."""
    return (event - np.where(time == NO_TIME, event, time)) // 1000


def same_time(event: Ints, time: Ints, age_ms: Ints) -> Bools:
    """Whether a source's row is the one that the log's age speaks of.

    The log counts whole milliseconds; Feast's own writer puts whole seconds into the store.
    """
    known = (time != NO_TIME) & (age_ms != NO_TIME)
    exact = age_of(event, time) == age_ms
    coarse = age_of(event, np.where(time == NO_TIME, time, time - time % SECOND)) == age_ms
    return known & (exact | coarse)


def stored_causes(outcome: Codes, expired: Bools, altered: Bools, evidence: ViewEvidence) -> Codes:
    """Cause of every row for one stored feature; meaningless where the outcome is a match.

    `expired`: the server left the value out as older than its TTL. `altered`: the source's row of
    the served time has another value than was served.
    """
    at = evidence
    age_us = np.where(at.seen, at.age_ms, 0) * 1000
    joined, served = at.joined_time != NO_TIME, at.served_time != NO_TIME
    created = np.where(at.joined_created == NO_TIME, at.joined_time, at.joined_created)
    file_changed = at.changed_at != NO_TIME and not at.records_creation
    changed_since = file_changed & (at.changed_at > at.answered)
    never_reached = (at.materialised_until != NO_TIME) & (at.joined_time > at.materialised_until)
    came_late = (joined & (created > at.answered)) | (changed_since & ~never_reached)
    hidden = at.created_counts & at.records_creation & (
        (at.served_created == NO_TIME) | (at.served_created > at.event)
    )  # fmt: skip
    newer, same = at.newer_joined, at.same_row
    unlike = at.seen & ~same
    over = (at.ttl > 0) & (age_us > at.ttl)
    rules: list[tuple[Bools, int]] = [
        (at.degraded & (outcome == MISSING), UNAVAILABLE),
        (at.seen & (at.age_ms < 0), EVENT_TIME),
        (joined & (at.joined_time > at.answered + CLOCKS), EVENT_TIME),
        (at.elsewhere & (outcome != MISSING), OTHER_ENTITY),
        (unlike & ~served & ~newer, NOT_IN_SOURCE),
        # A store that is behind must not hide that it is wrong as well.
        (newer & altered & ~expired & at.other_definition, DEFINITION),
        (newer & altered & ~expired, REWRITTEN),
        (newer & came_late, LATE),
        (newer, STALE),
        (same & (created > at.answered), LATE),
        (same & expired & ~over, DEFINITION),
        # Whole seconds in the store make a value up to a second older than it is.
        (same & expired, UNEXPLAINED),
        (same & at.other_definition, DEFINITION),
        (same, REWRITTEN),
        (unlike & served & over & at.other_definition, DEFINITION),
        (unlike & served & over, EXPIRED),
        (unlike & served & hidden, LATE),
    ]
    return _first(rules, outcome)


def computed_causes(outcome: Codes, inputs: list[Codes], degraded: Bools) -> Codes:
    """Cause for one feature that the request computes; `inputs` are the outcomes of its inputs."""
    differs = np.zeros(len(outcome), np.bool_)
    for each in inputs:
        differs |= each != MATCH
    rules: list[tuple[Bools, int]] = [
        (differs & degraded, UNAVAILABLE),
        (differs, INPUT),
        (np.ones(len(outcome), np.bool_), TRANSFORM),
    ]
    return _first(rules, outcome)


def _first(rules: list[tuple[Bools, int]], outcome: Codes) -> Codes:
    shape = outcome.shape
    conditions = [np.broadcast_to(np.asarray(condition, np.bool_), shape) for condition, _ in rules]
    return np.select(conditions, [np.uint8(cause) for _, cause in rules], np.uint8(UNEXPLAINED))
