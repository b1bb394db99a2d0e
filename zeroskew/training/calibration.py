"""Platt scaling: scores that mean what they say, two numbers that fit into the graph.

p = σ(slope · logit + offset), fitted by Newton's method on the validation rows' log loss (Platt,
"Probabilistic outputs for support vector machines", 1999). It also takes back the shift that
class weights put into the logits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEPS = 50
RIDGE = 1e-6


def fit_calibration(logits: NDArray[np.float32], label: NDArray[np.float32]) -> tuple[float, float]:
    """Slope and offset for logits `[n]` and labels 0/1 `[n]`.

    (1, 0), no change, where the labels hold one class only or the fit would turn the order of the
    scores round.
    """
    if label.min() == label.max():
        return 1.0, 0.0
    x, y = logits.astype(np.float64).ravel(), label.astype(np.float64).ravel()
    slope, offset = 1.0, 0.0
    best = _log_loss(slope * x + offset, y)
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(slope * x + offset, -40, 40)))
        weight = p * (1.0 - p)
        gradient = np.array([((p - y) * x).mean(), (p - y).mean()])
        hessian = np.array(
            [[(weight * x * x).mean(), (weight * x).mean()], [(weight * x).mean(), weight.mean()]]
        ) + RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-4:
            tried = slope - size * step[0], offset - size * step[1]
            loss = _log_loss(tried[0] * x + tried[1], y)
            if loss <= best:
                break
            size /= 2
        else:
            break
        gained, (slope, offset), best = best - loss, tried, loss
        if gained < 1e-10:
            break
    return (float(slope), float(offset)) if slope > 0 else (1.0, 0.0)


def _log_loss(logits: NDArray[np.float64], label: NDArray[np.float64]) -> float:
    return float((np.logaddexp(0.0, logits) - label * logits).mean())
