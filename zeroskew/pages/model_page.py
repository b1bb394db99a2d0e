"""The page of a model: versions, lineage, drift, freshness, live performance, rollouts, audits,
decisions; on one self-contained page, from `ModelFacts` alone.

What is missing is said to be missing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from zeroskew.pages.model_drift import drift_section, freshness_section, scores_section
from zeroskew.pages.model_live import audits_section, decisions_section, performance_section
from zeroskew.pages.model_versions import changes_section, versions_section
from zeroskew.pages.page import Badge, Page, Tile, Tone
from zeroskew.profiles import MODERATE, SIGNIFICANT

if TYPE_CHECKING:
    from zeroskew.monitoring.drift_history import DriftHistory
    from zeroskew.monitoring.model_facts import ModelFacts


def model_page(facts: ModelFacts) -> Page:
    """One self-contained page; `render` or `save` it."""
    page = Page(facts.model, _subtitle(facts), badge=_badge(facts))
    page.contents()
    page.metrics(
        [_champion(facts), _served(facts), _worst(facts), _auc(facts), _audit(facts),
         _decided(facts)]
    )  # fmt: skip
    drift_section(page, facts)
    scores_section(page, facts)
    freshness_section(page, facts)
    performance_section(page, facts)
    audits_section(page, facts)
    decisions_section(page, facts)
    changes_section(page, facts)
    versions_section(page, facts)
    return page


def _subtitle(facts: ModelFacts) -> str:
    count = len(facts.versions)
    versions = f"{count} version{'' if count == 1 else 's'}" if count else "no version registered"
    history = facts.watched
    seen = "nothing served yet"
    if history is not None:
        first, last = history.periods[0].start, history.periods[-1].start
        seen = f"predictions of {first:%Y-%m-%d} to {last:%Y-%m-%d} (UTC)"
    return f"{versions}, {seen}; made on {facts.at:%Y-%m-%d %H:%M} UTC"


def _badge(facts: ModelFacts) -> Badge:
    champion, history = facts.champion, facts.watched
    if champion is None:
        return Badge("no champion", "muted")
    if history is not None and history.version != champion.version:
        return Badge("the champion has not served yet", "muted")
    psi, _ = _largest(history)
    if math.isnan(psi):
        return Badge("nothing to judge yet", "muted")
    if psi > SIGNIFICANT:
        return Badge("drifted", "bad")
    return Badge("moving", "warn") if psi >= MODERATE else Badge("stable", "good")


def _champion(facts: ModelFacts) -> Tile:
    champion = facts.champion
    if champion is None:
        return Tile("Champion", "none", "no version was promoted")
    became = [change.at for change in facts.changes if change.version == champion.version]
    since = f"since {became[-1][:10]}" if became else ""
    return Tile("Champion", f"version {champion.version}", since)


def _served(facts: ModelFacts) -> Tile:
    history = facts.watched
    if history is None:
        return Tile("Predictions", 0, "none in the log")
    count = len(history.periods)
    unit = history.step if count == 1 else f"{history.step}s"
    return Tile("Predictions", history.rows, f"by version {history.version} in {count} {unit}")


def _worst(facts: ModelFacts) -> Tile:
    psi, name = _largest(facts.watched)
    if math.isnan(psi):
        return Tile("Largest PSI", None, "too few predictions", "muted")
    tone: Tone = "bad" if psi > SIGNIFICANT else "warn" if psi >= MODERATE else "good"
    return Tile("Largest PSI", f"{psi:.2f}", f"{name}, over all", tone)


def _auc(facts: ModelFacts) -> Tile:
    champion = facts.champion
    mine = [each for each in facts.performance if champion and each.version == champion.version]
    if not mine:
        return Tile("Live AUC", None, "no report yet", "muted")
    newest = mine[0]
    if newest.value is None:
        return Tile("Live AUC", None, newest.message, "muted")
    return Tile("Live AUC", f"{newest.value:.4f}", f"{newest.low:.4f} to {newest.high:.4f}")


def _audit(facts: ModelFacts) -> Tile:
    if not facts.audits:
        return Tile("Served ≠ joined", None, "no audit yet", "muted")
    newest = facts.audits[0]
    if newest.value is None:
        return Tile("Served ≠ joined", None, newest.message, "muted")
    tone: Tone = "good" if newest.value == 0 else "bad"
    note = f"of {newest.samples:,} rows, {newest.at:%Y-%m-%d}"
    return Tile("Served ≠ joined", f"{newest.value:.2%}", note, tone)


def _decided(facts: ModelFacts) -> Tile:
    if not facts.decisions:
        return Tile("Decisions", 0, "none yet")
    newest = facts.decisions[0]
    note = f"last on {newest.at:%Y-%m-%d}, about version {newest.version}"
    return Tile("Decisions", len(facts.decisions), note)


def _largest(history: DriftHistory | None) -> tuple[float, str]:
    """The largest PSI of all periods together that is more than chance, and of what."""
    features = {} if history is None else history.overall.features
    sure = [(f.psi, name) for name, f in features.items() if f.verdict != "inconclusive"]
    return max(sure, default=(math.nan, ""))
