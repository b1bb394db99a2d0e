"""Whether a gateway copied as many requests as it was asked to, by what both versions logged.

Chance is allowed for, and so are a few copies that were lost. A gateway that ignores the percent,
or sends no copies at all, is told apart as soon as the requests suffice.
"""

from __future__ import annotations

import math

from zeroskew.rollout.rollout_state import MirrorShare

__all__ = ["LEAST_REQUESTS", "as_asked", "share_text"]

LEAST_REQUESTS = 100
DEVIATIONS = 5.0
"""Standard deviations of a binomial: chance alone goes beyond them once in about two million."""


def as_asked(share: MirrorShare) -> bool | None:
    """None: too few requests to tell.

    Below 100 percent, the observed share must be within five standard deviations and a quarter of
    the smaller side of what was asked, and the requests so many that neither none nor all of them
    would be. At 100 percent it must be above a half: whether single copies stayed unanswered is
    judged by the metrics of the analysis.
    """
    if share.requests < LEAST_REQUESTS:
        return None
    found, asked = share.copies / share.requests, share.percent / 100
    if share.percent >= 100:
        return found > 0.5
    smaller = min(asked, 1 - asked)
    allowed = DEVIATIONS * math.sqrt(asked * (1 - asked) / share.requests) + smaller / 4
    if abs(found - asked) > allowed:
        return False
    return True if allowed < smaller else None


def share_text(share: MirrorShare) -> str:
    """As a person says it."""
    found = 100 * share.copies / share.requests if share.requests else 0.0
    return (
        f"{share.percent} % of the requests were to be copied, and {found:.3g} % of "
        f"{share.requests:,} were"
    )
