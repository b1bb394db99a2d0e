"""How good a model is on held-out rows, how sure that is, and whether it beats the champion.

    evaluate(score, label, config=…)               metrics with bootstrap intervals, by slice too
    compare(challenger, champion, label, config=…) the verdict, from a paired bootstrap
    roc_points, confusion, calibration_curve       what the pages and KFP's artifacts draw

Needs numpy only.
"""

from zeroskew.evaluation.judge import SLICE_ROWS, compare, evaluate
from zeroskew.evaluation.measures import (
    CLIP,
    HIGHER_IS_BETTER,
    METRICS,
    calibration_curve,
    confusion,
    roc_points,
)
from zeroskew.evaluation.result import CalibrationBin, Confusion, Metrics, Slice, Verdict

__all__ = [
    "CLIP",
    "HIGHER_IS_BETTER",
    "METRICS",
    "SLICE_ROWS",
    "CalibrationBin",
    "Confusion",
    "Metrics",
    "Slice",
    "Verdict",
    "calibration_curve",
    "compare",
    "confusion",
    "evaluate",
    "roc_points",
]
