"""The gates of an export: how far a lower precision may move the scores, and how fast it must be.

Quality is measured on validation rows against FP32 of the same checkpoint: the evaluation metric,
the largest difference of a single score, and PSI of the scores. With `precision: int8` a graph out
of bounds ends the export with all its numbers; with `auto` it only leaves the race.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroskew.errors import ExportError, GateFailed
from zeroskew.evaluation import HIGHER_IS_BETTER
from zeroskew.evaluation.measures import SortedScores, checked
from zeroskew.export.latency import BatchLatency
from zeroskew.model_config import Export
from zeroskew.profiles import Profile, psi

FASTER = 0.95
"""`auto` leaves FP32 only for a graph whose median batch takes at most this share of FP32's time:
less is noise of the measurement, and not worth a rounded score."""


@dataclass(frozen=True, slots=True)
class Quality:
    """A graph's scores beside FP32's, on the same rows."""

    rows: int
    metric: str
    value: float
    fp32: float
    metric_loss: float
    """How much worse than FP32, whichever way the metric counts; negative if better."""
    max_score_difference: float
    psi: float
    """Of these scores against FP32's, in deciles of FP32's scores."""


@dataclass(frozen=True, slots=True)
class Breach:
    """One limit that was not kept."""

    measure: str
    value: float
    limit: float

    def __str__(self) -> str:
        return f"{self.measure} {self.value:.4g} is above {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One precision in the race."""

    precision: str
    sha256: str
    quality: Quality | None
    """None for FP32, which the others are measured against."""
    latency: BatchLatency
    breaches: tuple[Breach, ...]

    @property
    def passed(self) -> bool:
        return not self.breaches

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Choice:
    """The precision that serves, and why, in a sentence for the record."""

    precision: str
    reason: str


def measure_quality(
    fp32: NDArray[np.float32], scores: NDArray[np.float32], label: ArrayLike, *, metric: str
) -> Quality:
    """Compare `scores` with FP32's for the same rows; all `[N]`.

    Raises `ExportError` if a score is not a finite number in [0, 1], and `DataError` if the labels
    cannot judge (one class only).
    """
    outside = int((~((scores >= 0) & (scores <= 1))).sum())
    if outside:
        raise ExportError(
            f"{outside:,} of {len(scores):,} scores are not numbers between 0 and 1",
            mend="the graph's last operator must be a sigmoid or a calibrated probability",
        )
    before, after = (
        SortedScores(*checked(part, label)).measure((metric,))[0] for part in (fp32, scores)
    )
    reference = Profile.learn({"score": fp32})
    measured = reference.measure({"score": scores})
    return Quality(
        rows=len(scores),
        metric=metric,
        value=after,
        fp32=before,
        metric_loss=before - after if metric in HIGHER_IS_BETTER else after - before,
        max_score_difference=float(np.abs(scores - fp32).max()),
        psi=psi(reference.columns["score"], measured.columns["score"]),
    )


def find_breaches(
    quality: Quality | None, latency: BatchLatency, limits: Export
) -> tuple[Breach, ...]:
    """What of a candidate is outside `limits`. NaN is outside of everything."""
    values: list[tuple[str, float, float | None]] = [
        (f"p99 of {latency.batch} rows in milliseconds", latency.p99,
         limits.latency.max_milliseconds),
    ]  # fmt: skip
    if quality is not None:
        values += [
            (f"loss of {quality.metric}", quality.metric_loss, limits.max_metric_loss),
            ("largest score difference", quality.max_score_difference, limits.max_score_difference),
            ("PSI of the scores", quality.psi, limits.max_psi),
        ]
    return tuple(
        Breach(measure, value, limit)
        for measure, value, limit in values
        if limit is not None and not value <= limit
    )


def choose(
    candidates: Sequence[Candidate], limits: Export, unavailable: Mapping[str, str] | None = None
) -> Choice:
    """The precision to serve, of `candidates` that hold FP32 and what is compared with it.

    `unavailable`: precisions that could not be made, with the reason (only `auto` goes on without).
    Raises `GateFailed` if the precision asked for, or with `auto` every one, is out of bounds.
    """
    by_name = {candidate.precision: candidate for candidate in candidates}
    if limits.precision != "auto":
        wanted = by_name[limits.precision]
        if not wanted.passed:
            raise GateFailed(_refusal([wanted]), mend=_mend(limits.precision))
        return Choice(wanted.precision, f"asked for; {_words(wanted)}")
    passed = [candidate for candidate in candidates if candidate.passed]
    if not passed:
        raise GateFailed(_refusal(candidates), mend=_mend("auto"))
    fp32 = by_name["fp32"]
    fastest = min(passed, key=lambda candidate: candidate.latency.p50)
    if fp32.passed and fastest.latency.p50 > FASTER * fp32.latency.p50:
        fastest = fp32
    others = [
        f"{c.precision} {c.latency.p50:.3g} ms"
        + ("" if c.passed else f" but {'; '.join(map(str, c.breaches))}")
        for c in candidates
        if c is not fastest
    ] + [f"no {name}: {reason}" for name, reason in (unavailable or {}).items()]
    return Choice(
        fastest.precision,
        f"fastest within the limits: {_words(fastest)}" + "".join(f"; {o}" for o in others),
    )


def _words(candidate: Candidate) -> str:
    text = f"{candidate.latency.p50:.3g} ms per {candidate.latency.batch} rows"
    if (quality := candidate.quality) is None:
        return text
    return (
        f"{text}, {quality.metric} {quality.value:.4f} against {quality.fp32:.4f} in FP32, scores "
        f"differ by at most {quality.max_score_difference:.3g}, PSI {quality.psi:.2g}"
    )


def _refusal(candidates: Sequence[Candidate]) -> str:
    lines = [
        f"  {candidate.precision}: {breach}"
        for candidate in candidates
        for breach in candidate.breaches
    ]
    return "the exported graph is outside its limits\n" + "\n".join(lines)


def _mend(precision: str) -> str:
    return {
        "int8": "raise `export.calibration_rows`, widen the limit in model.yaml, or set "
        "`export.precision: auto`, which falls back to FP32",
        "fp32": "widen `export.latency.max_milliseconds`, or try smaller layers",
        "auto": "no precision is within the limits: widen them in model.yaml",
    }[precision]
