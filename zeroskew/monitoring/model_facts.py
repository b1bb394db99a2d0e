"""Everything that a model's page tells, as plain values: `ModelFacts`.

What could not be read is not left out in silence: `problems` says what and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from zeroskew.monitoring.drift_history import DriftHistory
from zeroskew.monitoring.reports import Report
from zeroskew.record import VersionRecord

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """A registered version."""

    version: str
    stage: str
    """Staging, Production, Archived; empty if another tool made it."""
    aliases: tuple[str, ...]
    created: datetime
    record: VersionRecord | None
    """None if its tags do not hold a whole one; `problem` says why."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What came later than the record, such as the route: tags that are not of the record."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ChampionChange:
    """An entry of the promotion log."""

    number: int
    action: str
    """`promote`, `rollback`, or `found`: moved by another tool."""
    at: str
    """ISO 8601, UTC."""
    version: str | None
    """None: no champion from here on."""
    replaced: str | None
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model at one moment."""

    model: str
    at: datetime
    """When this was gathered, UTC."""
    log: str
    """The prediction log that was read; empty: none was given."""
    days: int
    """Most days that a history covers."""
    versions: tuple[VersionFacts, ...] = ()
    """Oldest first."""
    changes: tuple[ChampionChange, ...] = ()
    """Of champion, oldest first."""
    histories: tuple[DriftHistory, ...] = ()
    """By version that has served: the champion, then the others, the newest first."""
    performance: tuple[Report, ...] = ()
    """Of kind `performance`, newest first."""
    audits: tuple[Report, ...] = ()
    """Of kind `consistency`, newest first."""
    decisions: tuple[Report, ...] = ()
    """Of kind `decision`, newest first."""
    analyses: Mapping[str, str] = field(default_factory=dict)
    """Pages of rollouts' analyses: name to relative address."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """What could not be read (registry, history, performance, consistency, decision), and why."""

    @property
    def champion(self) -> VersionFacts | None:
        """The version that answers users."""
        return next((each for each in self.versions if CHAMPION in each.aliases), None)

    @property
    def watched(self) -> DriftHistory | None:
        """The history that is shown in full."""
        return self.histories[0] if self.histories else None
