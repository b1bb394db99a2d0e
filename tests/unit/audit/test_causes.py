"""The cause of each difference, one piece of evidence at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.features.audit_causes import (
    CAUSES,
    NO_TIME,
    ViewEvidence,
    computed_causes,
    same_time,
    stored_causes,
)
from zeroskew.features.audit_compare import EXTRA, MATCH, MISMATCH, MISSING

HOUR = 3_600_000_000
EVENT = 1_700_000_000_000_000
NEWEST, OLDER = EVENT - HOUR, EVENT - 5 * HOUR


def ints(value):
    return np.array([value], np.int64)


def yes(value=True):
    return np.array([value])


SAME = ViewEvidence(
    event=ints(EVENT), answered=ints(EVENT), age_ms=ints(HOUR // 1000), degraded=yes(False),
    joined_time=ints(NEWEST), joined_created=ints(NO_TIME), served_time=ints(NEWEST),
    served_created=ints(NO_TIME), other_definition=yes(False), elsewhere=yes(False), ttl=8 * HOUR,
    created_counts=True, records_creation=False, changed_at=NO_TIME, materialised_until=NO_TIME,
)  # fmt: skip
BEHIND = replace(SAME, age_ms=ints(5 * HOUR // 1000), served_time=ints(OLDER))
NOTHING = replace(SAME, age_ms=ints(NO_TIME), served_time=ints(NO_TIME))
ALONE = replace(SAME, joined_time=ints(NO_TIME))

CASES = [
    ("value_rewritten", MISMATCH, SAME, False),
    ("changed_definition", MISMATCH, replace(SAME, other_definition=yes()), False),
    ("other_entity", MISMATCH, replace(SAME, elsewhere=yes()), False),
    ("stale_materialisation", MISMATCH, BEHIND, False),
    ("late_data", MISMATCH, replace(BEHIND, changed_at=EVENT + 1), False),
    ("stale_materialisation", MISMATCH, replace(BEHIND, changed_at=EVENT - 1), False),
    # Even in time it would not have come into the store.
    (
        "stale_materialisation", MISMATCH,
        replace(BEHIND, changed_at=EVENT + 1, materialised_until=OLDER), False,
    ),
    (
        "late_data", MISMATCH,
        replace(BEHIND, records_creation=True, joined_created=ints(EVENT + 1)), False,
    ),
    # A file that is written anew every hour says nothing where the rows say it themselves.
    (
        "stale_materialisation", MISMATCH,
        replace(BEHIND, records_creation=True, joined_created=ints(NEWEST), changed_at=EVENT + 1),
        False,
    ),
    ("stale_materialisation", MISSING, NOTHING, False),
    ("store_unavailable", MISSING, replace(NOTHING, degraded=yes()), False),
    ("stale_materialisation", MISSING, replace(BEHIND, ttl=2 * HOUR), True),
    ("changed_definition", MISSING, SAME, True),
    ("unexplained", MISSING, replace(SAME, ttl=HOUR - 1), True),
    ("expired_served", EXTRA, replace(ALONE, ttl=HOUR // 2), False),
    (
        "changed_definition", EXTRA,
        replace(ALONE, ttl=HOUR // 2, other_definition=yes()), False,
    ),
    (
        "late_data", EXTRA,
        replace(ALONE, records_creation=True, served_created=ints(EVENT + 1)), False,
    ),
    ("not_in_source", EXTRA, replace(ALONE, served_time=ints(NO_TIME)), False),
    ("wrong_event_time", MISMATCH, replace(BEHIND, age_ms=ints(-1)), False),
    ("wrong_event_time", MISMATCH, replace(BEHIND, answered=ints(NEWEST - HOUR)), False),
    ("unexplained", EXTRA, replace(ALONE, age_ms=ints(NO_TIME), served_time=ints(NO_TIME)), False),
]  # fmt: skip


@pytest.mark.parametrize(("cause", "outcome", "evidence", "expired"), CASES)
def test_the_evidence_decides(cause, outcome, evidence, expired):
    told = stored_causes(np.array([outcome], np.uint8), yes(expired), yes(False), evidence)
    assert [CAUSES[code] for code in told] == [cause]


@pytest.mark.parametrize(
    ("cause", "evidence"),
    [("value_rewritten", BEHIND), ("changed_definition", replace(BEHIND, other_definition=yes()))],
)
def test_a_store_that_is_behind_and_wrong_is_wrong(cause, evidence):
    outcome = np.array([MISMATCH], np.uint8)
    told = stored_causes(outcome, yes(False), yes(), evidence)
    assert [CAUSES[code] for code in told] == [cause]
    # What was left out as expired was not looked at.
    told = stored_causes(np.array([MISSING], np.uint8), yes(), yes(), BEHIND)
    assert [CAUSES[code] for code in told] == ["stale_materialisation"]


@given(
    st.integers(-(10**15), 10**15), st.integers(-(10**9), 10**12), st.booleans(),
    st.integers(1_000, 10**9),
)  # fmt: skip
def test_the_row_that_an_age_speaks_of_is_found_again(event, back, whole_seconds, off):
    """Whether the store kept its microseconds or its whole second; and no row beside it."""
    time = event - back
    kept = time - time % 1_000_000 if whole_seconds else time
    age = (event - kept) // 1000
    assert same_time(ints(event), ints(time), ints(age)).all()
    far = off + 1_000_000
    assert not same_time(ints(event), ints(time - far), ints(age)).any()
    assert not same_time(ints(event), ints(NO_TIME), ints(age)).any()
    assert not same_time(ints(event), ints(time), ints(NO_TIME)).any()


def test_a_computed_feature_is_judged_by_its_inputs():
    outcome = np.array([MISMATCH, MISMATCH, MISSING], np.uint8)
    inputs = [np.array([MATCH, EXTRA, MISSING], np.uint8), np.zeros(3, np.uint8)]
    degraded = np.array([False, False, True])
    told = [CAUSES[code] for code in computed_causes(outcome, inputs, degraded)]
    assert told == ["different_transform", "input_differs", "store_unavailable"]
