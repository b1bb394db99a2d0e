"""One currency for distributions: validation, monitoring and rollouts all compare profiles.

A `Profile` holds per column a small histogram whose bins were frozen when a training set was
learnt. Another batch is *measured* with the same bins; measured profiles merge exactly, in any
order, and travel as JSON. PSI is a function of two profiles.

    reference = Profile.learn(training_frame)
    current = reference.measure(todays_frame)
    for column, drift in compare(reference, current).items():
        print(column, drift.psi, drift.verdict)

NumPy is the only import: the process that serves requests measures profiles too. Columns may be
NumPy arrays, lists, or series of Polars, pandas or Arrow.
"""

from zeroskew.profiles.categorical import MAX_VALUES, CategoricalProfile
from zeroskew.profiles.columns import text_of
from zeroskew.profiles.numeric import NumericProfile
from zeroskew.profiles.profile import ColumnProfile, Profile
from zeroskew.profiles.psi import (
    FLOOR,
    MIN_SAMPLES,
    MODERATE,
    RARE,
    SIGNIFICANT,
    Bins,
    Drift,
    compare,
    drift,
    paired_bins,
    psi,
)

__all__ = [
    "FLOOR",
    "MAX_VALUES",
    "MIN_SAMPLES",
    "MODERATE",
    "RARE",
    "SIGNIFICANT",
    "Bins",
    "CategoricalProfile",
    "ColumnProfile",
    "Drift",
    "NumericProfile",
    "Profile",
    "compare",
    "drift",
    "paired_bins",
    "psi",
    "text_of",
]
