"""Gathers `ModelFacts` from the registry, the prediction log and the reports beside it.

Each source may be missing or broken without the others being lost: a page about drift is needed
most when something is down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from zeroskew.errors import ConfigError, RegistryError, ZeroskewError
from zeroskew.monitoring.drift_history import DriftHistory, drift_history
from zeroskew.monitoring.model_facts import CHAMPION, ChampionChange, ModelFacts, VersionFacts
from zeroskew.monitoring.reports import Kind, Report, list_reports
from zeroskew.monitoring.served_days import ServedDays
from zeroskew.monitoring.served_profiles import ServedProfiles
from zeroskew.record import VersionRecord
from zeroskew.registry import ModelVersion, Registry
from zeroskew.registry.versions import OWN_TAGS

HISTORIES = 3
"""Versions whose drift is shown: the champion and the newest others."""
REPORTS: Mapping[Kind, int] = {"performance": 60, "consistency": 30, "decision": 50}
"""How many of each kind, over all versions."""
MOST_READ = 1000
MOST_DAYS = 366

Made = TypeVar("Made")


def gather_facts(
    model: str,
    *,
    registry: Registry | None,
    log: str,
    days: int = 30,
    roles: Sequence[str] = ("champion", "canary"),
    until: datetime | None = None,
    analyses: Mapping[str, str] | None = None,
) -> ModelFacts:
    """`registry`: None if there is none yet. `log`: folder or s3:// prefix, or empty.

    `until`: nothing about moments, and no report, from then on; default: all there is. Raises
    `ConfigError` for a number of days or an address that makes no sense; what cannot be read is
    told in `problems` instead.
    """
    if not 1 <= days <= MOST_DAYS:
        raise ConfigError(
            f"{days} days cannot be shown", where="days", mend=f"give 1 to {MOST_DAYS}"
        )
    tried = _Tried()
    versions: tuple[VersionFacts, ...] = ()
    changes: tuple[ChampionChange, ...] = ()
    if registry is not None:
        versions, changes = tried("registry", partial(_registered, registry, model)) or ((), ())
    histories: list[DriftHistory] = []
    kept: dict[Kind, list[Report]] = {kind: [] for kind in REPORTS}
    logged: tuple[str, ...] | None = None
    if log:
        profiles, served = ServedProfiles(log), ServedDays(log)
        logged = tried("history", partial(served.versions, model))
        if logged is None:
            # Asked again for every version and kind, a store that is down would take minutes.
            tried.problems |= dict.fromkeys(REPORTS, tried.problems["history"])
    if logged is not None:
        look = partial(drift_history, profiles, served, model, days=days, until=until, roles=roles)
        for version in _in_order(logged, versions):
            found = tried("history", partial(look, version))
            if found is not None and found.rows:
                histories.append(found)
            if len(histories) == HISTORIES:
                break
        numbers = sorted({*logged, *(each.version for each in versions)}, key=_number, reverse=True)
        for kind in REPORTS:
            kept[kind] = _reports(tried, log, kind, model, numbers, until)
    return ModelFacts(
        model=model,
        at=datetime.now(UTC),
        log=log,
        days=days,
        versions=versions,
        changes=changes,
        histories=tuple(histories),
        performance=tuple(kept["performance"]),
        audits=tuple(kept["consistency"]),
        decisions=tuple(kept["decision"]),
        analyses=dict(analyses or {}),
        problems=tried.problems,
    )


def registry_if_any() -> Registry | None:
    """The registry of the environment; None where the embedded one has not been made yet."""
    from zeroskew.endpoints import Endpoints

    embedded = Endpoints.from_environment().mlflow.removeprefix("sqlite:///")
    if "://" not in embedded and not Path(embedded).is_file():
        return None
    return Registry.from_environment()


class _Tried:
    """Calls what may fail, and keeps the first problem of each kind."""

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}

    def __call__(self, what: str, made: Callable[[], Made]) -> Made | None:
        try:
            return made()
        except ConfigError:
            raise
        except ZeroskewError as error:
            self.problems.setdefault(what, " ".join(str(error).split()))
            return None


def _reports(
    tried: _Tried,
    log: str,
    kind: Kind,
    model: str,
    versions: Sequence[str],
    until: datetime | None,
) -> list[Report]:
    """The newest of all versions, newest first."""
    most, found = REPORTS[kind], []
    # Decisions are named by their checksum, so the newest are found by reading all.
    read = most if until is None and kind != "decision" else MOST_READ
    for version in versions:
        listed = tried(kind, partial(list_reports, log, kind, model, version, newest=read)) or []
        found += [each for each in listed if until is None or each.at < until]
    return sorted(found, key=lambda each: each.at, reverse=True)[:most]


def _registered(
    registry: Registry, model: str
) -> tuple[tuple[VersionFacts, ...], tuple[ChampionChange, ...]]:
    if model not in registry.models():
        return (), ()
    versions = tuple(_version(each) for each in registry.versions(model))
    changes = tuple(
        ChampionChange(
            entry.number, entry.action, entry.at, _text(entry.version), _text(entry.replaced),
            entry.by, entry.reason,
        )
        for entry in registry.history(model)
    )  # fmt: skip
    return versions, changes


def _version(found: ModelVersion) -> VersionFacts:
    record, problem = None, ""
    try:
        record = found.record
    except RegistryError as error:
        problem = error.what
    own = OWN_TAGS | set(VersionRecord.__slots__)
    notes = {k: v for k, v in found.tags.items() if k.partition(".")[0] not in own}
    return VersionFacts(
        str(found.version), found.stage, found.aliases, found.created, record, notes, problem
    )


def _in_order(logged: Sequence[str], versions: Sequence[VersionFacts]) -> list[str]:
    """The champion first, then the newest."""
    champions = {each.version for each in versions if CHAMPION in each.aliases}
    return sorted(logged, key=lambda name: (name in champions, *_number(name)), reverse=True)


def _number(version: str) -> tuple[Any, ...]:
    return (1, int(version), "") if version.isdigit() else (0, 0, version)


def _text(version: int | None) -> str | None:
    return None if version is None else str(version)
