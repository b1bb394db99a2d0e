"""What a leak is worth offline, and that it is worth nothing here.

A shop corrects its daily numbers a week later, and the correction knows the outcome. A join that
ignores when values were written trains on corrections that no live request will ever see.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from zeroskew.features.join import JoinView, point_in_time_join

pytestmark = pytest.mark.integration
START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS, SHOPS = 60, 40


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve by ranks; ties share their rank."""
    ranks = pl.Series(score).rank("average").to_numpy()
    positive = label == 1
    count = positive.sum()
    return (ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(label) - count))


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(8)
    shop = np.repeat(np.arange(SHOPS), DAYS)
    day = np.tile(np.arange(DAYS), SHOPS)
    honest = rng.normal(size=len(day))
    outcome = (honest + 2.5 * rng.normal(size=len(day)) > 0).astype(int)
    known = [START + timedelta(days=int(d)) for d in day]
    corrected = [moment + timedelta(days=7) for moment in known]
    source = pl.DataFrame(
        {
            "shop": np.concatenate([shop, shop]),
            "at": known + known,
            "written": known + corrected,
            "sales": np.concatenate([honest, honest + 3.0 * outcome]),
        }
    )
    asked = [moment + timedelta(hours=6) for moment in known]
    questions = pl.DataFrame({"shop": shop, "event_timestamp": asked, "outcome": outcome})
    return source, questions


def join(source, questions, *, filtered=True, early=timedelta(0)):
    """`early` shifts the source's times: a join that looks at rows from the future."""
    frame = source.lazy().with_columns(pl.col("at") - early, pl.col("written") - early)
    view = JoinView("shop", frame, {"shop": "shop"}, {"sales": "sales"}, "at", "written")
    return point_in_time_join(questions, [view], filter_by_created=filtered)


def offline_auc(source, questions, **options) -> float:
    joined = join(source, questions, **options).drop_nulls()
    return auc(joined["sales"].to_numpy(), joined["outcome"].to_numpy())


def served_auc(source, questions) -> float:
    """What production sees: at each moment, only the rows written by then, newest first."""
    scores = []
    for shop, moment, _ in questions.iter_rows():
        seen = source.filter(
            (pl.col("shop") == shop) & (pl.col("written") <= moment) & (pl.col("at") <= moment)
        )
        scores.append(seen.sort("at", "written")["sales"][-1])
    return auc(np.array(scores), questions["outcome"].to_numpy())


def test_a_join_that_ignores_creation_scores_better_offline_and_is_not_what_is_served(world):
    source, questions = world
    some = questions.sample(300, seed=1)
    honest, leaking = offline_auc(source, some), offline_auc(source, some, filtered=False)
    served = served_auc(source, some)
    assert honest == pytest.approx(served, abs=1e-12)
    assert leaking > served + 0.15


def test_a_join_that_ignores_event_time_scores_better_too(world):
    """Tomorrow's row of a counter that includes today's outcome."""
    _, questions = world
    tomorrow = questions.select(
        "shop",
        at=pl.col("event_timestamp") + timedelta(hours=12),
        written=pl.col("event_timestamp") + timedelta(hours=12),
        sales=pl.col("outcome") + 0.0,
    )
    late = join(tomorrow, questions)
    early = join(tomorrow, questions, early=timedelta(days=1))
    pairs = [f.drop_nulls() for f in (late, early)]
    scores = [auc(f["sales"].to_numpy(), f["outcome"].to_numpy()) for f in pairs]
    assert abs(scores[0] - 0.5) < 0.05
    assert scores[1] > 0.99
